"""The cluster as a test sees it: one object that starts everything, and what a test may do to it.

async with Cluster() as cluster:
    config = cluster.kubeconfig()           # for any Kubernetes client
    cluster.server.faults.add(server_error(), verb="list", resource="deployments", times=3)
    cluster.images.set("tiny", Image(pull_error="not found"))
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.cluster import answers
from tests.cluster.access import Access, Rule, User
from tests.cluster.addresses import Addresses
from tests.cluster.controllers import Manager
from tests.cluster.deployments import DeploymentController
from tests.cluster.endpoints import EndpointSliceController
from tests.cluster.garbage import GarbageCollector, NamespaceController
from tests.cluster.images import Images, install
from tests.cluster.kubelet import Kubelet, Node, Timings
from tests.cluster.kubeproxy import KubeProxy
from tests.cluster.recorder import Recorder
from tests.cluster.registry import DeleteOptions, Registry
from tests.cluster.replicasets import ReplicaSetController
from tests.cluster.resources import NAMESPACES, NODES, PODS, Obj, Resource, name_of, namespace_of
from tests.cluster.scheduler import Provisioner, Scheduler
from tests.cluster.server import ApiServer
from tests.cluster.store import Change, Store
from tests.cluster.tls import make_server_context
from tests.cluster.volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from tests.cluster.faults import WatchBreak
    from tests.cluster.podworker import PodWorker
    from tests.cluster.requests import RequestLog

log = logging.getLogger(__name__)
WATCHDOG = Path(__file__).parent / "programs" / "watchdog.py"


class Cluster:
    """A cluster in this event loop. Parts: `server`, `registry`, `store`, `manager`, `kubelet`, `images`, `access`.

    `nodes`: their names, ready from the start. `kubelet=False`: pods are bound and nothing runs them; a test patches
    their status. `tls`: HTTPS with an authority of its own.
    """

    def __init__(
        self,
        *,
        nodes: Iterable[str] = ("node-1", "node-2"),
        namespaces: Iterable[str] = ("default", "kube-system"),
        kubelet: bool = True,
        tls: bool = False,
        port: int = 0,
        default_image: str = "tiny",
        timings: Timings | None = None,
    ) -> None:
        self.images = Images(default_image)
        self.access = Access()
        self._nodes, self._namespaces = tuple(nodes), tuple(namespaces)
        self._runs_pods, self._tls, self._port = kubelet, tls, port
        self._timings = timings or Timings()
        self._mark = f"TEST_CLUSTER={uuid.uuid4()}"
        self._watchdog: asyncio.subprocess.Process | None = None
        self._certificate: Path | None = None

    async def __aenter__(self) -> Self:
        self.root = Path(tempfile.mkdtemp(prefix="cluster-"))
        self._addresses = Addresses()
        self.store = Store()
        self.registry = Registry(self.store, self._addresses.allocate)
        self.recorder = Recorder(self.registry)
        self.manager = Manager(
            self.registry,
            [
                Provisioner(self.registry),
                DeploymentController(self.registry, self.recorder),
                ReplicaSetController(self.registry, self.recorder),
                Scheduler(self.registry, self.recorder, lambda pod: self.images.find(pod).unschedulable),
                EndpointSliceController(self.registry),
                GarbageCollector(self.registry),
                NamespaceController(self.registry),
            ],
        )
        self.kubelet: Kubelet | None = None
        self._proxy: KubeProxy | None = None
        self.volumes = Volumes(self.store, self.root)
        if self._runs_pods:
            await self._start_kubelet()
        context = None
        if self._tls:
            context, self._certificate = make_server_context(self.root)
        self.server = ApiServer(self.registry, self.access, self._read_log, context)
        self.server.port = self._port
        for namespace in self._namespaces:
            self.registry.create(NAMESPACES, "", {"metadata": {"name": namespace}})
        for node in self._nodes:
            self.add_node(node)
        await self.server.start()
        return self

    async def _start_kubelet(self) -> None:
        install(self.root / "images")
        node = Node(
            registry=self.registry,
            recorder=self.recorder,
            images=self.images,
            volumes=self.volumes,
            timings=self._timings,
            root=self.root,
            mark=self._mark,
            allocate_ip=self._addresses.allocate,
        )
        self.kubelet = Kubelet(node)
        self._proxy = KubeProxy(self.registry)
        self._watchdog = await asyncio.create_subprocess_exec(
            sys.executable, "-ISs", str(WATCHDOG), self._mark, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.server.stop()
        await self.manager.close()
        if self.kubelet:
            await self.kubelet.close()
        if self._proxy:
            await self._proxy.close()
        if self._watchdog:
            assert self._watchdog.stdin is not None
            self._watchdog.stdin.close()
            await self._watchdog.wait()
        self._addresses.close()
        await asyncio.to_thread(shutil.rmtree, self.root, ignore_errors=True)

    # -- the way in

    @property
    def mark(self) -> tuple[str, str]:
        """A variable for the environment of a process that must not outlive the cluster, however that ends."""
        name, _, value = self._mark.partition("=")
        return name, value

    @property
    def url(self) -> str:
        """The API server's URL."""
        return self.server.url

    @property
    def requests(self) -> RequestLog:
        """The log of requests."""
        return self.server.requests

    def kubeconfig(self, user: User | None = None, *, token_file: bool = False) -> Path:
        """Write a kubeconfig for `user` (default: one who may do everything) and return its path."""
        user = user or self.access.admin
        cluster: Obj = {"server": self.url}
        if self._certificate:
            cluster["certificate-authority-data"] = base64.b64encode(self._certificate.read_bytes()).decode()
        credentials: Obj = {"token": user.token}
        if token_file:
            path = self.root / f"{user.name.replace(':', '-')}.token"
            path.write_text(user.token)
            credentials = {"tokenFile": str(path)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user.name, "user": credentials}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user.name}}],
            "current-context": "test",
        }
        path = self.root / f"{user.name.replace(':', '-')}.kubeconfig"
        path.write_text(json.dumps(config, indent=2))
        return path

    def rotate_token(self, user: User | None = None) -> None:
        """Give a user another token, in the files that `kubeconfig` wrote too; the old one is refused with 401."""
        user = user or self.access.admin
        old = user.token
        self.access.rotate(user)
        for path in [*self.root.glob("*.kubeconfig"), *self.root.glob("*.token")]:
            path.write_text(path.read_text().replace(old, user.token))

    def add_user(self, name: str, rules: Iterable[Rule] | None = None, namespaces: Iterable[str] | None = None) -> User:
        """Let in somebody who may do only what (verb, group, resource) `rules` say."""
        return self.access.add(name, rules, namespaces)

    async def until(self, condition: Callable[[], bool], timeout_seconds: float = 10) -> None:
        """Wait until `condition` holds, looking after every change of the cluster.

        Raises:
            TimeoutError: it never did.
        """
        changed = asyncio.Event()
        unsubscribe = self.store.subscribe(lambda _: changed.set())
        try:
            async with asyncio.timeout(timeout_seconds):
                while not condition():
                    changed.clear()
                    await changed.wait()
        finally:
            unsubscribe()

    def record_changes(self) -> list[Change]:
        """Return a list to which every change from now on is added."""
        seen: list[Change] = []
        self.store.subscribe(seen.append)
        return seen

    # -- what may happen to a cluster

    async def stop_server(self) -> None:
        """Take the API server away; the cluster's pods go on."""
        await self.server.stop()

    async def start_server(self) -> None:
        """Bring the API server back, at the same address and with the same state."""
        await self.server.start()

    def break_watches(self, how: WatchBreak, resource: str = "") -> int:
        """Do to every open watch (of a resource) what `Watch.break_off` says; returns to how many."""
        chosen = [w for w in self.server.watches if not resource or w.target.resource.plural == resource]
        for watch in chosen:
            watch.break_off(how)
        return len(chosen)

    def send_bookmarks(self) -> None:
        """Send a bookmark to every watch that wants them, as a real server does once a minute."""
        for watch in self.server.watches:
            watch.bookmark()

    def compact(self) -> None:
        """Forget every change so far, so that older versions are refused with 410."""
        self.store.compact()

    def deny(
        self, webhook: str, why: str, *, verb: str = "create", resource: Resource | None = None
    ) -> Callable[[], None]:
        """Let an admission webhook deny such writes; returns what lifts it."""

        def admit(asked: str, kind: Resource, obj: Obj) -> None:
            if asked == verb and resource in (None, kind):
                raise answers.denied(webhook, why)

        self.registry.admission.append(admit)
        return lambda: self.registry.admission.remove(admit)

    def add_node(self, name: str, cpus: str = "64") -> None:
        """Add a node that is ready."""
        self.registry.create(NODES, "", {"metadata": {"name": name}, "spec": {"taints": []}})
        node = self.registry.patch(NODES, "", name, {"spec": {"taints": None}})
        now = self.registry.now()
        room = {"cpu": cpus, "memory": "256Gi", "pods": "110"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": now}
        self.registry.set_status(NODES, node, {"capacity": room, "allocatable": room, "conditions": [ready]})

    def cordon(self, node: str, *, on: bool = True) -> None:
        """Let no new pod onto the node, or let them again."""
        self.registry.patch(NODES, "", node, {"spec": {"unschedulable": on or None}})

    def drain(self, node: str) -> list[str]:
        """Cordon the node and evict its pods, as before a maintenance; returns their names."""
        self.cordon(node)
        pods = [pod for pod in self.store.items(PODS) if pod["spec"].get("nodeName") == node]
        for pod in pods:
            self.registry.delete(PODS, namespace_of(pod), name_of(pod))
        return [name_of(pod) for pod in pods]

    def pods(self, namespace: str = "", **labels: str) -> list[Obj]:
        """Return the pods with these labels."""
        found = self.store.items(PODS, namespace)
        return [pod for pod in found if labels.items() <= (pod["metadata"].get("labels") or {}).items()]

    def evict(self, pod: Obj) -> None:
        """Delete a pod gracefully: its Deployment makes another."""
        self.registry.delete(PODS, namespace_of(pod), name_of(pod))

    def force_delete(self, pod: Obj) -> None:
        """Delete a pod with no grace."""
        self.registry.delete(PODS, namespace_of(pod), name_of(pod), DeleteOptions(grace_seconds=0))

    def kill(self, pod: Obj, *, out_of_memory: bool = False) -> None:
        """Kill a pod's process, as the kernel would: the kubelet restarts it."""
        container = self.worker(pod).container
        assert container is not None
        container.kill(out_of_memory=out_of_memory)

    def worker(self, pod: Obj) -> PodWorker:
        """Return what runs a pod: its process, its files."""
        assert self.kubelet is not None
        return self.kubelet.worker(pod)

    def _read_log(self, namespace: str, name: str, query: dict[str, str]) -> str:
        return self.kubelet.read_log(namespace, name, query) if self.kubelet else ""
