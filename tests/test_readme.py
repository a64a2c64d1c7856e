"""The README says what is: its table of settings is the one that `make docs` writes, its examples hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.activity import markdown
from proxy.cli.exits import table
from proxy.config import Config, load, settings_table
from tests.cluster.threaded import ThreadedCluster

ROOT = Path(__file__).parent.parent
README = ROOT.joinpath("README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def _run_example(word: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the one Python example that has this word."""
    [example] = [block for block in _blocks("python") if word in block]
    script = directory / "example.py"
    script.write_text(example, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_table_of_settings_is_the_generated_one() -> None:
    found = re.search(r"^<!-- settings -->$(.*?)^<!-- /settings -->$", README, re.DOTALL | re.MULTILINE)

    assert found is not None
    assert found[1].strip() == settings_table().strip(), "run `make docs`"


def test_table_of_activity_is_the_generated_one() -> None:
    found = re.search(r"^<!-- activity -->$(.*?)^<!-- /activity -->$", README, re.DOTALL | re.MULTILINE)

    assert found is not None
    assert found[1].strip() == markdown().strip(), "run `make docs`"


def test_table_of_exit_statuses_is_the_generated_one() -> None:
    found = re.search(r"^<!-- exits -->$(.*?)^<!-- /exits -->$", README, re.DOTALL | re.MULTILINE)

    assert found is not None
    assert found[1].strip() == table().strip(), "run `make docs`"


@pytest.mark.parametrize("name", list(Config.model_fields))
def test_every_setting_has_a_row_with_a_meaning(name: str) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{name}` |"))

    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    assert len(cells) == 4
    assert all(cells)


def test_examples_of_configuration_are_accepted(tmp_path: Path) -> None:
    examples = _blocks("yaml")

    assert len(examples) == 4
    for example in examples:
        file = tmp_path / "proxy.yaml"
        file.write_text(example, encoding="utf-8")
        load(config_file=file)


def test_example_of_the_library_runs(tmp_path: Path) -> None:
    done = _run_example("LocalBackend", tmp_path)

    assert done.stderr == ""
    assert done.stdout.startswith("http://127.0.0.1:")
    assert (tmp_path / "workspaces" / "demo" / ".notebook.log").exists()


def test_example_of_the_library_on_a_cluster_leaves_a_workspace_running(tmp_path: Path) -> None:
    with ThreadedCluster() as cluster:
        shutil.copy(cluster.do(lambda double: double.kubeconfig()), tmp_path / "kubeconfig")

        done = _run_example("KubernetesBackend", tmp_path)

        pods = cluster.do(lambda double: double.pods("default", app="notebook-demo"))
    assert done.stderr == ""
    assert done.stdout == "http://notebook-demo.default.svc.cluster.local:8888\n"
    assert [pod["status"]["phase"] for pod in pods] == ["Running"]


def test_links_within_it_lead_to_headings() -> None:
    links = re.findall(r"\]\(#([^)]+)\)", README)
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )

    assert links
    assert set(links) <= {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)

    assert links
    assert [link for link in links if not ROOT.joinpath(link).exists()] == []
