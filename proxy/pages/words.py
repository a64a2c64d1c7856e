"""The words in which a workspace's state is told to people. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from proxy.workspace import Phase

if TYPE_CHECKING:
    from proxy.report import Happening, Report

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_SECONDS_UNTIL: Final = 10 * _MINUTE  # below that, seconds are shown beside minutes
FAILED: Final = "failed"
"""The state of what does not run because its last start failed; it has the phase STOPPED."""
_ADVICE: Final = {
    "image-pull": "Check the image's name and tag, and that the cluster may fetch it.",
    "crash-loop": "The last lines of its log usually say why. Something in the workspace's own files, such as a "
    "start-up script or a package installed there, can be the cause.",
    "exited": "The last lines of its log usually say why. Something in the workspace's own files can be the cause.",
    "out-of-memory": "It needs more memory than it may use. A larger profile, if there is one, gives it more.",
    "disk-full": "Delete files you no longer need, or ask for a larger volume.",
    "quota": "Stop a workspace that is not needed, or ask for a larger quota.",
    "unschedulable": "The cluster has no room for it just now. A smaller profile, if there is one, may find room.",
    "stopped": "Start it again when you need it.",
}
_COMMON_ADVICE: Final = "Try again. If that does not help, show this page to whoever runs this service."


def duration(seconds: float) -> str:
    """Return a length of time as a person says it. script.js has the same function."""
    whole = max(0, math.floor(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _SECONDS_UNTIL:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def fraction(seconds: float, usual_seconds: float) -> float:
    """Return how full the progress bar is: 90 % at the usual time, and never all of it. script.js has the same."""
    if seconds < usual_seconds:
        return max(0.0, 0.9 * seconds / usual_seconds)
    return 1 - 0.1 * math.exp(1 - seconds / usual_seconds)


def state_of(report: Report) -> str:
    """Return the one word for how a workspace is: its phase, or `failed`."""
    if report.phase is Phase.STOPPED and report.failure is not None:
        return FAILED
    return report.phase.value


def headline(workspace_id: str, state: str) -> str:
    """Return what stands at the top of a workspace's page."""
    return {
        "starting": f"Starting {workspace_id}",
        "running": f"{workspace_id} is running",
        "stopping": f"{workspace_id} is being stopped",
        "stopped": f"{workspace_id} is not running",
        FAILED: f"{workspace_id} could not be started",
    }[state]


def advice(code: str) -> str:
    """Return what a person can do about a failure."""
    return _ADVICE.get(code, _COMMON_ADVICE)


def told(happening: Happening) -> str:
    """Return a change of a workspace's life in one line."""
    reason = f": {happening.reason}" if happening.reason else ""
    return f"{happening.at:%Y-%m-%d %H:%M:%S} UTC, {happening.what}{reason}"


def sentence(text: str) -> str:
    """Return words as a sentence: with a capital, and a full stop."""
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
