"""Server-sent events: what a page is told, and that nobody who looks is waited for, counted, or can fill the memory."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from proxy.errors import StartFailed
from proxy.report import Progress, Step
from proxy.sight import WorkspaceFeed
from proxy.workspace import Phase
from tests.gateway.conftest import DEMO
from tests.gateway.test_shutdown import serving
from tests.relay.origin import PLAIN, Answers, ask, connect, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch, Proxy
    from tests.relay.origin import Wire

EVENTS = ask("/ws/demo/_proxy/events?to=/ws/demo/lab")
ALL = ask("/api/events")


async def take_event(wire: Wire) -> Any:
    """Return the next event's data."""
    text = (await wire.take_until(b"\n\n")).decode()
    return json.loads(text[text.index("data: ") + 6 :])


async def opened(proxy: Proxy, request: bytes = EVENTS) -> Wire:
    wire = await proxy.sent(request)
    head = await wire.take_until(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"text/event-stream" in head
    assert b"X-Accel-Buffering: no" in head
    return wire


async def test_page_is_told_each_change_of_a_start(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.gate.clear()
    await proxy.sent(ask())
    await until(lambda: proxy.backend.starts["demo"])
    wire = await opened(proxy)
    first = await take_event(wire)

    proxy.backend.gate.set()
    states = [first["state"]]
    while states[-1] != "running":
        states.append((await take_event(wire))["state"])

    assert first["headline"] == "Starting demo"
    assert first["retry_url"] == "/ws/demo/lab"
    assert set(states) == {"starting", "running"}


async def test_page_is_told_each_step_of_a_start_at_once(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.gate.clear()
    await proxy.sent(ask())
    await until(lambda: proxy.backend.starts["demo"])
    wire = await opened(proxy)
    await take_event(wire)
    proxy.clock.advance(12)

    for number, step in enumerate((Step.SCHEDULED, Step.PULLING, Step.STARTING)):
        proxy.supervisor.progress(DEMO, Progress(step, f"Step <{number}>."))
        event = await take_event(wire)
        assert (event["step"], event["step_seconds"], event["elapsed_seconds"]) == (f"Step <{number}>", 0, 12)
    proxy.backend.gate.set()


async def test_page_is_told_of_a_failure_in_full(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.gate.clear()
    await proxy.sent(ask())
    await until(lambda: proxy.backend.starts["demo"])
    wire = await opened(proxy)

    proxy.backend.fault = StartFailed("exited", "It ended.", detail="</script>\n\nlog", retry_after=7)
    proxy.backend.gate.set()
    while (event := await take_event(wire))["state"] != "failed":
        pass

    assert (event["failure"], event["code"], event["log"]) == ("It ended.", "exited", "</script>\n\nlog")
    assert event["retry_seconds"] == 7


async def test_stream_wakes_nothing_and_is_no_use(launch: Launch) -> None:
    proxy = await launch(Answers())
    wire = await opened(proxy)
    assert (await take_event(wire))["state"] == "stopped"
    assert not proxy.supervisor.phases()

    await proxy.http.get("/ws/demo/api")
    while (await take_event(wire))["state"] != "running":
        pass
    proxy.clock.advance(100)
    again = await opened(proxy)
    await take_event(again)

    assert proxy.idle_seconds == 100


async def test_stream_speaks_even_when_nothing_happens(launch: Launch) -> None:
    proxy = await launch()
    proxy.gateway.streams._beat = 0.01
    wire = await opened(proxy)

    states = [(await take_event(wire))["state"] for _ in range(5)]

    assert states == ["stopped"] * 5


async def test_stream_that_nobody_reads_holds_no_more_than_one_message(launch: Launch) -> None:
    proxy = await launch()
    proxy.gateway.streams._beat = 0
    wire = await proxy.connect(receive_buffer=4096)
    wire.send(EVENTS)
    await wire.take_until(b"\r\n\r\n")
    (connection,) = [each for each in proxy.server.client_server.connections if each.transport is not None]
    transport = cast("asyncio.Transport", connection.transport)  # uvloop's is no subclass
    await until(lambda: connection.writing_paused)

    buffered = transport.get_write_buffer_size()

    assert buffered < 200_000
    assert transport.get_write_buffer_size() == buffered


async def test_stream_ends_with_its_client(launch: Launch) -> None:
    proxy = await launch()
    wire = await opened(proxy)
    await take_event(wire)

    await wire.closed()

    await until(lambda: len(proxy.gateway.streams) == 0)


async def test_head_of_events_has_no_body_and_opens_no_stream(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask("/ws/demo/_proxy/events", method="HEAD"), ask("/ws/demo/_proxy/status"))

    assert (await client.take_response("HEAD")).status == 200
    assert (await client.take_response()).status == 200
    assert len(proxy.gateway.streams) == 0


async def test_stream_beyond_the_limit_is_refused_and_one_that_ended_makes_room(launch: Launch) -> None:
    proxy = await launch()
    proxy.gateway.streams._limit = 2
    wires = [await opened(proxy), await opened(proxy, ALL)]

    refused = await (await proxy.sent(EVENTS)).take_response()
    await wires[0].closed()
    await until(lambda: len(proxy.gateway.streams) == 1)
    await opened(proxy)

    assert (refused.status, json.loads(refused.body)["code"]) == (503, "too-many-streams")


async def test_stream_of_http_1_0_is_ended_by_its_connection(launch: Launch) -> None:
    proxy = await launch()
    wire = await proxy.sent(ask("/ws/demo/_proxy/events", version="1.0"))
    await wire.take_until(b"\r\n\r\n")

    assert (await take_event(wire))["state"] == "stopped"


async def test_dashboard_is_told_of_what_is_new_and_of_what_has_changed_alone(launch: Launch) -> None:
    proxy = await launch(Answers())
    await proxy.http.get("/ws/other/api")
    wire = await opened(proxy, ALL)
    first = await take_event(wire)

    await proxy.http.get("/ws/demo/api")
    news: dict[str, str] = {}
    while news.get("demo") != "running":
        event = await take_event(wire)
        news |= {view["id"]: view["state"] for view in event["views"]}

    assert [view["id"] for view in first["views"]] == ["other"]
    assert [first["is_all"], event["is_all"]] == [True, False]
    assert first["summary"] == "1 workspace, 1 running"
    assert event["summary"] == "2 workspaces, 2 running"
    assert news == {"demo": "running"}


async def test_stream_that_breaks_is_broken_off_and_no_answer_is_written_into_it(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = await launch()
    wire = await opened(proxy)
    await take_event(wire)

    monkeypatch.setattr(WorkspaceFeed, "look", None)
    proxy.supervisor.begin(DEMO)

    assert await wire.ending() == "reset"
    assert wire.taken.count(b"HTTP/1.1") == 1
    assert "stream of events broke" in caplog.text
    assert len(proxy.gateway.streams) == 0


# At the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_bytes", [EVENTS, ALL], ids=["workspace", "dashboard"])
async def test_stream_ends_whole_at_a_shutdown_and_nobody_waits_for_it(request_bytes: bytes) -> None:
    async with serving() as service:
        wire = await service.sent(request_bytes)
        await wire.take_until(b"\r\n\r\n")
        await take_event(wire)
        assert service.app.gateway.in_flight == 0

        await service.begin_shutdown()

        rest = bytes(wire.taken) if await wire.ending() == "closed" else b""
        assert rest.endswith(b"0\r\n\r\n")
        await service.ended()


async def test_stream_that_nobody_reads_does_not_outlast_the_grace() -> None:
    async with serving(grace=0.1) as service:
        service.app.gateway.streams._beat = 0
        wire = await connect(service.port, receive_buffer=4096)
        service.wires.append(wire)
        wire.send(EVENTS)
        await wire.take_until(b"\r\n\r\n")

        await service.begin_shutdown()

        await service.ended()


async def test_request_in_flight_outlives_the_streams() -> None:
    async with serving() as service:
        client = await service.sent(ask())
        notebook, _ = await service.origin.asked()
        wire = await service.sent(EVENTS)
        await wire.take_until(b"\r\n\r\n")

        await service.begin_shutdown()
        assert await wire.ending() == "closed"
        notebook.send(PLAIN)

        assert (await client.take_response()).body == b"ok"


async def test_stream_is_refused_once_the_proxy_ends(launch: Launch) -> None:
    proxy = await launch()
    proxy.gateway.streams.close()

    response = await (await proxy.sent(EVENTS)).take_response()

    assert (response.status, json.loads(response.body)["code"]) == (503, "shutting-down")


async def test_many_streams_that_come_and_go_leave_nothing_behind(launch: Launch) -> None:
    proxy = await launch(Answers())

    async def look(number: int) -> None:
        wire = await opened(proxy, (EVENTS, ALL)[number % 2])
        await take_event(wire)
        await wire.closed()

    await asyncio.gather(*(look(number) for number in range(60)))
    await proxy.http.get("/ws/demo/api")

    await until(lambda: len(proxy.gateway.streams) == 0)
    assert proxy.supervisor.phases()[DEMO] is Phase.RUNNING
    assert not proxy.supervisor._ledger._waiters
