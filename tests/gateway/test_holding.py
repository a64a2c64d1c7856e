"""While a workspace starts: a person sees a page at the address that was asked for, everyone else is held."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from proxy.errors import StartFailed, StartStalled
from proxy.workspace import Phase
from tests.gateway.conftest import DEMO
from tests.pages.markup import Page
from tests.relay.origin import Answers, ask, ask_upgrade, switch, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch, Proxy
    from tests.relay.origin import Wire

NAVIGATION = "Sec-Fetch-Mode: navigate"


async def navigated(proxy: Proxy, target: str = "/ws/demo/lab/tree/a.ipynb?x=1", *lines: str) -> Wire:
    """Send a navigation to a workspace whose start is held up, and return when it waits."""
    proxy.backend.gate.clear()
    client = await proxy.sent(ask(target, NAVIGATION, *lines))
    await until(lambda: proxy.backend.starts["demo"] and proxy.clock._sleepers)
    return client


async def test_navigation_that_waits_longer_than_a_moment_is_shown_the_waiting_page(launch: Launch) -> None:
    proxy = await launch()

    client = await navigated(proxy)
    proxy.clock.advance(0.7)
    response = await client.take_response()

    page = Page(response.body.decode())
    assert (response.status, response.values(b"cache-control")) == (202, [b"no-store"])
    assert "Starting demo" in page.shown
    assert page.all("main")[0]["data-go"] == "here"
    assert page.all("main")[0]["data-events"] == "/ws/demo/_proxy/events?to=/ws/demo/lab/tree/a.ipynb%3Fx%3D1"
    assert proxy.supervisor.phases()[DEMO] is Phase.STARTING


async def test_navigation_that_is_answered_in_a_moment_never_sees_a_page(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers)

    client = await navigated(proxy)
    proxy.clock.advance(0.69)
    proxy.backend.gate.set()
    response = await client.take_response()

    assert response.status == 200
    assert answers.requests[0].target == b"/ws/demo/lab/tree/a.ipynb?x=1"


@pytest.mark.parametrize(
    "request_bytes",
    [
        ask("/ws/demo/api"),
        ask("/ws/demo/api", "Sec-Fetch-Mode: cors"),
        ask("/ws/demo/lab", "Accept: text/html", "Sec-Fetch-Mode: no-cors"),
        ask("/ws/demo/lab", NAVIGATION, method="POST", body=b"a form"),
        ask("/ws/demo/lab", NAVIGATION, body=b"x"),
        ask("/ws/demo/lab", NAVIGATION, method="HEAD"),
    ],
    ids=["program", "fetch", "image", "form", "get_with_a_body", "head"],
)
async def test_everyone_else_is_held_until_it_is_ready(launch: Launch, request_bytes: bytes) -> None:
    proxy = await launch(Answers())
    proxy.backend.gate.clear()
    client = await proxy.sent(request_bytes)
    await until(lambda: proxy.backend.starts["demo"] and proxy.clock._sleepers)

    proxy.clock.advance(49)
    proxy.backend.gate.set()

    method = request_bytes.split(b" ", 1)[0].decode()
    assert (await client.take_response(method)).status == 200


async def test_websocket_is_held_and_then_connected(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.gate.clear()
    client = await proxy.sent(ask_upgrade())
    await until(lambda: proxy.backend.starts["demo"] and proxy.clock._sleepers)

    proxy.clock.advance(49)
    proxy.backend.gate.set()
    wire, request = await proxy.origin.asked()
    wire.send(switch(request))

    assert (await client.take_response()).status == 101


async def test_who_is_held_too_long_is_told_where_to_ask(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.gate.clear()
    clients = [await proxy.sent(ask()), await proxy.sent(ask_upgrade())]
    await until(lambda: proxy.backend.starts["demo"] and len(proxy.clock._sleepers) >= 2)

    proxy.clock.advance(50)

    for client in clients:
        response = await client.take_response()
        problem = json.loads(response.body)
        assert (response.status, problem["code"]) == (504, "not-ready")
        assert problem["status_url"] == "/ws/demo/_proxy/status"
        assert response.values(b"link") == [b'</ws/demo/_proxy/status>; rel="status"']
        assert response.values(b"retry-after") == [b"5"]


async def test_form_that_is_held_too_long_is_not_lost_silently(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.gate.clear()
    client = await proxy.sent(ask("/ws/demo/submit", NAVIGATION, method="POST", body=b"a form"))
    await until(lambda: proxy.backend.starts["demo"] and proxy.clock._sleepers)

    proxy.clock.advance(50)
    response = await client.take_response()

    assert response.status == 504
    assert b'http-equiv="refresh"' not in response.body  # which would ask for the address by GET
    assert "send it again" in Page(response.body.decode()).shown


async def test_client_that_goes_away_cancels_itself_alone(launch: Launch) -> None:
    proxy = await launch(Answers())
    proxy.backend.gate.clear()
    leaving, staying = await proxy.sent(ask()), await proxy.sent(ask())
    await until(lambda: proxy.gateway.in_flight == 2)

    await leaving.closed()
    await until(lambda: proxy.gateway.in_flight == 1)
    proxy.backend.gate.set()

    assert (await staying.take_response()).status == 200
    assert proxy.backend.starts == {"demo": 1}


async def test_start_goes_on_when_the_last_client_has_gone(launch: Launch) -> None:
    proxy = await launch(Answers())
    client = await navigated(proxy)

    await client.closed()
    await until(lambda: proxy.gateway.in_flight == 0)
    proxy.backend.gate.set()
    await until(lambda: proxy.supervisor.phases().get(DEMO) is Phase.RUNNING)

    assert proxy.backend.starts == {"demo": 1}


async def test_trouble_that_may_heal_is_on_the_waiting_page(launch: Launch) -> None:
    proxy = await launch()
    client = await navigated(proxy)

    proxy.supervisor.stalled(DEMO, StartStalled("unschedulable", "No node <can> take it."))
    response = await client.take_response()

    assert response.status == 202
    assert "No node <can> take it." in Page(response.body.decode()).shown


async def test_failed_start_is_a_page_with_a_way_to_try_again_at_the_same_address(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.fault = StartFailed("exited", "It ended.", detail="log <tail>", retry_after=7)

    client = await proxy.sent(ask("/ws/demo/lab?a=1&b=2", NAVIGATION))
    response = await client.take_response()

    page = Page(response.body.decode())
    assert (response.status, response.values(b"retry-after")) == (503, [b"7"])
    assert "demo could not be started" in page.shown
    assert "Another try is possible in 7 s" in page.shown
    assert "log <tail>" in page.shown
    assert "/ws/demo/lab?a=1&b=2" in [link.get("href") for link in page.all("a")]


async def test_page_of_a_failure_does_not_try_again_before_its_back_off_is_over(launch: Launch) -> None:
    proxy = await launch(Answers())
    proxy.backend.fault = StartFailed("exited", "It ended.", retry_after=7)
    await proxy.http.get("/ws/demo/lab", headers={"Sec-Fetch-Mode": "navigate"})
    proxy.backend.fault = None

    early = await proxy.http.get("/ws/demo/lab", headers={"Sec-Fetch-Mode": "navigate"})
    proxy.clock.advance(8)
    late = await proxy.http.get("/ws/demo/lab", headers={"Sec-Fetch-Mode": "navigate"})

    assert [early.status, late.status] == [503, 200]
    assert proxy.backend.starts == {"demo": 2}


async def test_hundred_navigations_and_requests_start_one_server(launch: Launch) -> None:
    proxy = await launch(Answers())
    proxy.backend.gate.clear()
    clients = [await proxy.sent(ask("/ws/demo/lab", NAVIGATION) if number % 2 else ask()) for number in range(100)]
    await until(lambda: proxy.gateway.in_flight == 100)

    proxy.clock.advance(0.7)
    pages = await asyncio.gather(*(client.take_response() for client in clients[1::2]))
    proxy.backend.gate.set()
    answers = await asyncio.gather(*(client.take_response() for client in clients[::2]))

    assert {response.status for response in pages} == {202}
    assert {response.status for response in answers} == {200}
    assert proxy.backend.starts == {"demo": 1}
