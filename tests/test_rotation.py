"""Secrets that are replaced while the proxy runs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.config import load
from proxy.fresh import Fresh
from proxy.rotation import SETTLE, RotatingSecret, follow_file
from tests.gateway.conftest import HandClock

if TYPE_CHECKING:
    from pathlib import Path

HOUR = timedelta(hours=1)
OLD, NEW, NEWER = ("old-" * 10, "new-" * 10, "newer-" * 8)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def secret(clock: HandClock) -> RotatingSecret:
    found = RotatingSecret(HOUR, clock)
    found.change(OLD)
    return found


def test_there_is_none_before_the_first(clock: HandClock) -> None:
    assert RotatingSecret(HOUR, clock)() == ()


def test_both_hold_for_a_while_and_then_the_new_one_alone(secret: RotatingSecret, clock: HandClock) -> None:
    secret.change(NEW)
    assert set(secret()) == {OLD, NEW}

    clock.advance(HOUR.total_seconds() - 1)
    secret.look()
    assert set(secret()) == {OLD, NEW}
    clock.advance(1)
    secret.look()

    assert secret() == (NEW,)


def test_the_old_one_signs_until_every_replica_has_seen_the_new_one(secret: RotatingSecret, clock: HandClock) -> None:
    secret.change(NEW)
    assert secret() == (OLD, NEW)

    clock.advance(SETTLE)
    secret.look()

    assert secret() == (NEW, OLD)


def test_of_a_short_overlap_each_signs_for_half(clock: HandClock) -> None:
    secret = RotatingSecret(timedelta(seconds=10), clock)
    secret.change(OLD)
    secret.change(NEW)

    for seconds, expected in ((4.9, (OLD, NEW)), (0.2, (NEW, OLD)), (5, (NEW,))):
        clock.advance(seconds)
        secret.look()
        assert secret() == expected


def test_the_same_value_again_changes_nothing(secret: RotatingSecret) -> None:
    told: list[int] = []
    secret.observe(lambda: told.append(1))

    secret.change(OLD)
    secret.look()

    assert secret() == (OLD,)
    assert told == []


def test_a_change_that_is_taken_back_leaves_both_for_a_while(secret: RotatingSecret, clock: HandClock) -> None:
    secret.change(NEW)
    secret.change(OLD)
    clock.advance(SETTLE)
    secret.look()
    assert secret() == (OLD, NEW)

    clock.advance(HOUR.total_seconds())
    secret.look()
    assert secret() == (OLD,)


def test_three_in_an_hour_all_hold(secret: RotatingSecret, clock: HandClock) -> None:
    secret.change(NEW)
    clock.advance(1800)
    secret.change(NEWER)
    assert set(secret()) == {OLD, NEW, NEWER}
    clock.advance(1800)
    secret.look()

    assert set(secret()) == {NEW, NEWER}


def test_who_verifies_is_told_when_something_holds_or_holds_no_more(secret: RotatingSecret, clock: HandClock) -> None:
    told: list[set[str]] = []
    secret.observe(lambda: told.append(set(secret())))

    secret.change(NEW)
    clock.advance(SETTLE)
    secret.look()
    clock.advance(HOUR.total_seconds())
    secret.look()

    assert told == [{OLD, NEW}, {NEW}]


def test_it_shows_no_value(secret: RotatingSecret) -> None:
    assert OLD not in f"{secret!r} {secret}"


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jwt_secret", "notebook_secret"])
def test_a_file_is_followed_and_what_is_no_secret_is_left_out(
    name: str, tmp_path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    file, fresh = tmp_path / "secret", Fresh(clock)
    used: list[str] = []
    file.write_text(OLD + "\n")
    config = load({f"{name}_file": str(file)})
    follow_file(name, config, fresh, used.append)

    for text in (NEW, "too-short", "", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1") * 40, NEWER):
        file.write_text(text)
        fresh.look()
    file.write_bytes(b"\xff" * 40)
    fresh.look()
    file.unlink()
    fresh.look()

    assert used[0] == OLD
    assert used[1] == NEW
    assert NEWER in used
    assert "too-short" not in used
    assert f"{name} cannot be used; what was read before stays in use" in caplog.text
    assert not any(value in caplog.text for value in (OLD, NEW, NEWER, "too-short"))


def test_what_came_from_no_file_is_not_followed(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_JWT_SECRET", OLD)
    used: list[str] = []

    follow_file("jwt_secret", load(), Fresh(clock), used.append)

    assert used == []


def test_a_source_that_wins_over_the_file_is_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(OLD)
    (tmp_path / "config.yaml").write_text(f"jwt_secret_file: {tmp_path / 'secret'}\n")
    assert load(config_file=tmp_path / "config.yaml").file_of("jwt_secret") == tmp_path / "secret"

    monkeypatch.setenv("NOTEBOOK_PROXY_JWT_SECRET", NEW)

    assert load(config_file=tmp_path / "config.yaml").file_of("jwt_secret") is None
