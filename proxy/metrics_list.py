"""Every metric: its name, its labels, what it says. The names are a promise: dashboards and alerts rest on them.

Pure. Labels are bounded: codes, verbs and words of this program's own, never a workspace, a user or a path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "notebook_proxy_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Args:
        name: without `PREFIX` and, of a counter, without `_total`.
        kind: as Prometheus names it.
        labels: their names.
        help: one sentence, for people.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str

    @property
    def exposed(self) -> str:
        """The name to ask Prometheus for; a histogram has three, with `_bucket`, `_sum` and `_count` behind it."""
        return f"{PREFIX}{self.name}" + ("_total" if self.kind == "counter" else "")


METRICS: Final = (
    Metric("build_info", "gauge", ("version", "backend"), "1; which version runs, and with which backend"),
    Metric("event_loop_lag_seconds", "histogram", (), "by how much the event loop ran a timer late, twice a second"),
    Metric("log_messages", "counter", ("level", "logger"), "what was logged, from INFO up; an ERROR needs a person"),
    Metric(
        "requests",
        "counter",
        ("class", "status"),
        "answers by status: to requests for a `workspace` and to handshakes of a `websocket`, whoever answered, and of "
        "the `proxy` itself (dashboard, API, `/_proxy/`); `refused` is what was no request, too large or too late, or "
        "came on a connection too many; an unusual status is told as 2xx to 9xx",
    ),
    Metric("errors", "counter", ("code",), "answers in which the proxy said what was wrong, by the problem's code"),
    Metric("requests_in_flight", "gauge", (), "requests and websockets that are being carried or answered"),
    Metric(
        "request_seconds",
        "histogram",
        (),
        "from sending a request to a notebook server until the last byte of its answer was passed on; no start in it",
    ),
    Metric("first_byte_seconds", "histogram", (), "the same, until the answer's head had come"),
    Metric("responses_cut", "counter", (), "answers that were begun and not ended: either side went away"),
    Metric(
        "relay_bytes",
        "counter",
        ("direction",),
        "bytes from notebook servers (`to_client`) and to them (`to_notebook`)",
    ),
    Metric("websockets", "gauge", (), "websockets that are open"),
    Metric(
        "websocket_frames",
        "counter",
        ("direction", "kind"),
        "frames that began, by who was to get them, and whether they were `data` or `control` (ping, pong, close)",
    ),
    Metric(
        "upstream_connects",
        "counter",
        ("result",),
        "connections to notebook servers: `ok`, `upstream-refused`, `upstream-unreachable` (no answer, or no room)",
    ),
    Metric("upstream_reuses", "counter", (), "requests that took a connection which had been kept"),
    Metric("client_connections", "gauge", (), "clients' connections that are open, on which there may be no request"),
    Metric("client_connections_max", "gauge", (), "how many there may be (`max_connections`)"),
    Metric("client_connections_shed", "counter", (), "requests that were told there is no room for their connection"),
    Metric(
        "workspaces", "gauge", ("phase",), "workspaces that are starting, running or stopping, as this replica sees"
    ),
    Metric("starts", "counter", ("result",), "starts of this replica: `ready`, `stopped`, or the code of the failure"),
    Metric("starts_waiting", "gauge", (), "starts that wait for their turn (`max_concurrent_starts`)"),
    Metric("start_seconds", "histogram", (), "how long starts took that became ready, from their turn on"),
    Metric(
        "start_phase_seconds",
        "histogram",
        ("phase",),
        "the same, divided: until its turn (`queued`), a node (`scheduled`), volume and image (`pulled`), the "
        "container (`started`), the first answer (`answering`), and the last checks (`ready`)",
    ),
    Metric(
        "workspace_changes",
        "counter",
        ("event",),
        "changes of a workspace's phase: `wake`, `found`, `ready`, `failed`, `stop`, `gone`, `stuck`, `lost`",
    ),
    Metric("reaps", "counter", ("reason",), "workspaces that were stopped by the reaper: `idle` or `too-old`"),
    Metric(
        "reap_vetoes",
        "counter",
        ("reason",),
        "looks of the reaper that spared what nobody had used for `idle_ttl`: it is `busy`, `extended`, "
        "`unknown` (does not say), `in-use` again, `contested` by another replica, gone (`not-running`), the `backend` "
        "refused, or `dry-run`",
    ),
    Metric("reaper_errors", "counter", (), "looks of the reaper that broke off on a defect"),
    Metric("reaper_age_seconds", "gauge", (), "seconds since the reaper last looked at everything; none with it off"),
    Metric("ignored_activity", "counter", (), "requests, pieces of answers and frames that passed and were no use"),
    Metric(
        "kubernetes_requests",
        "counter",
        ("verb", "code"),
        "requests to the API server by verb and status, repetitions included; `none` is no answer",
    ),
    Metric(
        "kubernetes_request_seconds", "histogram", ("verb",), "the same, until the head of the answer or the failure"
    ),
    Metric(
        "kubernetes_watch_restarts",
        "counter",
        ("resource",),
        "watches that ended and were begun anew; about one each four and a half minutes is usual",
    ),
    Metric(
        "kubernetes_sync_age_seconds",
        "gauge",
        ("resource",),
        "seconds since the API server last told something; a bookmark comes about once a minute",
    ),
)
"""In the order in which they are told; `process_*` and `python_gc_*`, of the Python process, stand behind them."""


def markdown() -> str:
    """Return the table of metrics for the documentation."""
    rows = [
        f"| `{metric.exposed}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in METRICS
    ]
    return "\n".join(["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |", *rows]) + "\n"
