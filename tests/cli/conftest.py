"""Proxies as processes of their own, with a notebook server that starts at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli import NOTEBOOK_COMMAND, Asking
from tests.e2e import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _linux() -> None:
    if sys.platform != "linux":
        pytest.skip("looks at processes in /proc")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that the tests of a module share; at the end it stops, and leaves nothing behind."""
    shared = Proxy(tmp_path_factory.mktemp("proxy"), NOTEBOOK_COMMAND, "--stop-grace=1s")
    try:
        yield shared.until_listening()
        assert shared.stop() == 0
        assert shared.others() == {}
    finally:
        shared.clear()


@pytest.fixture(scope="module")
def ask(proxy: Proxy) -> Asking:
    """Runs commands against the shared proxy."""
    return Asking(proxy.url)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """Starts a proxy with the flags given; what a test leaves behind is killed."""
    started: list[Proxy] = []

    def start(*flags: str) -> Proxy:
        started.append(Proxy(tmp_path, NOTEBOOK_COMMAND, *flags))
        return started[-1].until_listening()

    yield start

    for proxy in started:
        proxy.clear()
