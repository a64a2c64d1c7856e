"""One start of one workspace: from a request to a server that answers, or to the reason why it does not.

Waits for events and asks the server itself; ends early only for what waiting cannot mend. What may heal is reported
at once, and ends the start after `failed_ttl` without a sign of progress. What others take away is made again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, TypeVar

from proxy.backends.kubernetes import failures
from proxy.backends.kubernetes.api import path_to
from proxy.backends.kubernetes.api_errors import ApiFailure
from proxy.backends.kubernetes.calls import CORE
from proxy.backends.kubernetes.failures import CONTAINER
from proxy.backends.kubernetes.objects import is_ready
from proxy.backends.kubernetes.ownership import TEMPLATE_HASH
from proxy.backends.kubernetes.progress import progress_of
from proxy.backends.probe import until_answering
from proxy.errors import ProxyError, StartFailed, StartStalled
from proxy.target import PREFIX
from proxy.waiting import is_in_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from proxy.backends.kubernetes.api import Api
    from proxy.backends.kubernetes.following import Following
    from proxy.backends.kubernetes.objects import Objects
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.workspace import Handle, Key

logger = logging.getLogger(__name__)

_EVENTS_AFTER: Final = 1.5  # seconds in which a pod may come up without its events being asked for
_UNSEEN: Final = 5.0  # seconds after which what was made, and is not seen, is looked for
_LOG_LINES: Final = 20
_WORDS_DEADLINE: Final = 2.0  # seconds; nothing waits longer for more words of what is known
_PATIENCE: Final = 2.0  # seconds without an answer after which those who wait are told; the calls go on
_LOOK_EVERY: Final = 0.5  # seconds
_LONG_END: Final = 5.0  # seconds more than `stop_grace`, after which those who wait are told what they wait for
_T = TypeVar("_T")


class Start:
    """One start in flight; the workspace is `starting` for as long.

    Args:
        api: for events and logs.
        following: what is seen of the cluster.
        get_objects: returns what makes what is missing.
        key: which workspace.
        config: `ready_path`, `failed_ttl`, `stop_grace`.
        user: for whom.
        clock: what waits are measured by.
        remove: stops what never became ready.
    """

    def __init__(
        self,
        api: Api,
        following: Following,
        get_objects: Callable[[], Coroutine[Any, Any, Objects]],
        key: Key,
        config: Config,
        *,
        user: str,
        clock: Clock,
        remove: Callable[[Key], Awaitable[None]],
    ) -> None:
        self._api = api
        self._following = following
        self._sight = following.sight
        self._get_objects = get_objects
        self._key = key
        self._user = user
        self._target = f"{PREFIX}{key.workspace_id}/{config.ready_path}"
        self._failed_ttl = config.failed_ttl.total_seconds()
        self._long_end = config.stop_grace.total_seconds() + _LONG_END
        self._clock = clock
        self._remove = remove
        self._made: Mapping[str, Any] = {}  # the Deployment, as it was made or found
        self._made_at = 0.0
        self._ending_since: float | None = None  # what ran before is waited for
        self._seen = False, False  # since then: the Deployment with its replica, and what makes a handle
        self._furthest: failures.Step | None = None
        self._progress_at = clock.monotonic()
        self._trouble: str | None = None  # the code of what has been reported
        self._probing: asyncio.Task[None] | None = None
        self._probed: tuple[Any, ...] = ()  # what is asked: the handle, and the pods behind it

    async def run(self) -> Handle:
        """Return the handle when the server answers. Cancelled, it leaves what it has made.

        Raises:
            StartFailed: why it does not; what is left is swept up later, or taken up by the next start.
            ForeignObject: something that is not ours is in the way.
        """
        self._objects = await self._patiently(self._get_objects())
        await self._make()
        try:
            while True:
                if self._is_adrift():
                    await self._make()
                if (handle := self._answering()) is not None:
                    return handle
                await self._judge()
                if self._answering() is None:  # it may have answered while its events were read
                    await self._wait()
        finally:
            await _end(self._probing)

    def _answering(self) -> Handle | None:
        """Return the handle if the server answers and is ready; until then, see that it is asked."""
        handle = self._sight.handle_of(self._key) if self._deployment() is not None else None
        self._ask(handle)
        return handle if self._has_answered() and self._is_ready() else None

    # What is made ---------------------------------------------------------------------------------------------------

    async def _make(self) -> None:
        """Make what is missing; wait for what is ending first."""
        made = await self._patiently(self._ensure())
        self._made, self._made_at, self._seen = made, self._clock.monotonic(), (False, False)
        self._following.profiled(self._key, made)

    async def _ensure(self) -> Mapping[str, Any]:
        while True:
            made = await self._objects.ensure(
                self._key, self._user, is_clear=lambda: not self._sight.pods_of(self._key)
            )
            if made is not None:
                return made
            self._ending_since = self._clock.monotonic()
            try:
                if not await self._following.until_gone(self._key, pods=True):
                    left = failures.STILL_ENDING
                    raise StartFailed(left.code, left.message, retry_after=10)
            finally:
                self._ending_since = None

    async def _patiently(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do what is made of calls to the API server; tell those who wait if it takes long, and why. It goes on."""
        task = asyncio.create_task(work)
        try:
            while not await is_in_time(self._clock, self._clock.monotonic() + _LOOK_EVERY, task):
                if self._api.longest_wait() >= _PATIENCE:
                    self._report(failures.SILENCE)
                elif self._ending_since and self._clock.monotonic() - self._ending_since >= self._long_end:
                    self._report(failures.STILL_ENDING)
            return task.result()
        finally:
            await _end(task)

    def _deployment(self) -> Mapping[str, Any] | None:
        """Return the Deployment as it is seen, once that is not older than what was made."""
        seen, made = self._sight.deployment(self._key), self._made["metadata"]
        if seen is None or seen["metadata"]["uid"] != made["uid"]:
            return None
        return seen if seen["metadata"].get("generation", 0) >= made.get("generation", 0) else None

    def _is_adrift(self) -> bool:
        """Tell whether something of what was made has been taken away by somebody, or is not seen for too long."""
        deployment = self._deployment()
        is_asked_for = (
            deployment is not None
            and not deployment["metadata"].get("deletionTimestamp")
            and deployment["spec"].get("replicas") == 1
        )
        seen = is_asked_for, self._sight.handle_of(self._key) is not None
        is_lost = any(before and not now for before, now in zip(self._seen, seen, strict=True))
        self._seen = seen
        return is_lost or (not all(seen) and self._clock.monotonic() - self._made_at > _UNSEEN)

    def _is_ready(self) -> bool:
        deployment = self._deployment()
        return deployment is not None and is_ready(deployment)

    def _pods(self) -> list[Mapping[str, Any]]:
        """Return the pods of the present template that count; those of an older one may still be there."""
        wanted = (self._made["metadata"].get("annotations") or {}).get(TEMPLATE_HASH)
        return failures.current(
            pod
            for pod in self._sight.pods_of(self._key)
            if (pod["metadata"].get("annotations") or {}).get(TEMPLATE_HASH, wanted) == wanted
        )

    # Does it answer? ------------------------------------------------------------------------------------------------

    def _ask(self, handle: Handle | None) -> None:
        """Ask the server again and again whether it answers; anew if it is another, or was restarted."""
        runs = tuple((pod["metadata"]["uid"], failures.restarts_of(pod)) for pod in self._pods())
        if handle is None or (handle, runs) == self._probed:
            return
        if self._probing is not None:
            self._probing.cancel()
        self._probing, self._probed = asyncio.create_task(until_answering(handle, self._target)), (handle, runs)

    def _has_answered(self) -> bool:
        probing = self._probing
        return probing is not None and probing.done() and not probing.cancelled() and probing.exception() is None

    async def _wait(self) -> None:
        change = asyncio.create_task(self._following.wait(self._key))
        waiting = {change}
        if self._probing is not None and not self._probing.done():
            waiting.add(self._probing)
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(change)

    # What is in the way? --------------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        """Report what is in the way; raise what waiting cannot mend."""
        pods, now = self._pods(), self._clock.monotonic()
        step = max((failures.step_of(pod) for pod in pods), default=None)
        if step is not None and (self._furthest is None or step > self._furthest):
            self._furthest, self._progress_at = step, now
        deployment = self._deployment()
        events = await self._events(pods, now)
        diagnosis = failures.diagnose(deployment, pods, events) if deployment is not None else None
        self._following.progress(self._key, progress_of(pods, events, has_answered=self._has_answered()))
        if diagnosis is not None and diagnosis.code == "pvc-missing":
            await self._objects.surroundings.ensure_volume(self._key)  # the scheduler may only not have seen it yet
        if diagnosis is not None and diagnosis.code == "container-config" != self._trouble:
            await self._make()  # should it be the Secret that somebody took away
        if diagnosis is not None and diagnosis.is_final:
            log = await self._log(pods, diagnosis)
            diagnosis = failures.with_log(diagnosis, log)
            raise StartFailed(diagnosis.code, diagnosis.message, detail=log)
        self._report(diagnosis)
        if now - self._progress_at > self._failed_ttl:
            raise await self._give_up(diagnosis)

    def _report(self, diagnosis: failures.Diagnosis | None) -> None:
        code = diagnosis.code if diagnosis else None
        if code != self._trouble:
            self._trouble = code
            self._following.stalled(self._key, StartStalled(diagnosis.code, diagnosis.message) if diagnosis else None)

    async def _give_up(self, diagnosis: failures.Diagnosis | None) -> StartFailed:
        """Remove what never became ready, and say why."""
        try:
            await self._remove(self._key)
        except ProxyError as error:
            logger.warning("what failed to start could not be removed: id=%s: %s", self._key.workspace_id, error)
        if diagnosis is not None:
            return StartFailed(diagnosis.code, diagnosis.message)
        return StartFailed("no-answer", f"The notebook server did not answer 200 at {self._target} in time.")

    async def _events(self, pods: list[Mapping[str, Any]], now: float) -> Sequence[Mapping[str, Any]]:
        """Return the events of a pod that takes long to come up; they tell what its status does not."""
        slow = [pod for pod in pods if failures.step_of(pod) < failures.Step.STARTED]
        if not slow or now - self._progress_at < _EVENTS_AFTER:
            return []
        fields = f"involvedObject.uid={slow[0]['metadata']['uid']}"
        try:
            path = path_to(CORE, "events", self._key.namespace)
            return (await self._api.list(path, fields=fields, repeat=False, deadline=_WORDS_DEADLINE)).items
        except ApiFailure:
            return []  # it is only asked for more words

    async def _log(self, pods: list[Mapping[str, Any]], diagnosis: failures.Diagnosis) -> str:
        """Return the last lines of a container that ended."""
        if not diagnosis.wants_log or not pods:
            return ""
        path = path_to(CORE, "pods", self._key.namespace, pods[0]["metadata"]["name"])
        for previous in (True, False):
            try:
                log = await self._api.log_tail(
                    path, container=CONTAINER, lines=_LOG_LINES, previous=previous, deadline=_WORDS_DEADLINE
                )
            except ApiFailure:
                continue
            if log:
                return log
        return ""


async def _end(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task of ours and see it end."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait((task,))
    if task is not None and not task.cancelled():
        task.exception()  # retrieved: asyncio does not report it as forgotten
