"""What the tests of the response reader share: a receiver that remembers, and readings in any pieces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.errors import BadResponse
from proxy.relay.response import ResponseReader

if TYPE_CHECKING:
    from proxy.relay.response_head import ResponseHead

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@dataclass
class Recorder:
    """A receiver that remembers, and checks the order in which it is told."""

    interim: list[ResponseHead] = field(default_factory=list)
    head: ResponseHead | None = None
    body: bytes = b""
    has_ended: bool = False

    def on_interim(self, head: ResponseHead) -> None:
        assert self.head is None
        self.interim.append(head)

    def on_head(self, head: ResponseHead) -> None:
        assert self.head is None
        self.head = head

    def on_body(self, data: bytes) -> None:
        assert self.head is not None
        assert self.head.has_body
        assert not self.has_ended
        assert data  # an empty piece would end a chunked body towards the client
        self.body += data

    def on_end(self) -> None:
        assert self.head is not None
        assert not self.has_ended
        self.has_ended = True


@dataclass
class Outcome:
    """All that can be seen of one reading."""

    interim: list[ResponseHead]
    head: ResponseHead | None
    body: bytes
    has_ended: bool
    is_complete: bool
    is_reusable: bool
    is_switched: bool
    tail: bytes
    is_refused: bool


def read(*pieces: bytes, method: str = "GET", is_upgrade: bool = False) -> Outcome:
    recorder = Recorder()
    reader = ResponseReader(method, recorder, is_upgrade=is_upgrade)
    is_refused = False
    try:
        for piece in pieces:
            reader.feed(piece)
    except BadResponse:
        is_refused = True
    assert reader.is_complete == recorder.has_ended
    is_reusable = reader.is_reusable and reader.is_complete and not is_refused
    return Outcome(
        [*recorder.interim],
        recorder.head,
        recorder.body,
        recorder.has_ended,
        reader.is_complete,
        is_reusable,
        reader.is_switched,
        reader.tail,
        is_refused,
    )


def dribble(raw: bytes) -> list[bytes]:
    return [raw[at : at + 1] for at in range(len(raw))]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % len(data) for cut in cuts} - {0}) if data else []
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)] if data else []
