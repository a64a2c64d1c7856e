"""How much one user may ask for, and that counting it costs no memory without end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.limits import BURST, Buckets, Limits
from proxy.auth.user import EVERYONE, User
from proxy.errors import LimitReached
from tests.gateway.conftest import HandClock

ALICE, BOB = User("alice", ("*",)), User("bob", ("*",))


def test_a_user_may_send_so_many_requests_in_a_burst_and_then_so_many_a_second() -> None:
    clock = HandClock()
    limits = Limits(2, 1000, clock.monotonic)

    for _ in range(int(2 * BURST)):
        limits.enter(ALICE)
    with pytest.raises(LimitReached) as caught:
        limits.enter(ALICE)

    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (429, "too-many-requests", 1)
    limits.enter(BOB)
    clock.advance(1)
    limits.enter(ALICE)
    limits.enter(ALICE)
    with pytest.raises(LimitReached):
        limits.enter(ALICE)


def test_a_user_may_have_so_many_open_at_once() -> None:
    limits = Limits(1000, 3, HandClock().monotonic)
    for _ in range(3):
        limits.enter(ALICE)

    with pytest.raises(LimitReached) as caught:
        limits.enter(ALICE)

    assert (caught.value.status, caught.value.code) == (429, "too-many-connections-of-user")
    limits.enter(BOB)
    limits.leave(ALICE)
    limits.enter(ALICE)
    for user in (ALICE, ALICE, ALICE, BOB):
        limits.leave(user)
    assert not len(limits)


def test_where_nobody_is_asked_nobody_has_a_limit() -> None:
    limits = Limits(1, 1, HandClock().monotonic)

    for _ in range(1000):
        limits.enter(EVERYONE)

    limits.leave(EVERYONE)
    assert not len(limits)


@given(
    steps=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from((0.0, 0.1, 1.0, 30.0))), max_size=200),
    size=st.integers(1, 5),
)
def test_buckets_never_hold_more_than_their_size_nor_let_through_more_than_their_rate(
    steps: list[tuple[str, float]], size: int
) -> None:
    clock = HandClock()
    rate = 0.5
    buckets, large = Buckets(rate, clock.monotonic, size=size), Buckets(rate, clock.monotonic)
    taken: dict[str, list[float]] = {}

    for name, pause in steps:
        clock.advance(pause)
        buckets.take(name)
        assert len(buckets) <= size
        if large.take(name) == 0:
            taken.setdefault(name, []).append(clock.monotonic())

    for moments in taken.values():
        for first, since in enumerate(moments):
            for last in range(first, len(moments)):
                assert last - first + 1 <= rate * (moments[last] - since + BURST) + 1e-6


def test_a_bucket_says_how_long_to_wait() -> None:
    clock = HandClock()
    buckets = Buckets(0.5, clock.monotonic)
    while not (wait := buckets.take("a")):
        pass

    clock.advance(wait - 0.01)
    assert buckets.take("a")
    clock.advance(0.02)
    assert not buckets.take("a")
