"""Metrics, for Prometheus: reads what has been counted at the moment somebody asks, and writes it down.

Counts nothing itself, so that counting costs no more than an addition where it happens. Nothing global: one registry
per process's proxy. The names are in `metrics_list`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from http import HTTPStatus
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeAlias

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy.counts import Histogram
from proxy.metrics_list import METRICS, PREFIX
from proxy.version import __version__
from proxy.workspace import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import Metric as Family

    from proxy.clock import Clock
    from proxy.counts import ClusterCounts, Labels, Tally, TrafficCounts
    from proxy.gateway import Gateway
    from proxy.metrics_list import Metric
    from proxy.relay.server import ClientServer
    from proxy.relay.websocket import WebsocketRelay
    from proxy.supervisor import Supervisor

_STATUSES: Final = frozenset(str(int(status)) for status in HTTPStatus)
_FRAMES: Final = (
    ("to_notebook", "data"),
    ("to_notebook", "control"),
    ("to_client", "data"),
    ("to_client", "control"),
)
Sample: TypeAlias = "tuple[str, Labels, float | Histogram]"
Source: TypeAlias = "Callable[[], Iterable[Sample]]"
"""Returns samples: the metric's name as in `METRICS`, the values of its labels, and its value now."""


class Metrics:
    """What is told at `/metrics`. One per proxy.

    Args:
        sources: are asked each time.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._registry = CollectorRegistry()
        self._sources = list(sources)
        self._registry.register(_Reader(self._sources))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def add(self, source: Source) -> None:
        """Ask another one as well, from now on."""
        self._sources.append(source)

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """Return everything as it is now, and its content type.

        Args:
            accept: the `Accept` header of who asks; OpenMetrics is spoken, too.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Reader(Collector):
    """Asks the sources, and tells every metric of the list, with or without samples."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def describe(self) -> Iterator[Family]:
        """Tell the names without asking anybody."""
        return (_family(metric, ()) for metric in METRICS)

    def collect(self) -> Iterator[Family]:
        """Tell the values."""
        found: defaultdict[str, list[tuple[Labels, float | Histogram]]] = defaultdict(list)
        for source in self._sources:
            for name, labels, value in source():
                found[name].append((labels, value))
        return (_family(metric, found[metric.name]) for metric in METRICS)


def _family(metric: Metric, samples: Iterable[tuple[Labels, float | Histogram]]) -> Family:
    name = f"{PREFIX}{metric.name}"
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, metric.help, labels=metric.labels)
        for labels, value in samples:
            assert isinstance(value, Histogram)
            ends = (*map(str, value.bounds), "+Inf")
            histogram.add_metric(labels, list(zip(ends, accumulate(value.counts), strict=True)), value.total)
        return histogram
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(name, metric.help, labels=metric.labels)
    for labels, value in samples:
        assert not isinstance(value, Histogram)
        family.add_metric(labels, value)
    return family


def tallied(name: str, tally: Tally) -> Iterator[Sample]:
    """Yield the counts of a tally."""
    return ((name, labels, count) for labels, count in tally.counts.items())


def of_build(backend: str) -> Source:
    """Return what tells which program this is."""
    return lambda: [("build_info", (__version__, backend), 1)]


def of_traffic(counts: TrafficCounts, gateway: Gateway, websockets: WebsocketRelay, server: ClientServer) -> Source:
    """Return what tells of requests, websockets and connections."""

    def read() -> Iterator[Sample]:
        for labels, count in _requests(counts).items():
            yield "requests", labels, count
        yield from tallied("errors", counts.errors)
        yield "requests_in_flight", (), gateway.in_flight
        yield "request_seconds", (), counts.whole
        yield "first_byte_seconds", (), counts.first_byte
        yield "responses_cut", (), counts.cut
        yield "relay_bytes", ("to_client",), counts.to_client
        yield "relay_bytes", ("to_notebook",), counts.to_notebook
        yield "websockets", (), len(websockets)
        for labels, count in zip(_FRAMES, websockets.frames(), strict=True):
            yield "websocket_frames", labels, count
        yield from tallied("upstream_connects", counts.connects)
        yield "upstream_reuses", (), counts.reused
        yield "client_connections", (), server.open_connections
        if server.most_connections is not None:
            yield "client_connections_max", (), server.most_connections
        yield "client_connections_shed", (), counts.shed

    return read


def _requests(counts: TrafficCounts) -> Counter[Labels]:
    """Return how often each class of request was answered with each status."""
    found: Counter[Labels] = Counter()
    for labels, count in counts.own.counts.items():
        found[_known(labels)] += count
    for name, by_status in (("workspace", counts.relayed), ("websocket", counts.handshakes)):
        for status, count in enumerate(by_status):
            if count:
                found[_known((name, str(status)))] += count
    return found


def _known(labels: Labels) -> Labels:
    """Return a class and a status that there are few of: a notebook server may answer with any."""
    name, status = labels
    return (name, status) if status in _STATUSES else (name, f"{status[0]}xx")


def of_supervisor(supervisor: Supervisor, clock: Clock, *, is_reaping: bool) -> Source:
    """Return what tells of starts, of what runs, and of the reaper."""
    counts, began = supervisor.counts, clock.monotonic()

    def read() -> Iterator[Sample]:
        phases = Counter(supervisor.phases().values())
        for phase in (Phase.STARTING, Phase.RUNNING, Phase.STOPPING):
            yield "workspaces", (phase.value,), phases[phase]
        yield from tallied("starts", counts.starts)
        yield "starts_waiting", (), supervisor.waiting
        yield "start_seconds", (), counts.start_seconds
        for name, histogram in counts.phase_seconds.items():
            yield "start_phase_seconds", (name,), histogram
        yield from tallied("workspace_changes", counts.moves)
        yield from tallied("reaps", counts.reaps)
        yield from tallied("reap_vetoes", counts.vetoes)
        yield "reaper_errors", (), counts.reap_errors
        if is_reaping:
            yield "reaper_age_seconds", (), clock.monotonic() - (counts.looked_at or began)
        yield "ignored_activity", (), counts.ignored

    return read


def of_cluster(counts: ClusterCounts, clock: Clock) -> Source:
    """Return what tells of the API server; what was never heard of is as old as this process."""
    began = clock.monotonic()

    def read() -> Iterator[Sample]:
        yield from tallied("kubernetes_requests", counts.calls)
        for verb, histogram in counts.call_seconds.items():
            yield "kubernetes_request_seconds", (verb,), histogram
        for resource, followed in counts.followed.items():
            yield "kubernetes_watch_restarts", (resource,), followed.restarts
            age = followed.age_of_last_sync()
            yield "kubernetes_sync_age_seconds", (resource,), clock.monotonic() - began if age is None else age

    return read
