"""What is kept of a workspace, as text and back, whoever wrote it; and what of its settings holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.config import Config
from proxy.errors import SettingsRefused
from proxy.notes import NAMES, Notes, read_notes, settings_text, stop_text
from proxy.preferences import Preferences
from proxy.workspace_settings import NO_SETTINGS, WorkspaceSettings

ALL = WorkspaceSettings(timedelta(minutes=90), protect_busy=False, max_age=timedelta(days=2), profile="gpu")
PROFILES = {"gpu": {"image": "gpu:1"}, "small": {}}


@pytest.mark.parametrize("settings", [ALL, NO_SETTINGS, WorkspaceSettings(protect_busy=True)])
def test_settings_are_read_as_they_were_written(settings: WorkspaceSettings) -> None:
    text = settings_text(settings)

    assert set(text) <= set(NAMES)
    assert read_notes(text) == Notes(settings)


def test_end_of_a_notebook_server_is_read_as_it_was_written() -> None:
    used, at = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 16, tzinfo=UTC)

    found = read_notes(stop_text(used, "It has not been used for 4h.", at))

    assert found == Notes(last_used=used, stop_reason="It has not been used for 4h.", stopped_at=at)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("idle-ttl", "soon"),
        ("idle-ttl", "1s"),
        ("idle-ttl", "-5m"),
        ("idle-ttl", "99999d"),
        ("max-age", "off"),
        ("max-age", ["1h"]),
        ("protect-busy", "perhaps"),
        ("profile", "../../etc"),
        ("profile", "x" * 1000),
        ("owner", {"name": "ada"}),
        ("last-used", "yesterday"),
        ("last-used", "2026-01-01T00:00:00"),
        ("stopped-at", 5),
    ],
)
def test_what_cannot_be_read_is_left_out_and_complained_of(name: str, value: Any) -> None:
    found = read_notes({name: value, "idle-ttl" if name != "idle-ttl" else "owner": "2h"})

    assert found.settings.idle_ttl == (timedelta(hours=2) if name != "idle-ttl" else None)
    [complaint] = found.complaints
    assert complaint.startswith(f"{name} = ")
    assert len(complaint) < 300


@pytest.mark.parametrize("said", [{}, dict.fromkeys(NAMES), dict.fromkeys(NAMES, ""), {"colour": "red"}])
def test_nothing_said_is_no_complaint(said: dict[str, Any]) -> None:
    assert read_notes(said) == Notes()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (WorkspaceSettings(idle_ttl=timedelta(hours=25)), "idle-ttl"),
        (WorkspaceSettings(max_age=timedelta(hours=49)), "max-age"),
        (WorkspaceSettings(profile="large"), "profile"),
    ],
)
def test_what_goes_beyond_the_operators_limits_is_refused_and_where_it_is_stored_cut_and_told(
    settings: WorkspaceSettings, name: str
) -> None:
    preferences = Preferences(Config(max_age=timedelta(hours=48), profiles=PROFILES))

    with pytest.raises(SettingsRefused) as refused:
        preferences.refuse(settings)
    [warning] = preferences.warnings(Notes(settings), None)

    assert (refused.value.setting, refused.value.status) == (name, 422)
    assert (name in warning) or ("large" in warning)
    preferences.refuse(WorkspaceSettings(timedelta(hours=24), max_age=timedelta(hours=48), profile="gpu"))


def test_operators_own_time_is_allowed_however_long() -> None:
    preferences = Preferences(Config(idle_ttl=timedelta(days=3), max_idle_ttl=timedelta(days=1)))

    preferences.refuse(WorkspaceSettings(idle_ttl=timedelta(days=3)))


def test_change_of_profile_is_told_until_the_next_start() -> None:
    preferences = Preferences(Config(profiles=PROFILES))
    notes = Notes(WorkspaceSettings(profile="gpu"))

    assert list(preferences.warnings(notes, "gpu")) == []
    assert list(preferences.warnings(notes, None)) == []
    assert list(preferences.warnings(notes, "")) == ["Its profile will be 'gpu' when it starts next; now it is ''."]
