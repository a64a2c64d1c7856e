"""What is told at /metrics: everything that is promised, in Prometheus's own form, and nobody's name."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.config import Config
from proxy.counts import Histogram
from proxy.errors import StartFailed
from proxy.loop_lag import LoopLag
from proxy.measuring import measured
from proxy.metrics import Metrics
from proxy.metrics_list import METRICS
from proxy.supervisor import Supervisor
from proxy.version import __version__
from proxy.workspace import Key
from tests.supervisor.fakes import FakeBackend, FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client import Metric as Family

BAD = Key("hostile-name", "default")


class Scene:
    """A supervisor that is measured."""

    def __init__(self) -> None:
        self.clock, self.backend = FakeClock(), FakeBackend()
        self.supervisor = Supervisor(self.backend, Config(), clock=self.clock)
        self.measured = measured(self.supervisor, self.backend, Config(), clock=self.clock)
        self.metrics = self.measured.__enter__()

    def read(self) -> Mapping[str, Family]:
        body, content_type = self.metrics.page()
        assert content_type.startswith("text/plain")
        return {family.name: family for family in text_string_to_metric_families(body.decode())}

    def values(self, name: str) -> dict[str, float]:
        """Return the samples of a metric, by the values of their labels."""
        return {" ".join(sample.labels.values()): sample.value for sample in self.read()[name].samples}


@pytest.fixture
async def scene() -> Iterable[Scene]:  # type: ignore[misc]
    scene = Scene()
    yield scene
    scene.measured.__exit__(None, None, None)
    await scene.supervisor.close()


async def test_every_metric_of_the_list_is_told_under_its_name_and_with_its_type(scene: Scene) -> None:
    families = scene.read()

    ours = {family.name: family.type for family in families.values() if family.name.startswith("notebook_proxy_")}
    assert ours == {metric.exposed.removesuffix("_total"): metric.kind for metric in METRICS}
    assert {"process_resident_memory_bytes", "process_open_fds", "python_gc_collections"} <= set(families)


def test_every_metric_has_a_name_of_its_own_and_the_unit_in_it() -> None:
    names = [metric.exposed for metric in METRICS]

    assert len(set(names)) == len(names)
    assert all(metric.exposed.endswith(("_seconds", "_bytes")) for metric in METRICS if metric.kind == "histogram")


async def test_starts_and_what_runs_are_told(scene: Scene) -> None:
    scene.backend.broken_starts[BAD] = StartFailed("image-pull", "There is no such image.")
    await scene.supervisor.ensure_running(Key("demo", "default"))
    with pytest.raises(StartFailed):
        await scene.supervisor.ensure_running(BAD)

    assert scene.values("notebook_proxy_starts") == {"ready": 1, "image-pull": 1}
    assert scene.values("notebook_proxy_workspaces") == {"starting": 0, "running": 1, "stopping": 0}
    changes = scene.values("notebook_proxy_workspace_changes")
    assert {event: count for event, count in changes.items() if count} == {"wake": 2, "ready": 1, "failed": 1}
    assert changes["lost"] == 0  # told before it happens, so that the first time is a change


async def test_no_workspace_is_named_whatever_happens_to_it(scene: Scene) -> None:
    scene.backend.broken_starts[BAD] = StartFailed("image-pull", "There is no hostile-name.")
    with pytest.raises(StartFailed):
        await scene.supervisor.ensure_running(BAD)
    await scene.supervisor.ensure_running(Key("secret-project", "private"))
    scene.supervisor.ignored(Key("secret-project", "private"), "GET /ws/secret-project/api/me")
    await scene.supervisor.stop(Key("secret-project", "private"), "because of secret-project")

    body = scene.metrics.page()[0]

    assert not [name for name in (b"hostile", b"secret", b"private") if name in body]


async def test_histogram_is_told_as_prometheus_expects_it() -> None:
    histogram = Histogram((0.5, 1.0))
    for value in (0.25, 0.75, 0.75, 8.0):
        histogram.observe(value)

    body, _ = Metrics([lambda: [("start_seconds", (), histogram)]]).page()

    lines = [line for line in body.decode().splitlines() if line.startswith("notebook_proxy_start_seconds")]
    assert lines == [
        'notebook_proxy_start_seconds_bucket{le="0.5"} 1.0',
        'notebook_proxy_start_seconds_bucket{le="1.0"} 3.0',
        'notebook_proxy_start_seconds_bucket{le="+Inf"} 4.0',
        "notebook_proxy_start_seconds_count 4.0",
        "notebook_proxy_start_seconds_sum 9.75",
    ]


async def test_openmetrics_is_spoken_to_who_asks_for_it(scene: Scene) -> None:
    body, content_type = scene.metrics.page("application/openmetrics-text; version=1.0.0")

    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


async def test_build_is_told(scene: Scene) -> None:
    [sample] = scene.read()["notebook_proxy_build_info"].samples

    assert (sample.labels, sample.value) == ({"version": __version__, "backend": "other"}, 1)


async def test_reaper_that_has_not_looked_grows_old(scene: Scene) -> None:
    await scene.clock.advance(700)

    assert scene.values("notebook_proxy_reaper_age_seconds") == {"": 700}


async def test_what_is_logged_is_counted_by_level_and_only_while_it_is_measured(scene: Scene) -> None:
    logger = logging.getLogger("proxy.somewhere")
    logger.error("it broke")
    logger.debug("it goes on")
    before = scene.values("notebook_proxy_log_messages")
    scene.measured.__exit__(None, None, None)

    logger.error("it broke again")

    assert before["error proxy.somewhere"] == 1
    assert "debug proxy.somewhere" not in before
    assert scene.values("notebook_proxy_log_messages") == before


async def test_loop_that_is_held_up_is_seen_late() -> None:
    lag = LoopLag()
    try:
        time.sleep(0.6)  # whatever held it, the timer was due after half a second
        while not sum(lag.seconds.counts):
            await asyncio.sleep(0.01)
    finally:
        lag.close()

    assert lag.seconds.total >= 0.1


async def test_loop_is_measured_no_longer_than_it_should_be() -> None:
    lag = LoopLag()

    lag.close()

    await asyncio.sleep(0.6)
    assert sum(lag.seconds.counts) == 0
