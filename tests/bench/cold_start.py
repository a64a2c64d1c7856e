"""How long a held request waits after its notebook server has begun to listen: the proxy's share of a cold start.

`python -m tests.bench.cold_start`. Each start is a new workspace with a real JupyterLab, on an otherwise idle proxy
process. The clock starts when the server's own port accepts a connection, and stops at the first byte of the answer to
a request that has waited at the proxy for the whole start. That first connection asks the server directly: what
Jupyter itself takes from listening to answering is in both figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import signal
import statistics
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from proxy import __version__
from tests.cluster.client import connect
from tests.cluster.resources import DEPLOYMENTS, PODS
from tests.e2e import REPOSITORY, Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cluster.client import Client

_LOOK_SECONDS: Final = 0.001  # between two looks; the figures are that exact
_PORT: Final = re.compile(r"--ServerApp\.port=(\d+) .*--ServerApp\.base_url=/ws/([^/]+)/")

Address = tuple[str, int]


@dataclass(frozen=True)
class Sample:
    """One start, in milliseconds since the server listened."""

    proxied: float
    direct: float


class Backend(Protocol):
    """Where a notebook server comes from, for one proxy."""

    proxy: Proxy

    async def find(self, workspace_id: str) -> Address:
        """Return the address of a server that is being started."""

    async def end(self, workspace_id: str) -> None:
        """Remove the server, and return when it is gone."""


class Local:
    """The local backend: the server's command line has its port."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    async def find(self, workspace_id: str) -> Address:
        while True:
            for command in self.proxy.others().values():
                found = _PORT.search(command)
                if found and found[2] == workspace_id:
                    return "127.0.0.1", int(found[1])
            await asyncio.sleep(_LOOK_SECONDS)

    async def end(self, workspace_id: str) -> None:
        for pid in self.proxy.servers(workspace_id):
            os.kill(pid, signal.SIGKILL)
        while self.proxy.others():
            await asyncio.sleep(_LOOK_SECONDS)


class Kubernetes:
    """The Kubernetes backend, on the test cluster: the pod's status has its address before the server is up."""

    def __init__(self, proxy: Proxy, client: Client) -> None:
        self.proxy = proxy
        self._client = client

    async def find(self, workspace_id: str) -> Address:
        async with self._client.watch(PODS, "default", labelSelector=f"app=notebook-{workspace_id}") as events:
            while event := await events.next(60):
                if address := event["object"]["status"].get("podIP"):
                    return address, 8888
        raise RuntimeError("the watch has ended")

    async def end(self, workspace_id: str) -> None:
        name = f"notebook-{workspace_id}"
        await self._client.delete(DEPLOYMENTS, "default", name, propagationPolicy="Foreground")
        while (await self._client.get(DEPLOYMENTS, "default", name)).code != 404:
            await asyncio.sleep(_LOOK_SECONDS)


@asynccontextmanager
async def local(directory: Path) -> AsyncIterator[Local]:
    """A proxy with the local backend."""
    proxy = Proxy(directory)
    try:
        await asyncio.to_thread(proxy.until_listening)
        yield Local(proxy)
    finally:
        proxy.clear()


@asynccontextmanager
async def kubernetes(directory: Path) -> AsyncIterator[Kubernetes]:
    """A proxy with the Kubernetes backend, and a test cluster in a process of its own."""
    cluster = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cluster", cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert cluster.stdout is not None
        kubeconfig = Path((await cluster.stdout.readline()).decode().strip())
        proxy = Proxy(directory, "--backend=kubernetes", f"--kubeconfig={kubeconfig}", "--workspace-pvc-size=1Gi")
        try:
            await asyncio.to_thread(proxy.until_listening)
            async with connect(kubeconfig, "bench") as client:
                yield Kubernetes(proxy, client)
        finally:
            proxy.clear()
    finally:
        cluster.terminate()
        await cluster.wait()


async def measure(backend: Backend, workspace_id: str) -> Sample:
    """Start one workspace by a request that is held, and end it."""
    path = f"/ws/{workspace_id}/api"
    held = asyncio.create_task(_ask(("127.0.0.1", backend.proxy.port), f"{path}/status"))
    address = await backend.find(workspace_id)
    while True:
        try:
            connection = await asyncio.open_connection(*address)
            break
        except OSError:
            await asyncio.sleep(_LOOK_SECONDS)
    listening = time.perf_counter()
    direct = asyncio.create_task(_ask(address, path, connection))
    sample = Sample(*((moment - listening) * 1000 for moment in await asyncio.gather(held, direct)))
    await backend.end(workspace_id)
    return sample


async def _ask(
    address: Address, target: str, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
) -> float:
    """Send a GET; return the moment of the answer's first byte. Any answer but 200 is an error."""
    reader, writer = connection or await asyncio.open_connection(*address)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nConnection: close\r\n\r\n".encode())
    first = await reader.readexactly(1)
    moment = time.perf_counter()
    answer = first + await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(answer.decode(errors="replace"))
    return moment


def summarise(values: list[float]) -> dict[str, float]:
    """Return the median and the spread."""
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    found = {"median": median, "lower_quartile": lower, "upper_quartile": upper, "min": min(values), "max": max(values)}
    return {name: round(value, 1) for name, value in found.items()}


def show(name: str, what: str, summary: dict[str, float]) -> str:
    """Return one row of the table."""
    cells = [f"{summary[key]:.0f}" for key in ("median", "lower_quartile", "upper_quartile", "min", "max")]
    return f"| {name} | {what} | {' | '.join(cells)} |"


async def run(starts: int, backends: list[str]) -> dict[str, Any]:
    """Measure, print the table, and return everything."""
    now = datetime.now(UTC)
    report: dict[str, Any] = {
        "date": f"{now:%Y-%m-%d}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "version": __version__,
        "starts": starts,
        "unit": "ms after the server listened",
        "backends": {},
    }
    print(
        f"{report['date']}, {report['cores']} cores, Python {report['python']}, {starts} starts each; {report['unit']}"
    )
    print("| backend | first byte of | median | lower quartile | upper quartile | min | max |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, begin in (("local", local), ("kubernetes", kubernetes)):
        if name not in backends:
            continue
        with tempfile.TemporaryDirectory() as directory:
            async with begin(Path(directory)) as backend:
                await measure(backend, "warm-up")  # what is read from disk once counts for nobody
                samples = [await measure(backend, f"bench-{number}") for number in range(starts)]
        proxied, direct = ([getattr(sample, which) for sample in samples] for which in ("proxied", "direct"))
        report["backends"][name] = {"proxied": summarise(proxied), "direct": summarise(direct), "all": proxied}
        print(show(name, "the held request", summarise(proxied)), flush=True)
        print(show(name, "Jupyter, asked directly", summarise(direct)), flush=True)
    return report


def main() -> None:
    """Run, print the table and the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cold_start", description=__doc__)
    parser.add_argument("--starts", type=int, default=9, help="of each backend")
    parser.add_argument("--backend", action="append", choices=("local", "kubernetes"), help="only this; repeatable")
    given = parser.parse_args()
    report = asyncio.run(run(given.starts, given.backend or ["local", "kubernetes"]))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
