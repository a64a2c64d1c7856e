"""The pages' templates: read once, with style and script put in, and filled with escaped text.

A mark such as `data-text="step"` is filled here and kept up to date by the script in the page, from values of the same
names; script.js lists the marks. A page is whole: it fetches nothing, so it needs no path of its own behind an ingress.
Style and script are allowed by their hashes, and nothing else is (Content Security Policy Level 3, section 8.4).
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any, Final

from proxy.pages.words import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='%23d2620e' "
    "stroke-width='2' stroke-linecap='round'%3E%3Crect x='4' y='3' width='16' height='18' rx='3'/%3E"
    "%3Cpath d='M8.5 3v18M12 9h4M12 13h4'/%3E%3C/svg%3E"
)
_MARKED_TAG: Final = re.compile(r"<[a-z][^<>]*\sdata-(?:if|each|up|down|attr|text)=[^<>]*>")
_MARK: Final = re.compile(r'data-(if|each|up|down|attr|text)="([^"]+)"')


def _read(name: str) -> str:
    return (files(__name__.rpartition(".")[0]) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


_STYLE: Final = _read("style.css")
_SCRIPT: Final = _read("script.js")
_COMMON: Final = {
    "icon": f'<link rel="icon" href="{_ICON}">',
    "style": f"<style>{_STYLE}</style>",
    "script": f"<script>{_SCRIPT}</script>",
    "brand": _read("brand.html").strip(),
}
FRAMED_BY_NOBODY: Final = "frame-ancestors 'none'"
_POLICY: Final = (
    f"default-src 'none'; style-src {_hash(_STYLE)}; img-src data:; form-action 'self'; base-uri 'none'; "
    f"{FRAMED_BY_NOBODY}"
)
SILENT_POLICY: Final = _POLICY
"""What a page without a script may do."""
LIVE_POLICY: Final = f"{_POLICY}; script-src {_hash(_SCRIPT)}; connect-src 'self'"
"""What a page with our script may do."""


def _with_placeholders(tag: re.Match[str]) -> str:
    """Put placeholders where the browser's script would put the values of a tag's marks."""
    attributes, content = "", ""
    for kind, names in _MARK.findall(tag[0]):
        match kind:
            case "text" | "each":
                content += f"${{{kind}_{names}}}"
            case "if":
                attributes += f"${{if_{names}}}"
            case "attr":
                for attribute, _, name in (pair.partition("=") for pair in names.split(" ")):
                    attributes += f"${{attr_{name}__{attribute.replace('-', '_')}}}"
            case _:
                attributes += f"${{count_{names}}}"
                content += f"${{{kind}_{names}}}"
    return f"{tag[0][:-1]}{attributes}>{content}"


class Page:
    """One template.

    Args:
        name: of the file beside this one.
        parts: other templates that are put in whole, by the name of their placeholder.
    """

    def __init__(self, name: str, **parts: Page) -> None:
        text = _MARKED_TAG.sub(_with_placeholders, _read(name))
        inner = {part: page._text for part, page in parts.items()}  # noqa: SLF001
        self._text: str = Template(text).safe_substitute(_COMMON | inner)
        self._template = Template(self._text)
        self._names = self._template.get_identifiers()

    def fill(self, view: Mapping[str, Any], **raw: str) -> str:
        """Return the page with these values, each escaped.

        Args:
            view: every value that the template's marks name, and those of its plain placeholders.
            raw: HTML, put in as it is.
        """
        return self._template.substitute(
            {name: raw[name] if name in raw else _filled(name, view) for name in self._names}
        )


def _filled(name: str, view: Mapping[str, Any]) -> str:
    """Return what stands in place of one placeholder."""
    kind, _, field = name.partition("_")
    fill = _FILLS.get(kind)
    return _escaped(view[name]) if fill is None else fill(field, view)


def _attribute(field: str, view: Mapping[str, Any]) -> str:
    field, _, attribute = field.partition("__")
    value = view[field]
    return "" if value is None else f' {attribute.replace("_", "-")}="{_escaped(value)}"'


def _count(field: str, view: Mapping[str, Any]) -> str:
    return " hidden" if view[field] is None else f' data-seconds="{view[field]:.1f}"'


def _escaped(value: object) -> str:
    return "" if value is None else escape(str(value))


_FILLS: Final[dict[str, Callable[[str, Mapping[str, Any]], str]]] = {
    "text": lambda field, view: _escaped(view[field]),
    "if": lambda field, view: "" if view[field] else " hidden",
    "each": lambda field, view: "".join(f"<li>{_escaped(text)}</li>" for text in view[field]),
    "attr": _attribute,
    "count": _count,
    "up": lambda field, view: "" if view[field] is None else duration(view[field]),
    "down": lambda field, view: "" if view[field] is None else duration(math.ceil(view[field])),
}
