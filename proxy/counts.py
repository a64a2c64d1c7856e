"""What has happened, in plain numbers: kept by whoever does it, read when somebody asks for metrics.

Pure, and the same wherever it is counted: an addition, or one look into a sorted tuple. Nothing is named after a
workspace, a user or a path, and no set of labels grows without bound. Knows nothing of metrics' names.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from proxy.report import Step
from proxy.workspace import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from proxy.errors import ProxyError

Labels: TypeAlias = tuple[str, ...]

OTHER: Final = "other"
_STATUSES: Final = 1000
_MOST: Final = 128  # sets of labels in one tally
START_SECONDS: Final = (0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0, 600.0)
CALL_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
REQUEST_SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

PHASES: Final[Mapping[Step, str]] = {
    Step.QUEUED: "queued",
    Step.PREPARING: "scheduled",
    Step.SCHEDULED: "pulled",
    Step.PULLING: "pulled",
    Step.CREATING: "started",
    Step.STARTING: "answering",
    Step.ANSWERING: "ready",
}
"""What a start comes to by the end of each step: the phases that its time is divided into."""


class Histogram:
    """How often a value was at most each bound.

    Args:
        bounds: rising; what is above the last is counted beyond it.

    Attributes:
        counts: of values between the bound before and this one; one more than there are bounds.
        total: the sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Tally:
    """Counts by labels. Beyond a bounded number of sets of labels, all further ones are counted as `other`.

    Args:
        known: what is told as 0 until it happens, so that the first time can be seen as a change.
    """

    __slots__ = ("counts",)

    def __init__(self, known: Iterable[Labels] = ()) -> None:
        self.counts: dict[Labels, int] = dict.fromkeys(known, 0)

    def add(self, *labels: str) -> None:
        """Count one."""
        if labels not in self.counts and len(self.counts) >= _MOST:
            labels = (OTHER,) * len(labels)
        self.counts[labels] = self.counts.get(labels, 0) + 1


class PhaseTimes:
    """How long one start has been in each of its phases. A phase may come again: a pod is replaced by another.

    Args:
        step: the first one.
        now: when it began; monotonic seconds, here and below.
    """

    __slots__ = ("_since", "_spent", "_step")

    def __init__(self, step: Step, now: float) -> None:
        self._step, self._since = step, now
        self._spent: dict[str, float] = {}

    def enter(self, step: Step, now: float) -> None:
        """Go on to another step, or stay in this one."""
        self._add(now)
        self._step, self._since = step, now

    def end(self, now: float) -> Mapping[str, float]:
        """Return the seconds of each phase that there was."""
        self._add(now)
        self._since = now
        return self._spent

    def _add(self, now: float) -> None:
        phase, passed = PHASES[self._step], now - self._since
        if passed > 0:
            self._spent[phase] = self._spent.get(phase, 0.0) + passed


@dataclass(slots=True)
class SupervisorCounts:
    """What the supervisor's parts count.

    Attributes:
        starts: by how they ended: `ready`, `stopped`, or the code of the failure.
        start_seconds: of those that became ready, without the time in the queue.
        phase_seconds: the same start divided into `PHASES`, the queue included.
        moves: every change of phase, by the event that caused it.
        reaps: by why.
        vetoes: looks of the reaper that did not stop what nobody uses, by why.
        reap_errors: looks of the reaper that broke off.
        looked_at: when the reaper last looked at everything; monotonic seconds, None before the first time.
        ignored: what passed and was no use.
    """

    starts: Tally = field(default_factory=lambda: Tally([("ready",)]))
    start_seconds: Histogram = field(default_factory=lambda: Histogram(START_SECONDS))
    phase_seconds: dict[str, Histogram] = field(
        default_factory=lambda: {phase: Histogram(START_SECONDS) for phase in dict.fromkeys(PHASES.values())}
    )
    moves: Tally = field(default_factory=lambda: Tally([(event.value,) for event in Event]))
    reaps: Tally = field(default_factory=lambda: Tally([("idle",), ("too-old",)]))
    vetoes: Tally = field(default_factory=lambda: Tally([("in-use",), ("busy",), ("unknown",), ("contested",)]))
    reap_errors: int = 0
    looked_at: float | None = None
    ignored: int = 0

    def started(self, seconds: float, phases: Mapping[str, float]) -> None:
        """Count a start that became ready."""
        self.starts.add("ready")
        self.start_seconds.observe(seconds)
        for phase, spent in phases.items():
            self.phase_seconds[phase].observe(spent)


class Followed(Protocol):
    """A copy of a collection that is kept up to date."""

    @property
    def restarts(self) -> int:
        """How often it had to begin another watch or list."""
        ...

    def age_of_last_sync(self) -> float | None:
        """Return the seconds since something was heard; None before the first time."""
        ...


@dataclass(slots=True)
class ClusterCounts:
    """What the Kubernetes backend counts. A backend that has an attribute `counts` of this type is asked for it.

    Attributes:
        calls: requests to the API server, by verb and status; `none` where there was no answer.
        call_seconds: until the head of an answer, by verb; watches are no calls.
        followed: what is followed, by the plural of its kind.
    """

    calls: Tally = field(default_factory=Tally)
    call_seconds: dict[str, Histogram] = field(default_factory=dict)
    followed: dict[str, Followed] = field(default_factory=dict)

    def answered(self, verb: str, code: str, seconds: float) -> None:
        """Count a request that was answered, or was not."""
        self.calls.add(verb, code)
        if verb not in self.call_seconds:
            self.call_seconds[verb] = Histogram(CALL_SECONDS)
        self.call_seconds[verb].observe(seconds)


class TrafficCounts:
    """What the relay and the gateway count; on the way of every request, and so without a look into a dictionary.

    Attributes:
        relayed: answers of notebook servers to HTTP, by status.
        handshakes: the same to websocket handshakes.
        own: the proxy's own answers, by class (`workspace`, `websocket`, `proxy`, `refused`) and status.
        errors: what own answers said was wrong, by code.
        first_byte: seconds from sending a request to the notebook server until its answer's head has come.
        whole: seconds until the answer's last byte.
        cut: answers that were begun and could not be ended.
        to_client: bytes that notebook servers sent.
        to_notebook: bytes that notebook servers were sent.
        reused: requests that took a kept connection.
        connects: connections that were made, or not, by result.
        frames: of websockets that have ended: data and control from the client, data and control from the notebook.
        shed: connections that were told that there is no room.
    """

    __slots__ = (
        "connects", "cut", "errors", "first_byte", "frames", "handshakes", "own", "relayed", "reused", "shed",
        "to_client", "to_notebook", "whole",
    )  # fmt: skip

    def __init__(self) -> None:
        self.relayed = [0] * _STATUSES
        self.handshakes = [0] * _STATUSES
        self.own = Tally()
        self.errors = Tally()
        self.first_byte = Histogram(REQUEST_SECONDS)
        self.whole = Histogram(REQUEST_SECONDS)
        self.cut = 0
        self.to_client = 0
        self.to_notebook = 0
        self.reused = 0
        self.connects = Tally([("ok",), ("upstream-refused",), ("upstream-unreachable",)])
        self.frames = [0, 0, 0, 0]
        self.shed = 0

    def answered(self, status: int, first_byte: float, whole: float) -> None:
        """Count an answer that was relayed to its end."""
        self.relayed[status] += 1
        histogram = self.first_byte
        histogram.counts[bisect_left(REQUEST_SECONDS, first_byte)] += 1
        histogram.total += first_byte
        histogram = self.whole
        histogram.counts[bisect_left(REQUEST_SECONDS, whole)] += 1
        histogram.total += whole

    def refused(self, error: ProxyError) -> None:
        """Count an answer to what was not read to the end, or came where there was no room."""
        self.errors.add(error.code)
        self.own.add("refused", str(error.status))

    def answered_itself(self, path: str, status: int, *, is_upgrade: bool) -> None:
        """Count an answer of the proxy's own.

        Args:
            path: what was asked for; only whether it is a workspace's is kept.
            status: of the answer.
            is_upgrade: the request was a websocket handshake.
        """
        of_workspace = path.startswith("/ws/") and "/_proxy/" not in path
        self.own.add("websocket" if is_upgrade else "workspace" if of_workspace else "proxy", str(status))
