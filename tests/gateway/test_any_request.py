"""Any target and any header line, through the whole proxy: one meaning for everybody, and never an error of ours."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from posixpath import normpath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import express
from proxy.activity import Activity, Wake
from proxy.auth.build import make_door
from proxy.clock import SystemClock
from proxy.config import Config
from proxy.gateway import Gateway
from proxy.relay.server import ClientServer
from proxy.relay.upstream import Pool
from proxy.relay.websocket import WebsocketRelay
from proxy.supervisor import Supervisor
from proxy.workspace import is_label
from tests.auth.tokens import SECRET, token
from tests.gateway.conftest import MovingBackend
from tests.gateway.express import watched
from tests.relay.origin import Answers, Origin, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from proxy.workspace import Key
    from tests.relay.origin import Message


class Stage:
    """A proxy that answers one request after another, in an event loop that outlives each example."""

    def __init__(self, port: int, answers: Answers, backend: MovingBackend, uses: list[tuple[str, str]]) -> None:
        self.port = port
        self.uses = uses
        self.answers = answers
        self.backend = backend

    async def exchange(self, sent: bytes) -> tuple[Message, list[Message]]:
        """Return the answer to a request, and what of it reached a notebook server."""
        self.answers.requests.clear()
        self.backend.starts.clear()
        self.uses.clear()
        client = await connect(self.port)
        client.send(sent)
        answer = await client.take_response()
        await client.closed()
        return answer, list(self.answers.requests)

    async def behind(self, first: bytes, sent: bytes) -> tuple[Message, list[Message]] | None:
        """Do the same on a connection on which another request came first; None if nothing can follow that."""
        client = await connect(self.port)
        client.send(first)
        answer = await client.take_response()
        if answer.status == 200 and not answer.values(b"connection"):
            self.answers.requests.clear()
            self.uses.clear()
            client.send(sent)
            answer = await client.take_response()
            await client.closed()
            return answer, list(self.answers.requests)
        await client.closed()
        return None


class Recording(Supervisor):
    """Remembers what it is told of use."""

    uses: list[tuple[str, str]]

    def touch(self, key: Key, what: str = "") -> None:
        self.uses.append(("touch", what))
        super().touch(key, what)

    def ignored(self, key: Key, what: str) -> None:
        self.uses.append(("ignored", what))
        super().ignored(key, what)


@asynccontextmanager
async def staged(**auth: Any) -> AsyncIterator[Stage]:
    answers = Answers()
    async with Origin(answers) as origin:
        backend, pool, judge = MovingBackend(origin.port), Pool(None), Activity("interactive")
        config = Config(**auth)
        supervisor = Recording(backend, config)
        supervisor.uses = []
        gateway = Gateway(
            supervisor, pool, WebsocketRelay(pool), namespace="default", activity=judge, wake=Wake("any", judge),
            clock=SystemClock(), page_after=config.page_after,
            hold_timeout=config.hold_timeout, door=make_door(config), check_host=not auth,
        )  # fmt: skip
        server = ClientServer(gateway.handle, express=gateway.express)
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        yield Stage(listener.sockets[0].getsockname()[1], answers, backend, supervisor.uses)
        listener.close()
        await server.shutdown(1)
        pool.close()
        await supervisor.close()


@pytest.fixture(scope="module")
def stage() -> Iterator[tuple[asyncio.Runner, Stage]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        context = staged()
        yield runner, runner.run(context.__aenter__())
        runner.run(context.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[asyncio.Runner, Stage]]:
    """The same, where a token is asked for."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        context = staged(auth="jwt", jwt_secret=SECRET)
        yield runner, runner.run(context.__aenter__())
        runner.run(context.__aexit__(None, None, None))


WORDS = st.sampled_from(
    ["demo", "other", "ws", "lab", "..", ".", "...", "%2e%2e", "%2E.", "%252e%252e", "%25252e", "%2F", "%2f", "%252F",
     "/", "//", "\\", "%5C", "%5c..%5c", ";", "..;", ";x=y", "%00", "%2500", "#", "%23", "?", "%3F", "token=x", "&",
     "%zz", "%", "a%20b", "%0d%0a", "Demo", "de%6Do", "demo%2e", "-demo", "d" * 60, "~", "@", ":", "http:", "\xe9"]
)  # fmt: skip
TARGETS = st.builds(
    lambda prefix, words: prefix + "".join(words),
    st.sampled_from(
        ["/ws/demo/", "/ws/demo", "/ws/", "/ws", "/", "//ws/demo/", "/./ws/", "http://localhost/ws/demo/", ""]
    ),
    st.lists(st.one_of(st.just("/"), WORDS), max_size=8),
)


def readings(path: bytes) -> Iterator[bytes]:
    """The path as it stands, and as one or two decodings read it, with every separator that somebody knows."""
    for _ in range(3):
        yield path
        yield path.replace(b"\\", b"/")
        yield b"/".join(segment.partition(b";")[0] for segment in path.split(b"/"))
        path = unquote_to_bytes(path)


@settings(max_examples=200)
@given(target=TARGETS)
def test_path_that_is_authorised_is_the_one_that_is_routed_and_the_one_that_is_forwarded(
    stage: tuple[asyncio.Runner, Stage], target: str
) -> None:
    runner, proxy = stage
    sent = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target.encode("latin-1")

    answer, reached = runner.run(proxy.exchange(sent))

    if answer.status != 200 or not reached:
        assert not reached
        assert not proxy.backend.starts
        assert answer.status in (200, 307, 400, 404)  # 200: the index
        return
    (request,) = reached
    path, _, _ = target.removeprefix("http://localhost").partition("?")
    forwarded, _, query = request.target.partition(b"?")
    assert forwarded == path.encode()
    assert b"token" not in query
    workspace = path.split("/")[2]
    assert is_label(workspace)
    assert set(proxy.backend.starts) <= {workspace}  # none, where it runs already
    base = b"/ws/%b" % workspace.encode()
    for reading in readings(forwarded):
        assert normpath(reading).startswith((base + b"/", base))
        assert b"\x00" not in reading


DEMO = token("alice", "demo")
CREDENTIALS = st.sampled_from(
    [
        f"Authorization: Bearer {DEMO}", f"authorization: bearer {DEMO}", f"Authorization: token {DEMO}",
        f"Cookie: notebook-proxy={DEMO}", f"Cookie: a=b; notebook-proxy={DEMO}; c",
        f"Cookie: notebook-proxy-site={DEMO}",
        f"Cookie: __Secure-notebook-proxy={DEMO}", f"X-Token: {DEMO}", f"Authorization: Bearer {DEMO[:-2]}",
        "Cookie: notebook-proxy=x", "X-Forwarded-User: alice", "Sec-Fetch-Mode: navigate",
    ]
)  # fmt: skip


@settings(max_examples=300)
@given(target=TARGETS, in_query=st.booleans(), lines=st.lists(CREDENTIALS, max_size=3))
def test_whatever_is_asked_in_whatever_form_nobody_reaches_what_is_not_theirs_or_passes_their_token_on(
    guarded: tuple[asyncio.Runner, Stage], target: str, in_query: bool, lines: list[str]
) -> None:
    runner, proxy = guarded
    if in_query:
        target += f"{'&' if '?' in target else '?'}token={DEMO}"
    head = "".join(f"{line}\r\n" for line in lines)

    answer, reached = runner.run(
        proxy.exchange(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode("latin-1"))
    )

    assert answer.status < 500
    assert set(proxy.backend.starts) <= ({"demo"} if reached else set())
    for request in reached:
        path = request.target.partition(b"?")[0]
        for reading in readings(path):
            assert normpath(reading).startswith(b"/ws/demo")
        assert path.split(b"/")[2] == b"demo"
        named = {line.partition(":")[0].lower() for line in lines if DEMO in line} | ({"query"} if in_query else set())
        assert named & {"authorization", "cookie", "query"}
        # What a client writes elsewhere than where credentials are is no credential, and passes.
        kept = b"\r\n".join(line for line in request.lines if not line.startswith(b"X-Token:"))
        assert not [part for part in DEMO.encode().split(b".") if part in request.target + kept]


NAMES = st.one_of(
    st.sampled_from(
        ["Connection", "Upgrade", "Expect", "Origin", "Accept", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Purpose",
         "Referer", "X-Forwarded-For", "X_Forwarded_For", "Authorization", "Cookie", "TE", "Trailer", "Range",
         "Content-Encoding", "Transfer-Encoding", "Content-Length", "Sec-WebSocket-Key", "Sec-WebSocket-Key1",
         "Accept-Encoding", "Host"]
    ),
    st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=8),
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        ["websocket", "Upgrade", "100-continue", "navigate", "cross-site", "close", "chunked", "0", "http://localhost"]
    ),
    st.text(st.characters(min_codepoint=0, max_codepoint=255, exclude_characters="\r\n"), max_size=30),
)


@settings(max_examples=200)
@given(lines=st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=4))
def test_any_header_lines_are_refused_or_passed_and_never_an_error_of_ours(
    stage: tuple[asyncio.Runner, Stage], lines: list[tuple[str, str]]
) -> None:
    runner, proxy = stage
    head = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")

    answer, reached = runner.run(
        proxy.exchange(b"GET /ws/demo/x HTTP/1.1\r\nHost: localhost\r\n" + head + b"X-Last: 1\r\n\r\n")
    )

    assert answer.status in (200, 400, 403)
    assert len(reached) == (answer.status == 200)
    for request in reached:
        assert request.values(b"x-last") == [b"1"]
        assert request.values(b"authorization") == [b"token secret"]
        assert request.values(b"x-forwarded-for") == [b"127.0.0.1"]
        assert request.values(b"host") == [b"localhost"]


PATHS = st.one_of(
    TARGETS,
    st.builds(
        lambda path, query: f"/ws/demo/{path}{query}",
        st.sampled_from(
            ["", "lab", "api/kernels", "api/contents/a", "api/status", "x" * 300, "_proxy/status", "_proxyx"]
        ),
        st.sampled_from(
            ["", "?", "?a=b", "?content=1", "?type=directory&content=1", "?no_track_activity=1", "?token=x"]
        ),
    ),
)  # fmt: skip
LINES = st.one_of(
    st.tuples(NAMES, VALUES),
    st.sampled_from(
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "navigate"),
         ("Sec-Purpose", "prefetch"), ("Origin", "http://evil.example"), ("Cookie", "a=b"), ("Accept", "text/html"),
         ("Connection", "keep-alive, X-Gone"), ("X-Gone", "1"), ("X_Forwarded_For", "1.1.1.1"), ("If-None-Match", "x")]
    ),
)  # fmt: skip


def test_express_way_and_ordinary_way_cannot_be_told_apart(stage: tuple[asyncio.Runner, Stage]) -> None:
    runner, proxy = stage

    @settings(max_examples=400)
    @given(target=PATHS, lines=st.lists(LINES, max_size=4), is_gathered=st.booleans())
    def both_ways(target: str, lines: list[tuple[str, str]], is_gathered: bool) -> None:
        patch.setattr(express, "BUSY", 0 if is_gathered else 100)
        block = b"Host: localhost\r\n%b\r\n" % "".join(f"{n}: {v}\r\n" for n, v in lines).encode("latin-1")
        sent = b"GET %b HTTP/1.1\r\n%b" % (target.encode("latin-1"), block)
        runner.run(proxy.exchange(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target.encode("latin-1")))

        ordinary, uses = runner.run(proxy.exchange(sent)), list(proxy.uses)
        behind = runner.run(proxy.behind(b"GET /ws/demo/first HTTP/1.1\r\n" + block, sent))

        assert behind is None or (told(*ordinary), uses) == (told(*behind), proxy.uses)

    with watched() as taken, pytest.MonkeyPatch.context() as patch:
        both_ways()

    assert len(taken) > 40


def told(answer: Message, reached: list[Message]) -> tuple[list[bytes], bytes, list[bytes]]:
    """What a client and a notebook server get; but of our own answers no body, for some tell what happened when."""
    if not reached:
        return [answer.start, *sorted(line.partition(b":")[0] for line in answer.lines)], b"", []
    return [answer.start, *answer.lines], answer.body, [request.head for request in reached]
