"""Tell what happens to workspaces without having been asked for here: they come, go, move and are marked.

What runs is derived from what is seen of the cluster. A handle is told while its Deployment is ready, and told lost the
moment it is not. What becomes ready is told once it answers HTTP: a pod that is ready may not listen yet. No decision
awaits; a start in flight tells for itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.kubernetes import ownership
from proxy.backends.kubernetes.failures import restarts_of
from proxy.backends.kubernetes.fence import annotations_of, extended_until_of, last_active_of, parse_time
from proxy.backends.kubernetes.noting import notes_of
from proxy.backends.kubernetes.objects import looks_ready
from proxy.backends.kubernetes.sight import Sight
from proxy.backends.probe import OK, probe
from proxy.errors import StartFailed, StopFailed
from proxy.target import PREFIX

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping

    from proxy.backends import Observer
    from proxy.backends.kubernetes.api import Api
    from proxy.backends.kubernetes.fence import Fence
    from proxy.backends.kubernetes.objects import Objects
    from proxy.backends.kubernetes.reflector import Change
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.report import Progress
    from proxy.workspace import Handle, Key

logger = logging.getLogger(__name__)

LOOK_AGAIN: Final = 2.0  # seconds between two looks when no event comes
_FIRST_PROBE_PAUSE: Final = 0.1  # seconds between probes of what others start; grows, for nobody waits for it here
_LONGEST_PROBE_PAUSE: Final = 5.0
_AT_ONCE: Final = 20  # servers that are asked, or whose tokens are read, at the same time


class Following:
    """Follows, and tells.

    Args:
        api: to follow.
        config: `namespace`, `ready_path`, `failed_ttl`, and what URLs are made of.
        clock: paces.
        fence: reads the marks of others.
        observer: who is told.
    """

    def __init__(self, api: Api, config: Config, clock: Clock, fence: Fence, observer: Observer | None) -> None:
        self._config = config
        self._clock = clock
        self._fence = fence
        self._observer = observer
        self.sight = Sight(api, config, clock, self._on_change, self._on_claim)
        self._objects: Objects | None = None
        self._is_adopting = True  # until what ran before has been told
        self._told: dict[Key, Handle] = {}  # what has been given out or reported, and not been lost since
        self._starting: set[Key] = set()
        self._changed: dict[Key, asyncio.Event] = {}  # of those that somebody waits for
        self._attendants: Counter[Key] = Counter()
        self._asking: dict[Key, asyncio.Task[None]] = {}  # those that are ready, until they answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._limit = asyncio.Semaphore(_AT_ONCE)

    def begin(self) -> list[asyncio.Task[None]]:
        """Follow from now on; return the tasks that do, which are this object's and end with `close`."""
        return [self._spawn(found.run(), f"reflector of {plural}") for plural, found in self.sight.by_plural.items()]

    async def synced(self) -> None:
        """Return when the whole cluster has been seen once."""
        for reflector in self.sight.reflectors:
            await reflector.synced()

    def adopt(self, objects: Objects) -> None:
        """Tell what runs, now that it has been seen; from then on, changes do.

        What was ready before, and never crashed, is not asked whether it answers: it most likely does, and if not, its
        first request sees.
        """
        self.know(objects)
        for key in self.sight.workspaces():
            self._look(key)
        self._is_adopting = False

    def know(self, objects: Objects) -> None:
        """Learn where tokens are to be had; nothing has a handle before."""
        self._objects, self.sight.keys = objects, objects.keys

    async def close(self) -> None:
        """Follow no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What is waited for --------------------------------------------------------------------------------------------

    def is_starting(self, key: Key) -> bool:
        """Tell whether it is being started here."""
        return key in self._starting

    @contextmanager
    def attending(self, key: Key) -> Iterator[None]:
        """Miss no change of the workspace between one `wait` and the next."""
        self._attendants[key] += 1
        self._changed.setdefault(key, asyncio.Event())
        try:
            yield
        finally:
            self._attendants[key] -= 1
            if not self._attendants[key]:
                del self._attendants[key], self._changed[key]

    async def wait(self, key: Key) -> None:
        """Return when something of the workspace's has changed since the last look, or after `LOOK_AGAIN`."""
        changed = self._changed[key]
        timer = asyncio.create_task(self._clock.sleep(LOOK_AGAIN))
        waiter = asyncio.create_task(changed.wait())
        try:
            await asyncio.wait((timer, waiter), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            waiter.cancel()
            changed.clear()

    async def until_gone(self, key: Key, *, pods: bool) -> bool:
        """Wait until no Deployment that ends is left; False if `terminating_timeout` is over first.

        Args:
            key: the workspace; `attending`.
            pods: whether to wait for its pods too, as they are seen: somebody may have deleted it in the background.

        Raises:
            StartFailed: Kubernetes does not answer.
        """
        assert self._objects is not None
        deadline = self._clock.monotonic() + self._config.terminating_timeout.total_seconds()
        while self._clock.monotonic() < deadline:
            found = await self._objects.find(key)
            if found is None and not (pods and self.sight.pods_of(key)):
                return True
            if found is not None and not (ownership.is_ours(found, key) and found["metadata"].get("deletionTimestamp")):
                return True
            await self.wait(key)
        return False

    # What is told ---------------------------------------------------------------------------------------------------

    @contextmanager
    def starting(self, key: Key) -> Iterator[None]:
        """Leave a workspace to whoever starts it; whoever does has lost what was told of it."""
        self._told.pop(key, None)
        self._starting.add(key)
        try:
            with self.attending(key):
                yield
        finally:
            self._starting.discard(key)
            self._look(key)  # what did not become ready in time may be it now

    def give(self, key: Key, handle: Handle) -> None:
        """Note a handle that a start returns."""
        self._told[key] = handle

    def forget(self, key: Key) -> None:
        """Note that a workspace was stopped, or that it is not known whether; what still runs is told anew."""
        self._told.pop(key, None)
        self._look(key)

    def stalled(self, key: Key, trouble: Any) -> None:
        """Pass on what is in the way of a start."""
        if self._observer is not None:
            self._observer.stalled(key, trouble)

    def progress(self, key: Key, progress: Progress) -> None:
        """Pass on how far a start has come."""
        if self._observer is not None:
            self._observer.progress(key, progress)

    def _on_change(self, key: Key, change: Change) -> None:
        if key in self._changed:
            self._changed[key].set()
        self._look(key)
        if change.new is not None and "template" in (change.new.get("spec") or {}):
            self._tell_stored(key, change.old, change.new)

    def _on_claim(self, key: Key, change: Change) -> None:
        """Tell what is kept of a workspace."""
        if self._observer is not None:
            self._observer.noted(key, None if change.new is None else notes_of(change.new))

    def profiled(self, key: Key, deployment: Mapping[str, Any]) -> None:
        """Tell with which profile a Deployment was made."""
        profile = annotations_of(deployment).get(ownership.PROFILE)
        if self._observer is not None and profile is not None:
            self._observer.profiled(key, profile)

    def _tell_stored(self, key: Key, old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> None:
        """Tell what another replica has stored on a Deployment."""
        if self._observer is None:
            return
        stored = last_active_of(new)
        if stored is not None and (old is None or last_active_of(old) != stored):
            self._observer.active(key, stored)
        until = extended_until_of(new)
        if until is not None and (old is None or extended_until_of(old) != until):
            self._observer.extended(key, until)
        if self._fence.is_condemned(old, new):
            self._observer.condemned(key)
            if key in self._starting:
                self._spawn(self._object_to_reap(key), "objection")

    async def _object_to_reap(self, key: Key) -> None:
        """Withdraw a mark from what is being started here."""
        try:
            await self._fence.store(key, self._clock.now(), pardon=True)
        except StopFailed as error:
            logger.warning("a mark was not withdrawn: id=%s: %s", key.workspace_id, error)

    def _look(self, key: Key) -> None:
        """Compare what is seen with what was told, and tell the difference."""
        if self._observer is None or self._objects is None or key in self._starting:
            return
        deployment = self.sight.deployment(key)
        now = self.sight.handle_of(key) if deployment is not None and looks_ready(deployment) else None
        told = self._told.get(key)
        if told is not None and told != now:
            del self._told[key]
            self._observer.lost(key, told, _reason(deployment))
        if self.sight.running(key) is None or (now is not None and told == now):
            return
        if self._is_adopting and now is not None and not any(map(restarts_of, self.sight.pods_of(key))):
            self._tell_found(key, now)
        elif key not in self._asking:
            self._asking[key] = self._spawn(self._ask(key), f"ask {key.workspace_id}")

    def _tell_found(self, key: Key, handle: Handle) -> None:
        deployment = self.sight.deployment(key)
        assert deployment is not None
        assert self._observer is not None
        self._told[key] = handle
        made = parse_time(deployment["metadata"].get("creationTimestamp"))
        self._observer.found(key, handle, last_active_of(deployment), made)
        self.profiled(key, deployment)
        until = extended_until_of(deployment)
        if until is not None:
            self._observer.extended(key, until)

    async def _ask(self, key: Key) -> None:
        """Tell of a server that is ready once it answers; after `failed_ttl` even so: somebody must stop it."""
        try:
            handle = await self._answering(key)
        finally:
            del self._asking[key]
        if handle is not None and key not in self._starting and key not in self._told:
            self._tell_found(key, handle)

    async def _answering(self, key: Key) -> Handle | None:
        """Return the handle of what is ready when it answers; None when it is not ready any more."""
        assert self._objects is not None
        pause, until = _FIRST_PROBE_PAUSE, self._clock.monotonic() + self._config.failed_ttl.total_seconds()
        target = f"{PREFIX}{key.workspace_id}/{self._config.ready_path}"
        while (deployment := self.sight.running(key)) is not None and key not in self._starting:
            async with self._limit:
                handle = self.sight.handle_of(key)
                if self._objects.keys.token_of(key, deployment) is None:
                    try:
                        await self._objects.learn_token(key, deployment)
                    except StartFailed as error:
                        logger.debug("a token was not learnt: id=%s: %s", key.workspace_id, error)
                    handle = self.sight.handle_of(key)
                is_up = handle is not None and await probe(handle, target) == OK
            if (
                (is_up or self._clock.monotonic() >= until)
                and self.sight.running(key)
                and self.sight.handle_of(key) == handle
            ):
                return handle
            await self._clock.sleep(pause)
            pause = min(2 * pause, _LONGEST_PROBE_PAUSE)
        return None

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _reason(deployment: Mapping[str, Any] | None) -> str:
    if deployment is None:
        return "its Deployment was deleted"
    if deployment["metadata"].get("deletionTimestamp"):
        return "its Deployment is being deleted"
    if deployment["spec"].get("replicas") == 0:
        return "its Deployment was scaled to zero"
    if looks_ready(deployment):
        return "its Service was deleted, or has another address"
    return "its pod is not ready any more"
