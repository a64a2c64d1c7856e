"""How long a start that failed is not tried again."""

from __future__ import annotations

import traceback

import pytest

from proxy.backoff import LIMIT, BackOffs
from proxy.errors import BackendUnavailable, StartFailed
from proxy.workspace import Key

KEY = Key("demo", "default")
OTHER = Key("demo", "elsewhere")


class Time:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def back_offs(time: Time) -> BackOffs:
    return BackOffs(time)


def failure(retry_after: int | None = None) -> StartFailed:
    return StartFailed("exited", "It ended at once.", detail="the last line", retry_after=retry_after)


def test_what_never_failed_is_not_refused(back_offs: BackOffs) -> None:
    back_offs.refuse(KEY)


def test_failure_is_told_when_the_next_try_is_allowed(back_offs: BackOffs) -> None:
    error = failure()

    retry_after = back_offs.record(KEY, error)

    assert retry_after == error.retry_after == 1


def test_refusal_repeats_the_reason_with_the_seconds_that_remain(back_offs: BackOffs, time: Time) -> None:
    for _ in range(4):
        back_offs.record(KEY, failure())
    time.seconds += 2.5

    with pytest.raises(StartFailed) as refused:
        back_offs.refuse(KEY)

    assert (refused.value.code, str(refused.value)) == ("exited", "It ended at once.")
    assert refused.value.detail == "the last line"
    assert refused.value.retry_after == 6  # 5.5, and never so early that it is refused again


def test_try_is_allowed_from_the_very_moment_that_was_told(back_offs: BackOffs, time: Time) -> None:
    time.seconds += back_offs.record(KEY, failure())

    back_offs.refuse(KEY)


def test_back_off_doubles_with_each_failure_in_a_row_up_to_the_limit(back_offs: BackOffs, time: Time) -> None:
    waits = []

    for _ in range(12):
        waits.append(back_offs.record(KEY, failure()))
        time.seconds += waits[-1]

    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_thousand_failures_in_a_row_wait_no_longer_than_the_limit(back_offs: BackOffs) -> None:
    for _ in range(1000):
        back_offs.record(KEY, failure())

    assert back_offs.record(KEY, failure()) == LIMIT


def test_backend_that_asks_for_more_time_gets_it(back_offs: BackOffs, time: Time) -> None:
    back_offs.record(KEY, failure(retry_after=30))
    time.seconds += 29

    with pytest.raises(StartFailed) as refused:
        back_offs.refuse(KEY)

    assert refused.value.retry_after == 1


def test_backend_that_asks_for_less_time_is_not_heard(back_offs: BackOffs) -> None:
    back_offs.record(KEY, failure())
    back_offs.record(KEY, failure())

    assert back_offs.record(KEY, failure(retry_after=1)) == 4


def test_backend_cannot_ask_for_more_than_the_limit(back_offs: BackOffs) -> None:
    error = failure(retry_after=86_400)

    retry_after = back_offs.record(KEY, error)

    assert retry_after == error.retry_after == LIMIT


def test_outage_is_waited_for_as_long_as_it_asks_and_doubles_nothing(back_offs: BackOffs, time: Time) -> None:
    waits = []
    for _ in range(6):
        waits.append(back_offs.record(KEY, BackendUnavailable("away", "It does not answer.", retry_after=5)))
        with pytest.raises(BackendUnavailable):
            back_offs.refuse(KEY)
        time.seconds += waits[-1]

    assert waits == [5] * 6
    assert back_offs.record(KEY, failure()) == 1


def test_outage_in_between_does_not_forget_the_failures_of_the_workspace(back_offs: BackOffs, time: Time) -> None:
    for _ in range(3):
        time.seconds += back_offs.record(KEY, failure())

    time.seconds += back_offs.record(KEY, BackendUnavailable("away", "It does not answer."))

    assert back_offs.record(KEY, failure()) == 8


def test_success_forgets_the_failures(back_offs: BackOffs) -> None:
    back_offs.record(KEY, failure())
    back_offs.record(KEY, failure())

    back_offs.clear(KEY)

    back_offs.refuse(KEY)
    assert back_offs.record(KEY, failure()) == 1


def test_failure_long_after_the_last_one_is_the_first_again(back_offs: BackOffs, time: Time) -> None:
    back_offs.record(KEY, failure())
    back_offs.record(KEY, failure())
    time.seconds += 2 * LIMIT

    assert back_offs.record(KEY, failure()) == 1


def test_workspaces_back_off_each_for_itself(back_offs: BackOffs) -> None:
    back_offs.record(KEY, failure())

    back_offs.refuse(OTHER)
    assert back_offs.record(OTHER, failure()) == 1


def test_record_keeps_nothing_of_the_requests_that_were_told(back_offs: BackOffs) -> None:
    error = failure()
    back_offs.record(KEY, error)
    with pytest.raises(StartFailed):
        raise error  # as a request does, whose frames are in the traceback now

    with pytest.raises(StartFailed) as refused:
        back_offs.refuse(KEY)

    assert refused.value is not error
    assert refused.value.__context__ is None
    assert error not in vars(back_offs)["_records"][KEY].error.args
    assert traceback.extract_tb(vars(back_offs)["_records"][KEY].error.__traceback__) == []
