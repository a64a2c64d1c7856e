"""A real Prometheus scrapes a real proxy on a cluster: it takes every series, and every rule and panel has an answer.

The clocks of rules and panels are Prometheus's own: how long a rule waits is shown by `promtool` (`alerts_test.yaml`).
"""

from __future__ import annotations

import contextlib
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, WSMsgType

from proxy.app import App
from proxy.metrics_list import METRICS
from tests.backends.kubernetes.proxies import config_on
from tests.cluster import Cluster
from tests.faults.stage import ECHO, eventually
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.test_monitoring import ALERTS, EXPRESSIONS, MONITORING, PANELS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from proxy.metrics_list import Metric

pytestmark = [pytest.mark.front, pytest.mark.timeout(120)]

[ERRORS] = [panel["targets"][0]["expr"] for panel in PANELS if panel["title"] == "Errors logged in an hour"]


def as_grafana_asks(expression: str) -> str:
    """Return an expression of the dashboard with its variables replaced, all replicas chosen."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*")


@asynccontextmanager
async def served() -> AsyncIterator[App]:
    """Run a proxy on a cluster."""
    async with Cluster() as cluster:
        listen: dict[str, Any] = {"listen": "127.0.0.1:0", "ops_listen": "127.0.0.1:0"}
        config = config_on(cluster, backend="kubernetes", notebook_command=list(ECHO), **listen)
        async with App(config) as app:
            yield app


async def use(app: App) -> None:
    """Do a little of everything that is counted: a start, requests, a websocket, what is refused, what is cut."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(ClientSession(app.url))
        for path, status in (("/ws/demo/x", 200), ("/ws/demo/y", 200), ("/nowhere", 404), ("/ws/No/", 404)):
            async with client.get(path) as response:
                assert response.status == status
        async with client.ws_connect("/ws/demo/api/events") as websocket:
            await websocket.send_str("echo")
            assert (await websocket.receive()).type is WSMsgType.TEXT
        async with client.post("/api/workspaces/demo/stop") as response:
            assert response.status == 200


async def _silent(server: Prometheus) -> list[str]:
    """Return the expressions of the dashboard that show nothing."""
    return [text for text in EXPRESSIONS if not await server.values(as_grafana_asks(text))]


def _family(metric: Metric) -> str:
    """Return the name that Prometheus knows a metric's type by."""
    return metric.exposed.removesuffix("_total")


async def test_prometheus_takes_all_of_it_and_every_rule_and_every_panel_has_an_answer(
    prometheus: Path, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(served())
        assert app.ops.url is not None
        address = app.ops.url.removeprefix("http://")
        rules = MONITORING / "alerts.yaml"
        server = await stack.enter_async_context(Prometheus(prometheus, tmp_path, address, rules))

        async def is_seen() -> bool:
            return bool(await server.values("notebook_proxy_build_info"))

        await eventually(is_seen)
        await use(app)
        logging.getLogger("proxy.somewhere").error("a person must act")

        async def is_all_shown() -> bool:
            return not await _silent(server)

        with contextlib.suppress(TimeoutError):
            await eventually(is_all_shown)
        silent = await _silent(server)
        [target] = (await server.ask("targets"))["activeTargets"]
        types = {name: found[0]["type"] for name, found in (await server.ask("metadata")).items()}
        replicas = await server.ask("label/instance/values", **{"match[]": "notebook_proxy_build_info"})
        [group] = (await server.ask("rules"))["groups"]
        [errors] = await server.values(as_grafana_asks(ERRORS))
        alerts = (await server.ask("alerts"))["alerts"]

    assert silent == []
    assert (target["health"], target["lastError"]) == ("up", "")
    assert {name: types.get(name) for name in map(_family, METRICS)} == {_family(each): each.kind for each in METRICS}
    assert replicas == [address]  # what the dashboard's variable offers
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in ALERTS]
    assert [(rule["name"], rule["health"], rule.get("lastError")) for rule in group["rules"]] == [
        (rule["alert"], "ok", None) for rule in ALERTS
    ]
    assert float(errors["value"][1]) >= 1  # the first of all begins its series, of which `increase` sees nothing
    assert [(alert["state"], alert["annotations"]["summary"]) for alert in alerts] == [
        ("firing", f"{address} logs errors as proxy.somewhere")
    ]
