"""Run each workspace's notebook server as a process on this machine.

Owns the processes (see `process`; `recipe` says what they are run with), each under a guard (see `guard`). No process
outlives the proxy, however that ends, unless a guard itself was killed; files stay. The token is in the environment and
the handle, never in argv (unless `notebook_command` asks for it) and never in a log line.
Knows nothing of who asks for a server, or why one is stopped.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.backends import guard, workspace_file
from proxy.backends.lock import DirectoryLock
from proxy.backends.probe import OK, Sleep, probe, until_answering
from proxy.backends.process import NO_DESCRIPTORS, End, Server, end_of, read_log
from proxy.backends.recipe import Recipe
from proxy.errors import BackendUnavailable, InvalidKey, StartFailed, StopFailed
from proxy.naming import namespace_of
from proxy.report import Progress, Step
from proxy.workspace import Key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from proxy.backends import Mark, Observer
    from proxy.workspace import Handle

_STILL_THERE_SECONDS: Final = 15.0
"""For a server that answered before: to replace one that is merely busy would cost its kernels."""
_GUARD_SECONDS: Final = 5.0
"""What the guard may take beyond the grace."""
_FORCE_SWEEPS, _SWEEP_SECONDS = 40, 0.05

logger = logging.getLogger(__name__)


class LocalBackend:
    """The backend for one machine without a cluster; see `proxy.backends.Backend` for what its methods promise.

    Args:
        root: holds one directory per workspace, made when needed.
        command: instead of JupyterLab's. `{port}`, `{base_url}`, `{token}`, `{root}` and `{workspace_id}` are replaced;
            no shell. It must listen with SO_REUSEADDR, as servers do.
        ready_path: below the base URL; answers 200 when the server is ready.
        extra_env_vars: `{workspace_id}` and `{workspace_id_short}` in values are replaced.
        namespace: of every workspace, or a template; a part of its key that means nothing here.
        failed_ttl: after so long without an answer a start has failed.
        stop_grace: between SIGTERM and SIGKILL.
        identity: whether servers take their users from the header in which the proxy names them.
        environ: what servers inherit, without the proxy's own settings; by default this process's.
        sleep: waits between two probes.
    """

    def __init__(
        self,
        root: Path,
        *,
        command: tuple[str, ...] = (),
        ready_path: str = "api",
        extra_env_vars: Mapping[str, str] | None = None,
        namespace: str = "default",
        failed_ttl: timedelta,
        stop_grace: timedelta,
        identity: bool = False,
        environ: Mapping[str, str] | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._root = Path(root).absolute()
        self._lock = DirectoryLock(self._root)
        self._recipe = Recipe(command, extra_env_vars or {}, environ, identity=identity)
        self._ready_path = ready_path
        self._namespace = namespace
        self._failed_ttl = failed_ttl
        self._grace_seconds = stop_grace.total_seconds()
        self._sleep = sleep
        self._observer: Observer | None = None
        self._servers: dict[Key, Server] = {}

    def observe(self, observer: Observer) -> None:
        """Name the one who is told when a notebook server ends by itself."""
        self._observer = observer

    async def open(self) -> None:
        """Take the directory for this process alone, and tell what is kept of the workspaces in it.

        What an earlier proxy ran has ended with it.

        Raises:
            ConfigError: another proxy uses it.
            OSError: it cannot be used.
        """
        self._lock.acquire()
        if self._observer is None:
            return
        for workspace_id, notes in await asyncio.to_thread(workspace_file.read_all, self._root):
            with suppress(InvalidKey):
                self._observer.noted(Key(workspace_id, namespace_of(self._namespace, workspace_id)), notes)

    def running_for(self, user: str) -> tuple[Key, ...]:  # noqa: ARG002 - the protocol's
        """Return nothing: all that runs was started here."""
        return ()

    async def start(self, key: Key, user: str = "") -> Handle:  # noqa: ARG002 - a process says for whom nowhere
        """Return the handle of a notebook server that answers; one that runs but no longer answers is replaced.

        Raises:
            InvalidKey: the id is not a DNS-1123 label.
            StartFailed: it cannot become ready; nothing of it is left running.
        """
        key.safe_deployment_name()  # the id names a directory and a path
        server = self._servers.get(key)
        if server is not None and await self._is_answering(server):
            return server.handle
        try:
            await self.stop(key)
        except StopFailed as error:
            raise StartFailed(error.code, str(error)) from error
        server = self._launch(key)
        notes = await asyncio.to_thread(workspace_file.read, server.root)
        if self._observer is not None:
            self._observer.noted(key, notes)
        self._tell(key, Progress(Step.STARTING, "The notebook server starts."))
        try:
            await self._until_ready(server)
        except StartFailed:
            with suppress(StopFailed):  # it stays known, is in the log, and is stopped before the next start
                await self.stop(key)
            raise
        logger.info("notebook server started: workspace=%s port=%d pid=%s", key.workspace_id, server.port, server.pid)
        return server.handle

    async def stop(self, key: Key, mark: Mark | None = None) -> None:  # noqa: ARG002 - there are no others to object
        """Stop the notebook server and all its kernels; already gone is success. Cancelled, the stop goes on.

        Raises:
            StopFailed: something of it still runs, even after SIGKILL.
        """
        server = self._servers.get(key)
        if server is None:
            return
        server.is_stopping = True
        server.let_go()
        await asyncio.wait({server.task}, timeout=self._grace_seconds + _GUARD_SECONDS)
        if not server.task.done():
            await self._force(server)
        logger.info("notebook server stopped: workspace=%s port=%d pid=%s", key.workspace_id, server.port, server.pid)

    async def mark(self, key: Key, last_active: datetime) -> None:
        """Announce nothing: there is nobody else."""

    async def store(self, key: Key, last_active: datetime, *, pardon: bool = False) -> None:
        """Store nothing: a server does not outlive the proxy that knows when it was used."""

    async def extend(self, key: Key, until: datetime) -> None:
        """Store nothing, for the same reason."""

    async def note(self, key: Key, changes: Mapping[str, str | None]) -> None:
        """Change `.workspace.yaml` in the workspace's directory.

        Raises:
            NotKept: it is broken, or cannot be written.
        """
        key.safe_deployment_name()
        notes = await asyncio.to_thread(workspace_file.write, self._root / key.workspace_id, changes)
        if self._observer is not None:
            self._observer.noted(key, notes)

    async def log(self, key: Key, lines: int) -> str:
        """Return the last lines of `.notebook.log` in the workspace's directory, of whichever start.

        Raises:
            NoLog: there is none.
        """
        key.safe_deployment_name()
        text = await asyncio.to_thread(read_log, self._root / key.workspace_id, lines)
        server = self._servers.get(key)
        return text if server is None else text.replace(server.token, "***")

    async def close(self) -> None:
        """Stop every notebook server, all at once; one that survives is in the log."""
        stops = (self.stop(key) for key in self._servers)
        await asyncio.gather(*stops, return_exceptions=True)
        self._lock.release()

    def _tell(self, key: Key, progress: Progress) -> None:
        if self._observer is not None:
            self._observer.progress(key, progress)

    async def _is_answering(self, server: Server) -> bool:
        server.is_ready = False  # should it end now, that is answered by this start and reported to nobody
        status = await probe(server.handle, server.target, deadline_seconds=_STILL_THERE_SECONDS)
        server.is_ready = status == OK and not server.is_stopping and not server.task.done()
        return server.is_ready

    def _launch(self, key: Key) -> Server:
        if self._recipe.is_jupyter and importlib.util.find_spec("jupyterlab") is None:
            raise StartFailed(
                "jupyter-missing", "JupyterLab is not installed here; install it: pip install 'notebook-proxy[local]'"
            )
        try:
            server = Server(key, self._root / key.workspace_id, self._ready_path)
        except OSError as error:
            end = end_of(error)
            if error.filename is None or end.code == NO_DESCRIPTORS:
                raise _failure(end) from error
            where = f"{error.filename}: {error.strerror}"
            raise StartFailed("directory-unusable", f"The workspace's directory cannot be used: {where}") from error
        server.task = asyncio.create_task(self._watch(server))
        self._servers[key] = server
        return server

    async def _watch(self, server: Server) -> End:
        """Run a server to its end, then forget it; tell the observer unless it was not ready yet, or was stopped."""
        try:
            end = await server.run(self._recipe.command(server), self._recipe.environ(server), self._grace_seconds)
        finally:
            server.release()
            del self._servers[server.key]  # there is no other: a start waits for this
        if server.is_ready and not server.is_stopping:
            logger.warning("notebook server ended by itself: workspace=%s: %s", server.key.workspace_id, end.reason)
            if self._observer is not None:
                self._observer.lost(server.key, server.handle, end.reason)
        return end

    async def _until_ready(self, server: Server) -> None:
        """Return when the server answers; fail as soon as it has ended, or when `failed_ttl` is over."""
        probing = asyncio.create_task(until_answering(server.handle, server.target, sleep=self._sleep))
        try:
            await asyncio.wait(
                {probing, server.task},
                timeout=self._failed_ttl.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            probing.cancel()
            await asyncio.wait({probing})
        if server.task.done():
            raise _failure(server.task.result())
        if probing.cancelled():
            detail = server.tail()  # before the next await: the log is closed when the server ends
            raise StartFailed("no-answer", await self._describe_silence(server), detail=detail)
        probing.result()
        self._tell(server.key, Progress(Step.ANSWERING, "It answers."))
        server.is_ready = True

    async def _describe_silence(self, server: Server) -> str:
        status = await probe(server.handle, server.target)
        found = "nothing answers there" if status is None else f"the answer is {status}"
        seconds = self._failed_ttl.total_seconds()
        return f"The notebook server did not answer 200 at {server.target} within {seconds:g} s: {found}."

    async def _force(self, server: Server) -> None:
        """Kill what the guard should have ended, then the guard.

        Raises:
            StopFailed: something is still there; the guard is left to it.
        """
        for _ in range(_FORCE_SWEEPS):
            if server.pid is None or server.task.done():
                break
            guard.kill_family(server.pid)
            await asyncio.wait({server.task}, timeout=_SWEEP_SECONDS)
        if not server.task.done():
            logger.error("notebook server survives SIGKILL: workspace=%s pid=%s", server.key.workspace_id, server.pid)
            raise StopFailed(f"The notebook server of workspace {server.key.workspace_id!r} survives SIGKILL.")


def _failure(end: End) -> StartFailed:
    """Return what the end of a server that never answered means to those who wait for it."""
    kind = BackendUnavailable if end.code == NO_DESCRIPTORS else StartFailed
    return kind(end.code, f"The notebook server did not start: {end.reason}.", detail=end.detail)
