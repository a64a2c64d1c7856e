"""`/ws/<id>/_proxy/`: what is said and done there, and that none of it wakes or uses the workspace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from proxy.errors import StartFailed
from proxy.workspace import Phase
from tests.gateway.conftest import DEMO
from tests.pages.markup import Page
from tests.relay.origin import Answers, ask, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch, Proxy

NAVIGATE = {"Sec-Fetch-Mode": "navigate"}


async def running(launch: Launch) -> Proxy:
    proxy = await launch(Answers())
    assert (await proxy.http.get("/ws/demo/api")).status == 200
    return proxy


async def status(proxy: Proxy) -> Any:
    response = await proxy.http.get("/ws/demo/_proxy/status")
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    return await response.json()


# Who is asked ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/ws/demo/_proxy/", "/ws/demo/_proxy/status", "/ws/demo/_proxy/?to=/ws/demo/lab"])
async def test_looking_wakes_nothing(launch: Launch, target: str) -> None:
    proxy = await launch()

    response = await proxy.http.get(target, headers=NAVIGATE)

    assert response.status == 200
    assert not proxy.backend.starts
    assert not proxy.supervisor.phases()


@pytest.mark.parametrize("name", ["", "status"])
async def test_looking_is_no_use_and_reaches_no_notebook(launch: Launch, name: str) -> None:
    proxy = await running(launch)
    proxy.clock.advance(100)
    before = len(proxy.origin.connections)

    await proxy.http.get(f"/ws/demo/_proxy/{name}")

    assert proxy.idle_seconds == 100
    assert len(proxy.origin.connections) == before


@pytest.mark.parametrize(
    "target", ["/ws/demo/_proxyx", "/ws/demo/lab/_proxy/status", "/ws/demo/__proxy/status", "/ws/demo/_Proxy/status"]
)
async def test_everything_else_passes_to_the_notebook(launch: Launch, target: str) -> None:
    answers = Answers()
    proxy = await launch(answers)

    await proxy.http.get(target)

    assert answers.requests[0].target == target.encode()


@pytest.mark.parametrize("name", ["nothing", "status/", "events/x", "start", "/status"])
async def test_what_is_reserved_and_unknown_is_not_found_and_never_passed_on(launch: Launch, name: str) -> None:
    proxy = await launch()

    response = await proxy.http.get(f"/ws/demo/_proxy/{name}")

    assert (response.status, (await response.json())["code"]) == (404, "not-found")
    assert not proxy.backend.starts


@pytest.mark.parametrize("name", ["status", "events", "extend", "stop", ""])
async def test_id_that_is_none_is_refused(launch: Launch, name: str) -> None:
    proxy = await launch()

    response = await proxy.http.get(f"/ws/No-Id/_proxy/{name}")

    assert (await response.json())["code"] == "invalid-workspace-id"


async def test_address_without_its_slash_leads_to_the_one_with_it(launch: Launch) -> None:
    proxy = await launch()

    response = await proxy.http.get("/ws/demo/_proxy", allow_redirects=False)

    assert (response.status, response.headers["Location"]) == (307, "/ws/demo/_proxy/")


# Methods --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "allow"),
    [
        ("", "GET, HEAD, OPTIONS"), ("status", "GET, HEAD, OPTIONS"), ("events", "GET, HEAD, OPTIONS"),
        ("stop", "POST, OPTIONS"), ("extend", "POST, OPTIONS"),
    ],
)  # fmt: skip
async def test_methods_are_judged(launch: Launch, name: str, allow: str) -> None:
    proxy = await running(launch)

    for method in (
        "GET",
        "HEAD",
        "OPTIONS",
        "PUT",
        "PATCH",
        "DELETE",
        "PROPFIND",
        *(("POST",) if "GET" in allow else ()),
    ):
        if name == "events" and method == "GET":
            continue  # a stream has no end
        client = await proxy.sent(ask(f"/ws/demo/_proxy/{name}", method=method))
        response = await client.take_response(method)
        expected = 204 if method == "OPTIONS" else 200 if method in allow else 405
        assert (method, response.status) == (method, expected)
        assert response.values(b"allow") == ([] if expected == 200 else [allow.encode()])
    assert proxy.supervisor.phases()[DEMO] is Phase.RUNNING


# Status ---------------------------------------------------------------------------------------------------------------


async def test_status_of_what_has_never_run_is_stopped(launch: Launch) -> None:
    proxy = await launch()

    told = await status(proxy)

    assert (told["id"], told["phase"], told["since"], told["start"]) == ("demo", "stopped", None, None)


async def test_status_of_a_start_tells_its_progress(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.gate.clear()
    await proxy.sent(ask())
    await until(lambda: proxy.backend.starts["demo"])
    proxy.clock.advance(12)

    told = await status(proxy)

    assert (told["phase"], told["start"]["elapsed_seconds"]) == ("starting", 12)
    assert told["connections"] == 1
    proxy.backend.gate.set()


async def test_status_of_what_runs_tells_use_and_due_time(launch: Launch) -> None:
    proxy = await running(launch)
    proxy.clock.advance(3600)

    told = await status(proxy)

    assert told["phase"] == "running"
    assert told["last_active"] < told["due_at"]
    assert not told["is_warned"]
    assert [happening["what"] for happening in told["happenings"]] == ["starting", "running"]


async def test_status_warns_of_a_reap_that_is_due(launch: Launch) -> None:
    proxy = await running(launch)
    proxy.clock.advance(4 * 3600 - 300)

    assert (await status(proxy))["is_warned"]
    page = Page(await (await proxy.http.get("/ws/demo/_proxy/")).text())
    assert "It is stopped in 5 min 00 s, unless it is used." in page.shown


async def test_status_of_a_failure_tells_why_and_when_to_try_again(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.fault = StartFailed("exited", "It ended.", detail="log", retry_after=7)
    await proxy.http.get("/ws/demo/api")

    told = await status(proxy)

    assert told["phase"] == "stopped"
    assert (told["failure"]["code"], told["failure"]["detail"], told["failure"]["log"]) == (
        "exited",
        "It ended.",
        "log",
    )
    assert told["failure"]["retry_at"] is not None


# The page -------------------------------------------------------------------------------------------------------------


async def test_who_waits_is_sent_on_as_soon_as_it_runs(launch: Launch) -> None:
    proxy = await running(launch)

    response = await proxy.http.get("/ws/demo/_proxy/?to=/ws/demo/lab%3Fa%3D1", allow_redirects=False)

    assert (response.status, response.headers["Location"]) == (303, "/ws/demo/lab?a=1")


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example/", "https://evil.example/ws/demo/", "/ws/other/lab", "/ws/demo/../other/",
        "/ws/demo/%252e%252e/x", "/ws/demo", "/ws/demo/_proxy/stop", "/ws/demo/_proxy", "/", "javascript:alert(1)",
        "/ws/demo/a\r\nSet-Cookie:x", "\\\\evil.example", "/ws/demo/caf\xe9",
    ],
)  # fmt: skip
async def test_nobody_is_sent_anywhere_else(launch: Launch, to: str) -> None:
    proxy = await running(launch)

    response = await proxy.http.get("/ws/demo/_proxy/", params={"to": to}, allow_redirects=False)

    assert (response.status, response.headers.get("Location")) == (200, None)


async def test_failure_stays_to_be_read_without_being_tried_again(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.fault = StartFailed("exited", "It ended.", retry_after=1)
    await proxy.http.get("/ws/demo/api")
    proxy.clock.advance(100)

    page = Page(await (await proxy.http.get("/ws/demo/_proxy/?to=/ws/demo/lab")).text())

    assert "It ended." in page.shown
    assert "/ws/demo/lab" in [link.get("href") for link in page.all("a")]
    assert proxy.backend.starts == {"demo": 1}


# Actions --------------------------------------------------------------------------------------------------------------


async def test_stop_ends_it_and_says_so(launch: Launch) -> None:
    proxy = await running(launch)

    response = await proxy.http.post("/ws/demo/_proxy/stop")

    assert (response.status, (await response.json())["phase"]) == (200, "stopped")
    assert proxy.backend.stops == {"demo": 1}


@pytest.mark.parametrize("name", ["stop", "extend"])
async def test_form_is_sent_back_to_the_page(launch: Launch, name: str) -> None:
    proxy = await running(launch)

    response = await proxy.http.post(f"/ws/demo/_proxy/{name}", headers=NAVIGATE, data={}, allow_redirects=False)

    assert (response.status, response.headers["Location"]) == (303, "/ws/demo/_proxy/")


async def test_extension_moves_the_due_time_and_is_no_use(launch: Launch) -> None:
    proxy = await running(launch)
    proxy.clock.advance(4 * 3600 - 300)
    before = await status(proxy)

    response = await proxy.http.post("/ws/demo/_proxy/extend", json={"by": "2h"})
    told = await response.json()

    assert response.status == 200
    assert told["due_at"] > before["due_at"]
    assert told["last_active"] == before["last_active"]
    assert not told["is_warned"]


@pytest.mark.parametrize(
    ("body", "status_and_code"),
    [
        ({"json": {"by": "soon"}}, (400, "bad-duration")),
        ({"json": {"by": []}}, (400, "bad-duration")),
        ({"json": {"by": "500h"}}, (409, "too-long")),
        ({"json": [1]}, (400, "bad-body")),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, (400, "bad-body")),
        ({"data": b"x" * 70_000, "headers": {"Content-Type": "application/json"}}, (413, "too-large")),
        ({"data": b"<by/>", "headers": {"Content-Type": "text/xml"}}, (415, "unknown-type")),
    ],
)  # fmt: skip
async def test_extension_that_cannot_be_is_refused(
    launch: Launch, body: dict[str, Any], status_and_code: tuple[int, str]
) -> None:
    proxy = await running(launch)

    response = await proxy.http.post("/ws/demo/_proxy/extend", **body)

    assert (response.status, (await response.json())["code"]) == status_and_code


@pytest.mark.parametrize("lines", ["Expect: 100-continue", "X: y"])
async def test_body_that_comes_late_is_asked_for_and_read(launch: Launch, lines: str) -> None:
    proxy = await running(launch)
    head = ("Content-Type: application/json", "Content-Length: 12", lines)

    client = await proxy.sent(ask("/ws/demo/_proxy/extend", *head, method="POST"))
    if "Expect" in lines:
        assert await client.take_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b'{"by": ')
    client.send(b'"wx"}')

    assert json.loads((await client.take_response()).body)["code"] == "bad-duration"


async def test_malformed_body_is_refused(launch: Launch) -> None:
    proxy = await running(launch)
    head = ("Content-Type: application/json", "Transfer-Encoding: chunked")

    client = await proxy.sent(ask("/ws/demo/_proxy/extend", *head, method="POST"), b"zz\r\n")

    assert (await client.take_response()).status == 400


async def test_extension_of_what_does_not_run_is_refused(launch: Launch) -> None:
    proxy = await launch()

    response = await proxy.http.post("/ws/demo/_proxy/extend")

    assert (response.status, (await response.json())["code"]) == (409, "not-running")


@pytest.mark.parametrize(
    "line",
    [
        "Origin: http://evil.example", "Origin: null", "Origin: http://localhost:81", "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["stop", "extend"])
async def test_page_of_another_origin_does_nothing(launch: Launch, name: str, line: str) -> None:
    proxy = await running(launch)

    lines = (line, "Sec-Fetch-Mode: navigate")
    response = await (await proxy.sent(ask(f"/ws/demo/_proxy/{name}", *lines, method="POST"))).take_response()

    assert response.status == 403
    assert not proxy.backend.stops
    assert (
        json.loads((await (await proxy.sent(ask("/ws/demo/_proxy/status"))).take_response()).body)["extended_until"]
        is None
    )


async def test_our_own_page_may_act(launch: Launch) -> None:
    proxy = await running(launch)

    lines = ("Origin: http://localhost", "Sec-Fetch-Site: same-origin")
    response = await (await proxy.sent(ask("/ws/demo/_proxy/extend", *lines, method="POST"))).take_response()

    assert response.status == 200
