"""Pages of the proxy's own in Chromium: the waiting page, a failure, the warning, the dashboard.

What a start does is decided by files: it waits for a gate, and fails unless it is said to be mended. How the pages look
is left in `test-output/`, light and dark, wide and at 320 px.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import expect

import proxy
from proxy.backends.recipe import JUPYTER
from proxy.pages.words import duration, fraction
from tests.cluster.images import Image
from tests.e2e import refuse_news, streaming_server, until
from tests.e2e.browser import PATIENCE_MS, Complaints, barriers, look, until_lab_is_there

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Locator, Page

    from tests.cluster.threaded import ThreadedCluster
    from tests.e2e import Proxy
    from tests.e2e.conftest import Proxies

pytestmark = pytest.mark.browser

# Waits for the file $0/gate; then fails, unless there is $0/mended.
_STEERED: Final = (
    'while [ ! -e "$0/gate" ]; do sleep 0.02; done; '
    '[ -e "$0/mended" ] || { echo "Traceback: <b>no module</b> named jupyterlab" >&2; exit 3; }; exec "$@"'
)
_LOOKED_AT: Final = """isLookedAt => {
    Object.defineProperty(document, "hidden", { value: !isLookedAt, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
_SMALL: Final = (sys.executable, streaming_server.__file__, "{port}", "{root}")


class Steering:
    """Decides what starts do: touch `gate` and `mended`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.gate = directory / "gate"
        self.mended = directory / "mended"

    def command(self, *command: str) -> str:
        return "--notebook-command=" + shlex.join(["sh", "-c", _STEERED, str(self._directory), *command])


@pytest.fixture
def steering(tmp_path: Path) -> Steering:
    return Steering(tmp_path / "steering")


@pytest.fixture
def scriptless(context: BrowserContext) -> Iterator[Page]:
    """A page in a browser whose JavaScript is off."""
    browser = context.browser
    assert browser is not None
    plain = browser.new_context(java_script_enabled=False, viewport={"width": 1200, "height": 800})
    plain.set_default_timeout(PATIENCE_MS)
    yield plain.new_page()
    plain.close()


def jupyter(steering: Steering) -> str:
    return steering.command(*JUPYTER, "--allow-root")


def row_of(page: Page, name: str) -> Locator:
    return page.locator("li.row").filter(has=page.get_by_role("link", name=name, exact=True))


def heading(page: Page, text: str) -> Locator:
    return page.get_by_role("heading", name=text, level=1)


# The waiting page -----------------------------------------------------------------------------------------------------


def test_waiting_page_becomes_the_lab_at_the_same_address(page: Page, start: Proxies, steering: Steering) -> None:
    proxy = start(jupyter(steering))
    steering.mended.touch()
    complaints = Complaints(page)

    response = page.goto(f"{proxy.url}/ws/demo/lab#part")
    assert response is not None
    assert response.status == 202
    expect(heading(page, "Starting demo")).to_be_visible()
    bar = page.get_by_role("progressbar")
    before = float(bar.get_attribute("value") or 0)
    until(lambda: float(bar.evaluate("bar => bar.value")) > before, "the bar goes on")
    expect(page).to_have_title("Starting demo")
    look(page, "waiting_page")
    assert barriers(page) == []

    steering.gate.touch()
    until_lab_is_there(page)
    assert page.url.startswith(f"{proxy.url}/ws/demo/lab")
    assert complaints.seen == []


def test_waiting_page_leads_to_the_notebook_without_javascript(
    scriptless: Page, start: Proxies, steering: Steering
) -> None:
    proxy = start(steering.command(*_SMALL))
    steering.mended.touch()

    scriptless.goto(f"{proxy.url}/ws/demo/lab?a=1")
    expect(heading(scriptless, "Starting demo")).to_be_visible()
    scriptless.wait_for_url(re.compile(r"/ws/demo/_proxy/\?to="))
    expect(heading(scriptless, "Starting demo")).to_be_visible()
    steering.gate.touch()

    scriptless.wait_for_url(f"{proxy.url}/ws/demo/lab?a=1")


def test_waiting_page_survives_a_restart_of_the_proxy(page: Page, start: Proxies, steering: Steering) -> None:
    first = start(steering.command(*_SMALL))
    steering.mended.touch()
    page.goto(f"{first.url}/ws/demo/lab")
    expect(heading(page, "Starting demo")).to_be_visible()

    assert first.stop() == 0
    expect(page.get_by_text("The proxy does not answer just now")).to_be_visible()
    second = start(steering.command(*_SMALL), f"--listen=127.0.0.1:{first.port}")
    until(lambda: "workspace starting: id=demo" in second.log(), "the page asks for the start again")
    steering.gate.touch()

    expect(heading(page, "Starting demo")).to_have_count(0)
    assert page.url == f"{first.url}/ws/demo/lab"
    assert second.get("/ws/demo/_proxy/status").json()["phase"] == "running"


def test_waiting_page_tells_what_a_cluster_does(page: Page, start: Proxies, cluster: ThreadedCluster) -> None:
    refuse_news(cluster.root / "claims/default/ws-demo")
    cluster.do(lambda double: double.images.set("slow", Image("jupyter", pull_seconds=5)))
    kubeconfig = cluster.do(lambda double: double.kubeconfig())
    flags = ("--backend=kubernetes", f"--kubeconfig={kubeconfig}", "--workspace-pvc-size=1Gi")
    proxy = start(*flags, "--image=example.org/slow:1")

    page.goto(f"{proxy.url}/ws/demo/lab")

    expect(page.get_by_text(re.compile(r"The node pulls the image example\.org/slow:1 [1-9] s"))).to_be_visible()
    look(page, "waiting_page_of_a_cluster")
    until_lab_is_there(page)


def test_waiting_page_asks_again_where_another_replica_does_not_know_of_the_start(page: Page, small: Proxy) -> None:
    page.goto(f"{small.url}/ws/demo/_proxy/")
    script = Path(proxy.__file__).with_name("pages").joinpath("script.js").read_text()
    page.evaluate(
        "main => { document.body.innerHTML = main; }",
        '<main data-state="starting" data-go="/ws/demo/source/0" data-events="/ws/demo/_proxy/events">'
        '<p id="cut"><p id="said"></main>',
    )

    page.evaluate(script)

    page.wait_for_url(f"{small.url}/ws/demo/source/0")


def test_waiting_page_goes_on_where_no_events_come_through(page: Page, start: Proxies, steering: Steering) -> None:
    steering.mended.touch()
    served = start(steering.command(*_SMALL))
    page.route(re.compile("/_proxy/events"), lambda route: route.fulfill(status=503))
    page.goto(f"{served.url}/ws/demo/source/0")
    expect(heading(page, "Starting demo")).to_be_visible()

    steering.gate.touch()

    expect(heading(page, "Starting demo")).to_have_count(0)
    assert page.url == f"{served.url}/ws/demo/source/0"


# A failure ------------------------------------------------------------------------------------------------------------


def test_failure_is_shown_where_one_waits_and_tried_again_by_a_button(
    page: Page, start: Proxies, steering: Steering
) -> None:
    proxy = start(jupyter(steering))
    page.goto(f"{proxy.url}/ws/demo/lab")
    expect(heading(page, "Starting demo")).to_be_visible()

    steering.gate.touch()
    expect(heading(page, "demo could not be started")).to_be_visible()
    expect(page.get_by_role("group", name="Last lines of its log")).to_contain_text("<b>no module</b>")
    expect(page.get_by_text("Code exited")).to_be_visible()
    look(page, "failure_page")
    assert barriers(page) == []
    assert proxy.log().count("workspace starting") == 1

    again = page.get_by_role("link", name="Try again")
    expect(again).to_have_attribute("aria-disabled", "false")
    again.click()
    expect(page.get_by_text("Another try is possible in")).to_be_visible()
    assert proxy.log().count("workspace starting") == 2
    steering.mended.touch()
    expect(again).to_have_attribute("aria-disabled", "false")
    again.click()
    until_lab_is_there(page)


def test_failure_stays_to_be_read_without_javascript(scriptless: Page, start: Proxies, steering: Steering) -> None:
    proxy = start(steering.command(*_SMALL))

    scriptless.goto(f"{proxy.url}/ws/demo/lab")
    expect(heading(scriptless, "Starting demo")).to_be_visible()
    steering.gate.touch()

    expect(heading(scriptless, "demo could not be started")).to_be_visible()
    expect(scriptless.get_by_text("<b>no module</b>")).to_be_visible()
    assert proxy.log().count("workspace starting") == 1
    steering.mended.touch()
    scriptless.get_by_role("link", name="Try again").click()
    scriptless.wait_for_url(f"{proxy.url}/ws/demo/lab")
    assert proxy.get("/ws/demo/_proxy/status").json()["phase"] == "running"


# The warning ----------------------------------------------------------------------------------------------------------


def test_warning_offers_another_hour_and_is_gone_when_that_is_taken(page: Page, start: Proxies, tmp_path: Path) -> None:
    command = "--notebook-command=" + shlex.join(_SMALL)
    times = ("--idle-ttl=12s", "--reap-warning=6s", "--reap-interval=1s", "--dry-run-reaper")
    proxy = start(command, *times)
    complaints = Complaints(page)
    assert proxy.get("/ws/demo/source/0").status == 200
    until(lambda: proxy.get("/ws/demo/_proxy/status").json()["is_warned"], "it is warned")

    for address, name in ((f"{proxy.url}/", "dashboard"), (f"{proxy.url}/ws/demo/_proxy/", "workspace_page")):
        page.goto(address)
        expect(page.get_by_text("unless it is used")).to_be_visible()
        look(page, f"warning_on_{name}")
        assert barriers(page) == []
    page.get_by_role("button", name="Keep it another hour").click()

    expect(page.get_by_text("unless it is used")).to_be_hidden()
    status = proxy.get("/ws/demo/_proxy/status").json()
    assert not status["is_warned"]
    assert status["extended_until"] is not None
    assert complaints.seen == []


# The dashboard --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(start: Proxies, steering: Steering) -> Proxy:
    """A proxy whose workspaces run a small server; they start at once."""
    steering.gate.touch()
    steering.mended.touch()
    return start(steering.command(*_SMALL), "--profiles={small: {}, large: {description: 8 GB of memory}}")


def test_dashboard_starts_and_stops_and_shows_it_at_once(page: Page, small: Proxy, steering: Steering) -> None:
    complaints = Complaints(page)
    page.goto(f"{small.url}/")
    expect(page.get_by_text("No workspace is running.")).to_be_visible()
    assert barriers(page) == []

    assert small.get("/ws/alpha/source/0").status == 200
    row = row_of(page, "alpha")
    expect(row.locator(".chip")).to_have_text("running")
    expect(row).to_contain_text("GET /ws/alpha/source/0")

    row.get_by_text("Stop …").click()
    expect(row).to_contain_text("Its files stay.")
    look(page, "dashboard_asks_before_a_stop")
    row.get_by_role("button", name="Stop it now").click()
    expect(row.locator(".chip")).to_have_text("stopped")
    assert small.servers("alpha") == []

    row.get_by_role("button", name="Start alpha").click()
    expect(row.locator(".chip")).to_have_text("running")
    row.get_by_role("button", name="Keep alpha another hour").click()
    until(lambda: small.get("/api/workspaces/alpha").json()["extended_until"], "it is extended")
    assert complaints.seen == []


def test_dashboard_shows_every_state(page: Page, small: Proxy, steering: Steering) -> None:
    for name in ("alpha", "climate-2026-reanalysis", "delta"):
        assert small.get(f"/ws/{name}/source/0").status == 200
    small.request("DELETE", "/api/workspaces/delta")
    steering.mended.unlink()
    assert small.get("/ws/gamma/source/0").status == 503
    steering.gate.unlink()
    small.request("POST", "/api/workspaces/omega/start")

    page.goto(f"{small.url}/")

    states = {
        "alpha": "running",
        "climate-2026-reanalysis": "running",
        "delta": "stopped",
        "gamma": "failed",
        "omega": "starting",
    }
    for name, state in states.items():
        expect(row_of(page, name).locator(".chip")).to_have_text(state)
    page.get_by_text("More").first.click()
    look(page, "dashboard")
    page.screenshot(path=Path("test-output") / "dashboard_whole.png", full_page=True)
    assert barriers(page) == []


def test_profile_is_chosen_on_the_dashboard_for_the_next_start(page: Page, small: Proxy) -> None:
    complaints = Complaints(page)
    assert small.get("/ws/alpha/source/0").status == 200
    page.goto(f"{small.url}/")
    row = row_of(page, "alpha")

    row.get_by_text("More").click()
    row.get_by_label("Profile, from the next start on").select_option("large")
    look(page, "dashboard_profiles")
    assert small.request("POST", "/api/workspaces/alpha/extend").status == 200
    expect(row).to_contain_text("extended")  # the row has been told of since, and the choice is still there
    row.get_by_role("button", name="Choose").click()

    until(lambda: small.get("/api/workspaces/alpha").json()["profile"] == "large", "it is chosen")
    page.reload()
    expect(row.get_by_label("Profile, from the next start on")).to_have_value("large")
    assert complaints.seen == []


def test_dashboard_works_by_keyboard_alone_and_keeps_the_focus(page: Page, small: Proxy) -> None:
    assert small.get("/ws/alpha/source/0").status == 200
    page.goto(f"{small.url}/")
    row = row_of(page, "alpha")

    row.get_by_role("link", name="alpha", exact=True).focus()
    while not page.evaluate("document.activeElement.matches('summary')"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(row.get_by_role("button", name="Stop it now")).to_be_focused()
    page.keyboard.press("Enter")
    expect(row.locator(".chip")).to_have_text("stopped")

    expect(row.get_by_role("link", name="alpha", exact=True)).to_be_focused()


def test_dashboard_works_without_javascript(scriptless: Page, small: Proxy) -> None:
    assert small.get("/ws/alpha/source/0").status == 200
    scriptless.goto(f"{small.url}/")
    row = row_of(scriptless, "alpha")

    row.get_by_text("Stop …").click()
    row.get_by_role("button", name="Stop it now").click()
    until(lambda: small.get("/api/workspaces/alpha").json()["phase"] == "stopped", "it is stopped")
    scriptless.goto(f"{small.url}/")
    expect(row.locator(".chip")).to_have_text("stopped")
    assert small.servers("alpha") == []
    row.get_by_role("button", name="Start alpha").click()
    until(lambda: small.get("/api/workspaces/alpha").json()["phase"] == "running", "it runs")

    scriptless.goto(f"{small.url}/")
    expect(row.locator(".chip")).to_have_text("running")


def test_dashboard_that_nobody_looks_at_gives_its_connection_back(page: Page, small: Proxy) -> None:
    page.goto(f"{small.url}/")
    expect(page.get_by_text("No workspace is running.")).to_be_visible()
    streams = "performance.getEntriesByType('resource').filter(entry => entry.name.endsWith('/api/events')).length"

    page.evaluate(_LOOKED_AT, False)
    until(lambda: page.evaluate(streams) == 1, "the stream has ended")
    assert small.get("/ws/alpha/source/0").status == 200
    page.evaluate(_LOOKED_AT, True)

    expect(row_of(page, "alpha").locator(".chip")).to_have_text("running")


def test_dashboard_forgets_what_a_restarted_proxy_does_not_know(page: Page, start: Proxies) -> None:
    command = "--notebook-command=" + shlex.join(_SMALL)
    first = start(command)
    assert first.get("/ws/alpha/source/0").status == 200
    page.goto(f"{first.url}/")
    expect(row_of(page, "alpha").locator(".chip")).to_have_text("running")

    assert first.stop() == 0
    start(command, f"--listen=127.0.0.1:{first.port}")

    expect(page.get_by_text("No workspace is running.")).to_be_visible()
    expect(page.locator("li.row")).to_have_count(0)


def test_button_does_nothing_before_the_back_off_is_over(page: Page) -> None:
    script = Path(proxy.__file__).with_name("pages").joinpath("script.js").read_text()
    page.set_content(
        '<main data-state="failed" data-events="about:blank"><p id="cut"><p id="said">'
        '<a data-after="wait" href="#gone">Try again</a><span id="wait" data-down="x" data-seconds="1.5"></span></main>'
    )
    page.evaluate(script)
    again = page.get_by_role("link", name="Try again")

    early = again.evaluate("link => { link.click(); return [link.ariaDisabled, location.hash]; }")
    expect(again).to_have_attribute("aria-disabled", "false")
    late = again.evaluate("link => { link.click(); return [link.ariaDisabled, location.hash]; }")

    assert (early, late) == (["true", ""], ["false", "#gone"])


# The script -----------------------------------------------------------------------------------------------------------


def test_script_says_durations_and_fills_the_bar_as_the_server_does(page: Page) -> None:
    seconds = [0, 1, 59, 60, 64, 599, 600, 3599, 3600, 11520, 86399, 86400, 200000]
    script = Path(proxy.__file__).with_name("pages").joinpath("script.js").read_text()
    spans = "".join(f'<span id="s{each}" data-up="x" data-seconds="{each}.3"></span>' for each in seconds)
    bars = "".join(f'<progress max="1" data-of="s{each}" data-usual="64"></progress>' for each in seconds)

    page.set_content(
        f'<main data-state="stopped" data-events="about:blank">{spans}{bars}<p id="cut"><p id="said"></main>'
    )
    page.evaluate(script)

    assert page.locator("span").all_inner_texts() == [duration(each) for each in seconds]
    filled = page.locator("progress").evaluate_all("bars => bars.map(bar => bar.value)")
    assert filled == pytest.approx([fraction(each + 0.3, 64) for each in seconds], abs=0.01)
