"""Two days of twelve people: what the simulated week asserts, and that its assertions can fail."""

from __future__ import annotations

from typing import Any, Final

from tests.bench.week import simulate

SOME: Final[dict[str, Any]] = {"people": 12, "days": 2, "every": 600}


async def test_no_job_is_killed_and_nothing_is_alive_for_more_than_a_tick_longer_than_it_may() -> None:
    quiet = await simulate(**SOME)
    traffic = await simulate(activity="traffic", wake="any", **SOME)

    assert (quiet.killed, quiet.too_early, quiet.too_late) == ([], [], [])
    assert quiet.jobs == traffic.jobs > 3
    assert quiet.acts == traffic.acts > 300
    assert quiet.stops > 12
    assert quiet.refused > 1000
    assert quiet.hours < traffic.hours < traffic.hours_without_reaper
    assert (traffic.killed, traffic.too_early) == ([], [])


async def test_open_tabs_keep_and_restart_workspaces_where_all_traffic_counts_and_everything_wakes() -> None:
    traffic = await simulate(activity="traffic", wake="any", **SOME)
    restarted = await simulate(activity="interactive", wake="any", **SOME)

    assert traffic.too_late
    assert restarted.too_late


async def test_jobs_would_be_killed_if_kernels_were_not_asked() -> None:
    careless = await simulate(protect_busy=False, **SOME)

    assert careless.killed


async def test_workspaces_would_be_stopped_under_their_users_if_nothing_counted() -> None:
    deaf = await simulate(protect_busy=False, activity_rules="* ** ignored", **SOME)

    assert deaf.too_early
