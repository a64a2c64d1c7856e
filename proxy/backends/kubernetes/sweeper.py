"""Remove what never became ready, or has not been for long, and that nobody waits for or uses any more.

The supervisor reaps what runs; this is for what does not: a start that failed, one whose proxy died, a server that
crashes again and again after its user left. Removed as a reap is: announced first, so that any replica can object.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.kubernetes import failures
from proxy.backends.kubernetes.fence import last_active_of, parse_time
from proxy.backends.kubernetes.objects import looks_ready
from proxy.errors import Contested, ProxyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from proxy.backends.kubernetes.fence import Fence, Mark
    from proxy.backends.kubernetes.following import Following
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.workspace import Key

logger = logging.getLogger(__name__)

INTERVAL: Final = 60.0  # seconds


class Sweeper:
    """Sweeps. One per backend.

    Args:
        following: what is seen of the cluster.
        fence: announces.
        stop: stops a workspace, on the condition that its mark stands.
        config: `failed_ttl`, `idle_ttl`, `reaper`, `reap_grace`.
        clock: waits; its wall clock is compared with the cluster's.
    """

    def __init__(
        self,
        following: Following,
        fence: Fence,
        stop: Callable[[Key, Mark], Awaitable[None]],
        config: Config,
        clock: Clock,
    ) -> None:
        self._following = following
        self._fence = fence
        self._stop = stop
        self._failed_ttl = config.failed_ttl
        self._idle_ttl = config.idle_ttl
        self._is_reaping = config.reaper
        self._grace = config.reap_grace.total_seconds()
        self._clock = clock

    async def run(self) -> None:
        """Sweep every `INTERVAL`, until cancelled. Errors are logged and never end it."""
        while True:
            await self._clock.sleep(INTERVAL)
            try:
                await self.tick()
            except Exception:
                logger.exception("sweep broke")

    async def tick(self) -> None:
        """Remove what is due now: all are announced, then `reap_grace` passes once, then each is looked at again."""
        marked: list[tuple[Key, Mark]] = []
        for key in filter(self._is_due, self._following.sight.workspaces()):
            deployment = self._following.sight.deployment(key)
            try:
                if deployment is not None:
                    marked.append((key, await self._fence.mark(key, _last_use(deployment))))
            except ProxyError as error:
                _report(key, error)
        if marked:
            await self._clock.sleep(self._grace)
        for key, mark in marked:
            try:
                if self._is_due(key):
                    await self._stop(key, mark)
                    logger.warning("workspace removed, for it was not ready: id=%s", key.workspace_id)
                elif not self._following.is_starting(key):  # a start withdraws the mark itself
                    await self._fence.store(key, mark.last_active, pardon=True)
            except ProxyError as error:
                _report(key, error)

    def _is_due(self, key: Key) -> bool:
        """Tell whether it should be ready and has not been for `failed_ttl`, nor been used or begun since.

        What has no replica runs nothing, and is removed when it would have been reaped, and not been wanted since.
        """
        deployment = self._following.sight.deployment(key)
        if deployment is None or self._following.is_starting(key):
            return False
        if deployment["metadata"].get("deletionTimestamp"):
            return False
        if deployment["spec"].get("replicas") == 0:  # left by a crash before it had its replica, or scaled by somebody
            return self._is_reaping and self._clock.now() - _last_use(deployment) > self._idle_ttl + self._failed_ttl
        if deployment["spec"].get("replicas") != 1 or looks_ready(deployment):
            return False
        since = _last_use(deployment)
        diagnosis = failures.diagnose(deployment, self._following.sight.pods_of(key))
        if diagnosis is None or not diagnosis.is_final:  # what crashes again and again is ready in between
            since = max(since, _unready_since(deployment))
        return self._clock.now() - since > self._failed_ttl


def _report(key: Key, error: ProxyError) -> None:
    level = logging.INFO if isinstance(error, Contested) else logging.WARNING
    logger.log(level, "sweep put off: id=%s: %s", key.workspace_id, error)


def _last_use(deployment: Mapping[str, Any]) -> datetime:
    created = parse_time(deployment["metadata"].get("creationTimestamp")) or datetime.min.replace(tzinfo=UTC)
    return max(created, last_active_of(deployment) or created)


def _unready_since(deployment: Mapping[str, Any]) -> datetime:
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Available" and condition.get("status") != "True":
            return parse_time(condition.get("lastTransitionTime")) or datetime.min.replace(tzinfo=UTC)
    return datetime.min.replace(tzinfo=UTC)
