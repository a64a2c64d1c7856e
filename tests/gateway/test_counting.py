"""What is counted of traffic: every answer once, by who gave it, whatever way it took."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from proxy.metrics import Metrics, of_traffic
from proxy.relay.server import Limits
from tests.relay.origin import PLAIN, Answers, ask, ask_upgrade, frame, switch, until

if TYPE_CHECKING:
    from proxy.counts import TrafficCounts
    from tests.gateway.conftest import Launch, Proxy

MASK = b"\x01\x02\x03\x04"
PING = 0x9


def relayed(counts: TrafficCounts) -> dict[int, int]:
    return {status: count for status, count in enumerate(counts.relayed) if count}


def told(proxy: Proxy) -> dict[str, float]:
    """Return all samples that Prometheus would be told, but for buckets: by name and labels."""
    metrics = Metrics([of_traffic(proxy.pool.counts, proxy.gateway, proxy.websockets, proxy.server.client_server)])
    lines = metrics.page()[0].decode().splitlines()
    samples = [line.removeprefix("notebook_proxy_").rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in samples if "_bucket" not in name}


async def test_relayed_answer_is_counted_once_by_its_status_with_its_bytes(launch: Launch) -> None:
    created = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
    proxy = await launch(Answers(lambda request: created if request.start.startswith(b"POST") else PLAIN))
    client = await proxy.connect()
    for method in ("GET", "GET", "POST", "GET"):
        client.send(ask(method=method))
        await client.take_response()

    counts = proxy.pool.counts
    assert relayed(counts) == {200: 3, 201: 1}
    assert counts.to_client == 3 * len(PLAIN) + len(created)
    assert counts.to_notebook > 4 * len("GET /ws/demo/api HTTP/1.1\r\n")
    assert (counts.connects.counts["ok",], counts.reused) == (1, 3)
    assert sum(counts.whole.counts) == sum(counts.first_byte.counts) == 4
    assert 0 < counts.first_byte.total <= counts.whole.total
    assert counts.own.counts == {}


async def test_own_answers_are_counted_by_what_was_asked_for(launch: Launch) -> None:
    proxy = await launch()
    for path in ("/api/workspaces", "/nowhere", "/ws/demo", "/ws/Wrong_Id/lab", "/ws/demo/_proxy/status"):
        async with proxy.http.get(path, allow_redirects=False):
            pass

    counts = proxy.pool.counts
    assert counts.own.counts == {
        ("proxy", "200"): 2, ("proxy", "404"): 1, ("workspace", "307"): 1, ("workspace", "404"): 1,
    }  # fmt: skip
    assert counts.errors.counts == {("not-found",): 1, ("invalid-workspace-id",): 1}
    assert relayed(counts) == {}


async def test_what_no_handler_gets_is_counted_as_refused_by_its_status(launch: Launch) -> None:
    proxy = await launch(limits=Limits(max_header_bytes=4096, header_timeout=0.1))
    for request, status in (
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /ws/demo/ HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (ask("/ws/demo/", "X-Long: " + "x" * 4200), 431),
        (b"GET /ws/demo/ HTTP/1.1\r\nHost:", 408),
        (ask("/nowhere"), 404),
    ):
        client = await proxy.sent(request)
        assert (await client.take_response()).status == status

    samples = told(proxy)
    assert {name: value for name, value in samples.items() if name.startswith(("requests_total", "errors_total"))} == {
        'requests_total{class="refused",status="400"}': 2,
        'requests_total{class="refused",status="431"}': 1,
        'requests_total{class="refused",status="408"}': 1,
        'requests_total{class="proxy",status="404"}': 1,
        'errors_total{code="bad-request"}': 2,
        'errors_total{code="headers-too-large"}': 1,
        'errors_total{code="request-timeout"}': 1,
        'errors_total{code="not-found"}': 1,
    }


async def test_connection_that_is_shed_is_counted_as_refused(launch: Launch) -> None:
    proxy = await launch(limits=Limits(max_connections=1))
    await proxy.sent(ask())  # stays under way
    await proxy.origin.asked()

    assert (await (await proxy.sent(ask())).take_response()).status == 503
    assert (await (await proxy.sent(b"GARBAGE\r\n\r\n")).take_response()).status == 400

    samples = told(proxy)
    assert samples['requests_total{class="refused",status="503"}'] == 1
    assert samples['requests_total{class="refused",status="400"}'] == 1
    assert samples['errors_total{code="too-many-connections"}'] == 1
    assert samples["client_connections_shed_total"] == 1


async def test_notebook_server_that_is_not_there_is_counted_as_errors_by_code(launch: Launch) -> None:
    proxy = await launch()
    await proxy.origin.__aexit__()
    async with proxy.http.get("/ws/demo/api") as response:
        assert response.status == 502

    counts = proxy.pool.counts
    assert counts.errors.counts == {("upstream-refused",): 1}
    assert counts.own.counts == {("workspace", "502"): 1}
    assert counts.connects.counts["upstream-refused",] == 2  # it was started anew in between


async def test_answer_that_breaks_off_is_counted_as_cut(launch: Launch) -> None:
    proxy = await launch()
    client = await proxy.sent(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    await client.take(3)
    wire.close()
    await client.closed()
    await until(lambda: not proxy.gateway.in_flight)

    assert proxy.pool.counts.cut == 1
    assert relayed(proxy.pool.counts) == {200: 1}


async def test_websocket_and_its_frames_are_counted_while_it_is_open_and_afterwards(launch: Launch) -> None:
    proxy = await launch()
    client = await proxy.connect()
    client.send(ask_upgrade())
    wire, request = await proxy.origin.asked()
    wire.send(switch(request))
    await client.take_response()
    to_notebook = (frame(b"1", mask=MASK), frame(b"2", mask=MASK), frame(b"", PING, mask=MASK))
    client.send(*to_notebook)
    await wire.take(sum(map(len, to_notebook)))
    wire.send(frame(b"3"))
    await client.take(3)

    counts = proxy.pool.counts
    assert (len(proxy.websockets), proxy.websockets.frames()) == (1, [2, 1, 1, 0])
    client.close()
    await wire.closed()
    await until(lambda: not proxy.gateway.in_flight)

    assert (len(proxy.websockets), proxy.websockets.frames()) == (0, [2, 1, 1, 0])
    assert counts.handshakes[101] == 1
    assert relayed(counts) == {}


async def test_handshake_that_is_refused_is_counted_by_its_status(launch: Launch) -> None:
    proxy = await launch(Answers(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"))
    client = await proxy.sent(ask_upgrade())
    await client.take_response()

    assert proxy.pool.counts.handshakes[403] == 1


async def test_traffic_is_told_as_prometheus_expects_it(launch: Launch) -> None:
    odd = [b"HTTP/1.1 %d Odd\r\nContent-Length: 0\r\n\r\n" % status for status in (298, 299)]
    proxy = await launch(Answers(lambda _: odd.pop() if odd else PLAIN))
    client = await proxy.connect()
    for _ in range(3):
        client.send(ask())
        await client.take_response()
    async with proxy.http.get("/nowhere"):
        pass

    samples = told(proxy)
    assert {name: value for name, value in samples.items() if name.startswith("requests_total")} == {
        'requests_total{class="workspace",status="200"}': 1,
        'requests_total{class="workspace",status="2xx"}': 2,
        'requests_total{class="proxy",status="404"}': 1,
    }
    assert samples["request_seconds_count"] == samples["first_byte_seconds_count"] == 3
    assert samples["upstream_reuses_total"] == 2
    assert samples['errors_total{code="not-found"}'] == 1
    assert samples["client_connections"] >= 1


async def test_no_status_of_a_notebook_server_makes_a_series_of_its_own(launch: Launch) -> None:
    statuses = [status for status in range(200, 1000) if status not in (204, 205, 304)]
    answers = iter(statuses)
    proxy = await launch(Answers(lambda _: b"HTTP/1.1 %d Odd\r\nContent-Length: 0\r\n\r\n" % next(answers)))
    client = await proxy.connect()
    for _ in statuses:
        client.send(ask())
        await client.take_response()

    seen = Counter(name.partition("{")[0] for name in told(proxy))
    assert seen["requests_total"] < 80
