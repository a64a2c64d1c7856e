"""`python -m tests.cluster`: a cluster to develop against. Prints the path of its kubeconfig; ends with Ctrl-C.

`python -m tests.cluster -- COMMAND …` runs a command against it; `{kubeconfig}` in the command is that path. Signals go
to the command, the cluster ends when the command has, and nothing of either is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

from tests.cluster.cluster import Cluster


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of the API server; any by default")
    parser.add_argument("--tls", action="store_true", help="serve HTTPS with an authority of its own")
    parser.add_argument(
        "--image", default="jupyter", help="what unknown images run: jupyter (default), tiny or phantom"
    )
    parser.add_argument("--namespace", action="append", default=["default"], help="made at the start; repeatable")
    parser.add_argument("--nodes", type=int, default=2, help="each for 110 pods (default: 2)")
    parser.add_argument("--kubeconfig", type=Path, help="where to write it; a temporary file by default")
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="run it, and end with it")
    return parser.parse_args()


class _Run:
    """The cluster's life, and the command's, if there is one."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._stopped = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> int:
        """Run until a signal, or the command's end; return the exit status."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        given = self._arguments
        nodes = [f"node-{number + 1}" for number in range(given.nodes)]
        options = {"tls": given.tls, "port": given.port, "default_image": given.image, "nodes": nodes}
        async with Cluster(namespaces=dict.fromkeys(given.namespace), **options) as cluster:
            path = cluster.kubeconfig()
            if given.kubeconfig:
                shutil.copy(path, given.kubeconfig)
                path = given.kubeconfig
            print(path, flush=True)
            if given.command and not self._stopped.is_set():
                return await self._run_command(
                    [word.replace("{kubeconfig}", str(path)) for word in given.command], cluster
                )
            await self._stopped.wait()
        return 0

    async def _run_command(self, words: list[str], cluster: Cluster) -> int:
        name, value = cluster.mark
        # In a session of its own, so that a terminal's Ctrl-C reaches it once: from here.
        self._process = await asyncio.create_subprocess_exec(
            *words, env={**os.environ, name: value}, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    def _on_signal(self, number: signal.Signals) -> None:
        self._stopped.set()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


async def _main() -> int:
    return await _Run(_parse_arguments()).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
