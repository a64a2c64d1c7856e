"""What the proxy says itself: an HTML page to a browser's navigation, `application/problem+json` to everyone else.

Templates, style and script lie beside this file. Everything that goes into a page is escaped, nothing is fetched from
anywhere, and the policy allows the one style and the one script by their hashes.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, Final

from proxy.pages.templates import FRAMED_BY_NOBODY, LIVE_POLICY, SILENT_POLICY, Page
from proxy.pages.view import view_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from proxy.errors import ProxyError
    from proxy.pages.view import View
    from proxy.profiles import Profile

__all__ = ["FRAMED_BY_NOBODY", "HEADERS", "answer", "dashboard", "signed_out", "view_of", "wants_page", "workspace"]

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": SILENT_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",  # no other site's page can hold it in its process, to read it there
    "Server": "notebook-proxy",
    "Referrer-Policy": "same-origin",  # "no-referrer" would make a form's Origin null, which is refused
    "X-Content-Type-Options": "nosniff",
}
"""What every answer of the proxy's own carries."""
_RELOAD_CODES: Final = frozenset(
    {"not-ready", "shutting-down", "too-many-connections", "too-many-starts", "upstream-gone"}
)
_AGAIN: Final = '<p><a class="button" href="">Try again</a></p>'
_BACK: Final = "<p>What you sent is not kept here: go back, and send it again.</p>"
_REFRESH_SECONDS: Final = 3  # where there is no JavaScript

_ERROR: Final = Page("error.html")
_PARTS: Final = {"warning": Page("warning.html"), "stop": Page("stop.html")}
_WORKSPACE: Final = Page("workspace.html", **_PARTS)
_ROW: Final = Page("row.html", **_PARTS)
_DASHBOARD: Final = Page("dashboard.html")
_SIGNED_OUT: Final = Page("signed_out.html")


def wants_page(headers: Mapping[str, str]) -> bool:
    """Tell whether a person's browser navigates here, rather than a page's script or a program asking.

    Fetch Metadata decides where it is sent; plain HTTP away from localhost has none, and there `Accept` does.
    """
    mode = headers.get("Sec-Fetch-Mode")
    return mode == "navigate" if mode is not None else "text/html" in headers.get("Accept", "")


def answer(
    error: ProxyError, *, as_page: bool, status_url: str = "", can_repeat: bool = True
) -> tuple[int, str, dict[str, str]]:
    """Return status, body and headers of what a client is told of an error.

    Args:
        error: what happened.
        as_page: for a person; else for a program.
        status_url: where the workspace's state can be asked for, if it is about one (RFC 8631 section 3: `status`).
        can_repeat: asking for the address again is the same request; a form's is not, and would be lost silently.
    """
    headers = dict(HEADERS)
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if status_url:
        headers["Link"] = f'<{status_url}>; rel="status"'
    if not as_page:
        headers["Content-Type"] = "application/problem+json"  # RFC 9457
        problem = {"type": "about:blank", "title": error.title, "status": error.status, "detail": str(error)}
        problem["code"] = error.code
        if error.detail:
            problem["log"] = error.detail
        if error.retry_after is not None:
            problem["retry_after"] = error.retry_after
        if status_url:
            problem["status_url"] = status_url
        return error.status, json.dumps(problem) + "\n", headers
    headers["Content-Type"] = "text/html; charset=utf-8"
    reload = error.retry_after if error.code in _RELOAD_CODES and can_repeat else None
    retry = _AGAIN if can_repeat else _BACK
    body = _ERROR.fill(
        {"title": error.title, "message": str(error), "status": error.status, "code": error.code},
        log=f"<h2>Last lines of its log</h2><pre>{escape(error.detail)}</pre>" if error.detail else "",
        retry=retry if error.retry_after is not None else "",
        refresh=f'<meta http-equiv="refresh" content="{reload}">' if reload is not None else "",
    )
    return error.status, body, headers


def workspace(view: View, *, go: str = "") -> tuple[str, dict[str, str]]:
    """Return body and headers of a workspace's page, whatever its state.

    Args:
        view: of `view_of`.
        go: where the page goes by itself once it runs: `here`, a URL, or nowhere. Without JavaScript it asks again
            below `_proxy/`, which wakes nothing: so a failure stays to be read, and is not tried again by a refresh.
    """
    refresh = ""
    if view["is_starting"] or view["is_stopping"]:
        url = escape(str(view["wait_url"]))
        refresh = f'<noscript><meta http-equiv="refresh" content="{_REFRESH_SECONDS}; url={url}"></noscript>'
    headers = {**HEADERS, "Content-Security-Policy": LIVE_POLICY, "Content-Type": "text/html; charset=utf-8"}
    return _WORKSPACE.fill({**view, "go": go}, refresh=refresh), headers


def dashboard(
    views: Iterable[View],
    *,
    summary: str,
    events_url: str,
    profiles: Sequence[Profile] = (),
    footer: str = "",
    is_open: bool = False,
    user: str = "",
) -> tuple[str, dict[str, str]]:
    """Return body and headers of the page at `/`.

    Args:
        views: of `view_of`, in the order in which they are shown.
        summary: how many there are.
        events_url: where the page is told what changes.
        profiles: what is offered.
        footer: one line of text.
        is_open: nobody is asked who they are, at an address that others may reach.
        user: who is signed in, and may sign out; empty where nobody can.
    """
    rows = "".join(_row(view, profiles) for view in views)
    body = _DASHBOARD.fill(
        {"events_url": events_url, "summary": summary, "footer": footer, "user": user},
        rows=rows,
        blank=_row(_BLANK, profiles),
        none_hidden=" hidden" if rows else "",
        open_hidden="" if is_open else " hidden",
        exit_hidden="" if user else " hidden",
    )
    headers = {**HEADERS, "Content-Security-Policy": LIVE_POLICY, "Content-Type": "text/html; charset=utf-8"}
    return body, headers


def signed_out(onward: str) -> tuple[str, dict[str, str]]:
    """Return body and headers of the page for who has signed out; a redirect of a form to another host is not allowed.

    Args:
        onward: where the browser goes on to by itself; empty for nowhere.
    """
    refresh = f'<meta http-equiv="refresh" content="0; url={escape(onward)}">' if onward else ""
    return _SIGNED_OUT.fill({}, refresh=refresh), {**HEADERS, "Content-Type": "text/html; charset=utf-8"}


def _row(view: Mapping[str, Any], profiles: Sequence[Profile]) -> str:
    names = {"": "none", **{each.name: f"{each.name} {each.description}".strip() for each in profiles}}
    options = "".join(
        f'<option value="{escape(name)}"{" selected" if name == view["profile"] else ""}>{escape(shown)}</option>'
        for name, shown in names.items()
    )
    return _ROW.fill(view, profiles=options, without_profiles="" if profiles else " hidden")


class _Blank(dict[str, Any]):
    """The values of a row that a page's script copies and fills: none yet."""

    def __missing__(self, name: str) -> Any:
        return [] if name in ("happenings", "warnings") else None


_BLANK: Final = _Blank()
