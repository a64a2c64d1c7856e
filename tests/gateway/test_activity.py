"""What a request means to its workspace, over real sockets: does it wake it, does it count?"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

import pytest

from proxy.activity import QUIET, SETTLING
from proxy.workspace import Phase
from tests.gateway.conftest import DEMO
from tests.relay.origin import Answers, Message, ask, ask_upgrade, frame, switch, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch, Proxy
    from tests.relay.origin import Wire

MASK = b"\x01\x02\x03\x04"
ORIGIN = "Origin: http://localhost"
PAGE = ("Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Sec-Fetch-Site: same-origin")
NAVIGATION = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none")
POLL = "/ws/demo/api/kernels?1795421876484"
KERNEL = "/ws/demo/api/kernels/1/channels"


async def answered(proxy: Proxy, *lines: str, target: str = POLL, method: str = "GET") -> Message:
    return await (await proxy.sent(ask(target, *lines, method=method))).take_response()


async def opened(proxy: Proxy, target: str, *lines: str) -> tuple[Wire, Wire]:
    """Return both ends of an open websocket: the client's and the notebook's."""
    client = await proxy.sent(ask_upgrade(target, *lines))
    wire, request = await proxy.origin.asked()
    wire.send(switch(request))
    assert (await client.take_response()).status == 101
    return client, wire


async def running(proxy: Proxy) -> None:
    """Start the workspace, and let it be idle for 100 seconds."""
    await proxy.supervisor.ensure_running(DEMO)
    proxy.clock.advance(100)


def ledger(proxy: Proxy) -> tuple[str, str]:
    """Return what counted last and what was ignored last."""
    tracked = proxy.supervisor._tracked[DEMO]
    return tracked.counted, tracked.ignored


# What counts ----------------------------------------------------------------------------------------------------------


async def test_what_a_page_polls_passes_and_does_not_count(launch: Launch) -> None:
    proxy = await launch(Answers(), activity="interactive")
    await running(proxy)

    response = await answered(proxy, *PAGE)

    assert (response.status, proxy.idle_seconds) == (200, 100)
    assert ledger(proxy) == ("start", "GET /ws/demo/api/kernels")


async def test_what_no_rule_names_counts(launch: Launch) -> None:
    proxy = await launch(Answers(), activity="interactive")
    await running(proxy)

    await answered(proxy, *PAGE, target="/ws/demo/files/a.csv?token=secret&b=c")

    assert proxy.idle_seconds == 0
    assert ledger(proxy) == ("GET /ws/demo/files/a.csv", "")


@pytest.mark.parametrize(("target", "idle"), [(POLL, 100), ("/ws/demo/files/a", 0)])
async def test_every_piece_of_an_answer_is_like_its_request(launch: Launch, target: str, idle: int) -> None:
    proxy = await launch(activity="interactive")
    await running(proxy)
    client = await proxy.sent(ask(target))
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
    await client.take_until(b"\r\n\r\n")

    assert proxy.idle_seconds == idle
    for at, letter in enumerate((b"a", b"b", b"c"), start=1):
        proxy.clock.advance(100)
        wire.send(letter)
        await client.take(1)
        assert proxy.idle_seconds == (0 if idle == 0 else idle + 100 * at)


async def test_what_a_page_polls_counts_as_traffic(launch: Launch) -> None:
    proxy = await launch(Answers())
    await running(proxy)

    await answered(proxy, *PAGE)

    assert (proxy.idle_seconds, ledger(proxy)) == (0, ("GET /ws/demo/api/kernels", ""))


async def test_on_a_kernels_websocket_the_clients_data_frames_count_alone(launch: Launch) -> None:
    proxy = await launch(activity="interactive")
    client, wire = await opened(proxy, KERNEL)

    idle = []
    for opcode in (1, 2, 9, 10):
        for sender, receiver, mask in ((client, wire, MASK), (wire, client, b"")):
            await running(proxy)
            sender.send(frame(b"x", opcode, mask=mask))
            await receiver.take_frame()
            idle.append(proxy.idle_seconds)

    assert idle == [0, 100, 0, 100, 100, 100, 100, 100]
    assert ledger(proxy)[1] == f"websocket frame {KERNEL}"


async def test_frame_that_counts_is_named_by_its_websocket(launch: Launch) -> None:
    proxy = await launch(activity="interactive")
    client, wire = await opened(proxy, KERNEL + "?session_id=1")

    client.send(frame(b"x", mask=MASK))
    await wire.take_frame()

    assert ledger(proxy)[0] == f"websocket frame {KERNEL}"


async def test_websocket_that_no_rule_names_counts_with_data_frames_both_ways(launch: Launch) -> None:
    proxy = await launch(activity="interactive")
    client, wire = await opened(proxy, "/ws/demo/proxy/8501/stream", ORIGIN)

    idle = []
    for opcode in (1, 9):
        for sender, receiver, mask in ((client, wire, MASK), (wire, client, b"")):
            await running(proxy)
            sender.send(frame(b"x", opcode, mask=mask))
            await receiver.take_frame()
            idle.append(proxy.idle_seconds)

    assert idle == [0, 0, 100, 100]


async def test_websocket_of_events_does_not_count_at_all(launch: Launch) -> None:
    proxy = await launch(activity="interactive")
    await running(proxy)
    client, wire = await opened(proxy, "/ws/demo/api/events/subscribe", ORIGIN)

    for sender, receiver, mask in ((client, wire, MASK), (wire, client, b"")):
        sender.send(frame(b"x", 1, mask=mask))
        await receiver.take_frame()

    assert proxy.idle_seconds == 100


async def test_page_that_opens_a_kernels_websocket_counts_when_somebody_uses_it(launch: Launch) -> None:
    proxy = await launch(activity="interactive")
    await running(proxy)
    client, wire = await opened(proxy, KERNEL, ORIGIN)
    idle = [proxy.idle_seconds]

    for seconds in (QUIET / 3, QUIET / 3, QUIET + 0.5, 0):
        proxy.clock.advance(seconds)
        client.send(frame(b"x", mask=MASK))
        await wire.take_frame()
        idle.append(proxy.idle_seconds)

    assert idle == [100, 100 + QUIET / 3, 100 + 2 * QUIET / 3, 0, 0]


async def test_page_that_answers_the_kernel_is_still_on_its_own(launch: Launch) -> None:
    proxy = await launch(activity="interactive")
    await running(proxy)
    client, wire = await opened(proxy, KERNEL, ORIGIN)

    proxy.clock.advance(5)
    wire.send(frame(b"x"))
    await client.take_frame()
    client.send(frame(b"x", mask=MASK))
    await wire.take_frame()

    assert proxy.idle_seconds == 105
    proxy.clock.advance(SETTLING - 5)
    client.send(frame(b"x", mask=MASK))
    await wire.take_frame()
    assert proxy.idle_seconds == 0


async def test_program_that_opens_a_kernels_websocket_counts_at_once(launch: Launch) -> None:
    proxy = await launch(activity="interactive")
    await running(proxy)

    client, wire = await opened(proxy, KERNEL)
    idle = [proxy.idle_seconds]
    proxy.clock.advance(0.5)
    client.send(frame(b"x", mask=MASK))
    await wire.take_frame()

    assert [*idle, proxy.idle_seconds] == [0, 0]


# What wakes -----------------------------------------------------------------------------------------------------------


async def test_poll_of_a_page_starts_nothing_and_is_told_so(launch: Launch, caplog: pytest.LogCaptureFixture) -> None:
    proxy = await launch(Answers(), wake="intent")
    caplog.set_level(logging.INFO)

    response = await answered(proxy, *PAGE)

    problem = json.loads(response.body)
    assert (response.status, problem["code"]) == (503, "not-running")
    assert response.values(b"content-type") == [b"application/problem+json"]
    assert int(response.values(b"retry-after")[0]) == problem["retry_after"] > 0
    assert response.values(b"connection") == []
    assert not proxy.backend.starts
    assert not proxy.supervisor.phases()
    assert "not-running" not in caplog.text


async def test_websocket_of_a_page_starts_nothing(launch: Launch) -> None:
    proxy = await launch(Answers(), wake="intent")

    response = await (await proxy.sent(ask_upgrade(KERNEL, ORIGIN))).take_response()

    assert (response.status, json.loads(response.body)["code"]) == (503, "not-running")
    assert not proxy.backend.starts


@pytest.mark.parametrize(
    "request_bytes",
    [
        ask("/ws/demo/lab", *NAVIGATION),
        ask("/ws/demo/api/contents/a.ipynb?content=0&hash=1", *PAGE),
        ask("/ws/demo/api/contents/a.ipynb", *PAGE, ORIGIN, method="PUT", body=b"{}"),
        ask(POLL),
    ],
    ids=["navigation", "first request of a save", "save", "program"],
)
async def test_what_somebody_means_starts_the_workspace_and_is_answered(launch: Launch, request_bytes: bytes) -> None:
    proxy = await launch(Answers(), wake="intent")

    response = await (await proxy.sent(request_bytes)).take_response()

    assert response.status == 200
    assert proxy.backend.starts == {"demo": 1}


async def test_what_wakes_nothing_passes_to_what_runs(launch: Launch) -> None:
    proxy = await launch(Answers(), wake="intent")
    await running(proxy)

    responses = [await answered(proxy, *PAGE), await answered(proxy, *NAVIGATION, "Sec-Purpose: prefetch")]

    assert [response.status for response in responses] == [200, 200]


async def test_everybody_waits_for_a_start_in_flight(launch: Launch) -> None:
    proxy = await launch(Answers(), wake="intent")
    proxy.backend.gate.clear()
    meant = await proxy.sent(ask("/ws/demo/lab", *NAVIGATION))
    await until(lambda: proxy.backend.starts["demo"] == 1)

    poll = await proxy.sent(ask(POLL, *PAGE))
    await until(lambda: proxy.gateway.in_flight == 2)
    proxy.backend.gate.set()

    assert [(await client.take_response()).status for client in (meant, poll)] == [200, 200]
    assert proxy.backend.starts == {"demo": 1}


async def test_poll_during_a_stop_starts_nothing_and_a_navigation_waits_and_starts_anew(launch: Launch) -> None:
    proxy = await launch(Answers(), wake="intent")
    await running(proxy)
    proxy.backend.stop_gate.clear()
    stop = asyncio.create_task(proxy.supervisor.stop(DEMO))
    await until(lambda: proxy.supervisor.phases()[DEMO] is Phase.STOPPING)

    refused = await answered(proxy, *PAGE)
    meant = await proxy.sent(ask("/ws/demo/lab", *NAVIGATION))
    await until(lambda: proxy.gateway.in_flight == 1)
    proxy.backend.stop_gate.set()

    assert (refused.status, (await meant.take_response()).status) == (503, 200)
    assert proxy.backend.starts == {"demo": 2}
    await stop


async def test_poll_that_finds_the_notebook_dead_does_not_start_it_anew(launch: Launch) -> None:
    proxy = await launch(Answers(), wake="intent")
    await running(proxy)
    proxy.origin.refuse()

    refused = await answered(proxy, *PAGE)
    again = await answered(proxy, *PAGE)

    assert [json.loads(response.body)["code"] for response in (refused, again)] == ["not-running", "not-running"]
    assert proxy.backend.starts == {"demo": 1}
    assert not proxy.supervisor.phases()


@pytest.mark.parametrize("purpose", ["prefetch", "prefetch;prerender"])
async def test_speculative_navigation_starts_nothing_where_everything_else_does(launch: Launch, purpose: str) -> None:
    proxy = await launch(Answers())

    refused = await answered(proxy, *NAVIGATION, f"Sec-Purpose: {purpose}", target="/ws/demo/lab")

    assert (refused.status, json.loads(refused.body)["code"]) == (503, "not-running")
    assert refused.values(b"cache-control") == [b"no-store"]
    assert not proxy.backend.starts
    assert (await answered(proxy, *PAGE)).status == 200


async def test_id_that_names_nothing_is_said_to_be_so_even_to_a_poll(launch: Launch) -> None:
    proxy = await launch(Answers(), wake="intent")

    response = await answered(proxy, *PAGE, target="/ws/Not_An_Id/api/kernels")

    assert (response.status, json.loads(response.body)["code"]) == (404, "invalid-workspace-id")
