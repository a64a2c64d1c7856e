"""A real Prometheus on this machine, which scrapes one address, evaluates rules, and is asked by its API."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Self

import yaml
from aiohttp import ClientError, ClientSession

from tests.bench.programs import free_port

if TYPE_CHECKING:
    from pathlib import Path

_EVERY: Final = "200ms"  # scrapes and evaluations; the rules speak of minutes, and are none the less evaluated
_PATIENCE: Final = 30.0


class Prometheus:
    """Use as `async with`; what it has stored goes with `directory`.

    Args:
        binary: the program.
        directory: its configuration and data.
        target: host and port of whom it scrapes.
        rules: file of its rules.
    """

    def __init__(self, binary: Path, directory: Path, target: str, rules: Path) -> None:
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        config = directory / "prometheus.yaml"
        job = {"job_name": "notebook-proxy", "static_configs": [{"targets": [target]}]}
        every = {"scrape_interval": _EVERY, "scrape_timeout": _EVERY, "evaluation_interval": _EVERY}
        config.write_text(yaml.safe_dump({"global": every, "rule_files": [str(rules)], "scrape_configs": [job]}))
        self._command: list[str | Path] = [
            binary,
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(*self._command)
        self._client = ClientSession(self._url)
        try:
            async with asyncio.timeout(_PATIENCE):
                while not await self._is_ready():
                    assert self._process.returncode is None, "Prometheus has ended"
                    await asyncio.sleep(0.05)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()  # nothing of what it has stored is wanted
        await self._process.wait()

    async def _is_ready(self) -> bool:
        try:
            async with self._client.get("/-/ready") as response:
                return response.status == 200
        except ClientError:
            return False

    async def ask(self, path: str, **query: str) -> Any:
        """Return what the API answers; it must be well, and without a warning."""
        async with self._client.get(f"/api/v1/{path}", params=query) as response:
            answer = await response.json()
        assert answer["status"] == "success", (query, answer)
        assert "warnings" not in answer, (query, answer)
        return answer["data"]

    async def values(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression is now, of each set of labels."""
        found: list[dict[str, Any]] = (await self.ask("query", query=expression))["result"]
        return found
