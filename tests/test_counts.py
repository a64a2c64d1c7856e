"""Counting costs little, is exact, and never grows without bound."""

from __future__ import annotations

import pytest

from proxy.counts import PHASES, ClusterCounts, Histogram, PhaseTimes, Tally
from proxy.report import Step


def test_value_on_a_bound_is_counted_at_that_bound() -> None:
    histogram = Histogram((1.0, 2.0))

    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)

    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 7.5


def test_tally_tells_what_is_known_before_it_happens() -> None:
    tally = Tally([("ready",)])
    before = dict(tally.counts)

    tally.add("ready")

    assert (before, tally.counts) == ({("ready",): 0}, {("ready",): 1})


def test_tally_of_ever_new_labels_is_bounded_and_loses_no_count() -> None:
    tally = Tally()

    for number in range(10_000):
        tally.add("create", f"code-{number}")
    tally.add("create", "code-0")

    assert len(tally.counts) < 200
    assert sum(tally.counts.values()) == 10_001
    assert tally.counts["create", "code-0"] == 2
    assert tally.counts["other", "other"] > 9_000


def test_every_step_of_a_start_belongs_to_a_phase() -> None:
    assert set(PHASES) == set(Step)


def test_phases_add_up_to_the_whole_though_one_comes_again() -> None:
    times = PhaseTimes(Step.QUEUED, 10.0)

    times.enter(Step.PREPARING, 12.0)
    times.enter(Step.SCHEDULED, 13.0)
    times.enter(Step.PULLING, 14.0)
    times.enter(Step.PREPARING, 20.0)  # another pod
    times.enter(Step.STARTING, 21.0)

    assert times.end(24.0) == {"queued": 2.0, "scheduled": 2.0, "pulled": 7.0, "answering": 3.0}


@pytest.mark.parametrize("verb", ["get", "watch"])
def test_call_is_counted_by_verb_and_code_and_its_time_by_verb(verb: str) -> None:
    counts = ClusterCounts()

    counts.answered(verb, "200", 0.02)
    counts.answered(verb, "none", 31.0)

    assert counts.calls.counts == {(verb, "200"): 1, (verb, "none"): 1}
    assert sum(counts.call_seconds[verb].counts) == 2
    assert counts.call_seconds[verb].counts[-1] == 1
