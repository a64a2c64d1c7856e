"""What the proxy says itself: an HTML page to a browser's navigation, `application/problem+json` to everyone else.

Templates lie beside this file. Everything that goes into one is escaped; the pages carry no script, no link to
another host and a policy that allows none.
"""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from proxy.errors import ProxyError

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Server": "notebook-proxy",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_RELOAD_CODES: Final = frozenset({"not-ready", "shutting-down", "too-many-connections", "upstream-gone"})


def _template(name: str) -> Template:
    """Return a template with the common style put in."""
    text, style = ((files(__name__) / file).read_text(encoding="utf-8") for file in (name, "style.css"))
    return Template(Template(text).safe_substitute(style=style))


_ERROR: Final = _template("error.html")
_INDEX: Final = _template("index.html")


def wants_page(headers: Mapping[str, str]) -> bool:
    """Tell whether a person's browser navigates here, rather than a page's script or a program asking.

    Fetch Metadata decides where it is sent; plain HTTP away from localhost has none, and there `Accept` does.
    """
    mode = headers.get("Sec-Fetch-Mode")
    return mode == "navigate" if mode is not None else "text/html" in headers.get("Accept", "")


def answer(error: ProxyError, *, as_page: bool) -> tuple[int, str, dict[str, str]]:
    """Return status, body and headers of what a client is told of an error."""
    headers = dict(_HEADERS)
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if not as_page:
        headers["Content-Type"] = "application/problem+json"  # RFC 9457
        problem = {"type": "about:blank", "title": error.title, "status": error.status, "detail": str(error)}
        problem["code"] = error.code
        if error.detail:
            problem["log"] = error.detail
        if error.retry_after is not None:
            problem["retry_after"] = error.retry_after
        return error.status, json.dumps(problem) + "\n", headers
    headers["Content-Type"] = "text/html; charset=utf-8"
    reload = error.retry_after if error.code in _RELOAD_CODES else None
    body = _ERROR.substitute(
        title=escape(error.title),
        message=escape(str(error)),
        log=f"<h2>Last lines of its log</h2><pre>{escape(error.detail)}</pre>" if error.detail else "",
        retry='<p><a class="button" href="">Try again</a></p>' if error.retry_after is not None else "",
        refresh=f'<meta http-equiv="refresh" content="{reload}">' if reload is not None else "",
        status=error.status,
        code=escape(error.code),
    )
    return error.status, body, headers


def index(workspaces: Iterable[tuple[str, str]]) -> tuple[str, dict[str, str]]:
    """Return body and headers of the page at `/`.

    Args:
        workspaces: ids and phases of those that are starting, running or stopping.
    """
    rows = "".join(
        f'<li><a href="/ws/{escape(name)}/lab">{escape(name)}</a> <small>{escape(phase)}</small></li>'
        for name, phase in sorted(workspaces)
    )
    running = f"<h2>Running</h2><ul>{rows}</ul>" if rows else "<p>No workspace is running.</p>"
    return _INDEX.substitute(running=running), {**_HEADERS, "Content-Type": "text/html; charset=utf-8"}
