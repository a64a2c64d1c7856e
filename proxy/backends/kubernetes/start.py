"""One start of one workspace: from a request to a server that answers, or to the reason why it does not.

Waits for events and asks the server itself; ends early only for what waiting cannot mend. What may heal is reported
at once, and ends the start after `failed_ttl` without a sign of progress.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.kubernetes import failures
from proxy.backends.kubernetes.api import path_to
from proxy.backends.kubernetes.api_errors import ApiFailure
from proxy.backends.kubernetes.objects import CORE, is_ready
from proxy.backends.probe import until_answering
from proxy.errors import ProxyError, StartFailed, StartStalled
from proxy.target import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.backends.kubernetes.backend import KubernetesBackend
    from proxy.backends.kubernetes.objects import Objects
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.workspace import Handle, Key

logger = logging.getLogger(__name__)

_EVENTS_AFTER: Final = 3.0  # seconds in which a pod may come up without its events being asked for
_LOG_LINES: Final = 20


class Start:
    """One start in flight.

    Args:
        cluster: what is known of the cluster.
        objects: makes what is missing.
        key: which workspace.
        config: `ready_path`, `failed_ttl`.
        clock: what waits are measured by.
    """

    def __init__(self, cluster: KubernetesBackend, objects: Objects, key: Key, config: Config, clock: Clock) -> None:
        self._cluster = cluster
        self._objects = objects
        self._key = key
        self._target = f"{PREFIX}{key.workspace_id}/{config.ready_path}"
        self._failed_ttl = config.failed_ttl.total_seconds()
        self._clock = clock
        self._progress: tuple[Any, ...] = ()
        self._progress_at = clock.monotonic()
        self._trouble: str | None = None  # the code of what has been reported

    async def run(self) -> Handle:
        """Return the handle when the server answers. Cancelled, it leaves what it has made.

        Raises:
            StartFailed: why it does not; what is left is swept up later, or taken up by the next start.
            ForeignObject: something that is not ours is in the way.
        """
        while await self._objects.ensure(self._key) is None:
            if not await self._cluster.until_gone(self._key, self._objects):
                raise StartFailed(
                    "still-terminating",
                    "What ran before has not ended yet (a node that does not answer?); Kubernetes goes on ending it.",
                    retry_after=10,
                )
        probing: asyncio.Task[None] | None = None
        probed: Handle | None = None
        try:
            while True:
                handle = self._cluster.handle_of(self._key)
                if handle is not None and handle != probed:
                    await _end(probing)
                    probing, probed = asyncio.create_task(until_answering(handle, self._target)), handle
                if handle is not None and probing is not None and probing.done() and self._is_ready():
                    return handle
                await self._judge()
                await self._wait(probing)
        finally:
            await _end(probing)

    def _deployment(self) -> Mapping[str, Any] | None:
        return self._cluster.deployments.get(self._key.namespace, self._key.deployment_name)

    def _is_ready(self) -> bool:
        deployment = self._deployment()
        return deployment is not None and is_ready(deployment)

    def _pods(self) -> list[Mapping[str, Any]]:
        name = self._key.deployment_name
        return [
            pod
            for pod in self._cluster.pods.items()
            if pod["metadata"].get("namespace") == self._key.namespace
            and (pod["metadata"].get("labels") or {}).get("app") == name
            and not pod["metadata"].get("deletionTimestamp")
        ]

    async def _wait(self, probing: asyncio.Task[None] | None) -> None:
        change = asyncio.create_task(self._cluster.wait(self._key))
        waiting = {change} if probing is None or probing.done() else {change, probing}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(change)

    async def _judge(self) -> None:
        """Report what is in the way; raise what waiting cannot mend."""
        deployment = self._deployment()
        if deployment is None:
            return
        pods = self._pods()
        progress = tuple((pod["metadata"]["uid"], failures.step_of(pod)) for pod in pods)
        now = self._clock.monotonic()
        if progress != self._progress:
            self._progress, self._progress_at = progress, now
        diagnosis = failures.diagnose(deployment, pods, await self._events(pods, now))
        if diagnosis is None:
            if self._trouble is not None:
                self._trouble = None
                self._cluster.stalled(self._key, None)
        elif diagnosis.is_final:
            raise StartFailed(diagnosis.code, diagnosis.message, detail=await self._log(pods, diagnosis))
        elif diagnosis.code != self._trouble:
            self._trouble = diagnosis.code
            self._cluster.stalled(self._key, StartStalled(diagnosis.code, diagnosis.message))
        if now - self._progress_at > self._failed_ttl:
            raise await self._give_up(diagnosis)

    async def _give_up(self, diagnosis: failures.Diagnosis | None) -> StartFailed:
        """Remove what never became ready, and say why."""
        try:
            await self._cluster.stop(self._key)
        except ProxyError as error:
            logger.warning("what failed to start could not be removed: id=%s: %s", self._key.workspace_id, error)
        if diagnosis is not None:
            return StartFailed(diagnosis.code, diagnosis.message)
        return StartFailed("no-answer", f"The notebook server did not answer 200 at {self._target} in time.")

    async def _events(self, pods: list[Mapping[str, Any]], now: float) -> list[Mapping[str, Any]]:
        """Return the events of a pod that takes long to come up; they tell what its status does not."""
        slow = [pod for pod in pods if failures.step_of(pod) < failures.Step.STARTED]
        if not slow or now - self._progress_at < _EVENTS_AFTER:
            return []
        fields = f"involvedObject.uid={slow[0]['metadata']['uid']}"
        try:
            return list(
                (await self._cluster.api.list(path_to(CORE, "events", self._key.namespace), fields=fields)).items
            )
        except ApiFailure:
            return []  # it is only asked for more words

    async def _log(self, pods: list[Mapping[str, Any]], diagnosis: failures.Diagnosis) -> str:
        """Return the last lines of a container that ended."""
        if not diagnosis.wants_log or not pods:
            return ""
        path = path_to(CORE, "pods", self._key.namespace, pods[0]["metadata"]["name"])
        for previous in (True, False):
            try:
                return await self._cluster.api.log_tail(
                    path, container=failures.CONTAINER, lines=_LOG_LINES, previous=previous
                )
            except ApiFailure:
                continue
        return ""


async def _end(task: asyncio.Task[None] | None) -> None:
    """Cancel a task of ours and see it end."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait((task,))
