"""The API against its own description, with requests that nobody would think of."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

import proxy
from proxy.app import App
from proxy.config import Config
from tests.gateway.conftest import MovingBackend
from tests.relay.origin import Answers, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

schema = schemathesis.openapi.from_path(Path(proxy.__file__).with_name("openapi.json"))
# 422: no schema knows which profiles are offered here, and how much the operator allows.
schema.config.checks.positive_data_acceptance.expected_statuses += ["422"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A proxy that serves, in a thread of its own; its workspaces start at once."""
    started, stop = threading.Event(), threading.Event()
    found: list[str] = []

    async def serve() -> None:
        async with Origin(Answers()) as origin, App(Config(listen="127.0.0.1:0"), MovingBackend(origin.port)) as app:
            found.append(app.url)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(30)
        yield found[0]
    finally:
        stop.set()
        thread.join(30)


@schema.exclude(operation_id="follow_workspaces").parametrize()  # a stream has no end; test_events.py reads it
@settings(
    max_examples=25,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_api_is_what_its_description_says(case: schemathesis.Case[Any], url: str) -> None:
    case.call_and_validate(base_url=url, timeout=30)


def test_every_operation_is_described() -> None:
    described = {
        (path, method.upper()) for path, methods in schema.items() for method in methods if method != "parameters"
    }

    assert described == {
        ("/api/workspaces", "GET"), ("/api/workspaces/{id}", "GET"), ("/api/workspaces/{id}", "DELETE"),
        ("/api/workspaces/{id}/log", "GET"), ("/api/workspaces/{id}/start", "POST"),
        ("/api/workspaces/{id}/stop", "POST"), ("/api/workspaces/{id}/extend", "POST"),
        ("/api/workspaces/{id}/settings", "GET"), ("/api/workspaces/{id}/settings", "PATCH"),
        ("/api/workspaces/{id}/settings", "POST"), ("/api/profiles", "GET"),
        ("/api/events", "GET"), ("/api/openapi.json", "GET"), ("/api/sign-out", "POST"),
    }  # fmt: skip
