"""The container images of the cluster: what a pod of each does, or how it fails.

An image is chosen by the pod's annotation `cluster/image`, by its exact name, by the last part of its name (`tiny` in
`example.invalid/tiny:1`), or it is the default. A test changes one with `cluster.images.set(name, Image(...))`, also
while pods retry, which is how a broken image is mended.

An image that runs supplies executables under the names that a stock Jupyter image has, so a pod's command runs as
written.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import asyncio

    from tests.cluster.resources import Obj

ANNOTATION = "cluster/image"
Program = Literal["tiny", "jupyter", "deaf", "phantom"]
_HERE = Path(__file__).parent
_ENTRY_POINTS = ("start-notebook.py", "start-notebook.sh", "start-singleuser.py", "jupyter", "jupyter-lab")
_SCRIPTS = {"tiny": _HERE / "programs" / "tiny_notebook.py", "jupyter": _HERE / "programs" / "real_notebook.py"}


@dataclass(frozen=True)
class Image:
    """How a pod of this image fares. Without any argument: the tiny notebook server runs.

    `tiny` is a stdlib server that answers like Jupyter's API within 50 ms; `jupyter` is a real JupyterLab; `deaf`
    runs and never listens; `phantom` is reported as running and ready without a process (for a thousand of them).
    """

    program: Program = "tiny"
    # It cannot be pulled: the registry's words.
    pull_error: str = ""
    pull_seconds: float = 0
    pull_until: asyncio.Event | None = None
    # It is never placed: the scheduler's words.
    unschedulable: str = ""
    # Its volumes cannot be mounted, or attached: the kubelet's words.
    mount_error: str = ""
    attach_error: str = ""
    # Its container cannot be configured: the kubelet's words.
    config_error: str = ""
    # It writes this and ends with the code; None: it runs.
    output: str = ""
    exit_code: int | None = None
    # It is killed as soon as it runs, for using too much memory.
    is_out_of_memory: bool = False
    # It goes on after SIGTERM, until it is killed.
    is_stubborn: bool = False


STOCK = {
    "tiny": Image(),
    "jupyter": Image("jupyter"),
    "deaf": Image("deaf"),
    "phantom": Image("phantom"),
    "missing": Image(pull_error="not found"),
    "slow": Image(pull_seconds=5),
    "unschedulable": Image(unschedulable="0/2 nodes are available: 2 Insufficient nvidia.com/gpu."),
    "unmountable": Image(mount_error='MountVolume.SetUp failed for volume "workspace" : mount failed: exit status 32'),
    "multi-attach": Image(
        attach_error='Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node and '
        "can't be attached to another"
    ),
    "misconfigured": Image(config_error='couldn\'t find key token in Secret "notebook"'),
    "crash": Image(
        output="Traceback (most recent call last):\nModuleNotFoundError: No module named 'x'\n", exit_code=1
    ),
    "full": Image(output="OSError: [Errno 28] No space left on device: '/workspace/.local'\n", exit_code=1),
    "oom": Image(is_out_of_memory=True),
    "stubborn": Image(is_stubborn=True),
}


class Images:
    """Finds the image of a container."""

    def __init__(self, default: str = "tiny") -> None:
        self.default = default
        self._images = dict(STOCK)

    def set(self, name: str, image: Image) -> None:
        """Let `name`, exact or last part, mean this image from now on."""
        self._images[name] = image

    def find(self, pod: Obj) -> Image:
        """Return the image of a pod's first container."""
        named: str = pod["spec"]["containers"][0].get("image", "")
        annotated = (pod["metadata"].get("annotations") or {}).get(ANNOTATION, "")
        last = named.rpartition("/")[2].partition("@")[0].partition(":")[0]
        for name in (annotated, named, last):
            if name in self._images:
                return self._images[name]
        return self._images[self.default]


def install(root: Path) -> None:
    """Put the executables of the images below `root`."""
    for program, script in _SCRIPTS.items():
        directory = root / program
        directory.mkdir(parents=True)
        for name in _ENTRY_POINTS:
            _write_script(directory / name, f'exec "{sys.executable}" -ISs "{script}" "$@"')
        _write_script(directory / "start.sh", 'exec "$@"')


def _write_script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def replaced_command(image: Image) -> list[str] | None:
    """Return what runs instead of the pod's command, for an image that does not run it; None: the command itself."""
    if image.exit_code is not None:
        return ["/bin/sh", "-c", f'printf "%s" "$0"; exit {image.exit_code}', image.output]
    if image.program == "deaf":
        return ["/bin/sleep", "1000000"]
    if image.is_stubborn:
        return ["/bin/sh", "-c", 'trap "" TERM; while :; do sleep 1000000; done']
    return None
