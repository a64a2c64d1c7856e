"""What JupyterLab 4.6 sends by itself, and what a person's use of it adds: a recording, line by line.

`recordings/jupyterlab-4.6.jsonl` was taken from Chromium through a logging proxy: JupyterLab is opened (`open`), a new
notebook made (`new-notebook`) and a cell run (`run-cell`); a save (`save`) only asks for the new notebook's name. It is
left alone for 100 s (`idle-visible`) and for 60 s behind another tab (`idle-hidden`), in which the changed document is
autosaved once. Then every request is answered 503 (`reaped`), a save goes into that (`save-after-reap`), and the server
is there again (`back`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from multidict import CIMultiDict

RECORDING: Final = Path(__file__).with_name("recordings") / "jupyterlab-4.6.jsonl"
BASE: Final = "/ws/demo/"
HOST: Final = "127.0.0.1:18900"
_DATA: Final = ("TEXT", "BINARY")
_SHOWN: Final = 60  # of a frame's path, only the end was recorded


@dataclass(frozen=True)
class Line:
    """One request, or the opening, a frame or the end of a websocket."""

    at: float  # seconds since the recording began
    phase: str
    kind: str  # http, ws-open, ws-frame or ws-close
    method: str
    path: str  # below the base URL
    query: str | None
    headers: CIMultiDict[str]
    status: int  # of a request or a handshake
    is_from_client: bool
    has_data: bool  # a frame that is no ping, pong or close
    message: str  # what kind of message a frame carried


@cache
def recording() -> tuple[Line, ...]:
    """Return every line of traffic, in order."""
    found = [json.loads(line) for line in RECORDING.read_text(encoding="utf-8").splitlines()]
    paths: dict[str, str] = {}  # of websockets: the end, which is recorded with each frame, to the whole
    lines = []
    for raw in found:
        if "kind" not in raw:
            continue
        path, mark, query = raw["path"].partition("?")
        whole = paths.setdefault(path[-_SHOWN:], path)
        assert whole.startswith(BASE)
        lines.append(_line(raw, whole.removeprefix(BASE), query if mark else None))
    return tuple(lines)


def _line(raw: dict[str, Any], path: str, query: str | None) -> Line:
    headers = CIMultiDict({name: value for name, value in raw.get("headers", {}).items() if name != "referer"})
    if raw.get("headers", {}).get("referer"):
        headers["Referer"] = f"http://{HOST}{BASE}lab"
    headers["Host"] = HOST
    return Line(
        at=raw["t"],
        phase=raw["phase"],
        kind=raw["kind"],
        method=raw.get("method", "GET"),
        path=path,
        query=query,
        headers=headers,
        status=raw.get("answer", 0),
        is_from_client=raw.get("dir") == "client",
        has_data=raw.get("op") in _DATA,
        message=raw.get("msg", ""),
    )
