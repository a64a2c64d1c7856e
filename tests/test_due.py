"""A glance at a workspace never contradicts the whole verdict."""

from __future__ import annotations

import math
from datetime import timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.config import Config
from proxy.due import Judge
from proxy.report import Fate
from proxy.tracked import Tracked
from proxy.workspace import Key

SOON = st.integers(min_value=0, max_value=20).map(float)
SOON_OR_NEVER = SOON | st.just(-math.inf)


@given(
    touched=SOON,
    spared=SOON_OR_NEVER,
    started=SOON | st.just(math.inf),
    unknown_since=SOON_OR_NEVER,
    worked=SOON_OR_NEVER,
    extended=SOON_OR_NEVER,
    idle_ttl=SOON,
    max_age=SOON | st.just(math.inf),
    protect_busy=st.booleans(),
    now=SOON,
)
def test_what_is_plainly_in_use_is_neither_due_nor_asked_again(
    *,
    touched: float,
    spared: float,
    started: float,
    unknown_since: float,
    worked: float,
    extended: float,
    idle_ttl: float,
    max_age: float,
    protect_busy: bool,
    now: float,
) -> None:
    judge = Judge(Config(max_busy=timedelta(seconds=8), max_unknown=timedelta(seconds=3)))
    tracked = Tracked(Key("a", "default"), touched=touched, stored=touched)
    tracked.spared, tracked.started, tracked.unknown_since = spared, started, unknown_since
    tracked.worked, tracked.extended = worked, extended
    tracked.idle_ttl, tracked.max_age, tracked.protect_busy = idle_ttl, max_age, protect_busy
    assume(judge.is_plainly_in_use(tracked, now))

    verdict = judge.verdict(tracked, now)

    assert verdict.due >= now
    assert verdict.fate is not Fate.UNKNOWN
