"""What a log line looks like: for people on a terminal, for programs elsewhere.

One event is one line, whatever is in it: what others wrote (a path, an error's text) can end no line and move no
cursor. A sentence and its fields (`workspace running: id=%s after=%.1fs`) are written once, where they are logged; the
fields of the JSON come from there.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
from datetime import UTC, datetime
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_log = logging.getLogger(__name__)

MOST: Final = 8_192  # characters of a message, or of a traceback
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_CONTINUED: Final = "    "  # begins each further line of an event in text, so that none can be taken for an event
# Control characters, those that end a line somewhere, those that reorder or hide text, and lone surrogates (bytes that
# were no UTF-8, which no encoder takes).
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_CONVERSION: Final = re.compile(r"(?:(\w+)=)?%(?:(%)|[-#0 +]*[0-9]*(?:\.[0-9]+)?([diouxXeEfFgGcrsa])|(.?))")
_RESERVED: Final = frozenset({"time", "level", "logger", "message", "exception"})


def configure(level: str, form: str, stream: IO[str]) -> None:
    """Log to a stream from now on, everything of the process.

    Args:
        level: the least that is logged, such as `info`.
        form: `text`, `json`, or `auto`: text on a terminal, JSON elsewhere.
        stream: where to.
    """
    is_text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if is_text else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def log_what_python_says() -> None:
    """Log what Python would write to stderr itself: warnings, and errors that nobody caught or that cannot be raised.

    For a whole process, and for ever.
    """
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_end_of_thread


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _log.critical("an error ends the process", exc_info=(kind, error, trace))


def _log_unraisable(found: sys.UnraisableHookArgs) -> None:
    where = getattr(found.object, "__qualname__", type(found.object).__qualname__)  # its repr may raise, too
    _log.error("an error that cannot be raised: where=%s", where, exc_info=found.exc_value)


def _log_end_of_thread(found: threading.ExceptHookArgs) -> None:
    name = found.thread.name if found.thread else ""
    _log.error("an error ends a thread: name=%s", name, exc_info=found.exc_value)


def visible(text: str, most: int = MOST) -> str:
    """Return text in one line, in which everything can be seen: what cannot is escaped, what is too long is cut."""
    if len(text) > most:
        text = f"{text[:most]}… ({len(text) - most} more)"
    return _UNSAFE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


class TextFormatter(logging.Formatter):
    """One line for people; a traceback's further lines are indented."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Return the line without its traceback."""
        record.message = visible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the same
        """Return a traceback."""
        lines = super().formatException(ei)[-MOST:].split("\n")
        return "\n".join(_CONTINUED + visible(line) for line in lines)

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - the same
        """Return a stack."""
        return "\n".join(_CONTINUED + visible(line) for line in stack_info.split("\n"))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII: when, how grave, who says it, the sentence, and its fields by name."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": visible(record.getMessage()),
        }
        for name, value in _fields(record):
            said.setdefault(name, _plain(value))
        if record.exc_info and record.exc_info[0] is not None:
            said["exception"] = "\n".join(map(visible, self.formatException(record.exc_info)[-MOST:].split("\n")))
        return json.dumps(said, allow_nan=False)


def _plain(value: object) -> bool | float | str:
    """Return what JSON can say of a field."""
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return visible(str(value))


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """Yield what stands as `name=%s` in the sentence."""
    if isinstance(record.args, tuple) and isinstance(record.msg, str):
        for name, place in _places(record.msg):
            if place < len(record.args):
                yield name, record.args[place]


@lru_cache(maxsize=512)
def _places(sentence: str) -> tuple[tuple[str, int], ...]:
    """Return the names of a sentence's fields, and which argument each is."""
    found: list[tuple[str, int]] = []
    place = 0
    for name, percent, _, odd in _CONVERSION.findall(sentence):
        if odd:
            return ()  # of a form that nobody uses here
        if percent:
            continue
        if name and name not in _RESERVED:
            found.append((name, place))
        place += 1
    return tuple(found)
