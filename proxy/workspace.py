"""What a workspace is: its key, its handle, the phases of its notebook server and the legal transitions.

Pure: no I/O, no clock, no configuration. The table below is the whole life of a notebook server; a transition that is
not in it cannot happen (`transition` raises), so that every race has one defined outcome.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from yarl import URL

from proxy.errors import InvalidKey

if TYPE_CHECKING:
    from collections.abc import Mapping

DEPLOYMENT_PREFIX: Final = "notebook-"
MAX_LABEL: Final = 63  # RFC 1123 section 2.1, Kubernetes "DNS Label Names"
MAX_ID: Final = MAX_LABEL - len(DEPLOYMENT_PREFIX)
ID_RULE: Final = (
    "an id is a DNS-1123 label: lower-case letters, digits and '-', with a letter or digit at both ends, "
    f"and at most {MAX_ID} characters ({MAX_LABEL} with the prefix {DEPLOYMENT_PREFIX!r})"
)
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.1
_SEPARATORS: Final = re.compile(r"[^0-9a-z]")
_FIELD_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")  # RFC 9110 section 5.5
_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")


def is_label(text: str) -> bool:
    """Tell whether `text` is a DNS-1123 label of at most 63 characters."""
    return len(text) <= MAX_LABEL and _LABEL.fullmatch(text) is not None


class Key(NamedTuple):
    """Identifies one workspace's notebook server. Each request looks it up several times."""

    workspace_id: str
    namespace: str

    @property
    def deployment_name(self) -> str:
        """`notebook-<id>`, unchecked; see `safe_deployment_name`."""
        return DEPLOYMENT_PREFIX + self.workspace_id

    def safe_deployment_name(self) -> str:
        """Return `notebook-<id>`.

        Raises:
            InvalidKey: the id is not a DNS-1123 label, or longer than 63 characters with the prefix.
        """
        name = self.deployment_name
        if not (is_label(self.workspace_id) and is_label(name)):
            raise InvalidKey(self.workspace_id, ID_RULE)
        return name


@dataclass(frozen=True, slots=True)
class Handle:
    """Where a running notebook server is, and what a caller must send to it.

    Args:
        service_url: an http URL; a string is parsed.
        headers: sent upstream with every request in place of the client's own of the same name. They hold the
            notebook's token, so `repr` masks the values.
        address: host and port to connect to, by default the URL's; an address is known before its name resolves.

    Raises:
        ValueError: `service_url` is not an absolute http URL, or holds a password; a header cannot be sent as it is.
    """

    service_url: URL
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    address: tuple[str, int] = ("", 0)
    header_lines: bytes = field(init=False, repr=False, compare=False)
    """`headers` as they go over the wire, each line with its CRLF."""
    header_names: frozenset[bytes] = field(init=False, repr=False, compare=False)
    """Names of `headers`, in lower case and with `-` for every separator, but for `Authorization`, which is dropped
    anyway: the client's own of these names, and their look-alikes, are not passed on."""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        url = URL(self.service_url)
        if url.scheme != "http" or not url.host or url.port is None or url.raw_user is not None:
            shown = str(url.with_user(None)) if url.raw_host else str(url)
            raise ValueError(f"service_url must be an absolute http URL without a user, not {shown!r}")
        if not all(_FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(text) for name, text in self.headers.items()):
            raise ValueError("headers must have tokens as names, and values of one line in latin-1")
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        object.__setattr__(self, "service_url", url)
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))
        object.__setattr__(self, "address", self.address if self.address[0] else (url.host, url.port))
        object.__setattr__(self, "header_lines", lines.encode("latin-1"))
        names = {_SEPARATORS.sub("-", name.lower()).encode() for name in self.headers}
        object.__setattr__(self, "header_names", frozenset(names - {b"authorization"}))
        object.__setattr__(self, "_hash", hash((url, self.address)))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        masked = dict.fromkeys(self.headers, "***")
        return f"Handle(service_url={str(self.service_url)!r}, headers={masked!r})"


class Phase(enum.Enum):
    """Where a notebook server is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Event(enum.Enum):
    """What moves a notebook server from one phase to another."""

    WAKE = "wake"
    """A request asks for it."""
    FOUND = "found"
    """It runs already: another process started it, or this one before it was restarted."""
    READY = "ready"
    """The backend's start returned a handle."""
    FAILED = "failed"
    """The backend's start gave up; or its stop did, of what is not known to run."""
    STOP = "stop"
    """Somebody, or the reaper, asks for it to end."""
    GONE = "gone"
    """The backend's stop returned: nothing of it is left."""
    STUCK = "stuck"
    """The backend's stop failed or was contested while a handle was known: it still runs, as far as is known."""
    LOST = "lost"
    """It ended by itself, or refuses connections: the handle is worth nothing."""


TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = MappingProxyType(
    {
        (Phase.STOPPED, Event.WAKE): Phase.STARTING,
        (Phase.STOPPED, Event.FOUND): Phase.RUNNING,
        (Phase.STOPPED, Event.STOP): Phase.STOPPING,  # what runs may not be known here
        (Phase.STARTING, Event.READY): Phase.RUNNING,
        (Phase.STARTING, Event.FAILED): Phase.STOPPED,
        (Phase.STARTING, Event.STOP): Phase.STOPPING,  # the start is cancelled; its waiters are told
        (Phase.RUNNING, Event.STOP): Phase.STOPPING,
        (Phase.RUNNING, Event.LOST): Phase.STOPPED,
        (Phase.STOPPING, Event.GONE): Phase.STOPPED,  # who waited wakes it anew
        (Phase.STOPPING, Event.STUCK): Phase.RUNNING,
        (Phase.STOPPING, Event.FAILED): Phase.STOPPED,  # it never ran, or was lost meanwhile
    }
)


class IllegalTransition(AssertionError):
    """A defect in the supervisor: an event in a phase in which it cannot happen."""


def transition(phase: Phase, event: Event) -> Phase:
    """Return the phase that follows.

    Raises:
        IllegalTransition: the table has no such transition.
    """
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise IllegalTransition(f"{event.name} in {phase.name}") from None
