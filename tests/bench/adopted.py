"""What a proxy needs for workspaces that run already: memory, and the time from its start until it is ready.

`python -m tests.bench.adopted` takes a minute or two, and prints a table. The cluster is the project's own, in another
process's thread; its notebook servers are said to run, with pods and volumes as real ones have, and never asked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.workspace import Key
from tests.backends.kubernetes.proxies import SECRET, config_on, is_ready, put
from tests.bench.programs import free_port
from tests.cluster.threaded import ThreadedCluster

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

_POLL = 0.05
_SETTLE = 5.0  # seconds after which nothing is allocated any more for what was adopted


async def fill(cluster: Cluster, count: int) -> str:
    """Have so many workspaces run; return the path of a kubeconfig."""
    config = config_on(cluster, image="example.invalid/phantom:1")
    keys = [Key(f"demo-{number}", "default") for number in range(count)]
    for node in range(1 + count // 200):
        cluster.add_node(f"large-{node}", cpus="1000")
    for key in keys:
        put(cluster, config, key)
        await asyncio.sleep(0)
    while not all(is_ready(cluster, key) for key in keys):
        await asyncio.sleep(_POLL)
    return config.kubeconfig


def memory_of(pid: int) -> float:
    """Return the resident memory of a process, in MB."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    [line] = [line for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def is_there(port: int) -> bool:
    """Tell whether the proxy is ready."""
    with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as said:
        return bool(said.status == 200)
    return False


def measure(count: int) -> tuple[float, float]:
    """Return the seconds until a proxy is ready beside so many workspaces, and its memory then, in MB."""
    with ThreadedCluster() as cluster:
        kubeconfig = cluster.run(lambda double: fill(double, count))
        ops = free_port()
        flags = ["--listen", "127.0.0.1:0", "--ops-listen", f"127.0.0.1:{ops}", "--kubeconfig", kubeconfig]
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", "proxy", "serve", "--backend", "kubernetes", "--log-level", "warning", *flags],
            stdout=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", "NOTEBOOK_PROXY_NOTEBOOK_SECRET": SECRET},
        ) as proxy:
            try:
                while not is_there(ops):
                    time.sleep(_POLL)
                took = time.monotonic() - began
                time.sleep(_SETTLE)
                return took, memory_of(proxy.pid)
            finally:
                proxy.terminate()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=[0, 1000])
    print("| workspaces that run | ready after (s) | memory (MB) |\n| --- | --- | --- |")
    for count in parser.parse_args().counts:
        took, memory = measure(count)
        print(f"| {count:,} | {took:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
