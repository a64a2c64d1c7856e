"""Hostile clients, one raw connection each: what they are told, and that nothing of it reached a notebook server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from proxy.relay.server import Limits
from tests.gateway.hostile import CASES, Case
from tests.relay.origin import Answers, Message, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch
    from tests.relay.origin import Wire

# A client that is told nothing waits for more; these limits end that soon.
HURRY = Limits(header_timeout=0.3, body_idle_timeout=0.3)


def seen(request: Message) -> tuple[str, str, bytes]:
    method, target, _ = request.start.decode("latin-1").split(" ")
    return method, target, request.body


async def answers_of(client: Wire, wanted: int) -> list[Message]:
    """Return at least one answer, and as many as are wanted if they come."""
    answers: list[Message] = []
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while len(answers) < max(wanted, 1):
            answers.append(await client.take_response())
    return answers


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_hostile_request_is_refused_or_has_one_meaning(
    launch: Launch, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    origin = Answers()
    proxy = await launch(origin, limits=HURRY)

    client = await proxy.sent(case.send)
    answers = await answers_of(client, len(case.reaches))
    if answers[-1].start.startswith(b"HTTP/1.0") or answers[-1].values(b"connection") == [b"close"]:
        assert await client.ending() == "closed"
    await client.closed()
    await until(lambda: not proxy.gateway.in_flight)

    assert answers[0].status in case.statuses
    assert [seen(request) for request in origin.requests] == list(case.reaches)
    assert len(answers) == max(len(case.reaches), 1)
    if not case.reaches:
        assert not proxy.origin.connections
        assert not proxy.backend.starts
    assert b"smuggled" not in b"".join(request.head for request in origin.requests)
    assert b"forged" not in b"".join(request.head for request in origin.requests)
    assert caplog.records == []
