"""One rule about what counts as activity: its form as text, and what it fits.

Pure. A rule is `METHODS PATH[?CONDITIONS] VERDICT`. Knows neither the table (see `activity`) nor who asks.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Any, Final

_METHODS: Final = re.compile(r"\*|[A-Z]+(?:\|[A-Z]+)*")
_PATH: Final = re.compile(r"""(?!/)[!"$-+\--;=@-~]+""")  # visible ASCII, less what has a meaning here: # , < > ?
_CONDITION: Final = re.compile(r"([\w.~%-]+)(?:=([\w.~%|-]*))?", re.ASCII)
_WEBSOCKET: Final = "WS"
_RULE: Final = (
    "rules such as `GET api/metrics/** ignored`, separated by commas or a list: methods joined by '|', `WS` or `*`; a "
    "path below the base URL without '/' in front; `ignored`, `counts` or, of a websocket, `client`"
)


class Verdict(enum.Enum):
    """What a rule says of what it fits."""

    IGNORED = "ignored"
    """No activity: neither the request nor any frame of the websocket that it opens."""
    CLIENT = "client"
    """Of a websocket, data frames from the client are activity."""
    COUNTS = "counts"
    """Activity; of a websocket, data frames in both directions."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Fits some requests and says whether they count. Made by `parse_rule`, and equal where its text is.

    Args:
        text: as it was written.
        methods: the methods that it fits, `WS` for a websocket's handshake; empty fits all of these.
        path: what the path below the base URL must be.
        conditions: query parameters, each with the values that fit; "" among them: also where it is missing or empty.
            No values: whatever it is, but not empty.
        verdict: what it says.
    """

    text: str
    methods: frozenset[str]
    path: re.Pattern[str]
    conditions: tuple[tuple[str, frozenset[str]], ...]
    verdict: Verdict

    def __str__(self) -> str:
        return self.text

    def fits_path(self, method: str, path: str) -> bool:
        """Tell whether it fits, as far as the query does not matter."""
        return (not self.methods or method in self.methods) and self.path.fullmatch(path) is not None

    def fits_query(self, query: str) -> bool:
        """Tell whether the query meets every condition. Compared as it stands there, without decoding."""
        # Most queries lack the name, which is cheaper to see than to find what is there.
        if any(name not in query and "" not in values for name, values in self.conditions):
            return False
        given: dict[str, str] = {}
        for part in query.split("&"):
            name, _, value = part.partition("=")
            given.setdefault(name, value)
        return all(
            given.get(name, "") in values if values else bool(given.get(name)) for name, values in self.conditions
        )


def parse_rule(text: str) -> Rule:
    """Read `METHODS PATH[?CONDITIONS] VERDICT`.

    In a path `*` is anything but a slash, and `**` anything; `/**` at its end also fits where nothing follows. The
    conditions are joined by `&`: `name` must be there with a value, `name=a|b` must have one of these values, and an
    empty one, as in `name=|a`, fits where it is missing.

    Raises:
        ValueError: it has another form; says what is allowed.
    """
    words = text.split()
    verdicts = {verdict.value: verdict for verdict in Verdict}
    if len(words) != 3 or words[2] not in verdicts:  # noqa: PLR2004 - methods, path, verdict
        raise _wrong(text)
    methods, (path, mark, query), verdict = words[0], words[1].partition("?"), verdicts[words[2]]
    if not _METHODS.fullmatch(methods) or not _PATH.fullmatch(path) or (mark and not query):
        raise _wrong(text)
    fitted = frozenset() if methods == "*" else frozenset(methods.split("|"))
    if verdict is Verdict.CLIENT and fitted != {_WEBSOCKET}:
        raise ValueError(f"{_RULE} (in {text!r}, `client` is for `WS` alone)")
    conditions = tuple(_parse_condition(part, text) for part in query.split("&")) if query else ()
    return Rule(" ".join(words), fitted, _pattern(path), conditions, verdict)


def parse_rules(value: Any) -> tuple[Rule, ...]:
    """Read a list of rules, or text in which they are separated by commas or ends of lines.

    Raises:
        ValueError: one of them has another form; says which, and what is allowed.
    """
    items = re.split(r"[,\n]", value) if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str | Rule) for item in items):
        raise ValueError(_RULE)
    return tuple(item if isinstance(item, Rule) else parse_rule(item) for item in items if str(item).strip())


def _parse_condition(text: str, rule: str) -> tuple[str, frozenset[str]]:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ValueError(f"{_RULE} (in {rule!r}, {text!r} is no condition such as `content=1` or `type=|directory`)")
    name, values = found.groups()
    return name, frozenset() if values is None else frozenset(values.split("|"))


def _pattern(path: str) -> re.Pattern[str]:
    head, below = (path.removesuffix("/**"), r"(?:/.*)?") if path.endswith("/**") else (path, "")
    parts = re.split(r"(\*+)", head)
    wild = {"": "", "*": "[^/]*"}
    return re.compile("".join(re.escape(p) if not p.startswith("*") else wild.get(p, ".*") for p in parts) + below)


def _wrong(text: str) -> ValueError:
    return ValueError(f"{_RULE} (not {text.strip()[:80]!r})")
