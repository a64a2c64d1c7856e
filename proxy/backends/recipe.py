"""What a notebook server of this machine is run with: its command and its environment.

The token is in the environment, never in argv, unless `notebook_command` asks for it. Runs nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.config import inheritable_environ
from proxy.naming import IDENTITY_VARIABLE, USER_HEADER, fill, placeholders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.backends.process import Server

_CONFIG: Final = Path(__file__).parent / "jupyter"
_CONFIG_PATH: Final = "JUPYTER_CONFIG_PATH"
JUPYTER: Final = (
    sys.executable,
    "-P",  # else a `random.py` in the workspace would be imported in place of Python's own
    "-m",
    "jupyterlab",
    "--no-browser",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port={port}",
    "--ServerApp.port_retries=0",
    "--ServerApp.base_url={base_url}",
    "--ServerApp.root_dir={root}",
    "--LabApp.workspaces_dir={root}/.jupyter/lab/workspaces",  # else all share one layout, with each other's open files
    "--ServerApp.allow_remote_access=True",  # requests carry the browser's Host
    "--ServerApp.trust_xheaders=True",
)


class Recipe:
    """The same for all of one backend's servers. Arguments as for `LocalBackend`."""

    def __init__(
        self,
        command: tuple[str, ...],
        extra_env_vars: Mapping[str, str],
        environ: Mapping[str, str] | None,
        *,
        identity: bool,
    ) -> None:
        self._command = command
        self._extra_env_vars = dict(extra_env_vars)
        self._environ = inheritable_environ() if environ is None else inheritable_environ(environ)
        self._identity = {IDENTITY_VARIABLE: USER_HEADER} if identity else {}

    @property
    def is_jupyter(self) -> bool:
        """Whether it is JupyterLab, and nothing that the operator has put in its place."""
        return not self._command

    def command(self, server: Server) -> list[str]:
        """Return what to run, with its arguments."""
        as_root = ("--allow-root",) if os.getuid() == 0 else ()
        values = {
            "port": str(server.port),
            "base_url": server.base_url,
            "token": server.token,
            "root": str(server.root),
            "workspace_id": server.key.workspace_id,
        }
        return [fill(word, values) for word in self._command or (*JUPYTER, *as_root)]

    def environ(self, server: Server) -> dict[str, str]:
        """Return all of its environment variables."""
        values = placeholders(server.key.workspace_id)
        extra = {name: fill(value, values) for name, value in self._extra_env_vars.items()}
        if self.is_jupyter:
            # The first path wins: the user's configuration holds, but for the token.
            paths = filter(None, (str(_CONFIG), extra.get(_CONFIG_PATH) or self._environ.get(_CONFIG_PATH)))
            extra[_CONFIG_PATH] = os.pathsep.join(paths)
        return {**self._environ, **extra, **self._identity, "JUPYTER_TOKEN": server.token}
