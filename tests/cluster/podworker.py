"""One pod on its node, from bound to gone: mount, pull, configure, run, restart, end.

Each failure is reported as a real kubelet does (state, reason, events) and tried again, so that what is mended heals.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from tests.cluster.container import OOM_EXIT_CODE, Command, Container, Sandbox, translate
from tests.cluster.images import Image, replaced_command
from tests.cluster.podstatus import build_status, terminated, waiting
from tests.cluster.registry import DeleteOptions
from tests.cluster.resources import PODS, Obj, name_of, namespace_of
from tests.cluster.volumes import ConfigError, MountError, environment_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.kubelet import Node

_NODE_ADDRESS = "127.0.0.1"
_START_ERROR_CODE = 128


class PodWorker:
    """Runs one pod. `end` begins its graceful end, `force` skips the grace."""

    def __init__(self, node: Node, pod: Obj) -> None:
        self.pod = pod
        self.container: Container | None = None
        self._node = node
        self._uid: str = pod["metadata"]["uid"]
        self._directory = node.root / "pods" / self._uid
        self._address = ""
        self._restarts = 0
        self._last: Obj = {}
        self._started = ""
        self._ending = asyncio.Event()
        self._forced = asyncio.Event()

    def end(self, pod: Obj) -> None:
        """Begin to end: the pod was deleted, and `pod` says how much grace it has."""
        self.pod = pod
        self._ending.set()

    def force(self) -> None:
        """End at once: the pod object is gone, or its node is."""
        self._ending.set()
        self._forced.set()

    def read_log(self, *, previous: bool = False) -> str:
        """Return what the container wrote in its present run, or in the one before."""
        run = self._restarts - 1 if previous else self._restarts
        log = self._directory / f"{run}.log"
        if not log.exists() and not previous and run:
            log = self._directory / f"{run - 1}.log"
        return log.read_text(errors="replace") if log.exists() else ""

    async def run(self) -> None:
        """Live until the pod is deleted, then end."""
        for directory in ("home", "tmp"):
            (self._directory / directory).mkdir(parents=True, exist_ok=True)
        life = asyncio.create_task(self._live())
        ended = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({life, ended}, return_when=asyncio.FIRST_COMPLETED)
            if life.done() and life.exception():
                await life
            await ended
        finally:
            life.cancel()
            ended.cancel()
            await asyncio.gather(life, ended, return_exceptions=True)
            await self._die()

    async def _die(self) -> None:
        if self.container and self.container.is_running:
            name = self.pod["spec"]["containers"][0]["name"]
            if not self._forced.is_set():
                self._report("Normal", "Killing", f"Stopping container {name}")
            grace = self.pod["metadata"].get("deletionGracePeriodSeconds", 0)
            code = await self.container.stop(0 if self._forced.is_set() else grace, self._forced)
            self._write("Running", self._terminated(code, "Completed" if code == 0 else "Error"))
        pod = self._node.registry.store.get(PODS, namespace_of(self.pod), name_of(self.pod))
        if pod and pod["metadata"]["uid"] == self._uid and self._ending.is_set():
            options = DeleteOptions(grace_seconds=0, uid=self._uid)
            self._node.registry.delete(PODS, namespace_of(pod), name_of(pod), options)

    async def _live(self) -> None:
        """Run the container, again and again if the restart policy says so."""
        mounts = await self._mount()
        self._address = self._node.allocate_ip()
        policy = self.pod["spec"].get("restartPolicy", "Always")
        for failures in itertools.count():
            await self._pull()
            env = await self._configure()
            code, reason = await self._run_once(self._sandbox(mounts), env)
            state = self._terminated(code, reason)
            again = policy == "Always" or (policy == "OnFailure" and code != 0)
            phase = "Running" if again else "Succeeded" if code == 0 else "Failed"
            self._write(phase, state)
            if not again:
                return
            self._last = state
            await self._back_off_restart(failures)
            self._restarts += 1

    def _image(self) -> Image:
        return self._node.images.find(self.pod)

    async def _mount(self) -> dict[str, Path]:
        self._write("Pending", waiting("ContainerCreating"))
        while True:
            image = self._image()
            try:
                if image.mount_error or image.attach_error:
                    reason = "FailedAttachVolume" if image.attach_error else "FailedMount"
                    raise MountError(image.mount_error or image.attach_error, reason)
                return self._node.volumes.mount(self.pod, self._directory)
            except MountError as error:
                component = "attachdetach-controller" if error.reason == "FailedAttachVolume" else "kubelet"
                self._report("Warning", error.reason, str(error), component)
            await asyncio.sleep(self._node.timings.mount_retry)

    async def _pull(self) -> None:
        name = self.pod["spec"]["containers"][0].get("image", "")
        for failures in itertools.count():
            image = self._image()
            self._report("Normal", "Pulling", f'Pulling image "{name}"')
            await asyncio.sleep(image.pull_seconds)
            if image.pull_until:
                await image.pull_until.wait()
            if not image.pull_error:
                self._report("Normal", "Pulled", f'Successfully pulled image "{name}" in 1ms (1ms including waiting).')
                return
            why = f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": {image.pull_error}'
            code = "NotFound" if image.pull_error == "not found" else "Unknown"
            message = f'Failed to pull image "{name}": rpc error: code = {code} desc = {why}'
            self._report("Warning", "Failed", message)
            self._report("Warning", "Failed", "Error: ErrImagePull")
            self._write("Pending", waiting("ErrImagePull", f"rpc error: code = {code} desc = {why}"))
            await asyncio.sleep(0)
            backing_off = f'Back-off pulling image "{name}"'
            self._report("Normal", "BackOff", backing_off)
            self._report("Warning", "Failed", "Error: ImagePullBackOff")
            self._write("Pending", waiting("ImagePullBackOff", f"{backing_off}: ErrImagePull: {why}"))
            await asyncio.sleep(self._delay(self._node.timings.image_backoff, failures))

    async def _configure(self) -> dict[str, str]:
        while True:
            image = self._image()
            try:
                if image.config_error:
                    raise ConfigError(image.config_error)
                container = self.pod["spec"]["containers"][0]
                return environment_of(self._node.registry.store, self.pod, container, self._address)
            except ConfigError as error:
                self._report("Warning", "Failed", f"Error: {error}")
                self._write("Pending", waiting("CreateContainerConfigError", str(error)))
            await asyncio.sleep(self._node.timings.config_retry)

    def _sandbox(self, mounts: dict[str, Path]) -> Sandbox:
        program = "jupyter" if self._image().program == "jupyter" else "tiny"
        # The container's own file system: one per pod, so that pods do not meet in /tmp.
        own = {"/tmp": self._directory / "tmp", "/home/jovyan": self._directory / "home"}
        executables = self._node.root / "images" / program
        return Sandbox(self._address, self._directory, f"{self._node.mark}-{self._uid}", {**own, **mounts}, executables)

    async def _run_once(self, sandbox: Sandbox, env: dict[str, str]) -> tuple[int, str]:
        """Run the container to its end; returns its exit code and the reason."""
        container, image = self.pod["spec"]["containers"][0], self._image()
        name = container["name"]
        self._started = self._node.registry.now()
        self._report("Normal", "Created", f"Container created: {name}")
        if image.program == "phantom":
            self._report("Normal", "Started", f"Container started: {name}")
            self._write("Running", {"running": {"startedAt": self._started}})
            await asyncio.Event().wait()
        try:
            replaced = replaced_command(image)
            command = Command(replaced, env, sandbox.directory) if replaced else translate(container, env, sandbox)
            log = self._directory / f"{self._restarts}.log"
            self.container = await Container.start(command, sandbox.mark, log)
        except FileNotFoundError as error:
            why = f'exec: "{error}": executable file not found in $PATH: unknown'
            self._report("Warning", "Failed", f"Error: failed to create containerd task: {why}")
            return _START_ERROR_CODE, "StartError"
        self._report("Normal", "Started", f"Container started: {name}")
        self._write("Running", {"running": {"startedAt": self._started}})
        if image.is_out_of_memory:
            self.container.kill(out_of_memory=True)
        code = await self.container.wait()
        if self.container.was_out_of_memory:
            return OOM_EXIT_CODE, "OOMKilled"
        return code, "Completed" if code == 0 else "Error"

    async def _back_off_restart(self, failures: int) -> None:
        # The first restart is immediate, as in a real kubelet.
        if not failures:
            await asyncio.sleep(0)
            return
        name = self.pod["spec"]["containers"][0]["name"]
        where = f"{name_of(self.pod)}_{namespace_of(self.pod)}({self._uid})"
        delay = min(10 * 2 ** (failures - 1), 300)
        message = f"Back-off restarting failed container {name} in pod {where}"
        self._report("Warning", "BackOff", message)
        why = f"back-off {delay}s restarting failed container={name} pod={where}"
        self._write("Running", waiting("CrashLoopBackOff", why))
        await asyncio.sleep(self._delay(self._node.timings.crash_backoff, failures - 1))

    def _delay(self, first: float, failures: int) -> float:
        return min(first * float(2**failures), self._node.timings.longest)

    def _terminated(self, code: int, reason: str) -> Obj:
        return terminated(code, reason, self._started, self._node.registry.now(), self._container_id())

    def _container_id(self) -> str:
        return f"containerd://{self._uid}-{self._restarts}" if self._started else ""

    def _write(self, phase: str, state: Obj) -> None:
        pod = self._node.registry.store.get(PODS, namespace_of(self.pod), name_of(self.pod))
        if pod is None or pod["metadata"]["uid"] != self._uid:
            return
        status = build_status(
            pod,
            phase=phase,
            state=state,
            last=self._last,
            restarts=self._restarts,
            container_id=self._container_id(),
            addresses=(_NODE_ADDRESS, self._address),
            now=self._node.registry.now(),
        )
        self._node.registry.set_status(PODS, pod, status)

    def _report(self, kind: str, reason: str, message: str, component: str = "kubelet") -> None:
        host = self.pod["spec"]["nodeName"] if component == "kubelet" else ""
        recorder = self._node.recorder
        (recorder.normal if kind == "Normal" else recorder.warning)(component, self.pod, reason, message, host=host)
