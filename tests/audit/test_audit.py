"""What the checks of `make check` find, and that they do not take silence for a good answer."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.audit import dependencies, leaks
from tests.audit.__main__ import BANDIT_OPTIONS, ROOT, tell
from tests.audit.dependencies import Answer, Versions

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = {"aiohttp": "3.14.5", "yarl": "1.18"}
# Put together here, so that this file has none.
GITHUB_TOKEN = "ghp_" + "Zx9" * 12
PRIVATE_KEY = "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("proxy/some.py", f'TOKEN = "{GITHUB_TOKEN}"\n'),
        ("tests/some.py", f'TOKEN = "{GITHUB_TOKEN}"\n'),
        ("tests/some.pem", PRIVATE_KEY),
        ("deploy/some.yaml", "password: " + "hunter2-but-longer\n"),
    ],
)
def test_a_secret_in_a_file_is_found(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(text)

    [found] = leaks.find(tmp_path, [name])

    assert found.startswith(f"{name}:1: ")


def test_an_invented_secret_of_a_test_is_none(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "some.py").write_text('run(notebook_secret="before-the-rotation")\n')

    assert leaks.find(tmp_path, ["tests/some.py"]) == []


def test_a_file_is_read_again_when_it_has_changed_and_for_as_long_as_it_has_a_secret(tmp_path: Path) -> None:
    cache, file = tmp_path / "cache", tmp_path / "some.py"
    file.write_text("A = 1\n")
    assert leaks.find(tmp_path, ["some.py"], cache) == []
    file.write_text(f'A = "{GITHUB_TOKEN}"\n')

    first, again = (leaks.find(tmp_path, ["some.py"], cache) for _ in range(2))

    assert len(first) == 1
    assert again == first


def test_what_is_allowed_is_there_and_would_be_found() -> None:
    for name, reason in leaks.ALLOWED.items():
        assert reason
        assert list(leaks._scan(ROOT, name))


def test_what_is_shipped_is_looked_up_and_what_only_tests_need_is_not() -> None:
    found = dependencies.shipped()

    assert {"aiohttp", "kubernetes-asyncio", "jupyterlab", "multidict"} <= found.keys()
    assert not {"notebook-proxy", "pytest", "mypy"} & found.keys()


def test_an_advisory_is_told_with_what_mends_it() -> None:
    report: list[dict[str, Any]] = [
        {
            "name": "aiohttp",
            "version": "3.14.5",
            "vulns": [{"id": "CVE-2026-1", "aliases": [], "fix_versions": ["3.14.6"]}],
        },
        {"name": "yarl", "version": "1.18", "vulns": []},
    ]

    answer = dependencies.read(report, VERSIONS)

    assert answer == Answer(("aiohttp 3.14.5: CVE-2026-1, mended in 3.14.6",))


def test_an_advisory_that_does_not_concern_us_is_left_out_by_any_of_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dependencies.ACCEPTED, "CVE-2026-1", "not reached")
    report = [{"name": "yarl", "version": "1.18", "vulns": [{"id": "GHSA-x", "aliases": ["CVE-2026-1"]}]}]

    assert dependencies.read(report, {"yarl": "1.18"}).vulnerable == ()


def test_what_was_skipped_or_left_out_was_not_looked_up_and_that_is_said() -> None:
    answer = dependencies.read([{"name": "aiohttp", "skip_reason": "not found"}], VERSIONS)

    assert answer == Answer((), ("aiohttp", "yarl"), "not found")
    assert "2 PACKAGES WERE NOT LOOKED UP" in tell(answer)
    assert "No known vulnerability" in tell(Answer())


class Index:
    """An index with advisories, or without."""

    def __init__(self, *, has_advisories: bool = True) -> None:
        self.asked: list[list[str]] = []
        self._has_advisories = has_advisories

    def look_up(self, versions: Versions) -> Answer:
        self.asked.append(sorted(versions))
        return Answer() if self._has_advisories else Answer((), tuple(sorted(versions)), "not here")


def test_an_index_without_advisories_is_asked_for_one_package_and_again_an_hour_later(tmp_path: Path) -> None:
    index, time = Index(has_advisories=False), 0.0

    for time in (0.0, 3599.0, 3600.0):
        answer = dependencies.find(VERSIONS, tmp_path / "cache", index.look_up, lambda: time)  # noqa: B023 - called at once

        assert answer == Answer((), ("aiohttp", "yarl"), "not here")
    assert index.asked == [["aiohttp"], ["aiohttp"]]


def test_an_answer_holds_for_a_day_and_for_the_same_versions_only(tmp_path: Path) -> None:
    index, cache = Index(), tmp_path / "cache"

    dependencies.find(VERSIONS, cache, index.look_up, lambda: 0.0)
    dependencies.find(VERSIONS, cache, index.look_up, lambda: 86_399.0)
    assert len(index.asked) == 2
    dependencies.find(VERSIONS | {"yarl": "1.19"}, cache, index.look_up, lambda: 86_399.0)
    dependencies.find(VERSIONS | {"yarl": "1.19"}, cache, index.look_up, lambda: 172_799.0)

    assert index.asked == 3 * [["aiohttp"], ["aiohttp", "yarl"]]


def test_a_dangerous_call_is_found_by_the_project_s_own_rules(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text("import pickle\npickle.loads(open('x', 'rb').read())\n")

    command = [sys.executable, "-m", "bandit", "--quiet", *BANDIT_OPTIONS, str(tmp_path / "some.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "B301" in done.stdout
