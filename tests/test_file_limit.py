"""How many clients there are file descriptors for."""

from __future__ import annotations

import resource

import pytest

from proxy.errors import ConfigError
from proxy.file_limit import MOST, fit_connections
from proxy.relay.listener import EXCESS

INFINITE = resource.RLIM_INFINITY


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The soft and hard limit of open files, which `fit_connections` sees and sets."""
    held = [1024, 1024]

    def get(_: int) -> tuple[int, int]:
        return held[0], held[1]

    def put(_: int, wanted: tuple[int, int]) -> None:
        assert wanted[1] == held[1]
        assert held[1] == INFINITE or wanted[0] <= held[1]
        held[0] = wanted[0]

    monkeypatch.setattr(resource, "getrlimit", get)
    monkeypatch.setattr(resource, "setrlimit", put)
    return held


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "fitting"),
    [
        (1024, 1024, 0, 416),
        (1024, 4096, 0, 1952),
        (1024, 1_048_576, 0, MOST),
        (1_048_576, 1_048_576, 0, MOST),
        (INFINITE, INFINITE, 0, MOST),
        (1024, INFINITE, 0, MOST),
        (1024, 1_048_576, 20_000, 20_000),
        (1024, 1024, 416, 416),
        (64, 64, 0, 1),
    ],
)
def test_as_many_fit_as_there_are_descriptors_for(
    limits: list[int], soft: int, hard: int, wanted: int, fitting: int
) -> None:
    limits[:] = soft, hard

    assert fit_connections(wanted) == fitting
    assert limits[0] == INFINITE or limits[0] >= min(2 * fitting + EXCESS, hard if hard > 0 else 10**9)


def test_limit_that_is_high_enough_is_left_alone(limits: list[int]) -> None:
    limits[:] = 500_000, 1_048_576

    fit_connections(0)

    assert limits == [500_000, 1_048_576]


def test_more_than_fit_are_refused_with_what_would(limits: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"^max_connections = 417: must be at most 416 here, .* 1024 files"):
        fit_connections(417)


def test_system_that_refuses_a_higher_limit_is_taken_as_it_is(
    limits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError

    limits[:] = 1024, INFINITE
    monkeypatch.setattr(resource, "setrlimit", refuse)

    assert fit_connections(0) == 416
