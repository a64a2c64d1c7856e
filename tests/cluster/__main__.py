"""`python -m tests.cluster`: a cluster to develop against. Prints the path of its kubeconfig; ends with Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import signal
from pathlib import Path

from tests.cluster.cluster import Cluster


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of the API server; any by default")
    parser.add_argument("--tls", action="store_true", help="serve HTTPS with an authority of its own")
    parser.add_argument("--image", default="jupyter", help="what unknown images run: jupyter (default) or tiny")
    parser.add_argument("--namespace", action="append", default=["default"], help="made at the start; repeatable")
    parser.add_argument("--kubeconfig", type=Path, help="where to write it; a temporary file by default")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    options = {"tls": arguments.tls, "port": arguments.port, "default_image": arguments.image}
    async with Cluster(namespaces=dict.fromkeys(arguments.namespace), **options) as cluster:
        path = cluster.kubeconfig()
        if arguments.kubeconfig:
            shutil.copy(path, arguments.kubeconfig)
            path = arguments.kubeconfig
        print(path, flush=True)
        await stopped.wait()


def main() -> None:
    """Run until interrupted."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(_parse_arguments()))


if __name__ == "__main__":
    main()
