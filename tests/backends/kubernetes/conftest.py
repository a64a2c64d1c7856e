"""A scripted server, a hurried clock, and the `Api` between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.backends.kubernetes.scripted import HurriedClock, Scripted, api_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from proxy.backends.kubernetes.api import Api


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with Scripted() as server:
        yield server


@pytest.fixture
def clock() -> HurriedClock:
    return HurriedClock()


@pytest.fixture
async def api(server: Scripted, clock: HurriedClock, tmp_path: Path) -> AsyncIterator[Api]:
    api = await api_of(server.port, tmp_path, clock)
    yield api
    await api.close()
