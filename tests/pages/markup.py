"""A page as a browser would read it, and reports with hostile text wherever they take some."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Final

from proxy.report import Fate, Happening, Progress, Report, Seen, Step, Trouble
from proxy.workspace import Key, Phase

HOSTILE: Final = "<script>alert('x')</script>\"&$title${code}</pre><img src=x onerror=y>"
NOW: Final = datetime(2024, 2, 29, 12, tzinfo=UTC)
_FETCHING: Final = {"img", "iframe", "object", "embed", "base", "audio", "video"}
_LONG: Final = re.compile(r"<(style|script)>.*?</\1>", re.DOTALL)  # ours, and slow to parse
_EMPTY: Final = {"br", "hr", "img", "input", "link", "meta", "path", "rect"}


class Page(HTMLParser):
    """The tags of a page, and the text of it that is not hidden."""

    def __init__(self, body: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.shown = ""
        self._open: list[bool] = []  # for each open element, whether it is hidden
        self.feed(_LONG.sub(r"<\1></\1>", body))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            is_hidden = "hidden" in dict(attrs) or tag in {"style", "script", "template", "title"}
            self._open.append(is_hidden or any(self._open[-1:]))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _EMPTY:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if not any(self._open[-1:]):
            self.shown += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every such tag."""
        return [attributes for found, attributes in self.tags if found == tag]

    @property
    def refresh(self) -> str | None:
        """What makes the page reload."""
        found = [attributes["content"] for attributes in self.all("meta") if attributes.get("http-equiv") == "refresh"]
        return found[0] if found else None


def assert_is_self_contained(body: str) -> None:
    """Fail if a page fetches anything, leads to another host, or has code beside our one script."""
    page = Page(body)
    assert not _FETCHING & {tag for tag, _ in page.tags}
    assert all((link["rel"], (link["href"] or "")[:5]) == ("icon", "data:") for link in page.all("link"))
    assert all(not script for script in page.all("script"))
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("href", "src", "action"):
            target = attributes.get(name) or ""
            assert tag == "link" or target == "" or re.match(r"/(?!/)", target)
    assert "url(" not in body
    assert "@import" not in body


def report(phase: Phase, name: str = "demo", *, hostile: str = "", **facts: object) -> Report:
    """Return a report as the supervisor would give it; with hostile text wherever it takes text of others."""
    text = hostile or "words"
    moments = {"since": NOW - timedelta(seconds=43), "last_active": NOW - timedelta(minutes=7)}
    base: dict[str, object] = {
        **moments,
        "counted": Seen(text, NOW),
        "ignored": Seen(text, NOW),
        "happenings": (Happening(NOW, "starting", text),),
        "stopped": Happening(NOW, "stopped", text),
        "why": text,
        "profile": text,
    }
    if phase is Phase.STARTING:
        base["progress"] = Progress(Step.PULLING, text, NOW - timedelta(seconds=31))
        base["trouble"] = Trouble("image-pull", text, NOW)
    if phase is Phase.RUNNING:
        base |= {"due_at": NOW + timedelta(hours=3), "fate": Fate.IN_USE}
    return Report(key=Key(name, "default"), version=1, phase=phase, **{**base, **facts})  # type: ignore[arg-type]


def failed(name: str = "demo", *, hostile: str = "", **facts: object) -> Report:
    """Return the report of a workspace whose last start failed."""
    text = hostile or "It ended."
    failure = Trouble("exited", text, NOW, detail=text, retry_at=NOW + timedelta(seconds=14))
    return report(Phase.STOPPED, name, hostile=hostile, **{"failure": failure, **facts})
