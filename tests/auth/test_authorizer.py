"""`authorize_url`: asked seldom, believed for a while, and never let through when it fails."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.auth.access import Access
from proxy.auth.authorizer import FAILURE_TTL, RECENT, Authorizer, Question, Verdict
from proxy.auth.user import User
from proxy.errors import Forbidden
from tests.gateway.conftest import HandClock
from tests.relay.origin import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TTL = 30.0
ALICE = User("alice@example.org", ())


class Service:
    """What an operator runs: answers `status`, as soon as `gate` is open."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.location = ""
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        self.headers.append(dict(request.headers))
        await self.gate.wait()
        headers = {"Location": self.location} if self.location else {}
        return web.Response(status=self.status, headers={**headers, "Set-Cookie": "a=b"}, text="x" * 100)


@pytest.fixture
async def service() -> AsyncIterator[tuple[Service, str]]:
    service = Service()
    app = web.Application()
    app.router.add_get("/{path:.*}", service.answer)
    async with TestServer(app) as server:
        yield service, str(server.make_url("/may"))


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Authorizer]]:
    made: list[Authorizer] = []

    def build(url: str, clock: HandClock, **rest: Any) -> Authorizer:
        made.append(Authorizer(url, timedelta(seconds=TTL), clock=clock, **rest))
        return made[-1]

    yield build
    for each in made:
        await each.close()


def question(workspace: str = "demo", user: str = ALICE.name, method: str = "GET") -> Question:
    return Question(user, workspace, method)


async def test_the_service_is_told_who_asks_for_what_and_how(
    service: tuple[Service, str], make: Callable[..., Authorizer]
) -> None:
    asked, url = service
    authorizer = make(f"{url}?from=a%26b", HandClock())

    await authorizer.ask(question(user="a&b=c/ü+%41", method="DELETE"))

    assert asked.asked == [{"from": "a&b", "user": "a&b=c/ü+%41", "workspace": "demo", "method": "DELETE"}]
    assert not {"Cookie", "Authorization", "Referer"} & asked.headers[0].keys()


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, Verdict.YES), (204, Verdict.YES), (299, Verdict.YES), (403, Verdict.NO), (401, Verdict.FAILED),
     (404, Verdict.FAILED), (500, Verdict.FAILED), (503, Verdict.FAILED), (300, Verdict.FAILED), (302, Verdict.FAILED)],
)  # fmt: skip
async def test_only_2xx_is_yes_and_only_403_is_no(
    service: tuple[Service, str], make: Callable[..., Authorizer], status: int, verdict: Verdict
) -> None:
    asked, url = service
    asked.status = status

    assert await make(url, HandClock()).ask(question()) is verdict


async def test_a_redirect_is_not_followed(service: tuple[Service, str], make: Callable[..., Authorizer]) -> None:
    asked, url = service
    asked.status, asked.location = 302, "/yes"

    assert await make(url, HandClock()).ask(question()) is Verdict.FAILED
    assert len(asked.asked) == 1


@pytest.mark.parametrize("status", [200, 403])
async def test_an_answer_holds_for_its_time_for_this_user_workspace_and_method(
    service: tuple[Service, str], make: Callable[..., Authorizer], status: int
) -> None:
    asked, url = service
    asked.status = status
    clock = HandClock()
    authorizer = make(url, clock)

    for _ in range(3):
        await authorizer.ask(question())
    assert len(asked.asked) == 1
    for other in (question("other"), question(user="bob"), question(method="POST")):
        assert authorizer.remembered(other) is None
    clock.advance(TTL - 0.5)
    assert authorizer.remembered(question()) is (status == 200)
    clock.advance(1)
    assert authorizer.remembered(question()) is None
    await authorizer.ask(question())
    assert len(asked.asked) == 2


async def test_those_who_ask_at_once_share_one_call_and_nobody_cancels_it_for_others(
    service: tuple[Service, str], make: Callable[..., Authorizer]
) -> None:
    asked, url = service
    asked.gate.clear()
    authorizer = make(url, HandClock())
    crowd = [asyncio.create_task(authorizer.ask(question())) for _ in range(50)]
    await until(lambda: bool(asked.asked))

    crowd.pop(0).cancel()
    asked.gate.set()

    assert set(await asyncio.gather(*crowd)) == {Verdict.YES}
    assert len(asked.asked) == 1


async def test_silence_denies_after_the_deadline(service: tuple[Service, str], make: Callable[..., Authorizer]) -> None:
    asked, url = service
    asked.gate.clear()

    assert await make(url, HandClock(), deadline=0.05).ask(question()) is Verdict.FAILED
    asked.gate.set()


async def test_a_failure_denies_only_for_a_moment_and_is_reported_seldom_and_without_names(
    service: tuple[Service, str], make: Callable[..., Authorizer], caplog: pytest.LogCaptureFixture
) -> None:
    asked, url = service
    asked.status = 500
    clock = HandClock()
    authorizer = make(url, clock)
    access = Access(authorizer=authorizer, clock=clock)

    for name in "abcde":
        with pytest.raises(Forbidden):
            await access.authorise(ALICE, name, "GET")
    with pytest.raises(Forbidden):
        await access.authorise(ALICE, "a", "GET")

    assert len(asked.asked) == 5
    reports = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(reports) == 1
    assert "it answers 500" in reports[0].message
    assert "alice" not in reports[0].message
    asked.status = 200
    clock.advance(FAILURE_TTL + 0.5)
    await access.authorise(ALICE, "a", "GET")


async def test_a_port_that_refuses_denies(make: Callable[..., Authorizer], unused_tcp_port: int) -> None:
    assert await make(f"http://127.0.0.1:{unused_tcp_port}/", HandClock()).ask(question()) is Verdict.FAILED


async def test_proxies_of_the_environment_are_not_used(
    service: tuple[Service, str], make: Callable[..., Authorizer], monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    _, url = service
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.delenv("no_proxy", raising=False)

    assert await make(url, HandClock()).ask(question()) is Verdict.YES


# What access makes of it ----------------------------------------------------------------------------------------------


async def test_what_the_credential_or_the_template_gives_is_never_asked(
    service: tuple[Service, str], make: Callable[..., Authorizer]
) -> None:
    asked, url = service
    asked.status = 403
    clock = HandClock()
    access = Access(template="ws-{user_slug}", authorizer=make(url, clock), clock=clock)
    bob = User("bob", ("demo", "team-*"))

    for workspace_id in ("demo", "team-1", "ws-bob"):
        assert access.admits(bob, workspace_id, "GET") is True
    for workspace_id in ("NO", "a" * 60, "", "-", "x" * 55):  # what no workspace can be called
        assert access.admits(bob, workspace_id, "GET") is False
        with pytest.raises(Forbidden):
            await access.authorise(bob, workspace_id, "GET")
    assert not asked.asked
    assert access.admits(bob, "other", "GET") is None
    with pytest.raises(Forbidden):
        await access.authorise(bob, "other", "GET")
    assert access.admits(bob, "other", "GET") is False
    assert len(asked.asked) == 1


async def test_lists_show_what_was_allowed_of_late_and_ask_nobody(
    service: tuple[Service, str], make: Callable[..., Authorizer]
) -> None:
    asked, url = service
    clock = HandClock()
    access = Access(authorizer=make(url, clock), clock=clock)
    for name in ("a", "b"):
        await access.authorise(ALICE, name, "GET")
    await access.authorise(User("bob", ()), "c", "GET")

    assert access.theirs(ALICE).ids == {"a", "b"}
    asked.status = 403
    clock.advance(TTL + 1)
    assert access.theirs(ALICE).ids == {"a", "b"}
    with pytest.raises(Forbidden):
        await access.authorise(ALICE, "a", "GET")
    assert access.theirs(ALICE).ids == {"b"}
    clock.advance(RECENT)
    assert access.theirs(ALICE).ids == frozenset()
    assert len(asked.asked) == 4


async def test_what_is_open_goes_on_until_the_answer_is_no_or_has_failed_for_long(
    service: tuple[Service, str], make: Callable[..., Authorizer]
) -> None:
    asked, url = service
    clock = HandClock()
    access = Access(authorizer=make(url, clock), clock=clock)
    await access.authorise(ALICE, "demo", "GET")

    asked.status = 500
    clock.advance(TTL + 1)
    assert await access.goes_on(ALICE, "demo")
    assert not await access.goes_on(ALICE, "never-opened")
    clock.advance(RECENT)
    assert not await access.goes_on(ALICE, "demo")

    asked.status = 200
    clock.advance(TTL)
    assert await access.goes_on(ALICE, "demo")
    asked.status = 403
    clock.advance(TTL)
    assert not await access.goes_on(ALICE, "demo")


async def test_what_is_open_ends_with_the_credential() -> None:
    clock = HandClock()
    access = Access(clock=clock)
    user = User("alice", ("demo",), expires=clock.now().timestamp() + 10)

    assert await access.goes_on(user, "demo")
    assert not await access.goes_on(user, "other")
    clock.advance(10)
    assert not await access.goes_on(user, "demo")


async def test_a_long_authorize_ttl_keeps_nothing_open(
    service: tuple[Service, str], make: Callable[..., Authorizer]
) -> None:
    asked, url = service
    clock = HandClock()
    authorizer = Authorizer(url, timedelta(hours=1), clock=clock)
    access = Access(authorizer=authorizer, clock=clock)
    await access.authorise(ALICE, "demo", "GET")

    asked.status = 403
    clock.advance(31)

    assert access.admits(ALICE, "demo", "GET") is True
    assert not await access.goes_on(ALICE, "demo")
    assert access.admits(ALICE, "demo", "GET") is False
    await access.close()


async def test_what_is_remembered_has_a_fixed_size(
    service: tuple[Service, str], make: Callable[..., Authorizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = service
    monkeypatch.setattr("proxy.auth.authorizer._SIZE", 10)
    authorizer = make(url, HandClock())

    for number in range(30):
        await authorizer.ask(question(f"w{number}"))

    assert sum(authorizer.remembered(question(f"w{number}")) is True for number in range(30)) == 10
    assert len(authorizer.recent(ALICE.name)) == 10


def test_who_oversees_is_shown_all_and_opens_none() -> None:
    access = Access(admins=("root",))
    root = User("root", ("mine",))

    assert access.oversees(root)
    assert not access.oversees(User("alice", ("*",)))
    assert not access.oversees(User("", ("*",)))
    assert access.theirs(root).matches("anybodys")
    assert access.admits(root, "anybodys", "GET") is False
    assert access.admits(root, "mine", "GET") is True
