"""Whose a workspace is: by credential, template or `authorize_url`; what lists show; how much one user may have."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.auth.vigil import LOOK_EVERY, NOT_ALLOWED, Vigil
from proxy.slug import slug_of
from proxy.workspace import Key
from tests.auth.tokens import SECRET, token
from tests.gateway.conftest import DEMO
from tests.pages.markup import Page
from tests.relay.origin import PLAIN, Answers, ask, ask_upgrade, frame, switch, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.conftest import Launch, Proxy
    from tests.relay.origin import Wire

LOCAL = (ip_network("127.0.0.0/8"),)
MASK = b"\1\2\3\4"
ALICE, BOB, ROOT = ({"X-Forwarded-User": name} for name in ("alice@example.org", "bob", "root"))
ORIGIN = {"Origin": "http://localhost"}
SLUG = slug_of("alice@example.org")


async def forward(launch: Launch, **settings: Any) -> Proxy:
    return await launch(Answers(), auth={"auth": "forward", **settings}, trusted=LOCAL)


async def listed(proxy: Proxy, user: dict[str, str]) -> list[str]:
    """Return what a user is shown: of the API, the dashboard and its events, which agree."""
    told = await (await proxy.http.get("/api/workspaces", headers=user)).json()
    ids = [each["id"] for each in told["workspaces"]]
    page = Page(await (await proxy.http.get("/", headers=user)).text())
    assert [row["data-id"] for row in page.all("li") if row.get("data-id")] == ids
    assert await first_event(proxy, "/api/events", user) == ids
    return ids


async def first_event(proxy: Proxy, path: str, user: dict[str, str]) -> list[str]:
    wire = await proxy.sent(ask(path, *(f"{name}: {value}" for name, value in user.items())))
    text = await wire.take_until(b"\n\n")
    news = json.loads(text[text.index(b"data: ") + 6 :])
    await wire.closed()
    return [view["id"] for view in news["views"]]


# One of their own -----------------------------------------------------------------------------------------------------


async def test_my_leads_to_a_workspace_of_ones_own_whatever_the_method(launch: Launch) -> None:
    proxy = await forward(launch, workspace_template="my-{user_slug}")

    for path, method, to in (
        ("/my", "GET", "/"),
        ("/my/", "GET", "/"),
        ("/my/lab/tree/a%20b?x=1&y", "GET", "/lab/tree/a%20b?x=1&y"),
        ("/my//evil.example/", "GET", "//evil.example/"),
        ("/my/api/contents/a", "POST", "/api/contents/a"),
    ):
        answer = await proxy.http.request(method, path, headers=ALICE | ORIGIN, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (307, f"/ws/my-{SLUG}{to}"), path
    assert not proxy.backend.starts
    assert (await proxy.http.get("/my/api", headers=ALICE)).status == 200
    assert proxy.backend.starts == {f"my-{SLUG}": 1}


async def test_nobody_is_led_anywhere_where_nobody_has_one_of_their_own(launch: Launch) -> None:
    for proxy in (await forward(launch), await launch(Answers())):
        answer = await proxy.http.get("/my/lab", headers=ALICE, allow_redirects=False)
        assert answer.status == 404
    for path in ("/myself", "/my%2Flab", "/MY/"):
        assert (await proxy.http.get(path)).status == 404


async def test_a_template_gives_a_user_their_own_and_nobody_elses(launch: Launch) -> None:
    proxy = await forward(launch, workspace_template="{user_slug}")

    assert (await proxy.http.get("/ws/bob/api", headers=BOB)).status == 200
    assert (await proxy.http.get("/ws/bob/api", headers=ALICE)).status == 403
    assert (await proxy.http.get(f"/ws/{SLUG}/api", headers=BOB)).status == 403
    assert (await proxy.http.get(f"/ws/{SLUG}/api", headers={"X-Forwarded-User": SLUG})).status == 403
    assert proxy.backend.starts == {"bob": 1}


# What is shown --------------------------------------------------------------------------------------------------------


async def test_lists_show_a_user_what_is_theirs_and_nothing_else(launch: Launch) -> None:
    proxy = await launch(Answers(), auth={"auth": "jwt", "jwt_secret": SECRET, "admin_users": "root"})
    users = {
        name: {"Authorization": f"Bearer {token(name, *theirs)}"}
        for name, theirs in {"all": ["*"], "few": ["b", "team-*", "never-ran"], "none": [], "root": ["mine"]}.items()
    }
    for name in ("a", "b", "team-x"):
        assert (await proxy.http.get(f"/ws/{name}/api", headers=users["all"])).status == 200

    assert await listed(proxy, users["all"]) == ["a", "b", "team-x"]
    assert await listed(proxy, users["few"]) == ["b", "never-ran", "team-x"]
    assert await listed(proxy, users["none"]) == []
    assert await listed(proxy, users["root"]) == ["a", "b", "mine", "team-x"]
    page = await (await proxy.http.get("/", headers=users["few"])).text()
    assert "3 workspaces, 2 running" in Page(page).shown
    told = await (await proxy.http.get("/api/workspaces?limit=1&after=b", headers=users["few"])).json()
    assert ([each["id"] for each in told["workspaces"]], told["next"]) == (["never-ran"], "never-ran")


async def test_a_template_name_is_shown_before_it_has_run(launch: Launch) -> None:
    proxy = await forward(launch, workspace_template="{user_slug}")

    assert await listed(proxy, BOB) == ["bob"]
    assert not proxy.backend.starts


# Those who oversee ----------------------------------------------------------------------------------------------------


async def test_who_oversees_may_see_and_stop_and_nothing_more(launch: Launch) -> None:
    proxy = await forward(launch, workspace_template="{user_slug}", admin_users="root, other")
    assert (await proxy.http.get("/ws/bob/api", headers=BOB)).status == 200

    async def status(method: str, path: str) -> int:
        return (await proxy.http.request(method, path, headers=ROOT | ORIGIN, allow_redirects=False)).status

    for path in ("/api/workspaces/bob", "/api/workspaces/bob/settings", "/ws/bob/_proxy/", "/ws/bob/_proxy/status"):
        assert await status("GET", path) == 200
    assert await first_event_status(proxy, "/ws/bob/_proxy/events", ROOT) == 200
    for method, path in (
        ("GET", "/ws/bob/"),
        ("GET", "/ws/bob"),
        ("GET", "/ws/bob/api"),
        ("GET", "/ws/bob/_proxyx"),
        ("POST", "/ws/bob/_proxy/extend"),
        ("POST", "/api/workspaces/bob/start"),
        ("POST", "/api/workspaces/bob/extend"),
        ("PATCH", "/api/workspaces/bob/settings"),
        ("POST", "/api/workspaces/bob/settings"),
        ("PUT", "/api/workspaces/bob"),
    ):
        assert await status(method, path) == 403, (method, path)
        assert (await proxy.http.request(method, path, headers=ALICE | ORIGIN)).status == 403
    assert await status("GET", "/ws/root/_proxy/status") == 200
    for path in ("/api/workspaces/bob/stop", "/ws/bob/_proxy/stop"):
        assert await status("POST", path) == 200
    assert await status("DELETE", "/api/workspaces/bob") == 200
    assert proxy.backend.stops["bob"] >= 1
    for method, path in (("POST", "/api/workspaces/bob/stop"), ("DELETE", "/api/workspaces/bob")):
        assert (await proxy.http.request(method, path, headers=ALICE | ORIGIN)).status == 403


async def first_event_status(proxy: Proxy, path: str, user: dict[str, str]) -> int:
    wire = await proxy.sent(ask(path, *(f"{name}: {value}" for name, value in user.items())))
    head = await wire.take_until(b"\r\n\r\n")
    await wire.closed()
    return int(head.split(b" ")[1])


async def test_pages_offer_only_what_a_user_may_do(launch: Launch) -> None:
    proxy = await forward(launch, workspace_template="{user_slug}", admin_users="root")
    assert (await proxy.http.get("/ws/bob/api", headers=BOB)).status == 200

    def offered(text: str, mark: str) -> set[str]:
        rows = text[text.index(mark) :].partition("<template")[0]
        return {word for word in ("Open", "Keep", "Stop it now") if f">{word}" in _without_hidden(rows)}

    theirs = await (await proxy.http.get("/", headers=BOB)).text()
    overseen = await (await proxy.http.get("/", headers=ROOT)).text()
    assert offered(theirs, 'data-id="bob"') == {"Open", "Keep", "Stop it now"}
    assert offered(overseen.partition('data-id="root"')[0], 'data-id="bob"') == {"Stop it now"}
    page = await (await proxy.http.get("/ws/bob/_proxy/", headers=ROOT)).text()
    assert offered(page, "<section") == {"Stop it now"}


def _without_hidden(markup: str) -> str:
    """Return markup without what is hidden; enough for elements that hold none of their own kind."""
    import re

    return re.sub(r"<(a|form|p|div|section)\b[^>]* hidden[^>]*>.*?</\1>", "", markup, flags=re.DOTALL)


# authorize_url --------------------------------------------------------------------------------------------------------


class Service:
    """Says who may open what: pairs of user and workspace."""

    def __init__(self) -> None:
        self.allowed = {("alice@example.org", "demo"), ("alice@example.org", "demo2")}
        self.asked: list[tuple[str, str, str]] = []
        self.fault = 0

    async def answer(self, request: web.Request) -> web.Response:
        query = request.query
        self.asked.append((query["user"], query["workspace"], query["method"]))
        is_allowed = (query["user"], query["workspace"]) in self.allowed
        return web.Response(status=self.fault or (204 if is_allowed else 403))


@pytest.fixture
async def service() -> AsyncIterator[tuple[Service, str]]:
    service = Service()
    app = web.Application()
    app.router.add_get("/may", service.answer)
    async with TestServer(app) as server:
        yield service, str(server.make_url("/may"))


async def test_a_service_says_who_may_open_what_and_is_asked_once(launch: Launch, service: tuple[Service, str]) -> None:
    said, url = service
    proxy = await forward(launch, authorize_url=url)

    for _ in range(3):
        assert (await proxy.http.get("/ws/demo/api", headers=ALICE)).status == 200
        assert (await proxy.http.get("/ws/demo/api", headers=BOB)).status == 403
    assert said.asked == [("alice@example.org", "demo", "GET"), ("bob", "demo", "GET")]
    assert proxy.backend.starts == {"demo": 1}
    assert await listed(proxy, ALICE) == ["demo"]
    assert await listed(proxy, BOB) == []
    assert len(said.asked) == 2


async def test_a_service_that_fails_lets_nobody_in_and_the_answer_does_not_tell(
    launch: Launch, service: tuple[Service, str]
) -> None:
    said, url = service
    proxy = await forward(launch, authorize_url=url)
    denied = await (await proxy.http.get("/ws/other/api", headers=ALICE)).json(content_type=None)
    said.fault = 500

    for path in ("/ws/demo/api", "/ws/NO/api", "/ws/never-there/_proxy/status", "/api/workspaces/demo"):
        answer = await proxy.http.get(path, headers=ALICE)
        assert (answer.status, await answer.json(content_type=None)) == (403, denied), path
    assert not proxy.backend.starts


async def test_who_tries_every_workspace_is_slowed_down(launch: Launch, service: tuple[Service, str]) -> None:
    said, url = service
    proxy = await forward(launch, authorize_url=url, max_requests_per_user=1000)
    answers = [(await proxy.http.get(f"/ws/w{number}/api", headers=BOB)).status for number in range(110)]

    assert answers == [403] * 100 + [429] * 10
    assert len(said.asked) == 100
    assert (await proxy.http.get("/ws/demo/api", headers=ALICE)).status == 200


# What is open ends ----------------------------------------------------------------------------------------------------


async def opened(proxy: Proxy, target: str, *lines: str) -> tuple[Wire, Wire]:
    """Return both ends of an open websocket."""
    client = await proxy.sent(ask_upgrade(target, *lines))
    wire, request = await proxy.origin.asked()
    wire.send(switch(request))
    assert (await client.take_response()).status == 101
    return client, wire


def in_seconds(proxy: Proxy, seconds: int) -> int:
    """Return a moment that is so far ahead for the proxy, and ahead for the machine's clock, too."""
    end = int(time.time()) + 3600
    proxy.clock.advance(end - seconds - proxy.clock.now().timestamp())
    return end


def vigil_of(proxy: Proxy) -> Vigil:
    return Vigil(proxy.gateway._door.access, proxy.websockets, proxy.clock)


async def assert_closed(client: Wire, wire: Wire) -> None:
    told, passed = await client.take_frame(), await wire.take_frame()
    assert (told.first, told.payload) == (0x88, struct.pack("!H", NOT_ALLOWED))
    assert passed.payload == struct.pack("!H", NOT_ALLOWED)
    client.send(frame(told.payload, 8, mask=MASK))
    assert await client.ending() == "closed"
    assert await wire.ending() == "closed"


async def test_a_websocket_is_closed_with_4401_when_its_token_is_over(launch: Launch) -> None:
    proxy = await launch(auth={"auth": "jwt", "jwt_secret": SECRET})
    end = in_seconds(proxy, 100)
    short, long = (token("alice", "demo", exp=end + more) for more in (0, 1000))
    ends = await opened(proxy, "/ws/demo/a", f"Authorization: Bearer {short}")
    others = await opened(proxy, "/ws/demo/b", f"Authorization: Bearer {long}")
    vigil = vigil_of(proxy)

    for _ in range(int(90 / LOOK_EVERY)):
        proxy.clock.advance(LOOK_EVERY)
        await vigil.look()
    ends[0].send(frame(b"a", mask=MASK))
    assert (await ends[1].take_frame()).payload == b"a"
    proxy.clock.advance(LOOK_EVERY)
    await vigil.look()

    await assert_closed(*ends)
    others[1].send(frame(b"b"))
    assert (await others[0].take_frame()).payload == b"b"
    assert len(proxy.websockets) == 1
    assert not proxy.backend.stops  # the kernel does not notice


async def test_the_vigil_looks_now_and_then_and_survives_a_look_that_breaks(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = await launch()
    vigil, looks = vigil_of(proxy), 0

    async def look() -> None:
        nonlocal looks
        looks += 1
        raise OSError("broken")

    monkeypatch.setattr(vigil, "look", look)
    running = asyncio.create_task(vigil.run())
    try:
        for count in range(3):
            await until(lambda: proxy.clock.sleepers)
            proxy.clock.advance(LOOK_EVERY)
            await until(lambda count=count: looks == count + 1)  # type: ignore[misc]
    finally:
        running.cancel()
    assert "open websockets were not judged" in caplog.text


async def test_a_websocket_is_closed_within_a_minute_of_the_service_saying_no(
    launch: Launch, service: tuple[Service, str]
) -> None:
    said, url = service
    proxy = await launch(auth={"auth": "forward", "authorize_url": url, "authorize_ttl": "10m"}, trusted=LOCAL)
    lines = [f"{name}: {value}" for name, value in (ALICE | ORIGIN).items()]
    ends, others = await opened(proxy, "/ws/demo/a", *lines), await opened(proxy, "/ws/demo2/b", *lines)
    vigil = vigil_of(proxy)
    said.allowed.remove(("alice@example.org", "demo"))

    for _ in range(int(45 / LOOK_EVERY)):
        proxy.clock.advance(LOOK_EVERY)
        await vigil.look()

    await assert_closed(*ends)
    assert len(proxy.websockets) == 1
    assert (await proxy.http.get("/ws/demo/api", headers=ALICE)).status == 403
    said.fault = 500  # neither yes nor no
    proxy.clock.advance(60)
    await vigil.look()
    others[1].send(frame(b"b"))
    assert (await others[0].take_frame()).payload == b"b"


async def test_a_websocket_within_a_frame_is_cut_off_instead(launch: Launch) -> None:
    proxy = await launch(auth={"auth": "jwt", "jwt_secret": SECRET})
    end = in_seconds(proxy, 100)
    client, wire = await opened(proxy, "/ws/demo/a", f"Authorization: Bearer {token('alice', 'demo', exp=end)}")
    wire.send(frame(b"x" * 100)[:50])
    await client.take(50)
    mark = len(client.taken)

    proxy.clock.advance(100)
    await vigil_of(proxy).look()

    assert await client.ending() in ("closed", "reset")
    assert len(client.taken) == mark


async def test_where_nobody_is_asked_no_websocket_is_judged(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy, "/ws/demo/a")

    assert proxy.websockets.visits() == {}
    await vigil_of(proxy).look()
    wire.send(frame(b"b"))
    assert (await client.take_frame()).payload == b"b"


@pytest.mark.parametrize("path", ["/api/events", "/ws/demo/_proxy/events"])
async def test_a_stream_of_events_ends_with_the_token(launch: Launch, path: str) -> None:
    proxy = await launch(Answers(), auth={"auth": "jwt", "jwt_secret": SECRET})
    end = in_seconds(proxy, 100)
    bearer = f"Authorization: Bearer {token('alice', 'demo', exp=end)}"
    wire = await proxy.sent(ask(path, bearer))
    await wire.take_until(b"\n\n")

    proxy.clock.advance(100)
    proxy.supervisor._ledger.bump(DEMO)
    proxy.supervisor._ledger.note(DEMO, "found")

    rest = await wire.take_rest()
    assert b"data:" not in rest


# How much one user may have -------------------------------------------------------------------------------------------


async def test_too_many_requests_of_one_user_are_refused_and_nobody_elses(launch: Launch) -> None:
    proxy = await forward(launch, workspace_template="{user_slug}", max_requests_per_user=1)
    answers = [await proxy.http.get("/ws/bob/api", headers=BOB) for _ in range(12)]

    assert [answer.status for answer in answers] == [200] * 10 + [429] * 2
    assert answers[-1].headers["Retry-After"] == "1"
    assert (await answers[-1].json(content_type=None))["code"] == "too-many-requests"
    assert (await proxy.http.get("/", headers=BOB)).status == 429
    assert (await proxy.http.get("/", headers=ALICE)).status == 200
    proxy.clock.advance(1)
    assert (await proxy.http.get("/ws/bob/api", headers=BOB)).status == 200


async def test_too_many_open_requests_and_websockets_of_one_user_are_refused(launch: Launch) -> None:
    proxy = await launch(
        auth={"auth": "forward", "workspace_template": "{user_slug}", "max_connections_per_user": 2}, trusted=LOCAL
    )
    bob, alice = ("X-Forwarded-User: bob", "Origin: http://localhost"), ("X-Forwarded-User: alice",)
    client, wire = await opened(proxy, "/ws/bob/a", *bob)
    held = await proxy.sent(ask("/ws/bob/slow", *bob))
    answer, _ = await proxy.origin.asked()

    refused = await (await proxy.sent(ask("/ws/bob/api", *bob))).take_response()
    upgrade = await (await proxy.sent(ask_upgrade("/ws/bob/b", *bob))).take_response()

    assert (refused.status, upgrade.status) == (429, 429)
    assert refused.values(b"retry-after")
    other = await proxy.sent(ask("/ws/alice/slow", *alice))
    other_answer, _ = await proxy.origin.asked()
    for each in (answer, other_answer):
        each.send(PLAIN)
    for each in (held, other):
        assert (await each.take_response()).status == 200
    await client.closed()
    await wire.closed()
    await until(lambda: not len(proxy.gateway._door.limits))


async def test_too_many_starts_of_one_user_are_refused_by_every_way_of_starting(launch: Launch) -> None:
    proxy = await launch(
        Answers(),
        auth={"auth": "jwt", "jwt_secret": SECRET, "max_running_per_user": 2, "max_starts_per_user": 100},
    )
    bob = {"Authorization": f"Bearer {token('bob', '*')}"}
    for name in ("a", "b"):
        assert (await proxy.http.get(f"/ws/{name}/api", headers=bob)).status == 200

    page = await proxy.http.get("/ws/c/lab", headers=bob | {"Sec-Fetch-Mode": "navigate"})
    told = await proxy.http.post("/api/workspaces/c/start", headers=bob)

    assert (page.status, told.status) == (429, 429)
    assert page.headers["Retry-After"] and told.headers["Retry-After"]  # noqa: PT018
    assert "stop one of them first" in Page(await page.text()).shown
    assert (await told.json(content_type=None))["code"] == "too-many-running"
    assert proxy.backend.starts == {"a": 1, "b": 1}
    assert proxy.supervisor.report(Key("c", "default")) is None
    assert (await proxy.http.get("/ws/a/api", headers=bob)).status == 200
    other = {"Authorization": f"Bearer {token('alice', '*')}"}
    assert (await proxy.http.get("/ws/c/api", headers=other)).status == 200
