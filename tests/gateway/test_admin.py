"""The dashboard and the API: what they show, what they do, and who may."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from proxy import sight
from proxy.errors import StartFailed, StopFailed
from proxy.workspace import Phase
from tests.gateway.conftest import DEMO
from tests.pages.markup import Page, assert_is_self_contained
from tests.relay.origin import Answers, ask, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch, Proxy

NAVIGATE = {"Sec-Fetch-Mode": "navigate"}


async def with_running(launch: Launch, *names: str) -> Proxy:
    proxy = await launch(Answers())
    for name in names:
        assert (await proxy.http.get(f"/ws/{name}/api")).status == 200
    return proxy


async def got(proxy: Proxy, path: str) -> Any:
    response = await proxy.http.get(path)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    return await response.json()


# Looking --------------------------------------------------------------------------------------------------------------


async def test_dashboard_shows_what_runs_and_what_has_failed(launch: Launch) -> None:
    proxy = await with_running(launch, "b", "a")
    proxy.backend.fault = StartFailed("exited", "It <ended>.")
    await proxy.http.get("/ws/c/api")

    body = await (await proxy.http.get("/", headers=NAVIGATE)).text()

    page = Page(body)
    assert [row.get("data-id") for row in page.all("li") if "data-id" in row] == ["a", "b", "c"]
    assert "3 workspaces, 2 running" in page.shown
    assert "It <ended>." in page.shown
    assert_is_self_contained(body)


async def test_looking_is_no_use(launch: Launch) -> None:
    proxy = await with_running(launch, "demo")
    proxy.clock.advance(100)

    for path in ("/", "/api/workspaces", "/api/workspaces/demo", "/api/openapi.json"):
        assert (await proxy.http.get(path)).status == 200

    assert proxy.idle_seconds == 100
    assert proxy.backend.starts == {"demo": 1}


async def test_list_comes_a_page_at_a_time(launch: Launch) -> None:
    proxy = await with_running(launch, "c", "a", "b")

    first = await got(proxy, "/api/workspaces?limit=2")
    second = await got(proxy, f"/api/workspaces?limit=2&after={first['next']}")

    assert [told["id"] for told in first["workspaces"]] == ["a", "b"]
    assert [told["id"] for told in second["workspaces"]] == ["c"]
    assert second["next"] is None


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1e2", "\u0663"])
async def test_limit_that_is_none_is_refused(launch: Launch, limit: str) -> None:
    proxy = await launch()

    response = await proxy.http.get("/api/workspaces", params={"limit": limit})

    assert (response.status, (await response.json())["code"]) == (400, "bad-limit")


async def test_last_lines_of_the_log_are_told(launch: Launch) -> None:
    proxy = await with_running(launch, "demo")

    response = await proxy.http.get("/api/workspaces/demo/log?lines=2")
    usual = await proxy.http.get("/api/workspaces/demo/log")

    assert (response.status, response.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert await response.text() == "line 0\nline 1\n"
    assert len((await usual.text()).splitlines()) == 200
    assert proxy.idle_seconds == 0


async def test_log_that_is_not_there_is_named(launch: Launch) -> None:
    proxy = await launch()

    response = await proxy.http.get("/api/workspaces/demo/log")

    assert (response.status, (await response.json())["code"]) == (404, "no-log")
    assert proxy.backend.starts == {}


@pytest.mark.parametrize("lines", ["0", "5001", "-1", "x", "1e2"])
async def test_number_of_lines_that_is_none_is_refused(launch: Launch, lines: str) -> None:
    proxy = await with_running(launch, "demo")

    response = await proxy.http.get("/api/workspaces/demo/log", params={"lines": lines})

    assert (response.status, (await response.json())["code"]) == (400, "bad-lines")


async def test_one_workspace_is_told_as_its_own_status_tells_it(launch: Launch) -> None:
    proxy = await with_running(launch, "demo")

    assert await got(proxy, "/api/workspaces/demo") == await got(proxy, "/ws/demo/_proxy/status")


async def test_workspaces_beyond_what_a_page_holds_are_counted_and_those_that_run_are_shown(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sight, "ROWS", 2)
    proxy = await with_running(launch, "a", "b", "c", "d")
    for name in ("a", "c"):
        await proxy.http.delete(f"/api/workspaces/{name}")

    page = Page(await (await proxy.http.get("/")).text())

    assert [row.get("data-id") for row in page.all("li") if "data-id" in row] == ["b", "d"]
    assert "4 workspaces, 2 running; 2 of them are shown" in page.shown


# Acting ---------------------------------------------------------------------------------------------------------------


async def test_start_is_begun_and_not_waited_for(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.gate.clear()

    first = await proxy.http.post("/api/workspaces/demo/start")
    second = await proxy.http.post("/api/workspaces/demo/start")
    proxy.backend.gate.set()
    await until(lambda: proxy.supervisor.running(DEMO))
    third = await proxy.http.post("/api/workspaces/demo/start")

    assert [response.status for response in (first, second, third)] == [202, 202, 200]
    assert [(await response.json())["phase"] for response in (first, third)] == ["starting", "running"]
    assert proxy.backend.starts == {"demo": 1}


async def test_start_that_may_not_be_tried_again_yet_is_refused(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.fault = StartFailed("exited", "It ended.", retry_after=7)
    await proxy.http.get("/ws/demo/api")

    response = await proxy.http.post("/api/workspaces/demo/start")

    assert (response.status, response.headers["Retry-After"]) == (503, "7")
    assert (await response.json())["code"] == "exited"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/workspaces/demo/stop"), ("DELETE", "/api/workspaces/demo")]
)
async def test_stop_is_waited_for(launch: Launch, method: str, path: str) -> None:
    proxy = await with_running(launch, "demo")

    response = await proxy.http.request(method, path)

    assert (response.status, (await response.json())["phase"]) == (200, "stopped")
    assert proxy.backend.stops == {"demo": 1}
    assert not proxy.supervisor.phases()


async def test_stop_that_fails_is_told(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise StopFailed("It would not.")

    proxy = await with_running(launch, "demo")
    monkeypatch.setattr(proxy.backend, "stop", refuse)

    response = await proxy.http.post("/api/workspaces/demo/stop")

    assert (response.status, (await response.json())["code"]) == (503, "stop-failed")


async def test_stop_that_takes_longer_than_a_client_waits_goes_on(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()

    async def linger(*_: object) -> None:
        await gate.wait()

    proxy = await with_running(launch, "demo")
    monkeypatch.setattr(proxy.backend, "stop", linger)
    proxy.gateway._admin._actions._patience = 0.01

    response = await proxy.http.post("/api/workspaces/demo/stop")
    form = await proxy.http.post("/api/workspaces/demo/stop", headers=NAVIGATE, allow_redirects=False)
    gate.set()
    await until(lambda: not proxy.supervisor.phases())

    assert (response.status, (await response.json())["phase"]) == (202, "stopping")
    assert (form.status, form.headers["Location"]) == (303, "/")


async def test_stop_need_not_be_waited_for(launch: Launch) -> None:
    proxy = await with_running(launch, "demo")
    proxy.backend.stop_gate.clear()

    response = await proxy.http.post("/api/workspaces/demo/stop", json={"wait": False})
    proxy.backend.stop_gate.set()
    await until(lambda: not proxy.supervisor.phases())
    again = await proxy.http.post("/api/workspaces/demo/stop", json={"wait": True})

    assert (response.status, (await response.json())["phase"]) == (202, "stopping")
    assert (again.status, (await again.json())["phase"]) == (200, "stopped")


@pytest.mark.parametrize("wait", ["no", 0, None])
async def test_stop_that_is_neither_waited_for_nor_not_is_refused(launch: Launch, wait: object) -> None:
    proxy = await with_running(launch, "demo")

    response = await proxy.http.post("/api/workspaces/demo/stop", json={"wait": wait})

    assert (response.status, (await response.json())["code"]) == (400, "bad-wait")
    assert proxy.supervisor.running(DEMO)


@pytest.mark.parametrize("name", ["start", "stop", "extend"])
async def test_form_of_the_dashboard_leads_back_to_it(launch: Launch, name: str) -> None:
    proxy = await with_running(launch, "demo")

    response = await proxy.http.post(f"/api/workspaces/demo/{name}", headers=NAVIGATE, data={}, allow_redirects=False)

    assert (response.status, response.headers["Location"]) == (303, "/")


async def test_action_that_is_refused_is_a_page_for_a_person(launch: Launch) -> None:
    proxy = await launch()

    response = await proxy.http.post("/api/workspaces/demo/extend", headers=NAVIGATE)

    assert response.status == 409
    assert "It cannot be kept longer" in Page(await response.text()).shown


# Settings -------------------------------------------------------------------------------------------------------------


async def test_settings_are_changed_one_by_one_and_null_is_the_operators(launch: Launch) -> None:
    proxy = await launch()
    url = "/api/workspaces/demo/settings"

    first = await proxy.http.patch(url, json={"idle_ttl": "90m", "protect_busy": False})
    second = await proxy.http.patch(url, json={"idle-ttl": None, "max_age": "2h"})

    assert [response.status for response in (first, second)] == [200, 200]
    assert (await first.json())["settings"]["idle_ttl"] == "90m"
    assert await got(proxy, url) == {"idle_ttl": None, "protect_busy": False, "max_age": "2h", "profile": None}
    assert not proxy.backend.starts


async def test_settings_that_are_changed_at_once_undo_none_of_each_other(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await launch()
    url = "/api/workspaces/demo/settings"
    slow = asyncio.Event()

    async def note(*_: object) -> None:
        await slow.wait()

    monkeypatch.setattr(proxy.backend, "note", note)
    changes = [{"idle_ttl": "90m"}, {"max_age": "2h"}]
    patches = [asyncio.create_task(proxy.http.patch(url, json=change)) for change in changes]
    await until(lambda: proxy.gateway.in_flight == len(patches))
    slow.set()

    assert [(await patch).status for patch in patches] == [200, 200]
    assert await got(proxy, url) == {"idle_ttl": "90m", "protect_busy": None, "max_age": "2h", "profile": None}


async def test_profile_is_chosen_by_a_form_of_the_dashboard(launch: Launch) -> None:
    proxy = await launch(profiles={"small": {}, "large": {"description": "8 GB of memory"}})
    url = "/api/workspaces/demo/settings"

    chosen = await proxy.http.post(url, data={"profile": "large"}, headers=NAVIGATE, allow_redirects=False)
    told = await got(proxy, "/api/workspaces/demo")
    await proxy.http.post(url, data={"profile": ""}, headers=NAVIGATE, allow_redirects=False)

    assert (chosen.status, chosen.headers["Location"]) == (303, "/")
    assert told["profile"] == told["settings"]["profile"] == "large"
    assert (await got(proxy, url))["profile"] is None
    assert [profile["name"] for profile in (await got(proxy, "/api/profiles"))["profiles"]] == ["small", "large"]


@pytest.mark.parametrize(
    ("change", "status_and_code"),
    [
        ({"idle_ttl": "soon"}, (400, "bad-setting")), ({"idle_ttl": []}, (400, "bad-setting")),
        ({"protect_busy": "maybe"}, (400, "bad-setting")), ({"colour": "red"}, (400, "bad-setting")),
        ({"owner": "me"}, (400, "bad-setting")), ({"profile": "Not A Label"}, (400, "bad-setting")),
        ({"profile": "unknown"}, (422, "setting-refused")), ({"idle_ttl": "300d"}, (422, "setting-refused")),
    ],
)  # fmt: skip
async def test_settings_that_cannot_be_change_nothing(
    launch: Launch, change: dict[str, Any], status_and_code: tuple[int, str]
) -> None:
    proxy = await launch()

    response = await proxy.http.patch("/api/workspaces/demo/settings", json={"max_age": "2h", **change})

    assert (response.status, (await response.json())["code"]) == status_and_code
    assert (await got(proxy, "/api/workspaces/demo/settings"))["max_age"] is None


# Who may, and how -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/workspaces/demo/start"), ("POST", "/api/workspaces/demo/stop"),
        ("POST", "/api/workspaces/demo/extend"), ("DELETE", "/api/workspaces/demo"),
        ("PATCH", "/api/workspaces/demo/settings"), ("POST", "/api/workspaces/demo/settings"),
    ],
)  # fmt: skip
async def test_page_of_another_origin_does_nothing(launch: Launch, method: str, path: str, line: str) -> None:
    proxy = await with_running(launch, "demo")
    before = proxy.supervisor.report(DEMO)

    lines = (line, "Sec-Fetch-Mode: navigate")
    response = await (await proxy.sent(ask(path, *lines, method=method))).take_response()

    assert response.status == 403
    assert proxy.supervisor.phases()[DEMO] is Phase.RUNNING
    assert proxy.supervisor.report(DEMO) == before


@pytest.mark.parametrize("path", ["/", "/api/workspaces", "/api/events", "/api/openapi.json"])
async def test_page_of_another_site_reads_nothing(launch: Launch, path: str) -> None:
    proxy = await launch()

    lines = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")
    response = await (await proxy.sent(ask(path, *lines))).take_response()

    assert response.status == 403


@pytest.mark.parametrize("path", ["/", "/api/workspaces", "/api/workspaces/demo/stop"])
async def test_foreign_host_is_refused(launch: Launch, path: str) -> None:
    proxy = await with_running(launch, "demo")

    response = await (await proxy.sent(ask(path, method="POST", host="evil.example"))).take_response()

    assert (response.status, json.loads(response.body)["code"]) == (400, "bad-host")
    assert proxy.supervisor.phases()[DEMO] is Phase.RUNNING


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/", "GET, HEAD, OPTIONS"), ("/api/workspaces", "GET, HEAD, OPTIONS"),
        ("/api/openapi.json", "GET, HEAD, OPTIONS"), ("/api/events", "GET, HEAD, OPTIONS"),
        ("/api/workspaces/demo", "GET, HEAD, DELETE, OPTIONS"),
        ("/api/workspaces/demo/start", "POST, OPTIONS"), ("/api/workspaces/demo/stop", "POST, OPTIONS"),
        ("/api/workspaces/demo/extend", "POST, OPTIONS"),
        ("/api/workspaces/demo/settings", "GET, HEAD, PATCH, POST, OPTIONS"), ("/api/profiles", "GET, HEAD, OPTIONS"),
    ],
)  # fmt: skip
async def test_methods_are_judged(launch: Launch, path: str, allow: str) -> None:
    proxy = await launch()

    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"} - set(allow.split(", ")):
        response = await (await proxy.sent(ask(path, method=method))).take_response(method)
        assert (method, response.status, response.values(b"allow")) == (method, 405, [allow.encode()])
    options = await (await proxy.sent(ask(path, method="OPTIONS"))).take_response("OPTIONS")

    assert (options.status, options.values(b"allow")) == (204, [allow.encode()])
    assert not proxy.backend.starts


@pytest.mark.parametrize(
    "path",
    [
        "/api", "/api/", "/api/workspaces/", "/api/nothing", "/api/workspaces/demo/", "/api/workspaces/demo/nothing",
        "/api/workspaces/demo/stop/x", "/api/workspaces/No/stop", "/api/workspaces/de%6Do", "/api/workspaces/a%2Fb",
        "//api/workspaces",
    ],
)  # fmt: skip
async def test_nothing_else_is_there(launch: Launch, path: str) -> None:
    proxy = await launch()

    response = await (await proxy.sent(ask(path, method="POST"))).take_response()

    assert response.status == 404
    assert response.values(b"content-type") == [b"application/problem+json"]
