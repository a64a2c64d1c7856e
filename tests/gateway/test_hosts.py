"""A host for each workspace: what each host serves, and how a browser comes from the main one to a workspace's."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from proxy.slug import workspace_of_user
from tests.auth.tokens import SECRET, token
from tests.relay.origin import Answers, ask, ask_upgrade, switch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.gateway.conftest import Launch, Proxy
    from tests.relay.origin import Message

BASE: Final = "nb.test:8443"
DEMO: Final = f"demo.{BASE}"
OTHER: Final = f"other.{BASE}"
HOSTS: Final = {"routing": "host", "base_domain": "nb.test"}
JWT: Final = {**HOSTS, "auth": "jwt", "jwt_secret": SECRET}
FORWARD: Final[dict[str, Any]] = {**HOSTS, "auth": "forward", "session_secret": SECRET}
GOOD: Final = token("alice", "demo", "other")
PAGE: Final = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html")
HTTPS: Final = "X-Forwarded-Proto: https"
LOCAL: Final = (ip_network("127.0.0.0/8"),)


async def told(proxy: Proxy, host: str, target: str, *lines: str, method: str = "GET") -> Message:
    """Return the answer to one request on a connection of its own."""
    return await (await proxy.sent(ask(target, *lines, method=method, host=host))).take_response()


class Browser:
    """Keeps each host's cookies, as a browser does that is behind https, and goes where it is sent."""

    def __init__(self, proxy: Proxy, **cookies: str) -> None:
        self.proxy = proxy
        self.jar: dict[str, dict[str, str]] = {
            BASE: {f"__Host-notebook-proxy-{name}": cookies[name] for name in cookies}
        }
        self.way: list[str] = []
        self.lines: tuple[str, ...] = ()

    async def one(self, url: str, *lines: str) -> Message:
        """Open an address, and keep the cookies; do not go on."""
        parts = urlsplit(url)
        self.way.append(url)
        cookies = "; ".join(f"{name}={value}" for name, value in self.jar.get(parts.netloc, {}).items())
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        sent = (f"Cookie: {cookies}",) if cookies else ()
        answer = await told(self.proxy, parts.netloc, target, *PAGE, HTTPS, *sent, *self.lines, *lines)
        for value in answer.values(b"set-cookie"):
            cookie, *attributes = value.decode().split("; ")
            name, _, content = cookie.partition("=")
            assert {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"} <= set(attributes), value
            assert not [each for each in attributes if each.startswith("Domain")]
            if "Max-Age=0" in attributes:
                self.jar[parts.netloc].pop(name, None)
            else:
                self.jar.setdefault(parts.netloc, {})[name] = content
        return answer

    async def open(self, url: str) -> Message:
        """Open an address, and go where it leads."""
        for _ in range(8):
            answer = await self.one(url)
            if not answer.values(b"location"):
                return answer
            assert answer.values(b"cache-control") == [b"no-store"]
            url = answer.values(b"location")[0].decode()
            if url.startswith("/"):
                url = f"https://{urlsplit(self.way[-1]).netloc}{url}"
        raise AssertionError(f"a loop: {self.way}")


# Which host serves what ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "nb.test.evil.example", "a.demo.nb.test", "demo.nb.test.", "127.0.0.1", "x"]
)
@pytest.mark.parametrize("target", ["/", "/ws/demo/api", "/api/workspaces", "/auth"])
async def test_no_other_host_is_served(launch: Launch, host: str, target: str) -> None:
    proxy = await launch(auth=HOSTS)

    answer = await told(proxy, host, target)

    assert answer.status == 400
    assert b"bad-host" in answer.body
    assert not proxy.backend.starts


@pytest.mark.parametrize("auth", [HOSTS, JWT])
@pytest.mark.parametrize(
    "target", ["/api/workspaces", "/api/events", "/ws/other/api", "/ws/other/_proxy/status", "/x", "/ws/"]
)
async def test_a_workspaces_host_has_nothing_but_its_own(launch: Launch, auth: Mapping[str, Any], target: str) -> None:
    proxy = await launch(Answers(), auth=auth)
    bearer = f"Authorization: Bearer {GOOD}"

    answer = await told(proxy, DEMO, target, bearer)
    own = await told(proxy, DEMO, "/ws/demo/api", bearer)
    home = await told(proxy, DEMO, "/", bearer)

    assert (answer.status, own.status) == (404, 200)
    assert (home.status, home.values(b"location")) == (303, [b"/ws/demo/"])
    assert list(proxy.backend.starts) == ["demo"]


async def test_the_link_to_all_workspaces_leads_from_a_workspaces_host_to_the_main_one(launch: Launch) -> None:
    proxy = await launch(auth=HOSTS)

    answer = await told(proxy, DEMO, "/?workspaces", *PAGE)

    assert b'href="/?workspaces"' in (await told(proxy, DEMO, "/ws/demo/_proxy/", *PAGE)).body
    assert (answer.status, answer.values(b"location")) == (303, [f"http://{BASE}/".encode()])
    assert (await told(proxy, BASE, "/?workspaces", *PAGE)).status == 200


async def test_the_main_host_has_the_dashboard_and_the_api(launch: Launch) -> None:
    proxy = await launch(auth=JWT)

    for target in ("/", "/api/workspaces", "/api/workspaces/demo"):
        assert (await told(proxy, BASE, target, f"Authorization: Bearer {GOOD}")).status == 200


async def test_the_main_host_sends_people_to_a_workspaces_host_and_tells_programs(launch: Launch) -> None:
    proxy = await launch(auth=HOSTS, trusted=LOCAL)

    page = await told(proxy, BASE, "/ws/demo/lab?a=1", *PAGE, HTTPS)
    plain = await told(proxy, "nb.test", "/ws/demo", *PAGE)
    program = await told(proxy, BASE, "/ws/demo/api", HTTPS)
    form = await told(proxy, BASE, "/ws/demo/lab", *PAGE, method="POST")
    websocket = await (await proxy.sent(ask_upgrade(host=BASE))).take_response()

    assert (page.status, page.values(b"location")) == (303, [f"https://{DEMO}/ws/demo/lab?a=1".encode()])
    assert (plain.status, plain.values(b"location")) == (303, [b"http://demo.nb.test/ws/demo"])
    assert [program.status, form.status, websocket.status] == [421] * 3
    assert b"other-host" in program.body
    assert f"https://{DEMO}/ws/demo/".encode() in program.body
    assert not proxy.backend.starts


# From the main host to a workspace's ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ws/demo/lab", "/ws/demo/lab/tree/a%20b.ipynb?x=%2F&y=1&z", "/ws/demo/_proxy/"])
@pytest.mark.parametrize("begin", [BASE, DEMO])
async def test_a_browser_that_is_known_at_the_main_host_is_let_in(launch: Launch, path: str, begin: str) -> None:
    answers = Answers()
    proxy = await launch(answers, auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)

    answer = await browser.open(f"https://{begin}{path}")

    assert answer.status == 200
    assert browser.way[-1] == f"https://{DEMO}{path}"
    assert list(browser.jar[DEMO]) == ["__Host-notebook-proxy-session"]
    assert list(browser.jar[BASE]) == ["__Host-notebook-proxy-site"]
    assert GOOD not in str(browser.jar[DEMO]) + str(browser.way)
    browser.way.clear()
    assert (await browser.open(f"https://{DEMO}{path}")).status == 200
    assert len(browser.way) == 1
    assert not [request for request in answers.requests if b"notebook-proxy" in request.head.lower()]


async def test_a_bare_path_is_completed_on_the_way(launch: Launch) -> None:
    proxy = await launch(Answers(), auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)

    assert (await browser.open(f"https://{BASE}/ws/demo")).status == 200
    assert browser.way[-1] == f"https://{DEMO}/ws/demo/"


async def test_who_is_known_nowhere_is_sent_to_sign_in_at_the_main_host_and_comes_back(launch: Launch) -> None:
    login = {"login_url": "https://login.example.org/in?to={url}"}
    proxy = await launch(Answers(), auth={**JWT, **login}, trusted=LOCAL)
    browser = Browser(proxy)

    first = await browser.one(f"https://{DEMO}/ws/demo/lab?a=1")
    to = first.values(b"location")[0].decode()
    second = await browser.one(to)
    (back,) = parse_qs(urlsplit(second.values(b"location")[0].decode()).query)["to"]

    assert to.startswith(f"https://{BASE}/auth?")
    assert second.values(b"location")[0].startswith(b"https://login.example.org/in?to=")
    assert back == to
    answer = await browser.open(f"{back}&token={GOOD}")
    assert answer.status == 200
    assert browser.way[-1] == f"https://{DEMO}/ws/demo/lab?a=1"
    assert GOOD not in str(browser.jar[DEMO])


async def test_a_workspace_of_somebody_else_is_refused_at_the_main_host(launch: Launch) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=token("alice", "mine"))

    answers = [await browser.open(f"https://{host}/ws/demo/lab") for host in (BASE, DEMO)]

    assert [answer.status for answer in answers] == [403, 403]
    assert "__Host-notebook-proxy-session" not in browser.jar.get(DEMO, {})


async def test_a_session_opens_no_other_host(launch: Launch) -> None:
    proxy = await launch(Answers(), auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)
    await browser.open(f"https://{DEMO}/ws/demo/lab")
    session = browser.jar[DEMO]["__Host-notebook-proxy-session"]

    for host, target in ((OTHER, "/ws/other/api"), (BASE, "/"), (BASE, "/api/workspaces"), (BASE, "/ws/other/api")):
        for name in ("session", "site", "state"):
            assert (
                await told(proxy, host, target, HTTPS, f"Cookie: __Host-notebook-proxy-{name}={session}")
            ).status == 401
        assert (await told(proxy, host, target, HTTPS, f"Authorization: Bearer {session}")).status == 401
        assert (await told(proxy, host, f"{target}?token={session}", HTTPS)).status == 401
    kept = f"Cookie: __Host-notebook-proxy-session={session}"
    assert (await told(proxy, DEMO, "/ws/demo/api", HTTPS, kept)).status == 200


async def test_the_main_hosts_cookie_opens_no_workspaces_host(launch: Launch) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    names = ("__Host-notebook-proxy-site", "__Secure-notebook-proxy", "notebook-proxy", "__Host-notebook-proxy-session")

    for name in names:
        assert (await told(proxy, DEMO, "/ws/demo/api", HTTPS, f"Cookie: {name}={GOOD}")).status == 401


@pytest.mark.parametrize(
    "name", ["notebook-proxy-session", "__Secure-notebook-proxy-session", "__host-notebook-proxy-session"]
)
async def test_what_a_sibling_host_can_set_is_not_taken_for_a_session(launch: Launch, name: str) -> None:
    proxy = await launch(Answers(), auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)
    await browser.open(f"https://{DEMO}/ws/demo/lab")
    session = browser.jar[DEMO]["__Host-notebook-proxy-session"]

    alone = await told(proxy, DEMO, "/ws/demo/api", HTTPS, f"Cookie: {name}={session}")
    beside = await told(
        proxy, DEMO, "/ws/demo/api", HTTPS, f"Cookie: {name}=x; __Host-notebook-proxy-session={session}"
    )

    assert (alone.status, beside.status) == (401, 200)


async def test_a_session_that_came_twice_is_none(launch: Launch) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)
    await browser.open(f"https://{DEMO}/ws/demo/_proxy/")
    session = f"__Host-notebook-proxy-session={browser.jar[DEMO]['__Host-notebook-proxy-session']}"

    assert (await told(proxy, DEMO, "/ws/demo/_proxy/status", HTTPS, f"Cookie: {session}")).status == 200
    assert (await told(proxy, DEMO, "/ws/demo/_proxy/status", HTTPS, f"Cookie: {session}; {session}")).status == 401


async def test_a_bearer_token_opens_a_workspaces_host_and_makes_no_session(launch: Launch) -> None:
    proxy = await launch(Answers(), auth=JWT, trusted=LOCAL)

    answer = await told(proxy, DEMO, "/ws/demo/api", f"Authorization: Bearer {GOOD}")
    stranger = await told(proxy, OTHER, "/ws/other/api", f"Authorization: Bearer {token('bob', 'demo')}")
    page = await told(proxy, DEMO, "/ws/demo/lab", *PAGE, "Authorization: Bearer a.b.c")

    assert (answer.status, answer.values(b"set-cookie")) == (200, [])
    assert stranger.status == 403
    assert page.status == 401


async def test_a_token_in_a_workspaces_address_becomes_a_session_for_it_alone(launch: Launch) -> None:
    proxy = await launch(Answers(), auth=JWT, trusted=LOCAL)
    browser = Browser(proxy)

    answer = await browser.open(f"https://{DEMO}/ws/demo/lab?a=1&token={GOOD}")

    assert answer.status == 200
    assert browser.way == [f"https://{DEMO}/ws/demo/lab?a=1&token={GOOD}", f"https://{DEMO}/ws/demo/lab?a=1"]
    assert GOOD not in str(browser.jar)


async def test_a_token_in_the_main_hosts_address_is_kept_there(launch: Launch) -> None:
    proxy = await launch(Answers(), auth=JWT, trusted=LOCAL)
    browser = Browser(proxy)

    answer = await browser.open(f"https://{BASE}/ws/demo/lab?token={GOOD}")

    assert answer.status == 200
    assert browser.jar[BASE] == {"__Host-notebook-proxy-site": GOOD}
    assert GOOD not in str(browser.jar[DEMO])


async def test_a_page_that_is_not_navigated_to_is_told_401(launch: Launch) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)

    fetch = await told(proxy, DEMO, "/ws/demo/api", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin")
    websocket = await (await proxy.sent(ask_upgrade("/ws/demo/x", f"Origin: http://{DEMO}", host=DEMO))).take_response()

    assert (fetch.status, websocket.status) == (401, 401)
    assert not proxy.backend.starts


# Tickets ------------------------------------------------------------------------------------------------------------


async def way_in(browser: Browser, path: str = "/ws/demo/_proxy/") -> str:
    """Return the address with the ticket that a browser is sent to, without going there."""
    first = await browser.one(f"https://{DEMO}{path}")
    second = await browser.one(first.values(b"location")[0].decode())
    return second.values(b"location")[0].decode()


async def test_a_ticket_is_worth_nothing_to_another_browser(launch: Launch) -> None:
    """Neither to who has caught it, nor can somebody be signed in as somebody else with it."""
    proxy = await launch(auth=JWT, trusted=LOCAL)
    mallory, victim, fresh = Browser(proxy, site=GOOD), Browser(proxy, site=GOOD), Browser(proxy)
    url = await way_in(mallory)
    await victim.one(f"https://{DEMO}/ws/demo/_proxy/")  # holds a value of its own

    answers = [await victim.open(url), await fresh.open(url)]

    assert [answer.status for answer in answers] == [400, 400]
    assert all(b"bad-ticket" in answer.body for answer in answers)
    assert "__Host-notebook-proxy-session" not in victim.jar[DEMO]
    assert (await mallory.one(url)).status == 303


async def test_a_ticket_is_used_once(launch: Launch) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)
    url = await way_in(browser)
    assert (await browser.open(url)).status == 200
    del browser.jar[DEMO]["__Host-notebook-proxy-session"]

    assert (await browser.open(url)).status == 400


async def test_no_page_stands_at_an_address_with_a_ticket(launch: Launch) -> None:
    """A hostile page of the workspace has its visitor fetch a ticket for a value of its own, to read it there."""
    proxy = await launch(auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)

    sent = await browser.one(f"https://{BASE}/auth?to=/ws/demo/lab&browser={'a' * 43}")
    answer = await browser.open(sent.values(b"location")[0].decode())

    assert b"ticket=" in sent.values(b"location")[0]
    assert sent.values(b"cross-origin-opener-policy") == [b"same-origin"]  # which holds for where it leads, too
    assert (answer.status, browser.way[-1]) == (400, f"https://{DEMO}/auth?to=/ws/demo/lab")


async def test_two_windows_that_come_at_once_are_both_let_in(launch: Launch) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)

    one, other = await way_in(browser), await way_in(browser)

    assert (await browser.open(one)).status == 200
    assert (await browser.open(other)).status == 200


async def test_a_ticket_that_took_too_long_is_refused(launch: Launch) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)
    url = await way_in(browser)

    proxy.clock.advance(30)

    assert (await browser.open(url)).status == 400


async def test_a_ticket_opens_no_other_host(launch: Launch) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)
    url = await way_in(browser)
    browser.jar[OTHER] = dict(browser.jar[DEMO])

    there = url.replace(DEMO, OTHER)
    assert (await browser.open(there)).status == 400
    assert (await browser.open(there.replace("/ws/demo/", "/ws/other/"))).status == 400
    assert (await browser.one(url)).status == 303


@pytest.mark.parametrize(
    "to",
    [
        "/", "/ws/other/lab", "//evil.example/", "https://evil.example/", "/\\evil.example", "/ws/demo/../other/", "",
        "/ws/demo/%2e%2e/x", "/ws/demo\\x", "/ws/%64emo/", "ws/demo/", "/auth", "/ws/demo/x\r\nSet-Cookie: a=b",
        "/ws/demo", "javascript:alert(1)", "/ws/demo/\t//evil", "/ws/demo/#x",
    ],
)  # fmt: skip
async def test_a_ticket_leads_nowhere_but_into_its_workspace(launch: Launch, to: str) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)
    url = await way_in(browser)

    answer = await browser.one(f"{url.partition('&to=')[0]}&to={quote(to, safe='')}")
    twice = await browser.one(f"{url}&to={quote(to, safe='')}" if to else url.partition("&to=")[0])

    assert (answer.status, answer.values(b"location")) == (400, [])
    assert twice.status == 400


async def test_a_token_is_not_carried_along_in_the_destination(launch: Launch) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)
    url = await way_in(browser)

    answer = await browser.one(f"{url.partition('&to=')[0]}&to={quote('/ws/demo/lab?token=x&a=1', safe='')}")

    assert answer.values(b"location") == [b"/ws/demo/lab?a=1"]


async def test_who_asks_the_main_host_for_a_ticket_that_no_browser_waits_for_begins_anew(launch: Launch) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    browser = Browser(proxy, site=GOOD)

    for query in ("", "&browser=x", "&browser=%0d%0a", f"&browser={'a' * 43}&browser={'b' * 43}"):
        answer = await browser.one(f"https://{BASE}/auth?to=/ws/demo/lab{query}")
        assert answer.values(b"location") == [f"https://{DEMO}/ws/demo/lab".encode()]


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
async def test_a_ticket_is_taken_by_a_navigation_alone(launch: Launch, method: str) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    url = await way_in(Browser(proxy, site=GOOD))

    answer = await told(proxy, DEMO, url.partition(DEMO)[2], HTTPS, f"Origin: https://{DEMO}", method=method)

    assert (answer.status, answer.values(b"allow")) == (405, [b"GET"])


async def test_another_replica_takes_the_ticket(launch: Launch) -> None:
    one, other = await launch(auth=JWT, trusted=LOCAL), await launch(auth=JWT, trusted=LOCAL)
    browser = Browser(one, site=GOOD)
    url = await way_in(browser)

    browser.proxy = other

    assert (await browser.open(url)).status == 200


async def test_without_https_the_cookies_have_no_prefix_and_work(launch: Launch) -> None:
    proxy = await launch(Answers(), auth=JWT)

    first = await told(proxy, DEMO, "/ws/demo/lab", *PAGE)
    (state,) = (value.decode().partition(";")[0] for value in first.values(b"set-cookie"))
    main = first.values(b"location")[0].decode().removeprefix(f"http://{BASE}")
    second = await told(proxy, BASE, main, *PAGE, f"Cookie: notebook-proxy-site={GOOD}")
    url = second.values(b"location")[0].decode().removeprefix(f"http://{DEMO}")
    third = await told(proxy, DEMO, url, *PAGE, f"Cookie: {state}")
    session = third.values(b"set-cookie")[0].decode().partition(";")[0]

    assert state.startswith("notebook-proxy-state=")
    assert session.startswith("notebook-proxy-session=")
    assert third.values(b"location") == [b"/ws/demo/lab"]
    assert (await told(proxy, DEMO, "/ws/demo/lab", *PAGE, f"Cookie: {session}")).status == 200


# Pages of other hosts -------------------------------------------------------------------------------------------------


async def session_line(proxy: Proxy) -> str:
    browser = Browser(proxy, site=GOOD)
    await browser.open(f"https://{DEMO}/ws/demo/_proxy/")
    return f"Cookie: __Host-notebook-proxy-session={browser.jar[DEMO]['__Host-notebook-proxy-session']}"


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        ("GET", ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script")),
        ("GET", ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors", f"Origin: https://{OTHER}")),
        ("GET", ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe")),
        ("GET", ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: object")),
        ("POST", (f"Origin: https://{OTHER}",)),
        ("POST", (f"Origin: https://{BASE}",)),
        ("DELETE", ("Origin: null",)),
        ("POST", ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", f"Origin: https://{OTHER}")),
        ("OPTIONS", ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors", f"Origin: https://{OTHER}")),
    ],
)
async def test_what_a_sibling_hosts_page_sends_is_refused(launch: Launch, method: str, lines: tuple[str, ...]) -> None:
    proxy = await launch(Answers(), auth=JWT, trusted=LOCAL)
    session = await session_line(proxy)

    answer = await told(proxy, DEMO, "/ws/demo/api", HTTPS, session, *lines, method=method)

    assert answer.status == 403
    assert b"cross-origin" in answer.body
    assert not proxy.backend.starts


@pytest.mark.parametrize("origin", [f"https://{OTHER}", f"https://{BASE}", "https://demo.nb.test", "null"])
async def test_no_sibling_opens_a_websocket(launch: Launch, origin: str) -> None:
    async def accept(wire: Any) -> None:
        wire.send(switch(await wire.take_request(patience=None)))

    proxy = await launch(accept, auth=JWT, trusted=LOCAL)
    session = await session_line(proxy)

    refused = await (
        await proxy.sent(ask_upgrade("/ws/demo/x", HTTPS, session, f"Origin: {origin}", host=DEMO))
    ).take_response()
    own = await (
        await proxy.sent(ask_upgrade("/ws/demo/x", HTTPS, session, f"Origin: https://{DEMO}", host=DEMO))
    ).take_response()

    assert (refused.status, own.status) == (403, 101)


# An authenticating proxy in front -------------------------------------------------------------------------------------


async def test_who_the_proxy_in_front_names_at_the_main_host_is_handed_over(launch: Launch) -> None:
    own = workspace_of_user("{user_slug}", "alice")
    host = f"{own}.{BASE}"
    proxy = await launch(Answers(), auth={**FORWARD, "workspace_template": "{user_slug}"}, trusted=LOCAL)
    browser = Browser(proxy)

    mine = await browser.one(f"https://{BASE}/my/lab", "X-Forwarded-User: alice")
    there = await browser.one(f"https://{BASE}/ws/{own}/lab", "X-Forwarded-User: alice")
    first = await browser.one(there.values(b"location")[0].decode())
    second = await browser.one(first.values(b"location")[0].decode(), "X-Forwarded-User: alice")
    away = await browser.one(f"https://{DEMO}/ws/demo/lab")
    refused = await browser.one(away.values(b"location")[0].decode(), "X-Forwarded-User: alice")

    assert mine.values(b"location") == [f"/ws/{own}/lab".encode()]
    assert there.values(b"location") == [f"https://{host}/ws/{own}/lab".encode()]
    assert (await browser.open(second.values(b"location")[0].decode())).status == 200
    assert browser.way[-1] == f"https://{host}/ws/{own}/lab"
    assert refused.status == 403


async def test_on_a_workspaces_host_nobody_is_believed_who_says_who_asks(launch: Launch) -> None:
    """A proxy in front that stands before these, too, would be trusted with every header that a page can make."""
    proxy = await launch(auth=FORWARD, trusted=LOCAL)

    named = await told(proxy, DEMO, "/ws/demo/api", HTTPS, "X-Forwarded-User: alice")
    bearer = await told(proxy, DEMO, "/ws/demo/api", HTTPS, f"Authorization: Bearer {GOOD}")
    asked = await told(proxy, DEMO, f"/ws/demo/lab?token={GOOD}", HTTPS, *PAGE)

    assert (named.status, bearer.status) == (401, 401)
    assert asked.values(b"location")[0].startswith(f"https://{BASE}/auth?to=/ws/demo/lab&".encode())
    assert not [value for value in asked.values(b"set-cookie") if GOOD.encode() in value]
