"""Dashboard, alerts and runbook speak of what there is: every metric and label exists, every alert has its entry."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from aiohttp import ClientSession
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

from proxy.app import App
from proxy.config import Config
from proxy.metrics_list import METRICS, markdown
from tests.gateway.conftest import MovingBackend
from tests.kubernetes_schema import complaints
from tests.relay.origin import Answers, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
MONITORING = ROOT / "deploy" / "monitoring"
DOCS = ROOT / "docs"
RUNBOOK = (DOCS / "runbook.md").read_text(encoding="utf-8")
METRICS_PAGE = (DOCS / "metrics.md").read_text(encoding="utf-8")
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
SPEAKING = sorted([MONITORING / "alerts.yaml", MONITORING / "dashboard.json", *DOCS.rglob("*.md"), ROOT / "README.md"])
PROCESS = {"process_open_fds", "process_max_fds", "process_cpu_seconds_total", "process_resident_memory_bytes"}
LABELS_OF_PROMETHEUS = {"instance", "job", "le"}
SERIES = {
    f"{metric.exposed}{suffix}": {*metric.labels, *LABELS_OF_PROMETHEUS}
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
}


def series_in(text: str) -> Iterator[tuple[str, set[str]]]:
    """Yield every series of ours that is named, and the labels that it is selected by."""
    for name, selector in re.findall(r"\b(notebook_proxy_\w+)(?:\{([^}]*)\})?", text):
        yield name, set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*\\?"', selector))


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_metric_that_is_named_exists_with_the_labels_that_are_asked_for(path: Path) -> None:
    known = {metric.exposed: set[str]() for metric in METRICS} | SERIES
    found = list(series_in(path.read_text(encoding="utf-8")))

    assert [name for name, _ in found if name not in known] == []
    assert [(name, labels) for name, labels in found if not labels <= known[name] | LABELS_OF_PROMETHEUS] == []


def test_dashboard_and_alerts_ask_for_series_and_not_for_a_histogram_by_its_bare_name() -> None:
    asked = {name for text in (*EXPRESSIONS, *(rule["expr"] for rule in ALERTS)) for name, _ in series_in(text)}

    assert asked
    assert asked <= set(SERIES)


def test_dashboard_shows_every_metric() -> None:
    shown = {name for text in EXPRESSIONS for name, _ in series_in(text)}

    assert [metric.exposed for metric in METRICS if not any(name.startswith(metric.exposed) for name in shown)] == []


def test_dashboard_asks_its_own_prometheus_and_no_two_panels_overlap() -> None:
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]} == {"${datasource}"}


def test_every_alert_has_a_runbook_entry_that_says_everything_and_every_entry_an_alert() -> None:
    entries = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.DOTALL | re.MULTILINE))

    assert [rule["alert"] for rule in ALERTS] == list(entries)
    for text in entries.values():
        assert re.findall(r"^\*\*([\w ]+)\.\*\*", text, re.MULTILINE) == ["Symptom", "Meaning", "Look at", "Do"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_says_how_grave_it_is_and_leads_to_its_entry(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_metrics_of_the_process_that_are_asked_for_are_told() -> None:
    texts = [*EXPRESSIONS, *(rule["expr"] for rule in ALERTS)]

    assert {name for text in texts for name in re.findall(r"\bprocess_\w+", text)} <= PROCESS


def test_table_of_metrics_is_the_generated_one() -> None:
    found = re.search(r"^<!-- metrics -->$(.*?)^<!-- /metrics -->$", METRICS_PAGE, re.DOTALL | re.MULTILINE)

    assert found is not None
    assert found[1].strip() == markdown().strip(), "run `make docs`"


def in_yaml(key: str) -> dict[str, Any]:
    """Return the one example of the page about metrics that has this key."""
    texts = re.findall(r"^```yaml\n(.*?)^```", METRICS_PAGE, re.DOTALL | re.MULTILINE)
    [example] = [found for text in texts if key in (found := yaml.safe_load(text))]
    assert isinstance(example, dict)
    return example


def test_policy_that_admits_prometheus_is_one_that_the_api_knows() -> None:
    assert complaints(in_yaml("kind")) == []


@pytest.mark.front
def test_scrape_job_of_the_documentation_is_one_that_prometheus_takes(promtool: Path, tmp_path: Path) -> None:
    config = {**in_yaml("scrape_configs"), "rule_files": [str(MONITORING / "alerts.yaml")]}
    [job] = config["scrape_configs"]
    assert job.pop("kubernetes_sd_configs")  # Debian's Prometheus is built without it
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))

    done = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yaml"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def lost(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Yield the place of everything of ours that is missing or other in theirs."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from lost(value, theirs.get(key), f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(*pair, f"{path}.{number}")
    elif ours != theirs:
        yield path.removeprefix(".")


def test_dashboard_holds_nothing_that_grafanas_own_models_do_not_know() -> None:
    register_default_plugins()  # of panels and queries, whose options are their own

    read = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))

    # How Grafana itself writes down what a variable asks for; only shown where variables are edited.
    assert list(lost(DASHBOARD, read)) == ["templating.list.1.definition"]


@pytest.mark.front
def test_alerts_fire_when_they_should_and_not_otherwise(promtool: Path) -> None:
    tests = Path(__file__).with_name("alerts_test.yaml")

    done = subprocess.run([promtool, "test", "rules", tests], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.front
def test_prometheus_understands_every_expression_of_the_dashboard(promtool: Path, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "5m")}
        for number, text in enumerate(EXPRESSIONS)
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(EXPRESSIONS)} rules found" in done.stdout


@pytest.mark.front
async def test_a_proxy_that_serves_tells_everything_as_prometheus_wants_it(promtool: Path) -> None:
    config = Config(listen="127.0.0.1:0", ops_listen="127.0.0.1:0")
    async with Origin(Answers()) as origin, App(config, MovingBackend(origin.port)) as app:
        async with ClientSession(app.url) as client, client.get("/ws/demo/api") as response:
            assert response.status == 200
        async with ClientSession(app.ops.url) as client, client.get("/metrics") as response:
            body = await response.text()

    families = {family.name: family for family in text_string_to_metric_families(body)}
    lint = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, text=True, check=False)
    [relayed] = families["notebook_proxy_requests"].samples
    assert (relayed.labels, relayed.value) == ({"class": "workspace", "status": "200"}, 1)
    assert {sample.name for family in families.values() for sample in family.samples} >= PROCESS
    assert {line for line in lint.stderr.splitlines() if "notebook_proxy" in line} == set()
    assert "demo" not in body
