"""The pages of workspaces: what each state shows, in which words, and that nothing of others becomes markup."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import timedelta
from importlib.resources import files
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import pages
from proxy.pages.templates import LIVE_POLICY, SILENT_POLICY
from proxy.pages.words import duration, fraction
from proxy.profiles import Profile
from proxy.report import Happening, Report, Trouble
from proxy.workspace import Phase
from tests.pages.markup import HOSTILE, NOW, Page, assert_is_self_contained, failed, report

TO = "/ws/demo/lab/tree/a.ipynb?x=1&y=%22"
STATES = {phase.value: report(phase) for phase in Phase} | {"failed": failed()}
HOSTILE_STATES = [*(report(phase, hostile=HOSTILE) for phase in Phase), failed(hostile=HOSTILE)]


def page_of(found: Report, to: str = TO) -> Page:
    return Page(pages.workspace(pages.view_of(found, NOW, to=to), go="here")[0])


def row_of(found: Report, profiles: tuple[Profile, ...] = ()) -> Page:
    view = pages.view_of(found, NOW, is_row=True)
    return Page(pages.dashboard([view], summary="", events_url="/api/events", profiles=profiles)[0])


@pytest.mark.parametrize("state", STATES)
def test_page_shows_its_state_and_nothing_of_the_others(state: str) -> None:
    signs = {
        "starting": "so far", "running": "Connections", "stopping": "kernels and terminals are ended; its files stay",
        "stopped": "Start it", "failed": "Try again",
    }  # fmt: skip

    page = page_of(STATES[state])

    assert [name for name, sign in signs.items() if sign in page.shown] == [state]


def test_waiting_page_says_what_happens_now_how_long_and_how_long_it_usually_takes() -> None:
    starting = dataclasses.replace(STATES["starting"], usual_start_seconds=64.0)

    page = page_of(starting)

    assert "Starting demo" in page.shown
    assert "words 31 s" in page.shown
    assert "43 s so far" in page.shown
    assert "usually about 1 min 04 s" in page.shown
    assert [bar["value"] for bar in page.all("progress")] == [f"{0.9 * 43 / 64:.3f}"]


def test_waiting_page_reloads_where_there_is_no_script_at_an_address_that_wakes_nothing() -> None:
    refresh = page_of(STATES["starting"]).refresh

    assert refresh is not None
    seconds, address = refresh.split("; url=")
    assert int(seconds) > 0
    assert address.startswith("/ws/demo/_proxy/?")
    assert parse_qs(address.partition("?")[2]) == {"to": [TO]}


@pytest.mark.parametrize("state", ["running", "stopped", "failed"])
def test_page_of_a_state_that_stays_does_not_reload(state: str) -> None:
    assert page_of(STATES[state]).refresh is None


def test_failure_page_says_what_and_what_to_do_and_when_to_try_again() -> None:
    page = page_of(failed())

    assert "demo could not be started" in page.shown
    assert "It ended." in page.shown
    assert "Last lines of its log" in page.shown
    assert "Code exited" in page.shown
    assert "Another try is possible in 14 s" in page.shown
    assert TO in [link.get("href") for link in page.all("a")]


def test_time_that_is_left_is_rounded_up() -> None:
    page = page_of(failed(failure=Trouble("exited", "It ended.", NOW, retry_at=NOW + timedelta(seconds=0.2))))

    assert "Another try is possible in 1 s" in page.shown


def test_start_of_which_nothing_is_told_says_so_much() -> None:
    assert "Starting its notebook server" in page_of(report(Phase.STARTING, progress=None)).shown


def test_row_of_what_is_stopped_says_when_and_why() -> None:
    stopped = report(Phase.STOPPED, stopped=Happening(NOW, "stopped", "it was idle for 4h"))

    assert "It was stopped on 2024-02-29 at 12:00 UTC. It was idle for 4h." in row_of(stopped).shown


def test_failure_page_without_a_log_or_back_off_speaks_of_neither() -> None:
    page = page_of(failed(failure=Trouble("exited", "It ended.", NOW, retry_at=NOW - timedelta(seconds=1))))

    assert "Last lines" not in page.shown
    assert "Another try" not in page.shown


@pytest.mark.parametrize("is_warned", [True, False])
def test_warning_with_a_way_to_keep_it_is_on_page_and_row_alike(is_warned: bool) -> None:
    warned = report(Phase.RUNNING, is_warned=is_warned, due_at=NOW + timedelta(minutes=7, seconds=40))

    for page, act in ((page_of(warned), "/ws/demo/_proxy/extend"), (row_of(warned), "/api/workspaces/demo/extend")):
        assert ("It is stopped in 7 min 40 s, unless it is used." in page.shown) == is_warned
        assert act in [form.get("action") for form in page.all("form")]


def test_stop_is_asked_for_twice() -> None:
    for page in (page_of(STATES["running"]), row_of(STATES["running"])):
        stops = [number for number, (tag, marks) in enumerate(page.tags) if str(marks.get("action")).endswith("/stop")]
        before = [tag for tag, _ in page.tags[: stops[0]]]

        assert "summary" in before[before.index("details") :]


def test_dashboard_row_shows_the_facts() -> None:
    page = row_of(report(Phase.RUNNING))

    for sign in ("demo", "running", "Running for", "43 s", "7 min 00 s ago", "Stops in", "3 h 00 min", "words"):
        assert sign in page.shown


def test_dashboard_offers_profiles_where_there_are_some() -> None:
    chosen = report(Phase.STOPPED, profile="large")

    offered = (Profile("small", "", {}), Profile("large", "8 GB of memory", {}))
    with_some, without = row_of(chosen, offered), row_of(chosen)

    assert [option["value"] for option in with_some.all("option") if "selected" in option] == ["large"]
    assert "large 8 GB of memory" in with_some.shown
    assert "Profile, from the next start on" in with_some.shown
    assert "Profile" not in without.shown


def test_row_says_what_is_wrong_with_settings() -> None:
    odd = report(Phase.RUNNING, warnings=("Its profile will be 'large' when it starts next; now it is 'small'.",))

    assert "when it starts next" in row_of(odd).shown


def test_empty_dashboard_says_so() -> None:
    body, _ = pages.dashboard([], summary="", events_url="/api/events")

    assert "No workspace is running." in Page(body).shown
    assert "No workspace is running." not in row_of(STATES["running"]).shown


@pytest.mark.parametrize("found", HOSTILE_STATES, ids=lambda found: pages.view_of(found, NOW)["state"])
def test_hostile_text_is_shown_as_text(found: Report) -> None:
    view = pages.view_of(found, NOW, to=f"/ws/demo/{HOSTILE}")
    body = pages.workspace(view, go="here")[0]
    rows = pages.dashboard(
        [view], summary=HOSTILE, events_url="/api/events", profiles=(Profile(HOSTILE, HOSTILE, {}),), footer=HOSTILE
    )[0]

    for each in (body, rows):
        assert HOSTILE in Page(each).text
        assert_is_self_contained(each)


@given(st.text())
def test_no_text_adds_a_tag(text: str) -> None:
    plain, odd = (failed(hostile=each) for each in ("x", text or "x"))

    for page in (page_of, row_of):
        assert [tag for tag, _ in page(odd).tags] == [tag for tag, _ in page(plain).tags]


def test_events_of_any_state_have_every_value_that_the_script_looks_for() -> None:
    wanted = set()
    for name in ("workspace.html", "row.html", "warning.html", "stop.html"):
        text = (files("proxy.pages") / name).read_text(encoding="utf-8")
        for mark, fields in re.findall(r'data-(text|if|each|up|down|attr)="([^"]+)"', text):
            wanted |= {pair.partition("=")[2] for pair in fields.split(" ")} if mark == "attr" else {fields}

    for found in STATES.values():
        view = json.loads(json.dumps(pages.view_of(found, NOW, to=TO)))
        assert wanted <= view.keys()


def test_policy_allows_our_script_on_live_pages_alone_and_nothing_else_anywhere() -> None:
    live = [
        pages.workspace(pages.view_of(STATES["starting"], NOW), go="")[1],
        pages.dashboard([], summary="", events_url="/api/events")[1],
    ]

    assert {headers["Content-Security-Policy"] for headers in live} == {LIVE_POLICY}
    for policy in (LIVE_POLICY, SILENT_POLICY):
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
    assert "script-src" not in SILENT_POLICY
    assert all(headers["Cache-Control"] == "no-store" for headers in live)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min 00 s"), (64, "1 min 04 s"), (599, "9 min 59 s"),
        (600, "10 min"), (3599, "59 min"), (3600, "1 h 00 min"), (11_520, "3 h 12 min"), (86_399, "23 h 59 min"),
        (86_400, "1 d 0 h"), (200_000, "2 d 7 h"),
    ],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.floats(0, 1e6), st.floats(0.1, 1e4))
def test_progress_never_falls_and_is_never_complete(seconds: float, usual: float) -> None:
    assert 0 <= fraction(seconds, usual) <= fraction(seconds + 1, usual) <= 1
    assert fraction(usual / 2, usual) == pytest.approx(0.45)
