"""The documentation: each command of the quick start is run, each example of settings is read."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from proxy.backends.kubernetes import failures
from proxy.config import load
from tests.bench.programs import free_port
from tests.certificates import make_pair
from tests.kubernetes_schema import complaints

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


# Codes ---------------------------------------------------------------------------------------------------------------

_TOLD_FIRST = {"BadRequest", "Diagnosis", "ExtendRefused", "LimitReached", "StartFailed", "StartStalled"}
_TROUBLE = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")


def codes_of_the_source() -> Iterator[str]:
    """Yield every code that is written where an error is made, or is the attribute `code` of its class."""
    yield from failures._MOUNT_EVENTS.values()
    yield from (code for _, code, _ in failures._REFUSED_FOR)
    yield from (code for code, _ in failures._REFUSED_AS.values())
    for path in (ROOT / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found: list[ast.expr] = []
            if isinstance(node, ast.Assign) and "code" in [ast.unparse(target) for target in node.targets]:
                found = [node.value] if not isinstance(node.value, ast.IfExp) else [node.value.body, node.value.orelse]
            elif isinstance(node, ast.Call):
                found = node.args[:1] if ast.unparse(node.func) in _TOLD_FIRST else []
                found += [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            yield from (each.value for each in found if isinstance(each, ast.Constant) and isinstance(each.value, str))


def test_every_code_that_a_client_may_be_told_is_explained() -> None:
    codes = set(codes_of_the_source())

    assert len(codes) > 70
    assert sorted(code for code in codes if f"`{code}`" not in _TROUBLE) == []


def test_every_code_that_is_explained_is_one_that_is_told() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "proxy").rglob("*.py"))
    told = {f"bad-{name}" for name in re.findall(r'_number\(query, "(\w+)"', source)}
    explained = [
        code
        for cell in re.findall(r"^\| (`[^|]+) \|", _TROUBLE, re.MULTILINE)
        for code in re.findall(r"`([a-z-]+)`", cell)
    ]

    assert len(explained) > 70
    assert [code for code in explained if f'"{code}"' not in source and code not in told] == []


# Objects and configurations ------------------------------------------------------------------------------------------

OBJECTS = [
    pytest.param(yaml.safe_load(block), id=f"{page.stem}-{number}")
    for page in [*sorted(DOCS.rglob("*.md")), ROOT / "deploy" / "README.md"]
    for number, block in enumerate(
        textwrap.dedent(block)
        for block in re.findall(r"^ *```yaml\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        if block.lstrip().startswith("apiVersion:")
    )
]


@pytest.mark.parametrize("example", OBJECTS)
def test_every_object_is_one_that_the_api_knows_or_that_kustomize_builds(
    clone: Path, tmp_path: Path, example: dict[str, Any]
) -> None:
    if example["kind"] != "Kustomization":
        assert complaints(example) == []
        return
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl")
    (tmp_path / "notebook-proxy").symlink_to(clone)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(yaml.safe_dump(example), encoding="utf-8")

    run("kubectl kustomize . > built.yaml", tmp_path / "mine")

    built = (tmp_path / "mine" / "built.yaml").read_text(encoding="utf-8")
    assert "image: registry.example.org/notebook-proxy:" in built


def test_the_configuration_for_nginx_is_one(nginx: Path, tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "nginx.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```nginx\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    make_pair(tmp_path).put(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    file = tmp_path / "nginx.conf"
    served = block.replace("listen 443 ", f"listen 127.0.0.1:{free_port()} ")
    file.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{served}}}\n", encoding="utf-8")

    run(f"{nginx} -t -p {tmp_path} -e {tmp_path}/log -c {file}", tmp_path)


# Examples ------------------------------------------------------------------------------------------------------------

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
