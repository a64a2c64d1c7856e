"""The kubelet of every node: one task per pod that was bound, which runs the pod and says in its status how it fares.

What must hold: a pod object goes only when its process has gone (or somebody forced it), so the name of a Deployment
that is deleted in the foreground stays taken until the port is free.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.podworker import PodWorker
from tests.cluster.resources import NODES, PODS, Obj, is_terminating, name_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cluster.images import Images
    from tests.cluster.recorder import Recorder
    from tests.cluster.registry import Registry
    from tests.cluster.store import Change
    from tests.cluster.volumes import Volumes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timings:
    """How long things take, in seconds; a real kubelet's values are behind the comments."""

    image_backoff: float = 0.05  # 10
    crash_backoff: float = 0.05  # 10
    mount_retry: float = 0.05  # 0.5
    config_retry: float = 0.05  # 10 to 60, with the pod's sync
    longest: float = 1.0  # 300


@dataclass(frozen=True)
class Node:
    """What the pods of all nodes share: where they write, what they are told, and how they get an address."""

    registry: Registry
    recorder: Recorder
    images: Images
    volumes: Volumes
    timings: Timings
    root: Path
    mark: str
    allocate_ip: Callable[[], str]


class Kubelet:
    """Runs the pods of all nodes."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unsubscribe = node.registry.store.subscribe(self._note)

    def worker(self, pod: Obj) -> PodWorker:
        """Return who runs a pod."""
        return self._workers[pod["metadata"]["uid"]]

    def read_log(self, namespace: str, name: str, query: dict[str, str]) -> str:
        """Return what the pod's first container wrote."""
        pod = self._node.registry.get(PODS, namespace, name)
        worker = self._workers.get(pod["metadata"]["uid"])
        text = worker.read_log(previous=query.get("previous") in {"true", "1"}) if worker else ""
        if "tailLines" in query:
            lines = text.splitlines(keepends=True)
            text = "".join(lines[max(0, len(lines) - int(query["tailLines"])) :])
        if "limitBytes" in query:  # from the first of those lines on, as a kubelet reads them
            text = text[: int(query["limitBytes"])]
        return text

    def _note(self, change: Change) -> None:
        if change.resource == NODES and change.type == "DELETED":
            for worker in self._workers.values():
                if worker.pod["spec"]["nodeName"] == name_of(change.obj):
                    worker.force()
        if change.resource != PODS or not change.obj["spec"].get("nodeName"):
            return
        uid = change.obj["metadata"]["uid"]
        if uid not in self._workers:
            if change.type == "DELETED":
                return
            worker = self._workers[uid] = PodWorker(self._node, change.obj)
            self._tasks[uid] = asyncio.get_running_loop().create_task(self._run(worker, uid))
        worker = self._workers[uid]
        if change.type == "DELETED":
            worker.force()
        elif is_terminating(change.obj):
            worker.end(change.obj)

    async def _run(self, worker: PodWorker, uid: str) -> None:
        try:
            await worker.run()
        except Exception:
            log.exception("the kubelet of the test cluster failed at pod %s", name_of(worker.pod))
        finally:
            self._node.volumes.release(worker.pod)
            self._workers.pop(uid, None)
            self._tasks.pop(uid, None)

    async def close(self) -> None:
        """Kill every pod, whatever its grace."""
        self._unsubscribe()
        for worker in self._workers.values():
            worker.force()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
