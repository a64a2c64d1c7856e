"""The soak itself: short, on a seed of its own; and that its judgements would find what they look for."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.e2e import REPOSITORY
from tests.soak.verdict import EXCUSED, RIGHT, STARTING, WRONG, Answer, judge, leaks
from tests.soak.watching import Held

WHOLE = Answer(200, b"body", True, "a")
HELD = Held(14, 0, 0, 50_000_000, {"serve": 1}, {"proxy.relay.tunnel.Tunnel": 1})


def test_a_short_soak_finds_no_leak_and_no_wrong_answer() -> None:
    command = [sys.executable, "-m", "tests.soak", "--minutes=0.1", "--idle-websockets=200", "--hold=1", "--seed=1"]

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=110, check=False)

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]


@pytest.mark.parametrize(
    "answer",
    [
        replace(WHOLE, body=b"bod"),
        replace(WHOLE, body=b"another's"),
        replace(WHOLE, workspace="b"),
        replace(WHOLE, is_whole=False),
        replace(WHOLE, status=500),
        replace(WHOLE, status=502),
        replace(WHOLE, status=503),
        Answer(trouble="ServerDisconnectedError"),
    ],
)
def test_an_answer_that_nobody_should_get_is_wrong(answer: Answer) -> None:
    assert judge(answer, "a", b"body")[0] == WRONG
    assert judge(WHOLE, "a", b"body") == (RIGHT, "")


def test_an_error_is_excused_by_a_crash_but_another_body_never_is() -> None:
    assert judge(replace(WHOLE, is_whole=False), "a", b"body", may_crash=True)[0] == EXCUSED
    assert judge(replace(WHOLE, status=502), "a", b"body", may_crash=True)[0] == EXCUSED
    assert judge(replace(WHOLE, body=b"bod"), "a", b"body", may_crash=True)[0] == WRONG
    assert judge(replace(WHOLE, status=500), "a", b"body", may_crash=True)[0] == WRONG
    assert judge(replace(WHOLE, status=503, retry_after="1"), "a", b"body")[0] == STARTING


@pytest.mark.parametrize(
    "after",
    [
        replace(HELD, descriptors=15),
        replace(HELD, connections=1),
        replace(HELD, children=1),
        replace(HELD, rss=HELD.rss + 2_000_000),
        replace(HELD, tasks={"serve": 1, "Tunnel.run": 1}),
        replace(HELD, objects={"proxy.relay.tunnel.Tunnel": 2}),
        replace(HELD, objects={"aiohttp.web_request.Request": 1}),
    ],
)
def test_each_thing_that_is_held_for_longer_than_the_work_is_a_leak(after: Held) -> None:
    assert len(list(leaks(HELD, after, 1_000_000))) == 1
    assert list(leaks(HELD, HELD, 1_000_000)) == []
