"""What counts as activity and what wakes: the table against what JupyterLab really sends, and each rule by itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from multidict import CIMultiDict

from proxy.activity import QUIET, SETTLING, TABLE, Activity, Sender, Settling, Wake, markdown, sender_of
from proxy.activity_rules import Rule, Verdict, parse_rule, parse_rules
from proxy.config import Config, load
from proxy.errors import ConfigError
from proxy.settings_types import format_value
from proxy.use import Use
from tests.jupyterlab import BASE, HOST, recording
from tests.supervisor.fakes import KEY
from tests.supervisor.stage import Stage, staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from proxy.relay.tunnel import Frames
    from tests.jupyterlab import Line

INTERACTIVE = Activity("interactive")
KERNEL = "api/kernels/eb3df7c4-d4dd-40af-8cca-343e1b688cd8/channels"
CHROMIUM = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin", "Accept": "*/*"}
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}
PLAIN_PAGE = {"Accept": "*/*", "Referer": f"http://{HOST}{BASE}lab/tree/a.ipynb"}  # plain HTTP away from localhost


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        await stage.supervisor.ensure_running(KEY)
        yield stage


# The recording --------------------------------------------------------------------------------------------------------


class Replay:
    """Sends the recording to a running workspace, at its own times, and notes what counted."""

    def __init__(self, stage: Stage, activity: Activity) -> None:
        self.stage = stage
        self.activity = activity
        self.counted: list[Line] = []
        self.frames: dict[str, Frames] = {}

    def use(self, line: Line) -> Use:
        is_websocket = line.kind == "ws-open"
        return Use(
            self.stage.supervisor,
            KEY,
            line.method,
            BASE + line.path,
            self.activity.judge(line.method, line.path, line.query, is_websocket=is_websocket),
            is_page=sender_of(line.headers, BASE) is not Sender.PROGRAM,
            is_everything=self.activity.is_traffic,
            clock=self.stage.clock,
        )

    async def run(self) -> None:
        began = self.stage.clock.monotonic()
        tracked = self.stage.supervisor._tracked[KEY]
        for line in recording():
            await self.stage.clock.advance(began + line.at - self.stage.clock.monotonic())
            tracked.counted_at = -1
            self.pass_on(line)
            if tracked.counted_at != -1:
                self.counted.append(line)

    def pass_on(self, line: Line) -> None:
        if line.kind == "ws-frame":
            frames = self.frames[line.path]
            (frames.from_client if line.is_from_client else frames.from_notebook)(line.has_data)
        elif line.kind != "ws-close" and line.status != 503:
            use = self.use(line)
            use.touch()
            if line.kind == "ws-open":
                self.frames[line.path] = use.open_frames()


async def test_nothing_counts_in_an_untouched_tab_but_the_autosave_of_what_was_changed(stage: Stage) -> None:
    replay = Replay(stage, INTERACTIVE)

    await replay.run()

    idle = [line for line in recording() if line.phase in ("idle-visible", "idle-hidden", "back")]
    counted = [(line.method, line.path) for line in replay.counted if line in idle]
    assert len(idle) > 150
    assert counted == [
        ("GET", "api/contents/Untitled.ipynb"),
        ("PUT", "api/contents/Untitled.ipynb"),
        ("GET", "api/contents/Untitled.ipynb"),
        ("GET", "api/contents/Untitled.ipynb/checkpoints"),
    ]


async def test_opening_creating_and_running_a_cell_count(stage: Stage) -> None:
    replay = Replay(stage, INTERACTIVE)

    await replay.run()

    counted = {(line.phase, line.method, line.message or line.path) for line in replay.counted}
    assert {
        ("open", "GET", "lab"),
        ("new-notebook", "POST", "api/contents"),
        ("new-notebook", "POST", "api/sessions"),
        ("run-cell", "GET", "execute_request"),
    } <= counted


async def test_what_a_page_says_by_itself_on_a_new_kernel_connection_does_not_count(stage: Stage) -> None:
    replay = Replay(stage, INTERACTIVE)

    await replay.run()

    sent = [line for line in recording() if line.path == KERNEL and line.is_from_client and line.has_data]
    assert {line.message for line in sent} == {
        "kernel_info_request", "history_request", "debug_request", "execute_request",
    }  # fmt: skip
    counted = [line.message for line in replay.counted if line.path == KERNEL]
    assert counted == ["execute_request"]


async def test_all_of_the_recording_counts_as_traffic(stage: Stage) -> None:
    replay = Replay(stage, Activity("traffic"))

    await replay.run()

    assert replay.counted == [line for line in recording() if line.kind != "ws-close" and line.status != 503]


async def test_page_that_reconnects_for_a_day_and_only_asks_for_kernel_info_does_not_count(stage: Stage) -> None:
    replay = Replay(stage, INTERACTIVE)
    opened = next(line for line in recording() if line.kind == "ws-open" and line.path == KERNEL)
    first_words = [line for line in recording() if line.path == KERNEL and line.phase == "new-notebook"]
    used = stage.supervisor.last_active(KEY)

    for _ in range(24 * 60):
        began = stage.clock.monotonic()
        for line in first_words:
            await stage.clock.advance(began + line.at - opened.at - stage.clock.monotonic())
            replay.pass_on(line)
        await stage.clock.advance(59)

    assert stage.supervisor.last_active(KEY) == used


def plain(line: Line) -> CIMultiDict[str]:
    """Return a line's headers as browsers send them on plain HTTP away from localhost."""
    return CIMultiDict({name: text for name, text in line.headers.items() if not name.startswith("Sec-")})


@pytest.mark.parametrize("is_plain", [False, True], ids=["trustworthy address", "plain HTTP"])
def test_of_the_recording_only_the_navigation_the_work_and_the_saves_wake(is_plain: bool) -> None:
    wake = Wake("intent", INTERACTIVE)

    meant = [
        (line.phase, line.method, line.path)
        for line in recording()
        if line.kind in ("http", "ws-open")
        and wake.is_meant(
            line.method,
            line.path,
            line.query,
            plain(line) if is_plain else line.headers,
            base=BASE,
            is_websocket=line.kind == "ws-open",
        )
    ]

    session = "api/sessions/453f6605-c35c-462a-972a-2319b66f82d1"
    assert meant == [
        ("open", "GET", "lab"),
        ("new-notebook", "POST", "api/contents"),
        ("new-notebook", "GET", "api/contents/Untitled.ipynb"),
        ("new-notebook", "GET", "api/contents/Untitled.ipynb"),
        ("new-notebook", "POST", "api/sessions"),
        ("new-notebook", "PATCH", session),
        ("new-notebook", "PATCH", session),
        ("idle-hidden", "GET", "api/contents/Untitled.ipynb"),
        ("idle-hidden", "PUT", "api/contents/Untitled.ipynb"),
        ("idle-hidden", "GET", "api/contents/Untitled.ipynb"),
        ("save-after-reap", "GET", "api/contents/Untitled.ipynb"),
    ]


# The table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "api/kernels", "1795421876484", "ignored"),
        ("GET", "api/kernels", None, "ignored"),
        ("POST", "api/kernels", None, "counts"),
        ("GET", "api/kernels/7", "1795559685459", "ignored"),
        ("GET", "api/kernels/7/x", None, "counts"),
        ("DELETE", "api/kernels/7", None, "counts"),
        ("DELETE", "api/sessions/7", None, "counts"),
        ("GET", "api/status", None, "ignored"),
        ("GET", "lsp/status", None, "ignored"),
        ("GET", "api/contents", "content=1&hash=0&1", "ignored"),
        ("GET", "api/contents/a/b%20c", "content=1&hash=0&1", "ignored"),
        ("GET", "api/contents/a", "type=directory&content=1", "ignored"),
        ("GET", "api/contents/a.ipynb", "type=notebook&content=1", "counts"),
        ("GET", "api/contents/a.ipynb", "content=0&hash=1", "counts"),
        ("GET", "api/contents/a.txt", None, "counts"),
        ("GET", "api/contentsx", "content=1", "counts"),
        ("PUT", "lab/api/workspaces/default", "1", "ignored"),
        ("GET", "lab/api/workspaces", "1", "ignored"),
        ("DELETE", "lab/api/workspaces/default", None, "counts"),
        ("POST", "anything/at/all", "a=b&no_track_activity=1", "ignored"),
        ("GET", "anything", "no_track_activity=", "counts"),
        ("GET", "anything", "x_no_track_activity=1", "counts"),
        ("GET", "lab/tree/api/kernels", None, "counts"),
        ("GET", "", None, "counts"),
        ("WS", "api/events/subscribe", None, "ignored"),
        ("WS", KERNEL, "session_id=1", "client"),
        ("WS", KERNEL, "session_id=1&no_track_activity=1", "ignored"),
        ("WS", "terminals/websocket/1", None, "client"),
        ("WS", "proxy/8501/stream", None, "counts"),
        ("GET", "api/events/subscribe", None, "counts"),
    ],
)
def test_verdict_of_the_table(method: str, path: str, query: str | None, expected: str) -> None:
    is_websocket = method == "WS"

    verdict = INTERACTIVE.judge("GET" if is_websocket else method, path, query, is_websocket=is_websocket)

    assert verdict.value == expected


def test_everything_counts_as_traffic() -> None:
    assert Activity("traffic").judge("GET", "api/kernels", None) is Verdict.COUNTS


def test_every_rule_of_the_table_decides_something() -> None:
    for at, rule in enumerate(TABLE):
        without = Activity("interactive")
        without._rules = (*TABLE[:at], *TABLE[at + 1 :])
        sample = re.sub(r"\*+", "x", rule.text).split()[1].split("?")
        query = rule.text.split("?")[1].split()[0].replace("=|", "=") if len(sample) > 1 else None
        query = "no_track_activity=1" if query == "no_track_activity" else query
        is_websocket = rule.methods == {"WS"}
        for method in rule.methods or {"POST"}:
            assert INTERACTIVE.judge(method, sample[0], query, is_websocket=is_websocket) is rule.verdict
            assert without.judge(method, sample[0], query, is_websocket=is_websocket) is not rule.verdict


def test_rules_of_the_operator_come_before_the_table() -> None:
    rules = parse_rules("GET api/status counts, WS api/collaboration/** ignored\nPOST beat?quiet=1|2 ignored")
    activity = Activity("interactive", rules)

    assert activity.judge("GET", "api/status", None) is Verdict.COUNTS
    assert activity.judge("GET", "api/collaboration/room/1", None, is_websocket=True) is Verdict.IGNORED
    assert activity.judge("POST", "beat", "quiet=2") is Verdict.IGNORED
    assert activity.judge("POST", "beat", "quiet=3") is Verdict.COUNTS
    assert activity.judge("GET", "api/kernels", None) is Verdict.IGNORED


def test_very_long_path_is_judged_like_any_other() -> None:
    path = "api/contents/" + "x" * 8000

    assert INTERACTIVE.judge("GET", path, "content=1") is Verdict.IGNORED
    assert INTERACTIVE.judge("GET", path, "content=0") is Verdict.COUNTS
    assert INTERACTIVE._cached.cache_info().currsize <= 4096


# The form of a rule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "fits", "differs"),
    [
        ("api/*", ["api/", "api/x"], ["api", "api/x/y", "xapi/x"]),
        ("api/**", ["api", "api/", "api/x/y"], ["apix", "ap"]),
        ("**/x", ["/x", "a/x", "a/b/x"], ["x", "a/x/"]),
        ("**", ["", "a", "a/b"], []),
        ("a.b", ["a.b"], ["axb"]),
        ("a(b)+", ["a(b)+"], ["ab", "abb"]),
    ],
)
def test_star_is_one_segment_and_two_are_any(pattern: str, fits: list[str], differs: list[str]) -> None:
    rule = parse_rule(f"GET {pattern} ignored")

    assert [path for path in fits if not rule.fits_path("GET", path)] == []
    assert [path for path in differs if rule.fits_path("GET", path)] == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("GET api/x", "not 'GET api/x'"),
        ("GET api/x maybe", "not 'GET api/x maybe'"),
        ("get api/x ignored", "not 'get api/x ignored'"),
        ("GET /api/x ignored", "not 'GET /api/x ignored'"),
        ("GET api/x? ignored", "not 'GET api/x? ignored'"),
        ("GET api/#x ignored", "not 'GET api/#x ignored'"),
        ("GET api/x client", "`client` is for `WS` alone"),
        ("GET|WS api/x client", "`client` is for `WS` alone"),
        ("GET api/x?=1 ignored", "'=1' is no condition"),
        ("GET api/x?a=1&&b ignored", "'' is no condition"),
        ("GET api/\N{LATIN SMALL LETTER E WITH ACUTE} ignored", "not 'GET api/"),
    ],
)
def test_rule_of_another_form_is_refused_with_what_is_allowed(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match="must be rules such as `GET api/metrics") as refused:
        load({"activity_rules": text})

    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    "value", [["GET a ignored", "WS b client"], "GET  a ignored,WS b client", "GET a ignored\nWS b client\n"]
)
def test_rules_are_a_list_or_text_and_read_back_as_they_are_shown(value: Any) -> None:
    config = Config(activity_rules=value)

    assert format_value(config.activity_rules) == "GET a ignored,WS b client"
    assert Config(activity_rules=format_value(config.activity_rules)).activity_rules == config.activity_rules
    assert all(isinstance(rule, Rule) for rule in config.activity_rules)


def test_table_as_markdown_has_a_line_for_each_rule() -> None:
    lines = markdown().splitlines()

    assert len(lines) == len(TABLE) + 2
    assert all(line.count("|") - line.count("\\|") == 4 for line in lines)


# A page's first words -------------------------------------------------------------------------------------------------


def test_settling_ends_with_the_first_frame_out_of_silence() -> None:
    settling = Settling(100)

    assert not settling.ends(100 + QUIET - 0.1)
    settling.answered(105)
    assert not settling.ends(105 + QUIET - 0.1)
    assert settling.ends(105 + 2 * QUIET)


def test_settling_ends_in_any_case() -> None:
    settling = Settling(100)

    ended = [at for at in range(0, 200, 5) if settling.ends(100 + at / 10)]

    assert ended[0] == SETTLING * 10


# What wakes -----------------------------------------------------------------------------------------------------------


def meant(headers: Mapping[str, str], target: str, method: str = "GET", *, websocket: bool = False) -> bool:
    """Tell whether a request wakes under `intent`."""
    path, mark, query = target.partition("?")
    sent = CIMultiDict(headers, Host=HOST)
    wake = Wake("intent", INTERACTIVE)
    return wake.is_meant(method, path, query if mark else None, sent, base=BASE, is_websocket=websocket)


@pytest.mark.parametrize(
    "headers",
    [
        NAVIGATION,
        NAVIGATION | {"Sec-Fetch-Site": "cross-site"},
        NAVIGATION | {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "iframe"},
        {"Accept": "text/html,*/*;q=0.8"},
        {"Accept": "text/html,*/*;q=0.8", "Referer": f"http://{HOST}{BASE}lab"},
    ],
    ids=["typed", "link elsewhere", "frame of ours", "plain HTTP", "link on plain HTTP"],
)
def test_navigation_wakes(headers: dict[str, str]) -> None:
    assert meant(headers, "lab")


def test_frame_in_another_sites_page_does_not_wake() -> None:
    assert not meant(NAVIGATION | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"}, "lab")


@pytest.mark.parametrize(
    "page", [CHROMIUM, PLAIN_PAGE, {"Origin": f"http://{HOST}"}], ids=["Chromium", "plain", "origin"]
)
@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "api/kernels", False),
        ("GET", "lab", False),
        ("GET", "static/lab/main.js", False),
        ("HEAD", "files/a.csv", False),
        ("OPTIONS", "api/contents/a", False),
        ("POST", "api/kernels", True),
        ("PUT", "api/contents/a.ipynb", True),
        ("DELETE", "api/contents/a.ipynb", True),
        ("PUT", "lab/api/workspaces/default", False),
        ("POST", "beat?no_track_activity=1", False),
        ("GET", "api/contents/a.ipynb?content=0&hash=1", True),
        ("GET", "api/contents/a.ipynb?type=notebook&content=1", True),
        ("GET", "api/contents/a?type=directory&content=0", True),
        ("GET", "api/contents/a?type=directory&content=1", False),
        ("GET", "api/contents/a?content=1", False),
        ("GET", "api/contents/a.ipynb/checkpoints", False),
        ("GET", "api/contents?content=0", False),
        ("GET", "files/a.csv", True),
        ("GET", "filesystem/a", False),
    ],
)
def test_page_of_ours_wakes_by_what_somebody_does(
    method: str, target: str, expected: bool, page: dict[str, str]
) -> None:
    assert meant(page, target, method) is expected


@pytest.mark.parametrize(
    "headers",
    [
        CHROMIUM | {"Sec-Fetch-Site": "cross-site"},
        CHROMIUM | {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Referer": "http://elsewhere.example/ws/demo/"},
        {"Referer": f"http://{HOST}/ws/other/lab"},
        {"Referer": f"http://{HOST}/ws/demolition/lab"},
    ],
)
@pytest.mark.parametrize(("method", "target"), [("POST", "api/kernels"), ("GET", "files/a.csv"), ("GET", "lab")])
def test_page_of_others_wakes_nothing(method: str, target: str, headers: dict[str, str]) -> None:
    assert not meant(headers, target, method)


@pytest.mark.parametrize("headers", [{}, {"Accept": "*/*", "User-Agent": "curl/8"}, {"Sec-Fetch-Mode": "cors"}])
@pytest.mark.parametrize("target", ["api/kernels", "api/status", "lab"])
def test_program_wakes_with_whatever_it_asks(target: str, headers: dict[str, str]) -> None:
    assert meant(headers, target)


def test_websocket_of_a_page_wakes_nothing_and_a_programs_does() -> None:
    assert meant({}, KERNEL, websocket=True)
    assert not meant({"Origin": f"http://{HOST}"}, KERNEL, websocket=True)
    assert not meant(CHROMIUM | {"Sec-Fetch-Mode": "websocket"}, KERNEL, websocket=True)
    assert not meant({"Origin": f"http://{HOST}", "Accept": "text/html"}, KERNEL, websocket=True)


@pytest.mark.parametrize("mode", ["any", "intent"])
@pytest.mark.parametrize("purpose", ["prefetch", "prefetch;prerender", "Prefetch; anonymous-client-ip"])
def test_speculative_request_wakes_nothing_in_either_mode(mode: Any, purpose: str) -> None:
    headers = CIMultiDict(NAVIGATION | {"Sec-Purpose": purpose, "Host": HOST})

    assert not Wake(mode, INTERACTIVE).is_meant("GET", "lab", None, headers, base=BASE)
    del headers["Sec-Purpose"]
    assert Wake(mode, INTERACTIVE).is_meant("GET", "lab", None, headers, base=BASE)


def test_everything_else_wakes_under_any() -> None:
    wake = Wake("any", INTERACTIVE)

    assert all(
        wake.is_meant(line.method, line.path, line.query, line.headers, base=BASE, is_websocket=line.kind == "ws-open")
        for line in recording()
    )


def test_operators_rules_say_which_unsafe_requests_do_not_wake() -> None:
    headers = CIMultiDict(CHROMIUM | {"Host": HOST})

    def wakes(*rules: Rule) -> bool:
        return Wake("intent", Activity("traffic", rules)).is_meant("POST", "beat", None, headers, base=BASE)

    assert (wakes(), wakes(parse_rule("POST beat ignored"))) == (True, False)
