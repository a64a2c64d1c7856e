"""The entry point of the image with a real JupyterLab in it: binds the pod's address where `0.0.0.0` was asked for."""

import os
import sys
from pathlib import Path

_OURS = ("ip", "open_browser", "allow_remote_access", "allow_root")  # an option twice is an error


def is_ours(word: str) -> bool:
    """Tell whether an option is one that is set here, in either spelling."""
    return word.partition("=")[0].removeprefix("--").removeprefix("ServerApp.").replace("-", "_") in _OURS


def main() -> None:
    """Become `jupyter lab` with the pod's options."""
    words = [*os.environ.get("NOTEBOOK_ARGS", "").split(), *sys.argv[1:]]
    if words and not words[0].startswith("-"):
        words = words[1:]  # `jupyter lab`, `start-notebook.py lab`
    options = [word for word in words if not is_ours(word)]
    options += [f"--ServerApp.ip={os.environ['POD_ADDRESS']}", "--ServerApp.open_browser=False"]
    # What Jupyter itself infers from 0.0.0.0, and cannot from a loopback address.
    options.append("--ServerApp.allow_remote_access=True")
    if os.geteuid() == 0:
        options.append("--ServerApp.allow_root=True")
    jupyter = Path(sys.executable).parent / "jupyter-lab"
    os.execv(jupyter, [str(jupyter), *options])


if __name__ == "__main__":
    main()
