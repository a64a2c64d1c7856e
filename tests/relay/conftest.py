"""What the relay's tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.relay.origin import LOOPS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """Run each test on both event loops: their transports differ where it matters here."""
    return LOOPS
