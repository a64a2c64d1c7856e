"""Ask `authorize_url` whether a user may open a workspace, seldom enough to be asked for every request.

2xx is yes and 403 is no, for `authorize_ttl`; anything else is a failure, which denies, for a moment, and is reported.
Callers that ask the same at once share one call. What is remembered has a fixed size. No redirect is followed, and no
proxy of the environment is used: the answer must come from the very address that the operator has set.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from cachetools import TLRUCache, TTLCache
from yarl import URL

from proxy.version import __version__

if TYPE_CHECKING:
    from datetime import timedelta

    from proxy.clock import Clock

logger = logging.getLogger(__name__)

DEADLINE: Final = 5.0  # seconds for one answer
FAILURE_TTL: Final = 3.0  # seconds in which it is not asked again after a failure
RECENT: Final = 600.0  # seconds for which a yes is remembered for lists, and carries what is open over failures
_SIZE: Final = 10_000  # answers
_AT_ONCE: Final = 32  # calls
_MOST: Final = 1_000  # calls that run or wait
_REPORT_EVERY: Final = 60.0  # seconds
_FORBIDDEN: Final = 403


class Verdict(enum.Enum):
    """What came of asking."""

    YES = "yes"
    NO = "no"
    FAILED = "failed"


class Question(NamedTuple):
    """May this user send a request of this method to this workspace?"""

    user: str
    workspace: str
    method: str


class _Answer(NamedTuple):
    verdict: Verdict
    at: float  # monotonic seconds


class Authorizer:
    """Asks, and remembers. One per gateway.

    Args:
        url: of the service; user, workspace and method are added to its query.
        ttl: how long a yes or a no holds.
        clock: what that is measured by.
        deadline: seconds for one answer.
    """

    def __init__(self, url: str, ttl: timedelta, *, clock: Clock, deadline: float = DEADLINE) -> None:
        self._url = URL(url)
        self._ttl = ttl.total_seconds()
        self._deadline = deadline
        self._monotonic = clock.monotonic
        self._answers: TLRUCache[Question, _Answer] = TLRUCache(_SIZE, self._until, timer=clock.monotonic)
        self._recent: TTLCache[tuple[str, str], None] = TTLCache(_SIZE, RECENT, timer=clock.monotonic)
        self._asking: dict[Question, asyncio.Task[Verdict]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._reported = -_REPORT_EVERY
        self._unreported = 0

    def remembered(self, question: Question) -> bool | None:
        """Return the answer that still holds, or None where there is none."""
        answer = self._answers.get(question)
        return None if answer is None else answer.verdict is Verdict.YES

    def recent(self, user: str) -> set[str]:
        """Return the workspaces that were allowed to a user of late, and not denied since."""
        return {workspace for name, workspace in list(self._recent) if name == user}

    def is_recent(self, user: str, workspace: str) -> bool:
        """Tell whether a workspace was allowed to a user of late, and not denied since."""
        return (user, workspace) in self._recent

    async def ask(self, question: Question, *, within: float | None = None) -> Verdict:
        """Return the answer, of a call if none is remembered. Cancelling one caller ends nothing for the others.

        Args:
            question: what is asked.
            within: how old a remembered answer may be at most, in seconds; by default as old as it holds.
        """
        answer = self._answers.get(question)
        if answer is not None and (within is None or self._monotonic() - answer.at < within):
            return answer.verdict
        task = self._asking.get(question)
        if task is None:
            if len(self._asking) >= _MOST:
                self._report(f"{_MOST} calls are waiting")
                return Verdict.FAILED
            task = self._asking[question] = asyncio.create_task(self._call(question), name="authorize")
            task.add_done_callback(lambda _: self._asking.pop(question))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End the calls under way."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _until(self, _: Question, answer: _Answer, now: float) -> float:
        return now + (min(self._ttl, FAILURE_TTL) if answer.verdict is Verdict.FAILED else self._ttl)

    async def _call(self, question: Question) -> Verdict:
        verdict = await self._get(question)
        self._answers[question] = _Answer(verdict, self._monotonic())
        opened = (question.user, question.workspace)
        if verdict is Verdict.YES:
            self._recent[opened] = None
        elif verdict is Verdict.NO:
            self._recent.pop(opened, None)
        return verdict

    async def _get(self, question: Question) -> Verdict:
        """Make one call."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_AT_ONCE),
                timeout=aiohttp.ClientTimeout(total=self._deadline),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"notebook-proxy/{__version__}", "Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
            )
        try:
            url = self._url.extend_query(question._asdict())
            async with self._session.get(url, allow_redirects=False) as response:
                status = response.status
        except TimeoutError:
            self._report(f"no answer within {self._deadline:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Never its text: it may hold the URL, and with it who asks for what.
            self._report(f"it cannot be asked ({type(error).__name__})")
        else:
            if 200 <= status < 300:  # noqa: PLR2004 - RFC 9110 section 15.3: Successful
                return Verdict.YES
            if status == _FORBIDDEN:
                return Verdict.NO
            self._report(f"it answers {status}, and only 2xx and 403 are answers")
        return Verdict.FAILED

    def _report(self, reason: str) -> None:
        """Say that nobody is let in, at most once in a while."""
        self._unreported += 1
        now = self._monotonic()
        if now - self._reported < _REPORT_EVERY:
            return
        logger.error(
            "authorize_url failed, so those it is asked about are denied: count=%d: %s", self._unreported, reason
        )
        self._reported, self._unreported = now, 0
