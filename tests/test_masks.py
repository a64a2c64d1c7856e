"""No secret is shown: not by settings, nor by a complaint about them, nor by a command; and how it is compared."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from proxy import cli
from proxy.config import Config, load, settings_table
from proxy.errors import ConfigError
from proxy.settings_sources import is_secret
from proxy.settings_types import format_value

VALUE = "0123456789-hunter2-0123456789-hunter2"
NAMES = [name for name, info in Config.model_fields.items() if is_secret(info)]
PRIVATE = [name for name, info in Config.model_fields.items() if not info.repr]
# Comparisons of our own values with each other: nothing that a stranger sends is in them.
OURS = {"auth/session.py: secrets != self._seen_with", "backends/kubernetes/connection.py: self._credential != refused"}
PROXY = Path(__file__).parent.parent / "proxy"


def config_with(name: str, tmp_path: Path) -> Config:
    (tmp_path / "secret").write_text(VALUE)
    return load({f"{name}_file": str(tmp_path / "secret")})


def test_there_are_secrets_and_all_are_private() -> None:
    assert {"jwt_secret", "notebook_secret"} <= set(NAMES) <= set(PRIVATE)


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_is_in_no_form_of_the_settings(name: str, tmp_path: Path) -> None:
    config = config_with(name, tmp_path)

    assert getattr(config, name).get_secret_value() == VALUE
    shown: list[Any] = [repr(config), str(config), config.model_dump(), config.model_dump_json(), config.model_copy()]
    assert [text for text in map(str, shown) if VALUE in text] == []
    assert format_value(getattr(config, name)) == "**********"


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_that_is_not_allowed_is_complained_of_without_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"NOTEBOOK_PROXY_{name.upper()}", "hunter2")

    with pytest.raises(ConfigError) as raised:
        load()

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_is_no_flag_and_in_no_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"NOTEBOOK_PROXY_{name.upper()}", VALUE)
    for command in ("serve", "token"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
    told = capsys.readouterr().out + settings_table()

    assert VALUE not in told
    assert f"--{name.replace('_', '-')} " not in told
    assert f"--{name.replace('_', '-')}-file" in told


def compared(tree: ast.AST) -> list[str]:
    """Return the comparisons by == or != of two values of which one is called a secret, or what is made with one."""
    texts = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(sign, ast.Eq | ast.NotEq) for sign in node.ops)
        and not any(isinstance(side, ast.Constant) for side in (node.left, *node.comparators))
    ]
    return [text for text in texts if any(word in text.lower() for word in ("secret", "token", "signature", "session"))]


def test_what_a_stranger_sends_is_compared_with_a_secret_in_constant_time_or_not_at_all() -> None:
    found = [
        f"{path.relative_to(PROXY)}: {text}"
        for path in PROXY.rglob("*.py")
        for text in compared(ast.parse(path.read_text(encoding="utf-8")))
    ]

    assert set(found) - OURS == set()
    assert compared(ast.parse("if given != self._secret: pass"))
