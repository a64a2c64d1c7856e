"""What the tests of the command line share: the command as a process of its own, and proxies for it to ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY: Final = Path(__file__).parents[2]
NOTEBOOK: Final = Path(__file__).with_name("notebook.py")
NOTEBOOK_COMMAND: Final = f"--notebook-command={sys.executable} -S {NOTEBOOK} {{port}} {{base_url}} {{root}}"
"""A notebook server that starts in a tenth of a second; see there."""
COMMAND: Final = (sys.executable, "-W", "error", "-m", "proxy")


def environ(**variables: str) -> dict[str, str]:
    """Return an environment with no setting of the proxy's but these, and plain output."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NOTEBOOK_", "JUPYTER_"))}
    return {**inherited, "COLUMNS": "200", **variables}


def run(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=REPOSITORY,
        env=environ(**(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


class Asking:
    """Runs commands against one proxy.

    Args:
        url: where it is.
    """

    def __init__(self, url: str) -> None:
        self.env = {"NOTEBOOK_PROXY_SERVER": url}

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return run(*arguments, env=self.env)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Run the command, and go on."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=REPOSITORY,
            env=environ(**self.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Who runs these tests in the background of a shell has SIGINT ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
