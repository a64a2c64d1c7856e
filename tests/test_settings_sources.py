"""Where settings come from: secrets and trees, and the files that hold one value each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr, ValidationError

from proxy.cli import main
from proxy.config import Config, load, settings_table, unknown_variables
from proxy.errors import ConfigError
from proxy.settings_sources import file_settings, is_secret

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "correct horse battery staple"
SECRETS = [name for name, info in Config.model_fields.items() if is_secret(info)]


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Config.model_fields, *file_settings(Config.model_fields)):
        monkeypatch.delenv(f"NOTEBOOK_PROXY_{name.upper()}", raising=False)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n", encoding="utf-8")
    return path


def refusal(flags: dict[str, str] | None = None, config_file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(flags, config_file)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def with_secret(value: object) -> Config:
    values: dict[str, Any] = {"notebook_secret": value}
    return Config(**values)


# Secrets are not shown ----------------------------------------------------------------------------------------------


def test_what_is_secret_is_known() -> None:
    assert set(SECRETS) == {"jwt_secret", "notebook_secret", "session_secret"}


def test_a_secret_is_in_no_repr_and_no_dump() -> None:
    config = with_secret(SECRET)

    assert config.notebook_secret.get_secret_value() == SECRET
    shown = (repr(config), str(config), str(config.model_dump()), config.model_dump_json())
    assert not [text for text in shown if SECRET in text]


@pytest.mark.parametrize("value", [SECRET.encode(), [SECRET], {SECRET: 1}, object])
def test_a_secret_of_a_wrong_type_is_not_in_the_error(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        with_secret(value)

    assert "horse" not in str(caught.value)


def test_a_secret_that_is_refused_is_not_in_the_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_NOTEBOOK_SECRET", "hunter2")

    line = refusal()

    assert line.startswith("notebook_secret (from NOTEBOOK_PROXY_NOTEBOOK_SECRET): must be at least 16 characters")
    assert "hunter2" not in line


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_has_no_flag_but_a_flag_for_its_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    flag = f"--{name.replace('_', '-')}"

    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    helped = capsys.readouterr().out.split()
    with pytest.raises(SystemExit) as caught:
        main(["serve", flag, SECRET])

    assert flag not in helped
    assert f"{flag}-file" in helped
    assert caught.value.code == 2


@pytest.mark.parametrize("name", SECRETS)
def test_the_table_tells_how_a_secret_is_given(name: str) -> None:
    row = next(line for line in settings_table().splitlines() if line.startswith(f"| `{name}` |"))

    assert row.startswith(f"| `{name}` | none |")
    assert f"`{name}_file` names a file that holds it; no flag" in row


# Files that hold one value ------------------------------------------------------------------------------------------


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_NOTEBOOK_SECRET", SECRET)

    assert load().notebook_secret == SecretStr(SECRET)


def test_a_secret_comes_from_the_file_that_each_source_names(
    secret_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file = tmp_path / "proxy.yaml"
    config_file.write_text(f"notebook-secret-file: {secret_file}")

    assert load({"notebook_secret_file": str(secret_file)}).notebook_secret == SecretStr(SECRET)
    assert load(config_file=config_file).notebook_secret == SecretStr(SECRET)
    monkeypatch.setenv("notebook_proxy_notebook_secret_file", str(secret_file))
    assert load().notebook_secret == SecretStr(SECRET)


def test_a_later_source_beats_the_file_of_an_earlier_one(
    secret_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file = tmp_path / "proxy.yaml"
    config_file.write_text(f"notebook_secret_file: {secret_file}")
    monkeypatch.setenv("NOTEBOOK_PROXY_NOTEBOOK_SECRET", "another long secret")

    assert load(config_file=config_file).notebook_secret == SecretStr("another long secret")


def test_one_source_gives_a_value_once(secret_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_NOTEBOOK_SECRET", SECRET)
    monkeypatch.setenv("NOTEBOOK_PROXY_NOTEBOOK_SECRET_FILE", str(secret_file))

    line = refusal()

    assert line.startswith("notebook_secret_file (from NOTEBOOK_PROXY_NOTEBOOK_SECRET_FILE): ")
    assert line.endswith("must be left out where notebook_secret is given")


def test_a_blank_name_of_a_file_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_NOTEBOOK_SECRET_FILE", " ")

    assert load() == Config()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file or directory"),
        (b" \n", "a file that is not empty"),
        (b"\xff\xfe\xfahunter2", "a file of UTF-8 text"),
    ],
)
def test_a_file_without_a_value_is_refused_by_its_name(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    line = refusal({"notebook_secret_file": str(path)})

    assert line.startswith(f"notebook_secret_file = '{path}' (from the command line): ")
    assert line.endswith(complaint)
    assert "hunter2" not in line


def test_a_value_that_is_refused_is_said_to_come_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("hunter2")

    line = refusal({"notebook_secret_file": str(path)})

    assert line.startswith("notebook_secret (from the file that notebook_secret_file names): must be at least 16")


def test_a_variable_that_names_a_file_is_known() -> None:
    environ = {"NOTEBOOK_PROXY_NOTEBOOK_SECRET_FILE": "x", "NOTEBOOK_PROXY_NOTEBOOK_SECRET_FILES": "x"}

    [sentence] = unknown_variables(environ)

    assert sentence.startswith("NOTEBOOK_PROXY_NOTEBOOK_SECRET_FILES is set, but there is no such setting; ")
    assert sentence.endswith("did you mean 'notebook_secret_file'?")


def test_only_secrets_and_trees_may_be_in_a_file_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text("listen_file: x")

    assert "there is no setting 'listen_file'" in refusal(config_file=path)


# Trees --------------------------------------------------------------------------------------------------------------

OVERLAY = (
    "spec: {terminationGracePeriodSeconds: 30, hostNetwork: false, nodeSelector: {gpu: 'true', zone: on, mode: 0755}}"
)
READ = {
    "spec": {
        "terminationGracePeriodSeconds": 30,
        "hostNetwork": False,
        "nodeSelector": {"gpu": "true", "zone": "on", "mode": "0755"},
    }
}


def test_numbers_and_switches_of_an_overlay_are_not_text_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, inside, as_text = (tmp_path / name for name in ("overlay.yaml", "proxy.yaml", "text.yaml"))
    own.write_text(OVERLAY)
    inside.write_text(f"idle-ttl: 10\npod-overlay:\n  {OVERLAY}\n")
    as_text.write_text(f"pod_overlay: |\n  {OVERLAY}\n")

    assert load({"pod_overlay": OVERLAY}).pod_overlay == READ
    assert load({"pod_overlay_file": str(own)}).pod_overlay == READ
    assert load(config_file=inside).pod_overlay == READ
    assert load(config_file=as_text).pod_overlay == READ
    monkeypatch.setenv("NOTEBOOK_PROXY_POD_OVERLAY", OVERLAY)
    assert load().pod_overlay == READ


def test_an_overlay_is_not_shared_with_who_gave_it() -> None:
    given: dict[str, Any] = {"spec": {"nodeSelector": {"a": "b"}}}

    config = Config(pod_overlay=given)
    given["spec"]["nodeSelector"]["a"] = "c"

    assert config.pod_overlay == {"spec": {"nodeSelector": {"a": "b"}}}


def test_an_overlay_without_end_is_refused() -> None:
    given: dict[str, Any] = {"spec": {}}
    given["spec"]["again"] = given

    with pytest.raises(ValidationError, match="a mapping of text"):
        Config(pod_overlay=given)
    assert "a mapping of text" in refusal({"pod_overlay": "spec: &a {b: *a}"})


def test_a_file_of_comments_is_an_empty_overlay(tmp_path: Path) -> None:
    path = tmp_path / "overlay.yaml"
    path.write_text("# nothing yet\n")

    assert load({"pod_overlay_file": str(path)}).pod_overlay == {}
