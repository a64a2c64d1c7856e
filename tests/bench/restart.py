"""How long a proxy takes that starts where hundreds of workspaces run already, and what becomes of those.

`python -m tests.bench.restart` prints JSON. On the test cluster, a process of its own, the workspaces run before the
proxy is started, and are anybody's: made as another replica makes them, and answered for by one program that listens at
the address of every pod (`everywhere`). The proxy is killed and started anew, again and again. On the local backend no
notebook server outlives the proxy: there, it finds the directories of so many workspaces.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import selectors
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.backends.kubernetes import manifests, ownership
from proxy.backends.kubernetes.fence import format_time
from proxy.backends.kubernetes.tokens import derive_token, key_id
from proxy.config import Config
from proxy.workspace import Key
from tests.bench.programs import Cores, Program, free_port, plan_cores
from tests.cluster.client import connect
from tests.cluster.resources import CLAIMS, DEPLOYMENTS, PODS, SECRETS, SERVICES

if TYPE_CHECKING:
    from tests.cluster.client import Client
    from tests.cluster.resources import Obj, Resource

_PORT: Final = 8888
_PODS_OF_A_NODE: Final = 110
_SECRET: Final = "0123456789abcdef-bench"
_AT_ONCE: Final = 8
_OLDEST: Final = timedelta(hours=4.9)
"""How long ago the least used was used, as it is stored: due without the allowance for what a crash did not store."""
_LOOKS: Final = 3.0  # seconds for the reaper, which looks once in one


def everywhere() -> None:
    """Answer any request at each address that stands in a line of standard input with that address, for ever."""
    selector = selectors.DefaultSelector()
    for line in sys.stdin:
        selector.register(socket.create_server((line.strip(), _PORT)), selectors.EVENT_READ)
    print("listening", flush=True)
    while True:
        for key, _ in selector.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if key.data is None:
                accepted, _ = sock.accept()
                selector.register(accepted, selectors.EVENT_READ, sock.getsockname()[0].encode())
                continue
            try:
                if not (data := sock.recv(65536)):
                    raise ConnectionResetError
                if data.endswith(b"\r\n\r\n"):
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(key.data), key.data))
            except OSError:
                selector.unregister(sock)
                sock.close()


class Running:
    """So many workspaces that run on a test cluster, and were last used between now and as long ago as may be."""

    def __init__(self, cores: Cores, count: int, directory: Path, stack: ExitStack) -> None:
        nodes = f"--nodes={-(-count // _PODS_OF_A_NODE) + 1}"
        argv = [sys.executable, "-m", "tests.cluster", "--image=phantom", nodes]
        cluster = Program(argv, cores.load, directory / "cluster")
        stack.callback(cluster.stop)
        while not (text := cluster.log.read_text()).endswith("\n"):
            os.kill(cluster.pid, 0)
            time.sleep(0.01)
        self.kubeconfig = Path(text.splitlines()[0])
        self.keys = [Key(f"bench-{number}", "default") for number in range(count)]
        asyncio.run(self._make(count))
        self.address_of = asyncio.run(self._addresses())
        answers = Program(
            [sys.executable, "-c", "from tests.bench.restart import everywhere; everywhere()"], cores.load,
            directory / "everywhere", given="".join(f"{each}\n" for each in self.address_of.values()),
        )  # fmt: skip
        stack.callback(answers.stop)
        while "listening" not in answers.log.read_text():
            os.kill(answers.pid, 0)
            time.sleep(0.01)
        self.before = asyncio.run(self.deployments())

    async def _make(self, count: int) -> None:
        config = Config(notebook_secret=_SECRET, workspace_pvc_size="1Gi")
        now, left = datetime.now(UTC), iter(enumerate(self.keys))
        async with connect(self.kubeconfig, "bench") as client:

            async def make_some() -> None:
                for number, key in left:
                    await _make(client, config, key, now - _OLDEST * number / count)

            await asyncio.gather(*(make_some() for _ in range(_AT_ONCE)))
            while not all(ready for _, ready in (await self._deployments(client)).values()):
                await asyncio.sleep(0.2)

    async def _addresses(self) -> dict[str, str]:
        async with connect(self.kubeconfig, "bench") as client:
            pods = (await client.get(PODS, "default")).body["items"]
        return {pod["metadata"]["labels"]["app"].removeprefix("notebook-"): pod["status"]["podIP"] for pod in pods}

    async def deployments(self) -> dict[str, tuple[str, bool]]:
        """Return the UID of each workspace's Deployment, and whether it is ready and nobody is about to reap it."""
        async with connect(self.kubeconfig, "bench") as client:
            return await self._deployments(client)

    async def _deployments(self, client: Client) -> dict[str, tuple[str, bool]]:
        found: list[Obj] = (await client.get(DEPLOYMENTS, "default")).body["items"]
        return {
            each["metadata"]["name"]: (
                each["metadata"]["uid"],
                (each.get("status") or {}).get("readyReplicas") == 1
                and ownership.REAP_MARK not in each["metadata"]["annotations"],
            )
            for each in found
        }


async def _make(client: Client, config: Config, key: Key, used: datetime) -> None:
    """Make a workspace's objects, as a proxy does."""
    nonce, secret = "0" * 32, config.notebook_secret.get_secret_value()
    body = manifests.build_deployment(key, config)
    body["metadata"]["annotations"] |= {
        ownership.TOKEN_NONCE: nonce, ownership.KEY_ID: key_id(secret), ownership.LAST_ACTIVE: format_time(used)
    }  # fmt: skip
    await _create(client, CLAIMS, manifests.build_pvc(key, config))
    made = await _create(client, DEPLOYMENTS, body)
    owner = manifests.owner_reference(made)
    token = derive_token(secret, key.workspace_id, nonce)
    await _create(client, SECRETS, manifests.build_secret(key, config, token, owner))
    await _create(client, SERVICES, manifests.build_service(key, config, owner=owner))


async def _create(client: Client, resource: Resource, body: Obj) -> Obj:
    reply = await client.create(resource, "default", body)
    if reply.code != 201:
        raise RuntimeError(reply)
    made: Obj = reply.body
    return made


class Serving:
    """A proxy that has just been started."""

    def __init__(self, cores: Cores, directory: Path, *flags: str) -> None:
        self._port, self._ops = free_port(), free_port()
        argv = [
            sys.executable, "-m", "proxy", "serve", f"--listen=127.0.0.1:{self._port}",
            f"--ops-listen=127.0.0.1:{self._ops}", "--reap-interval=1s", *flags,
        ]  # fmt: skip
        began = time.perf_counter()
        self.program = Program(argv, cores.proxy, directory)
        self.ready_in = self.program.until(self._ops, "/readyz") - began

    def body(self, path: str) -> str:
        """Return the body of an answer, which must be 200."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}") as answer:
            return str(answer.read().decode())

    def metric(self, name: str, labels: str = "") -> float:
        """Return the sum of a metric's series with these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ops}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        start = f"notebook_proxy_{name}"
        found = [line for line in lines if line.startswith((f"{start}{{", f"{start} ")) and labels in line]
        return sum(float(line.rpartition(" ")[2]) for line in found)


def restart_on_cluster(cores: Cores, running: Running, directory: Path) -> dict[str, float]:
    """Start a proxy where they run, see that each is reached and none is reaped, and kill it."""
    secret = directory.parent / "notebook-secret"
    secret.write_text(_SECRET)
    flags = (
        "--backend=kubernetes", f"--kubeconfig={running.kubeconfig}", "--workspace-pvc-size=1Gi",
        f"--notebook-secret-file={secret}",
    )  # fmt: skip
    proxy = Serving(cores, directory, *flags)
    try:
        began = time.perf_counter()
        count = len(running.keys)
        _must(proxy.metric("workspaces", 'phase="running"') == count, "not all of them are known to run")
        for number, key in enumerate(running.keys):
            _must(proxy.body(f"/ws/{key.workspace_id}/x") == running.address_of[key.workspace_id], f"{key} is not it")
            if not number:
                first = time.perf_counter() - began
        time.sleep(max(0.0, began + _LOOKS - time.perf_counter()))
        _must(proxy.metric("reaper_age_seconds") < _LOOKS, "the reaper has not looked")
        reaped = proxy.metric("reaps_total")
        _must(asyncio.run(running.deployments()) == running.before, "not all of them are what they were")
        _must("ERROR" not in proxy.program.log.read_text(errors="replace"), "it has logged an error")
    finally:
        proxy.program.kill()
    return {"ready [s]": proxy.ready_in, "first answer of one of them, after that [ms]": first * 1000, "reaped": reaped}


def restart_here(cores: Cores, root: Path, count: int, directory: Path) -> dict[str, float]:
    """Start a proxy over the directories of so many workspaces, and kill it."""
    for number in range(count):
        place = root / f"bench-{number}"
        place.mkdir(parents=True, exist_ok=True)
        (place / ".workspace.yaml").write_text("idle_ttl: 2h\nlast_active: 2026-01-01T00:00:00Z\n")
    proxy = Serving(cores, directory, "--backend=local", f"--local-root={root}")
    proxy.program.kill()
    return {"local, ready [s]": proxy.ready_in}


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise RuntimeError(what)


def measure(cores: Cores, count: int, restarts: int) -> dict[str, float]:
    """Return medians, the longest that it took to be ready, and how many were reaped in all."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="notebook-restart-") as name, ExitStack() as stack:
        directory = Path(name)
        running = Running(cores, count, directory, stack)
        for number in range(restarts):
            here = restart_here(cores, directory / "workspaces", count, directory / f"local-{number}")
            there = restart_on_cluster(cores, running, directory / str(number))
            for metric, value in (there | here).items():
                found.setdefault(metric, []).append(value)
    summary = {metric: statistics.median(values) for metric, values in found.items()}
    return {**summary, "ready at the latest [s]": max(found["ready [s]"]), "reaped": sum(found["reaped"])}


def main() -> None:
    """Measure, and print the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.restart", description=__doc__)
    parser.add_argument("--workspaces", type=int, default=500, help="that run (default: 500)")
    parser.add_argument("--restarts", type=int, default=5, help="of the proxy on each backend (default: 5)")
    given = parser.parse_args()
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # who measures it may be on one core alone
    cores = plan_cores()
    if cores.load is not None:
        os.sched_setaffinity(0, {cores.load})
    print(json.dumps(measure(cores, given.workspaces, given.restarts)))


if __name__ == "__main__":
    main()
