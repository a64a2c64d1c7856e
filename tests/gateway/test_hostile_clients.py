"""Hostile clients, one raw connection each: what they are told, and that nothing of it reached a notebook server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from proxy import express
from proxy.relay.server import Limits
from tests.gateway.express import watched
from tests.gateway.hostile import CASES, Case
from tests.relay.origin import Answers, Message, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch
    from tests.relay.origin import Wire

# A client that is told nothing waits for more; these limits end that soon.
HURRY = Limits(header_timeout=0.3, body_idle_timeout=0.3)
LATE_HEADS = Limits(header_timeout=2.0, body_idle_timeout=0.3)  # a machine that stands still is no slow client


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

    answers = await tell(await proxy.connect(), case)
    await until(lambda: not proxy.gateway.in_flight)

    check(case, answers, origin.requests)
    if not case.reaches:
        assert not proxy.origin.connections
        assert not proxy.backend.starts
    assert caplog.records == []


@pytest.mark.uvloop
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_hostile_request_means_the_same_behind_a_plain_one_with_its_own_headers(
    launch: Launch, case: Case, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(express, "BUSY", 0)
    origin = Answers()
    proxy = await launch(origin, limits=LATE_HEADS)
    client = await proxy.sent(b"GET /ws/demo/warm HTTP/1.1\r\n", case.block)
    first = await client.take_response()
    if first.status != 200 or first.values(b"connection") == [b"close"]:  # nothing can follow such headers
        client = await proxy.sent(b"GET /ws/demo/warm HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.take_response()
    await until(lambda: not proxy.gateway.in_flight)
    origin.requests.clear()

    with watched() as taken:
        answers = await tell(client, case)
        await until(lambda: not proxy.gateway.in_flight)

    check(case, answers, origin.requests)
    assert len(taken) == case.is_express
    assert caplog.records == []


def test_some_hostile_requests_take_the_express_way() -> None:
    assert sum(case.is_express for case in CASES) >= 10


async def tell(client: Wire, case: Case) -> list[Message]:
    """Return what a hostile client is answered; it leaves then."""
    client.send(case.send)
    answers = await answers_of(client, len(case.reaches))
    if answers[-1].start.startswith(b"HTTP/1.0") or answers[-1].values(b"connection") == [b"close"]:
        assert await client.ending() == "closed"
    await client.closed()
    return answers


def check(case: Case, answers: list[Message], reached: list[Message]) -> None:
    """Compare what came of a case with what should."""
    assert answers[0].status in case.statuses
    assert [seen(request) for request in reached] == list(case.reaches)
    assert len(answers) == max(len(case.reaches), 1)
    assert b"smuggled" not in b"".join(request.head for request in reached)
    assert b"forged" not in b"".join(request.head for request in reached)
