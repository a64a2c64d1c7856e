"""What counts as activity, and what wakes a workspace.

Pure: judges a request by its method, its path below the base URL, its query and its headers. `TABLE` names what a page
does by itself; what no rule names counts. No message of a websocket is decoded: only which side sent a data frame, and
when, is known here.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from proxy.activity_rules import Rule, Verdict, parse_rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WS: Final = "WS"
_RECORDED: Final = (
    ("* **?no_track_activity ignored", "whoever sends it says that it is no use"),
    ("GET api/kernels ignored", "JupyterLab, every 10 s"),
    ("GET api/kernels/* ignored", "JupyterLab, every 10 to 30 s while it cannot reach that kernel's websocket"),
    ("GET api/sessions ignored", "JupyterLab, every 10 s"),
    ("GET api/terminals ignored", "JupyterLab, every 10 s"),
    ("GET api/kernelspecs ignored", "JupyterLab, every minute"),
    ("GET api/me ignored", "JupyterLab, every minute"),
    ("GET api/contents/**?content=1&type=|directory ignored", "the file browser lists its directory every 10 s"),
    ("GET|PUT lab/api/workspaces/** ignored", "JupyterLab reads and writes the layout of its tabs every 10 s"),
    ("GET api/status ignored", "monitors and dashboards"),
    ("GET lsp/status ignored", "the language server extension"),
    ("WS api/events/subscribe ignored", "the notebook server tells every page what happens to files and kernels"),
    ("WS api/kernels/*/channels client", "cells are run by the client; what a kernel prints is no use by itself"),
    ("WS terminals/websocket/* client", "keys are pressed by the client"),
)

TABLE: Final[tuple[Rule, ...]] = tuple(parse_rule(text) for text, _ in _RECORDED)
"""What a page does by itself, recorded from JupyterLab 4.6; the first rule that fits decides."""

QUIET: Final = 1.5
"""Seconds of silence that end a page's own conversation after the handshake of a kernel's or terminal's websocket.

A page that finds its connection again asks by itself for the kernel's info, and on the answer for history and the
debugger's state; widgets ask for theirs, a terminal tells its size. If that counted, a tab on an unsteady network would
keep its workspace for ever. In the recording each of these frames came within 0.6 s of the handshake or of the frame
before it, the first cell that was run 1.9 s after. So a frame counts that comes out of silence; all do, from then on.
"""
SETTLING: Final = 10.0
"""Seconds after the handshake from which on every frame counts: who types into a terminal leaves no silence."""

_CACHED_LENGTH: Final = 256
_CACHE_SIZE: Final = 4096
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 section 9.2.1
_SCHEME: Final = re.compile(r"https?://", re.IGNORECASE)


class Sender(enum.Enum):
    """Who sends a request, as far as its headers tell."""

    PROGRAM = "program"
    """No browser page: jupyter_client, curl, a script."""
    PAGE = "page"
    """A page of this workspace's."""
    OTHER_PAGE = "other page"
    """A page of another site, or of another workspace."""


class Activity:
    """Judges what counts.

    Args:
        mode: `traffic`: everything does; `interactive`: what the table does not name.
        rules: in addition to the table, and before it.
    """

    def __init__(self, mode: Literal["traffic", "interactive"] = "traffic", rules: Sequence[Rule] = ()) -> None:
        self.is_traffic = mode == "traffic"
        self._rules = (*rules, *TABLE)
        self._cached = lru_cache(maxsize=_CACHE_SIZE)(self._candidates)

    def judge(self, method: str, path: str, query: str | None, *, is_websocket: bool = False) -> Verdict:
        """Return whether a request, or the frames of the websocket that it opens, is activity.

        Args:
            method: the request's.
            path: below the base URL, without its first slash, as it was sent.
            query: as it was sent.
            is_websocket: it is a websocket's handshake.
        """
        return Verdict.COUNTS if self.is_traffic else self.looked_up(method, path, query, is_websocket=is_websocket)

    def looked_up(self, method: str, path: str, query: str | None, *, is_websocket: bool = False) -> Verdict:
        """Return what the rules say, whatever the mode is."""
        find = self._cached if len(path) <= _CACHED_LENGTH else self._candidates
        for rule in find(_WS if is_websocket else method, path):
            if not rule.conditions or rule.fits_query(query or ""):
                return rule.verdict
        return Verdict.COUNTS

    def _candidates(self, method: str, path: str) -> tuple[Rule, ...]:
        """Return the rules that fit but for the query, up to the first that asks for none."""
        found = []
        for rule in self._rules:
            if rule.fits_path(method, path):
                found.append(rule)
                if not rule.conditions:
                    break
        return tuple(found)


class Settling:
    """Follows a page's own conversation after the handshake of a websocket, until it ends.

    Args:
        opened: when the handshake was answered, in monotonic seconds.
    """

    __slots__ = ("_last", "_latest")

    def __init__(self, opened: float) -> None:
        self._last = opened
        self._latest = opened + SETTLING

    def answered(self, now: float) -> None:
        """Learn of a data frame of the notebook server's: what the page sends on it is still its own."""
        self._last = now

    def ends(self, now: float) -> bool:
        """Tell whether a data frame of the client's comes out of silence, or late enough; else it is the page's own."""
        if now >= self._latest or now - self._last >= QUIET:
            return True
        self._last = now
        return False


class Wake:
    """Judges what starts a workspace that does not run.

    Args:
        mode: `any`: every request but a browser's speculative ones; `intent`: what somebody means.
        activity: its rules tell what a page does by itself.
    """

    def __init__(self, mode: Literal["any", "intent"], activity: Activity) -> None:
        self._is_any = mode == "any"
        self._activity = activity

    def is_meant(
        self,
        method: str,
        path: str,
        query: str | None,
        headers: Mapping[str, str],
        *,
        base: str,
        is_websocket: bool = False,
    ) -> bool:
        """Tell whether a request may start the workspace.

        Args:
            method: the request's.
            path: below the base URL.
            query: as it was sent.
            headers: the request's, looked up whatever their case.
            base: the base URL's path, `/ws/<id>/`.
            is_websocket: it is a websocket's handshake.
        """
        if is_speculative(headers):
            return False
        if self._is_any:
            return True
        if not is_websocket and is_navigation(headers):
            return True
        sender = sender_of(headers, base)
        if sender is not Sender.PAGE or is_websocket:
            return sender is Sender.PROGRAM
        if self._activity.looked_up(method, path, query) is Verdict.IGNORED:
            return False
        return method not in _SAFE_METHODS or (method == "GET" and _is_file(path, query or ""))


def is_speculative(headers: Mapping[str, str]) -> bool:
    """Tell whether a browser prefetches or prerenders (`Sec-Purpose`): nobody has asked for it yet."""
    return headers.get("Sec-Purpose", "").lower().startswith("prefetch")


def is_navigation(headers: Mapping[str, str]) -> bool:
    """Tell whether a person goes there, by a link or a typed address.

    Plain HTTP away from localhost has no Fetch Metadata; there `Accept` decides. A frame in another site's page is not
    meant by whoever looks at that page, and JupyterLab forbids to be framed so (`frame-ancestors`).
    """
    mode = headers.get("Sec-Fetch-Mode")
    if mode is None:
        return "text/html" in headers.get("Accept", "")
    is_framed = headers.get("Sec-Fetch-Dest", "document") != "document"
    return mode == "navigate" and not (is_framed and headers.get("Sec-Fetch-Site") == "cross-site")


def sender_of(headers: Mapping[str, str], base: str) -> Sender:
    """Return who sends a request.

    Browsers send Fetch Metadata where the address is trustworthy (HTTPS, localhost). Where it is not, and with a
    websocket anywhere, `Origin` or `Referer` tells a page; programs send neither.

    Args:
        headers: the request's.
        base: the base URL's path, `/ws/<id>/`.
    """
    site, origin, referrer = headers.get("Sec-Fetch-Site"), headers.get("Origin"), headers.get("Referer")
    if site is not None:
        return Sender.PAGE if site in ("same-origin", "none") else Sender.OTHER_PAGE
    here = headers.get("Host", "").lower()
    if origin is not None:
        return Sender.PAGE if _without_scheme(origin).lower() == here else Sender.OTHER_PAGE
    if referrer is not None:
        authority, _, path = _without_scheme(referrer).partition("/")
        is_ours = authority.lower() == here and f"/{path}".startswith(base)
        return Sender.PAGE if is_ours else Sender.OTHER_PAGE
    return Sender.PROGRAM


def _is_file(path: str, query: str) -> bool:
    """Tell whether a page asks for a file: JupyterLab's Save begins with a look at it, and a download is one."""
    if path.startswith("files/"):
        return True
    if not path.startswith("api/contents/"):
        return False
    given = dict(part.partition("=")[::2] for part in query.split("&"))
    return given.get("content") == "0" or given.get("type", "directory") not in ("directory", "")


def _without_scheme(url: str) -> str:
    return _SCHEME.sub("", url, count=1)


def markdown() -> str:
    """Return the table as Markdown: what it is of, whether it counts, who does it."""
    says = {
        Verdict.IGNORED: "no",
        Verdict.CLIENT: "the client's data frames",
        Verdict.COUNTS: "yes",
    }
    rows = []
    for rule, (_, why) in zip(TABLE, _RECORDED, strict=True):
        request = rule.text.rsplit(" ", 1)[0].replace("|", "\\|")
        rows.append(f"| `{request}` | {says[rule.verdict]} | {why} |")
    return "\n".join(["| request | counts | what it is |", "| --- | --- | --- |", *rows]) + "\n"
