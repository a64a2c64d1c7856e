"""The express way: what takes it, what does not, and that nobody can tell the difference but by its speed."""

from __future__ import annotations

import asyncio
import socket
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from proxy import express
from proxy.auth.door import Door
from proxy.auth.limits import Limits as UserLimits
from proxy.auth.user import User
from proxy.errors import Unauthenticated
from proxy.relay import server
from proxy.relay.express import ExpressConnection
from proxy.relay.server import Limits
from tests.auth.tokens import SECRET, token
from tests.gateway.conftest import DEMO, TOKEN
from tests.gateway.express import warmed, watched
from tests.gateway.test_errors import problem_code
from tests.relay.origin import PLAIN, Answers, ask, ask_upgrade, chunk, frame, switch, until

if TYPE_CHECKING:
    from aiohttp import web

    from proxy.relay.connection import Connection
    from proxy.relay.order import Order
    from proxy.target import Target
    from tests.gateway.conftest import Launch, Proxy
    from tests.relay.origin import Message, Wire

OK = b"HTTP/1.1 200 OK\r\n"
MIB = 1 << 20


def _is_reset(connection: Connection) -> bool:
    assert connection.transport is not None
    state = connection.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return bool(state == bytes([7]))  # TCP_CLOSE


@pytest.fixture(params=[False, True], ids=["at-once", "gathered"], autouse=True)
def is_gathered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether writes are gathered until the end of the event loop's turn, as where much is under way."""
    if request.param:
        monkeypatch.setattr(express, "BUSY", 0)
    return bool(request.param)


async def begun(proxy: Proxy, request: bytes = ask("/ws/demo/x")) -> tuple[Wire, Wire, Message]:
    """Return a client whose request is under way on the express way, the notebook's end, and what came there."""
    client = await warmed(proxy, request)
    with watched() as taken:
        client.send(request)
        wire, seen = await proxy.origin.asked()
    assert len(taken) == 1
    return client, wire, seen


# What takes it --------------------------------------------------------------------------------------------------------


async def test_second_get_with_the_same_headers_takes_it_and_the_third_too(launch: Launch) -> None:
    origin = Answers()
    proxy = await launch(origin)
    client = await warmed(proxy, ask("/ws/demo/x", "Cookie: a=b", "X: \xff"))

    with watched() as taken:
        for target in ("/ws/demo/x?a=1", "/ws/demo/y/%20z"):
            client.send(ask(target, "Cookie: a=b", "X: \xff"))
            assert (await client.take_response()).body == b"ok"

    assert taken == ["/ws/demo/x?a=1", "/ws/demo/y/%20z"]
    warm, first, second = origin.requests
    assert (first.target, second.target) == (b"/ws/demo/x?a=1", b"/ws/demo/y/%20z")
    assert warm.lines == first.lines == second.lines
    assert TOKEN.encode() in first.lines
    assert len(proxy.origin.connections) == 1


@pytest.mark.parametrize(
    "request_",
    [
        ask("/ws/demo/x", method="HEAD"),
        ask("/ws/demo/x", method="DELETE"),
        ask("/ws/demo/x", method="POST", body=b"hi"),
        ask("/ws/demo/x", "X: 1"),
        ask("/ws/demo/x", version="1.0"),
        ask("http://localhost/ws/demo/x"),
        ask("/ws/demo/x?token=t"),
        ask("/ws/demo/" + "x" * 8192),
        ask("/ws/other/x"),
        ask("/ws/demo"),
        ask("/ws/demo/_proxy/status"),
        ask("/ws/NO/x"),
        ask("/"),
        ask("/api/workspaces"),
        ask("/ws/demo/../x"),
        ask("/ws/demo/|x"),
        ask("/ws/demo/\xff"),
        b"\r\n" + ask("/ws/demo/x"),
        b"GET /ws/demo/x HTTP/1.1 \r\nHost: localhost\r\n\r\n",
        b"GET  /ws/demo/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"get /ws/demo/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /ws/demo/x HTTP/1.1\nHost: localhost\r\n\r\n",
        b"GET /ws/demo/x HTTP/1.1\r\nX: 1\r\nHost: localhost\r\n\r\n",
        b"GET /ws/demo/x HTTP/1.1\r\nGET /ws/demo/y HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ask_upgrade("/ws/demo/x"),
    ],
    ids=lambda request: repr(request[:40])[2:-1],
)
async def test_whatever_is_not_plain_is_answered_as_on_a_new_connection(launch: Launch, request_: bytes) -> None:
    proxy = await launch(Answers())
    client = await warmed(proxy, ask())

    with watched() as taken:
        answers = []
        for wire in (await proxy.connect(), client):
            wire.send(request_)
            answers.append(await wire.take_response("HEAD" if request_.startswith(b"HEAD") else "GET"))

    assert taken == []
    assert answers[0].start == answers[1].start
    assert answers[0].body == answers[1].body


async def test_request_in_two_pieces_goes_the_ordinary_way(launch: Launch) -> None:
    proxy = await launch(Answers())
    client = await warmed(proxy, ask())

    with watched() as taken:
        await client.push(ask()[:20])
        await until(lambda: proxy.connections[0]._part_bytes == 20)
        client.send(ask()[20:])
        assert (await client.take_response()).status == 200

    assert taken == []


PART = b"GET /ws/demo/part HTTP/1.1\r\nX: "  # what follows is a header's value, whatever it looks like


@pytest.mark.parametrize(
    ("before", "answer"),
    [(ask("/ws/demo/before"), PLAIN), (ask_upgrade(), b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")],
    ids=["request", "declined upgrade"],
)
async def test_rest_of_a_request_that_looks_like_a_whole_one_is_the_rest(
    launch: Launch, before: bytes, answer: bytes
) -> None:
    origin = Answers(lambda request: answer if request.target == before.split(b" ")[1] else PLAIN)
    proxy = await launch(origin)
    client = await warmed(proxy, ask())

    with watched() as taken:
        client.send(before, PART)
        await client.take_response()
        client.send(ask("/ws/demo/y"))
        assert (await client.take_response()).status == 200
        client.send(ask("/ws/demo/z"))
        assert (await client.take_response()).status == 200

    assert taken == []
    assert [seen.target for seen in origin.requests[-2:]] == [b"/ws/demo/part", b"/ws/demo/z"]
    assert [seen.values(b"x") for seen in origin.requests[-2:]] == [[b"GET /ws/demo/y HTTP/1.1"], []]


@pytest.mark.parametrize("line", ["Expect: 100-continue", "Content-Length: 0", "Upgrade: h3", "Connection: close"])
async def test_headers_that_are_not_plain_are_no_precedent(launch: Launch, line: str) -> None:
    proxy = await launch(Answers())

    with watched() as taken:
        client = await proxy.sent(ask("/ws/demo/x", line))
        await client.take_response()
        client.send(ask("/ws/demo/x", line))
        if line not in ("Upgrade: h3", "Connection: close"):
            assert (await client.take_response()).status == 200

    assert taken == []


@pytest.mark.parametrize(
    "answer",
    [
        PLAIN,
        OK + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nno",
        b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"one") + chunk(b"two") + b"0\r\n\r\n",
        OK + b"Set-Cookie: a=b; Path=/; Domain=x\r\nLocation: /ws/demo/y\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + PLAIN,
    ],
    ids=lambda answer: repr(answer[:40])[2:-1],
)
async def test_answers_are_the_same_bytes_as_on_the_ordinary_way(launch: Launch, answer: bytes) -> None:
    proxy = await launch(Answers(lambda request: PLAIN if request.target == b"/ws/demo/warm" else answer))
    ordinary = await proxy.sent(ask())
    express = await warmed(proxy, ask())
    express.taken.clear()

    with watched() as taken:
        express.send(ask())
        for client in (ordinary, express):
            if (await client.take_response()).status == 103:
                await client.take_response()

    assert len(taken) == 1
    assert express.taken == ordinary.taken


async def test_answer_until_the_end_of_its_connection_is_chunked_and_its_client_goes_on(launch: Launch) -> None:
    proxy = await launch()
    client, wire, _ = await begun(proxy)
    wire.send(OK, b"\r\nhalf")
    await client.take_until(b"half\r\n")
    wire.send(b"whole")
    wire.close()

    await client.take_until(b"5\r\nwhole\r\n0\r\n\r\n")
    client.send(ask())
    (await proxy.origin.accepted()).send(PLAIN)
    assert (await client.take_response()).body == b"ok"


# What is asked each time ----------------------------------------------------------------------------------------------


class Passing:
    """Lets in whoever it is told to; knows them without waiting."""

    user: User | None = User("alice", ("*",))

    def known(self, request: web.BaseRequest, target: Target) -> User | None:
        return self.user

    async def identify(self, request: web.BaseRequest, target: Target) -> User:
        raise Unauthenticated


async def test_door_is_asked_each_time(launch: Launch) -> None:
    reader = Passing()
    proxy = await launch(Answers(), door=Door(reader))
    client = await warmed(proxy, ask())

    reader.user = None
    client.send(ask())

    assert (await client.take_response()).status == 401


@pytest.mark.parametrize(("user", "status"), [(User("alice", ("other",)), 403), (User("bob", ("*",)), 200)])
async def test_somebody_else_with_the_same_headers_goes_the_ordinary_way(
    launch: Launch, user: User, status: int
) -> None:
    reader = Passing()
    proxy = await launch(Answers(), door=Door(reader))
    client = await warmed(proxy, ask())

    with watched() as taken:
        reader.user = user
        client.send(ask())
        assert (await client.take_response()).status == status

    assert taken == []


async def test_each_target_is_judged_as_what_it_is_however_they_follow_one_another(launch: Launch) -> None:
    origin, reader = Answers(), Passing()
    proxy = await launch(origin, door=Door(reader), activity="interactive")
    await (await proxy.sent(ask("/ws/other/x"))).take_response()  # it runs as well, elsewhere
    client = await warmed(proxy, ask())
    first = len(origin.requests)
    counted, quiet, own, bare = "/ws/demo/x", "/ws/demo/api/kernels", "/ws/demo/_proxy/status", "/ws/demo"
    targets = [counted, counted, quiet, quiet, counted, own, own, counted, bare, counted, quiet, "/ws/other/x", counted]
    idle = []

    with watched() as taken:
        for target in targets:
            proxy.clock.advance(10)
            client.send(ask(target))
            answer = await client.take_response()
            assert answer.status == (307 if target == bare else 200)
            idle.append(proxy.idle_seconds)
        reader.user = User("alice", ("other",))
        client.send(ask(counted))
        assert (await client.take_response()).status == 403
        reader.user = None
        client.send(ask(counted))
        assert (await client.take_response()).status == 401

    asked = [target for target in targets if target not in (own, bare)]
    assert [seen.target.decode() for seen in origin.requests[first:]] == asked
    assert taken[0] == counted
    assert quiet in taken
    assert not {own, bare} & set(taken)
    assert idle == [0, 0, 10, 20, 0, 10, 20, 0, 10, 0, 10, 20, 0]


async def test_token_that_has_expired_is_refused_though_it_was_good_before(launch: Launch) -> None:
    proxy = await launch(Answers(), auth={"auth": "jwt", "jwt_secret": SECRET})
    expires = int(time.time()) + 3600
    request = ask("/ws/demo/x", f"Authorization: Bearer {token('alice', 'demo', exp=expires)}")
    client = await warmed(proxy, request)

    with watched() as taken:
        client.send(request)
        assert (await client.take_response()).status == 200
        proxy.clock.advance(expires - proxy.clock.now().timestamp())
        client.send(request)
        assert (await client.take_response()).status == 401

    assert taken == ["/ws/demo/x"]


async def test_host_of_a_workspace_serves_no_other_on_the_express_way_either(launch: Launch) -> None:
    origin = Answers()
    proxy = await launch(origin, auth={"routing": "host", "base_domain": "nb.test"})
    client = await warmed(proxy, ask(host="demo.nb.test"))
    await (await proxy.sent(ask("/ws/other/x", host="other.nb.test"))).take_response()  # it runs as well

    with watched() as taken:
        client.send(ask("/ws/demo/x", host="demo.nb.test"))
        assert (await client.take_response()).status == 200
        client.send(ask("/ws/other/x", host="demo.nb.test"))
        assert (await client.take_response()).status == 404

    assert taken == ["/ws/demo/x"]
    assert len(origin.requests) == 3


async def test_limits_of_a_user_hold_and_are_given_back(launch: Launch) -> None:
    reader, limits = Passing(), UserLimits(requests=1, at_once=2, monotonic=lambda: 0.0)
    proxy = await launch(door=Door(reader, limits=limits))
    client = await warmed(proxy, ask())
    with watched() as taken:
        for _ in range(8):
            client.send(ask())
            wire, _ = await proxy.origin.asked()
            wire.send(PLAIN)
            proxy.origin.give_back(wire)
            assert (await client.take_response()).status == 200
        client.send(ask())
        wire, _ = await proxy.origin.asked()
        assert len(limits) == 1
        client.send(ask("/ws/demo/behind"))  # has it go on the ordinary way, and is one too many
        await until(lambda: proxy.connections[0]._messages)
        assert len(limits) == 1
        wire.send(PLAIN)

        assert [(await client.take_response()).status for _ in range(2)] == [200, 429]
    assert len(taken) == 9
    assert len(limits) == 0


async def test_request_that_a_limit_refuses_counts_as_no_use_of_a_kept_connection(launch: Launch) -> None:
    limits = UserLimits(requests=1, at_once=2, monotonic=lambda: 0.0)
    proxy = await launch(Answers(), door=Door(Passing(), limits=limits))
    client = await warmed(proxy, ask())
    statuses = []
    for _ in range(11):
        client.send(ask())
        statuses.append((await client.take_response()).status)

    assert statuses == [200] * 9 + [429] * 2
    assert proxy.pool.counts.reused == 9
    assert len(limits) == 0


async def test_request_line_that_is_too_long_with_its_headers_is_answered_431(launch: Launch) -> None:
    proxy = await launch(Answers(), limits=Limits(max_header_bytes=1024))
    client = await warmed(proxy, ask())

    client.send(ask("/ws/demo/" + "x" * 1024))

    assert (await client.take_response()).status == 431


async def test_workspace_that_was_started_anew_is_sent_what_is_its_own(launch: Launch) -> None:
    proxy = await launch(Answers())
    client = await warmed(proxy, ask())

    await proxy.supervisor.stop(DEMO)
    await proxy.supervisor.ensure_running(DEMO)
    with watched() as taken:
        client.send(ask())
        assert (await client.take_response()).status == 200

    assert taken == []
    assert proxy.backend.starts["demo"] == 2


async def test_both_the_request_and_its_answer_are_use(launch: Launch) -> None:
    proxy = await launch()
    client = await warmed(proxy, ask())
    proxy.clock.advance(100)

    client.send(ask())
    wire, _ = await proxy.origin.asked()
    asked = proxy.idle_seconds
    proxy.clock.advance(50)
    wire.send(PLAIN)
    await client.take_response()

    assert (asked, proxy.idle_seconds) == (0, 0)
    report = proxy.supervisor.report(DEMO)
    assert report is not None
    assert report.counted is not None
    assert report.counted.what == "GET /ws/demo/api"


async def test_what_does_not_count_does_not_on_the_express_way_either(launch: Launch) -> None:
    proxy = await launch(Answers(), activity="interactive")
    client = await warmed(proxy, ask())
    proxy.clock.advance(100)

    with watched() as taken:
        client.send(ask("/ws/demo/api/kernels"))
        await client.take_response()

    assert taken == ["/ws/demo/api/kernels"]
    assert proxy.idle_seconds == 100


async def test_it_is_counted_as_long_as_it_is_under_way(launch: Launch) -> None:
    proxy = await launch()
    client, wire, _ = await begun(proxy)
    during = (proxy.gateway.in_flight, proxy.gateway._in_flight.connections(DEMO))

    wire.send(PLAIN)
    await client.take_response()

    assert during == (1, 1)
    assert (proxy.gateway.in_flight, proxy.gateway._in_flight.connections(DEMO)) == (0, 0)


# When something is unusual --------------------------------------------------------------------------------------------


async def test_kept_connection_that_ends_without_an_answer_is_replaced_and_the_request_sent_again(
    launch: Launch,
) -> None:
    proxy = await launch()
    client, wire, first = await begun(proxy)

    wire.close()
    fresh, again = await proxy.origin.asked()
    fresh.send(PLAIN)

    assert again.head == first.head
    assert (await client.take_response()).body == b"ok"
    assert not proxy.gateway.in_flight


async def test_request_that_is_sent_again_tells_no_more_than_before(launch: Launch) -> None:
    forward = {"auth": "forward", "identity_header": "Who", "workspace_template": "{user_slug}"}
    proxy = await launch(auth=forward, trusted=(ip_network("127.0.0.0/8"),))
    client, wire, first = await begun(proxy, ask("/ws/demo/x", "Who: demo"))

    wire.close()
    fresh, again = await proxy.origin.asked()
    fresh.send(PLAIN)
    await client.take_response()

    assert again.head == first.head
    assert again.values(b"x-forwarded-user") == [b"demo"]
    assert again.values(b"who") == []


async def test_last_words_before_a_reset_that_is_met_while_sending_end_it_once(launch: Launch) -> None:
    proxy = await launch()
    client = await warmed(proxy, ask())
    wire = await proxy.origin.accepted()
    ((kept,),) = proxy.pool._idle.values()
    kept.pause_reading()  # as if the event loop had not come to it yet
    await wire.push(PLAIN)
    wire.reset()
    await until(lambda: _is_reset(kept))

    with watched() as taken:
        proxy.gateway._in_flight.carry(DEMO)  # by somebody else
        client.send(ask())
        response = await client.take_response()

    assert taken == ["/ws/demo/api"]
    assert response.body == b"ok"
    assert not proxy.gateway.in_flight
    assert proxy.gateway._in_flight.connections(DEMO) == 1


async def test_notebook_that_is_gone_is_started_again(launch: Launch) -> None:
    proxy = await launch()
    client, wire, _ = await begun(proxy)

    proxy.origin.refuse()
    proxy.backend.gate.clear()
    wire.close()
    await until(lambda: proxy.backend.starts["demo"] == 2)
    await proxy.origin.listen()
    proxy.backend.gate.set()
    (await proxy.origin.asked())[0].send(PLAIN)

    assert (await client.take_response()).body == b"ok"


async def test_silence_is_a_504(launch: Launch) -> None:
    proxy = await launch(head_timeout=0.01)
    client = await warmed(proxy, ask())
    with watched() as taken:
        client.send(ask())
        response = await client.take_response()

    assert taken
    assert (response.status, problem_code(response)) == (504, "upstream-timeout")


async def test_requests_behind_it_are_answered_in_their_order(launch: Launch) -> None:
    proxy = await launch()
    client, wire, _ = await begun(proxy)

    client.send(ask("/ws/demo/second"), ask("/ws/demo/third")[:30])
    await until(lambda: proxy.connections[0]._messages)
    wire.send(OK, b"Content-Length: 5\r\n\r\nfirst")
    assert (await client.take_response()).body == b"first"
    assert (await wire.take_request()).target == b"/ws/demo/second"
    wire.send(PLAIN)
    await client.take_response()
    client.send(ask("/ws/demo/third")[30:])
    assert (await wire.take_request()).target == b"/ws/demo/third"
    wire.send(PLAIN)

    assert (await client.take_response()).body == b"ok"


async def test_bytes_behind_the_beginning_of_an_answer_do_not_disturb_it(launch: Launch) -> None:
    proxy = await launch()
    client, wire, _ = await begun(proxy)
    wire.send(OK, b"Content-Length: 8\r\n\r\nhalf")
    await client.take_until(b"half")

    client.send(b"garbage\r\n\r\n")
    await until(lambda: proxy.connections[0]._is_refused)
    wire.send(b"half")

    assert await client.take(4) == b"half"
    assert (await client.take_response()).status == 400


async def test_slow_reader_holds_the_notebook_up_and_gets_every_byte(launch: Launch) -> None:
    proxy = await launch()
    client = await proxy.connect(receive_buffer=16_384)
    client.send(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(PLAIN)
    await client.take_response()
    body = bytes(range(256)) * (16 * MIB // 256)

    with watched() as taken:
        client.send(ask())
        await wire.take_request()
        wire.send(OK, b"Content-Length: %d\r\n\r\n" % len(body), body)
        await until(lambda: proxy.gateway.in_flight and proxy.connections[0].writing_paused)
        assert wire.unsent
        await until(lambda: proxy.connections[0]._carried is None)
        assert proxy.gateway.in_flight == proxy.gateway._in_flight.connections(DEMO) == 1
        client.widen()

        assert (await client.take_response()).body == body
    assert len(taken) == 1


@pytest.mark.parametrize("answer", [b"", OK + b"Content-Length: 9\r\n\r\nhalf"])
async def test_client_that_goes_away_ends_it_upstream(launch: Launch, answer: bytes) -> None:
    proxy = await launch()
    client, wire, _ = await begun(proxy)
    wire.send(answer)
    if answer:
        await client.take_until(b"half")

    client.close()

    assert await wire.ending() in ("closed", "reset")
    await until(lambda: not proxy.gateway.in_flight)


async def test_client_that_goes_away_behind_bytes_that_nobody_has_taken_ends_it_too(launch: Launch) -> None:
    proxy = await launch()
    client, wire, _ = await begun(proxy)

    client.send(ask("/ws/demo/y"))
    client.reset()

    assert await wire.ending() in ("closed", "reset")
    await until(lambda: not proxy.gateway.in_flight)
    assert not proxy.gateway._in_flight.connections(DEMO)


# Time and shutdown ----------------------------------------------------------------------------------------------------


async def test_answer_may_outlast_the_time_that_an_idle_connection_is_kept(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE", 0.05)
    proxy = await launch()
    client, wire, _ = await begun(proxy)
    idle = await warmed(proxy, ask())

    assert await idle.ending() == "closed"  # it began to be idle later
    wire.send(PLAIN)

    assert (await client.take_response()).body == b"ok"
    assert await client.ending() == "closed"


async def test_draining_waits_for_it_and_closes_its_connection(launch: Launch) -> None:
    proxy = await launch()
    client, wire, _ = await begun(proxy)

    draining = asyncio.create_task(proxy.gateway.drain(60))
    await until(lambda: proxy.gateway._in_flight.is_draining)
    proxy.server.client_server.close_idle()
    wire.send(PLAIN)

    assert await client.take_rest() == PLAIN
    assert await draining


@pytest.mark.parametrize("end", ["close_idle", "closed", "eof"])
async def test_answer_that_is_held_back_is_sent_before_its_connection_is_closed(launch: Launch, end: str) -> None:
    proxy = await launch(Answers())
    client = await warmed(proxy, ask())
    (connection,) = proxy.connections
    await until(lambda: connection.is_idle)

    connection.hold(PLAIN, proxy.pool.outbox)
    if end == "close_idle":
        proxy.server.client_server.close_idle()
    elif end == "closed":
        connection.force_close()
    else:
        assert not connection.eof_received()
        connection.transport.close()

    assert await client.take_rest() == PLAIN


async def test_answer_that_is_held_back_is_sent_before_that_to_what_comes_behind(launch: Launch) -> None:
    proxy = await launch(Answers())
    client = await warmed(proxy, ask())
    (connection,) = proxy.connections
    await until(lambda: connection.is_idle)

    connection.hold(OK + b"Content-Length: 4\r\n\r\nheld", proxy.pool.outbox)
    connection.data_received(b"BAD\r\n\r\n")

    assert (await client.take_response()).body == b"held"
    assert (await client.take_response()).status == 400


def echo_target(request: Message) -> bytes:
    """Answer a request with its own target."""
    return b"%bContent-Length: %d\r\n\r\n%b" % (OK, len(request.target), request.target)


async def test_many_at_once_are_all_answered_with_their_own(launch: Launch) -> None:
    proxy = await launch(Answers(echo_target))
    clients = [await warmed(proxy, ask()) for _ in range(12)]

    with watched() as taken:
        for turn in range(5):
            for number, client in enumerate(clients):
                client.send(ask(f"/ws/demo/{turn}-{number}"))
            for number, client in enumerate(clients):
                assert (await client.take_response()).body == f"/ws/demo/{turn}-{number}".encode()

    assert len(taken) > 24  # some of the first had no kept connection to the notebook
    assert not proxy.gateway.in_flight


async def test_it_is_not_begun_while_draining(launch: Launch) -> None:
    proxy = await launch(Answers())
    client = await warmed(proxy, ask())

    proxy.server.client_server.is_draining = True
    proxy.gateway.begin_draining()
    with watched() as taken:
        client.send(ask())

        assert await client.take_rest() == PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert taken == []


@pytest.mark.parametrize(("answer", "end"), [(b"", "closed"), (OK + b"Content-Length: 9\r\n\r\nhalf", "reset")])
async def test_cut_off_ends_it_on_both_sides(launch: Launch, answer: bytes, end: str) -> None:
    proxy = await launch()
    client, wire, _ = await begun(proxy)
    wire.send(answer)
    if answer:
        await client.take_until(b"half")

    proxy.gateway.cut_off()

    assert await client.ending() == end
    assert await wire.ending() in ("closed", "reset")
    assert not proxy.gateway.in_flight


async def test_websocket_can_follow_on_the_same_connection(launch: Launch) -> None:
    proxy = await launch()
    client = await warmed(proxy, ask())
    client.send(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(PLAIN)
    await client.take_response()

    client.send(ask_upgrade())
    wire = await proxy.origin.accepted()
    wire.send(switch(await wire.take_request()))
    assert (await client.take_response()).status == 101
    request = ask()
    client.send(request)  # what looks like a request is the websocket's now

    assert await wire.take(len(request)) == request
    wire.send(frame(b"bye"))
    assert (await client.take_frame()).payload == b"bye"


async def test_client_that_is_faster_than_the_end_of_the_ordinary_way_takes_it(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = Answers()
    proxy = await launch(origin)
    remember = ExpressConnection.remember

    def go_on(self: ExpressConnection, order: Order, user: User) -> None:
        remember(self, order, user)
        self.data_received(ask("/ws/demo/fast"))

    monkeypatch.setattr(ExpressConnection, "remember", go_on)
    with watched() as taken:
        client = await proxy.sent(ask("/ws/demo/first"))
        answers = [await client.take_response() for _ in range(2)]
        client.send(ask("/ws/demo/last"))
        answers.append(await client.take_response())

    assert [answer.body for answer in answers] == [b"ok"] * 3
    assert taken == ["/ws/demo/fast", "/ws/demo/last"]
    assert [seen.target for seen in origin.requests] == [b"/ws/demo/first", b"/ws/demo/fast", b"/ws/demo/last"]
