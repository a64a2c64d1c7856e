"""The documentation: each command of the quick start is run, each example of settings is read."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from proxy.config import load
from tests.bench.programs import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ROOT / "docs"
QUICK_START: Final = (DOCS / "quick-start.md").read_text(encoding="utf-8")
_BLOCK: Final = re.compile(r'^```sh(?: title="needs (?P<needs>[^"]+)")?\n(?P<script>.*?)^```', re.DOTALL | re.MULTILINE)
BLOCKS: Final = [(found["needs"], found["script"]) for found in _BLOCK.finditer(QUICK_START)]


def block_with(word: str) -> str:
    """Return the one block that has a word, and that is to be run."""
    [script] = [script for needs, script in BLOCKS if needs is None and word in script]
    return script


def on_free_ports(script: str) -> str:
    """Return a script with each port that it names replaced by a free one, the same for the same."""
    for port in sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", QUICK_START))):
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{PORTS.setdefault(port, free_port())}")
    return script


PORTS: Final[dict[str, int]] = {}


def run(script: str, where: Path) -> None:
    """Run a block as a person would who pastes it."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def running(script: str, where: Path) -> Iterator[None]:
    """Run a block that goes on until Ctrl-C; enter when the proxy says that it listens. It must end by itself then."""
    program = subprocess.Popen(
        ["bash", "-c", f"exec {script.strip()}"],
        cwd=where,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    try:
        for line in program.stdout:
            if "is listening on" in line:
                break
        else:
            pytest.fail(f"{script} ended with {program.wait()}")
        yield
        os.killpg(program.pid, signal.SIGINT)
        program.communicate(timeout=60)
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.communicate()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a clone would hold: every file that is not ignored."""
    where = tmp_path_factory.mktemp("clone")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
        if name.startswith(("proxy/", "deploy/")) or "/" not in name:
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, where / name)
    return where


@pytest.mark.timeout(400)
def test_quick_start_on_a_laptop(clone: Path) -> None:
    run(block_with("pip install"), clone)

    with running(on_free_ports(block_with("notebook-proxy serve")), clone):
        run(on_free_ports(block_with("curl")), clone)

    assert (clone / "workspaces" / "demo").is_dir()


def test_quick_start_without_a_cluster() -> None:
    if sys.prefix != str(ROOT / ".venv"):
        pytest.skip("make uses .venv, and these tests run elsewhere")
    with running(on_free_ports(block_with("make cluster")), ROOT):
        run(on_free_ports("curl --fail http://127.0.0.1:8001/api/workspaces"), ROOT)


def test_quick_start_on_a_cluster_renders_what_it_applies(clone: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl")

    run(block_with("kubectl kustomize"), clone)


def test_every_block_of_the_quick_start_is_run_or_says_what_it_needs() -> None:
    words = ("pip install", "notebook-proxy serve", "curl", "make cluster", "kubectl kustomize")

    assert [block_with(word) for word in words] == [script for needs, script in BLOCKS if needs is None]
    assert {needs for needs, _ in BLOCKS} == {None, "a container engine", "a cluster"}
    assert len(BLOCKS) == QUICK_START.count("```sh")


EXAMPLES = [
    pytest.param(example, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.rglob("*.md"))
    for number, example in enumerate(
        re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    )
    if not re.search(r"^(apiVersion|scrape_configs):", example, re.MULTILINE)
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_settings_is_accepted(tmp_path: Path, example: str) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(example, encoding="utf-8")

    load(config_file=file)
