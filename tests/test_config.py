"""Settings: their defaults, where they come from, and what is allowed."""

from __future__ import annotations

import itertools
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.config import Config, load, settings_table, unknown_variables
from proxy.errors import ConfigError
from proxy.settings_types import format_value

CAN_BE_OFF = ("upstream_timeout", "body_idle_timeout")
DEFAULTS: dict[str, object] = {
    "header_timeout": timedelta(seconds=15),
    "body_idle_timeout": timedelta(minutes=1),
    "client_stall_timeout": timedelta(minutes=2),
    "max_header_bytes": 32_768,
    "max_connections": 0,
    "image": "quay.io/jupyter/minimal-notebook:latest",
    "image_pull_policy": "IfNotPresent",
    "cpu_request": "500m",
    "cpu_limit": "2",
    "memory_request": "1Gi",
    "memory_limit": "4Gi",
    "ephemeral_storage": "5Gi",
    "workspace_pvc_name": "ws-{workspace_id}",
    "workspace_mount_path": "/workspace",
    "run_as_user": 1000,
    "fs_group": 100,
    "cluster_domain": "cluster.local",
    "create_namespace": False,
    "pod_overlay": {},
    "reap_grace": timedelta(seconds=10),
    "insecure_no_auth": False,
    "extra_env_vars": {},
    "ready_timeout": timedelta(seconds=60),
    "idle_ttl": timedelta(hours=4),
    "reap_interval": timedelta(minutes=5),
    "reaper": True,
    "listen": "127.0.0.1:8000",
    "shutdown_grace": timedelta(seconds=10),
    "ready_path": "api",
    "local_root": Path("workspaces"),
}


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [f"NOTEBOOK_PROXY_{name.upper()}" for name in Config.model_fields]:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "proxy.yaml"


def refusal(flags: dict[str, str] | None = None, config_file: Path | None = None) -> str:
    """Return the one line with which these settings are refused."""
    with pytest.raises(ConfigError) as caught:
        load(flags, config_file)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def make(name: str, value: object) -> Config:
    """Return a Config of one value."""
    values: dict[str, Any] = {name: value}
    return Config(**values)


# Defaults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_defaults_are_the_promised_ones(name: str) -> None:
    assert getattr(Config(), name) == DEFAULTS[name]


def test_the_defaults_are_allowed() -> None:
    Config().check()

    assert load() == Config() == Config().with_defaults()


@pytest.mark.parametrize("name", list(Config.model_fields))
@pytest.mark.parametrize("blank", ["", "  ", "\t\n"])
def test_blank_text_means_the_default(name: str, blank: str) -> None:
    assert make(name, blank).with_defaults() == Config()


@pytest.mark.parametrize("name", [name for name in Config.model_fields if name not in CAN_BE_OFF])
def test_none_means_the_default_where_it_is_no_value(name: str) -> None:
    assert make(name, None).with_defaults() == Config()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("idle_ttl", "ready_timeout", "reap_interval", "stop_grace", "upstream_timeout")),
        *((name, timedelta()) for name in ("failed_ttl", "shutdown_grace", "upstream_timeout")),
        *((name, zero) for name in ("cpu_request", "memory_limit") for zero in (0, "0", "0Gi", "0.0")),
        ("notebook_command", []),
        ("trusted_proxies", ()),
        ("extra_env_vars", {}),
        ("idle_ttl", "0s"),
    ],
)
def test_empty_and_zero_values_are_the_defaults(name: str, value: object) -> None:
    assert make(name, value).with_defaults() == Config()


def test_with_defaults_returns_a_copy_and_keeps_what_is_set() -> None:
    config = Config(idle_ttl=0, ready_timeout="5s", reaper="off", upstream_timeout="off", local_root=".")

    full = config.with_defaults()

    assert config.idle_ttl == timedelta()
    assert full.idle_ttl == timedelta(hours=4)
    assert full.ready_timeout == timedelta(seconds=5)
    assert full.reaper is False
    assert full.upstream_timeout is None
    assert full.local_root == Path()


def test_default_mappings_are_not_shared() -> None:
    first, second = (Config().with_defaults() for _ in range(2))

    assert first.extra_env_vars is not second.extra_env_vars


class Odd:
    """A value that no comparison and no truth test survives."""

    def __bool__(self) -> bool:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.timedeltas()
    | st.lists(st.integers()) | st.dictionaries(st.text(), st.none()) | st.builds(Odd) | st.just(Odd) | st.builds(Path)
)  # fmt: skip


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(Config.model_fields, ANYTHING)))
def test_with_defaults_never_raises_and_check_raises_only_config_errors(values: dict[str, Any]) -> None:
    config = Config.model_construct(**values).with_defaults()

    line = ""
    try:
        config.check()
    except ConfigError as error:
        line = str(error)

    assert len(line.splitlines()) <= 1


@given(st.sampled_from(list(Config.model_fields)), st.text())
def test_any_text_is_a_value_or_one_line(name: str, text: str) -> None:
    line = name
    try:
        load({name: text})
    except ConfigError as error:
        line = str(error)

    assert line.startswith(name)
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("name", list(Config.model_fields))
def test_every_default_that_is_written_reads_the_same(name: str) -> None:
    text = format_value(getattr(Config(), name))

    assert getattr(load({name: text}), name) == getattr(Config(), name)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Config().listen = "127.0.0.1:1"  # type: ignore[misc]


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError):
        Config(idle_tll=3)  # type: ignore[call-arg]
    assert refusal({"idle_tll": "3"}).endswith("there is no such setting; did you mean 'idle_ttl'?")


def test_constructing_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_IDLE_TTL", "1h")

    assert Config().idle_ttl == timedelta(hours=4)


def test_repr_hides_the_notebooks_environment() -> None:
    config = Config(extra_env_vars={"PASSWORD": "s3cret"})

    assert "s3cret" not in repr(config)
    assert "s3cret" not in str(config)


# Sources ------------------------------------------------------------------------------------------------------------


def test_each_source_beats_the_one_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("{idle_ttl: 3h, ready_timeout: 3s, stop_grace: 3s}")
    monkeypatch.setenv("NOTEBOOK_PROXY_IDLE_TTL", "2h")
    monkeypatch.setenv("NOTEBOOK_PROXY_READY_TIMEOUT", "2s")

    config = load({"idle_ttl": "1h"}, file)

    assert config.idle_ttl == timedelta(hours=1)
    assert config.ready_timeout == timedelta(seconds=2)
    assert config.stop_grace == timedelta(seconds=3)
    assert config.reap_interval == timedelta(minutes=5)


def test_a_file_may_write_names_with_dashes_and_values_in_every_yaml_way(file: Path) -> None:
    file.write_text(
        "\ufeffidle-ttl: 5400\nreaper: off\nupstream_timeout: off\nlisten: 8001\ncpu_limit: 0.5\n"
        "notebook_command: [ide, --port, '{port}', 0755]\ntrusted_proxies:\n- 10.0.0.0/8\n"
        "extra_env_vars: {VERSION: 1.10, NO: no, AT: 12:30:00, EMPTY: }\nimage:\n",
        encoding="utf-8",
    )

    config = load(config_file=file)

    assert config.idle_ttl == timedelta(minutes=90)
    assert config.reaper is False
    assert config.upstream_timeout is None
    assert config.address == ("127.0.0.1", 8001)
    assert config.cpu_limit == "0.5"
    assert config.notebook_command == ("ide", "--port", "{port}", "0755")
    assert config.trusted_proxies == (ip_network("10.0.0.0/8"),)
    assert config.extra_env_vars == {"VERSION": "1.10", "NO": "no", "AT": "12:30:00", "EMPTY": ""}
    assert config.image == Config().image


def test_the_environment_gives_lists_and_mappings_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_NOTEBOOK_COMMAND", "ide --root '{root}'")
    monkeypatch.setenv("NOTEBOOK_PROXY_TRUSTED_PROXIES", "10.0.0.0/8,::1")
    monkeypatch.setenv("NOTEBOOK_PROXY_EXTRA_ENV_VARS", '{"A": "b"}')

    config = load()

    assert config.notebook_command == ("ide", "--root", "{root}")
    assert config.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    assert config.extra_env_vars == {"A": "b"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_an_empty_file_sets_nothing(file: Path, text: str) -> None:
    file.write_text(text)

    assert load(config_file=file) == Config()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a: [", "not YAML: "),
        (b"\xff\xfe\xfa", "not YAML: "),
        (b"[listen]", "must be a mapping of settings to values, not list"),
        (b"listen", "must be a mapping of settings to values, not str"),
        (b"idle_tll: 3", "there is no setting 'idle_tll'; did you mean 'idle_ttl'?"),
        (b"? 'a\n\n b'\n: 3", "there is no setting"),
        (b"[" * 5_000, "not YAML: "),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_its_name(file: Path, content: bytes, complaint: str) -> None:
    file.write_bytes(content)

    line = refusal(config_file=file)

    assert line.startswith(f"--config {file}: ")
    assert complaint in line


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    assert refusal(config_file=tmp_path / "no.yaml").endswith("no.yaml: No such file or directory")
    assert refusal(config_file=tmp_path).endswith("Is a directory")


def test_a_complaint_names_field_value_source_and_what_is_allowed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = "must be a duration such as 4h, 5m, 90s or a number of seconds"
    file.write_text("idle_ttl: 1 fortnight")

    assert refusal(config_file=file) == f"idle_ttl = '1 fortnight' (from {file}): {rule}"

    monkeypatch.setenv("NOTEBOOK_PROXY_IDLE_TTL", "2x")
    assert refusal(config_file=file) == f"idle_ttl = '2x' (from NOTEBOOK_PROXY_IDLE_TTL): {rule}"

    assert refusal({"idle_ttl": "3x"}, file) == f"idle_ttl = '3x' (from the command line): {rule}"


def test_a_complaint_about_a_range_names_the_source_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_IDLE_TTL", "-90")

    assert refusal() == (
        "idle_ttl = '-90s' (from NOTEBOOK_PROXY_IDLE_TTL): must be a duration above zero, at most 3650d"
    )


def test_a_complaint_without_a_source_is_about_the_default() -> None:
    with pytest.raises(ConfigError, match=r"listen = '0.0.0.0:1' \(from the default\): must be a loopback address"):
        Config(listen="0.0.0.0:1").check()


def test_a_complaint_shows_no_secret_and_no_endless_value() -> None:
    assert "s3cret" not in refusal({"extra_env_vars": "PASSWORD=s3cret"})
    assert "s3cret" not in refusal({"extra_env_vars": "{'': s3cret}"})
    assert len(refusal({"image": "a b" * 10_000})) < 300


def test_bytes_that_are_no_text_are_refused_in_one_printable_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_IMAGE", "image\udcff")

    assert refusal().encode("ascii").startswith(b"image = 'image\\udcff' (from NOTEBOOK_PROXY_IMAGE): must be")


# What is allowed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("backend", "docker", "'auto', 'local' or 'kubernetes'"),
        ("image_pull_policy", "never", "'Always', 'IfNotPresent' or 'Never'"),
        ("log_level", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("reaper", "maybe", "on or off"),
        ("upstream_timeout", "never", "a number of seconds, or off"),
        ("upstream_timeout", "-1", "a duration above zero"),
        ("header_timeout", "off", "a duration such as"),
        ("body_idle_timeout", "never", "a number of seconds, or off"),
        ("client_stall_timeout", "25h", "at most 1d"),
        ("max_header_bytes", "4095", "a whole number from 4096 to 1048576"),
        ("max_header_bytes", "2097152", "a whole number from 4096 to 1048576"),
        ("max_connections", "-1", "a whole number"),
        ("max_connections", "1000001", "a whole number up to 1000000"),
        ("idle_ttl", "off", "a duration such as"),
        ("idle_ttl", "100000d", "at most 3650d"),
        ("idle_ttl", "9" * 5_000, "a duration such as"),
        ("idle_ttl", "nan", "a duration such as"),
        ("listen", "0.0.0.0:8000", "a loopback address"),
        ("listen", ":8000", "a loopback address"),
        ("listen", "[::]:8000", "a loopback address"),
        ("listen", "example.org:8000", "an IP address (or localhost) and a port"),
        ("listen", "127.0.0.1:80000", "an IP address (or localhost) and a port"),
        ("namespace", "Default", "a DNS-1123 label"),
        ("namespace", "ws-{workspace}", "a DNS-1123 label"),
        ("namespace", "ws-{workspace_id}-", "a DNS-1123 label"),
        ("proxy_namespace", "a.b", "a DNS-1123 label"),
        ("workspace_pvc_size", "10 GB", "a Kubernetes quantity"),
        ("workspace_pvc_storage_class", "Fast", "a storage class's name"),
        ("workspace_mount_path", "workspace", "an absolute path"),
        ("workspace_mount_path", "/", "an absolute path"),
        ("workspace_mount_path", "/a/../b", "an absolute path"),
        ("workspace_mount_path", "/a:b", "an absolute path"),
        ("workspace_sub_path", "/a", "a relative path"),
        ("workspace_sub_path", "a/..", "a relative path"),
        ("workspace_sub_path", "a/{user}", "a relative path"),
        ("run_as_user", "root", "a whole number"),
        ("run_as_user", "-1", "a whole number"),
        ("fs_group", "4294967296", "a whole number from 1 to 2147483647"),
        ("pod_overlay", "nodeSelector: {a: b}", "`metadata`, `spec` or both"),
        ("pod_overlay", "spec: x", "`metadata`, `spec` or both"),
        ("pod_overlay", "[]", "a mapping of text"),
        ("pod_overlay", "spec: {volumes: {shm: {name: shm}}}", "in which `volumes` is a list of mappings"),
        ("pod_overlay", "spec: {containers: [notebook]}", "in which `containers` is a list of mappings"),
        ("pod_overlay", "spec: {containers: [{name: notebook, env: {A: b}}]}", "in which `env` is a list of mappings"),
        ("pod_overlay", "spec: {a: [", "a mapping of text"),
        ("pod_overlay", "spec: {1: a}", "a mapping of text"),
        ("namespace_manifests", "/etc/extra.yaml", "left out unless create_namespace is on"),
        ("kubeconfig", "a\0b", "a path without NUL"),
        ("cluster_domain", "cluster.local.", "a DNS name"),
        ("notebook_secret", "too short", "at least 16 characters"),
        ("ready_path", "/api", "a path relative to the base URL"),
        ("ready_path", "a b", "a path relative to the base URL"),
        ("ready_path", "api#x", "a path relative to the base URL"),
        ("trusted_proxies", "10.0.0.1/8", "10.0.0.1/8 has host bits set"),
        ("notebook_command", "ide 'x", "No closing quotation"),
        ("notebook_command", "'' x", "a program and its arguments"),
        ("notebook_command", "a\0b", "without NUL"),
        ("local_root", "a\0b", "without NUL"),
        ("extra_env_vars", "[1]", "a mapping of names to text"),
        ("extra_env_vars", "{'a=b': c}", "names without spaces or '='"),
        ("extra_env_vars", '{a: "\\0"}', "values without NUL"),
        ("image", "a b", "an image reference"),
        ("cpu_request", "lots", "a Kubernetes quantity"),
        ("memory_limit", "-1Gi", "a Kubernetes quantity"),
        ("memory_limit", "4GB", "a Kubernetes quantity"),
        ("workspace_pvc_name", "ws-{id}", "`{workspace_id}`"),
        ("workspace_pvc_name", "WS-{workspace_id}", "`{workspace_id}`"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused_with_what_is(name: str, text: str, allowed: str) -> None:
    line = refusal({name: text})

    assert line.startswith(name)
    assert "(from the command line): must be " in line
    assert allowed in line


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("listen", "[::1]:0"),
        ("listen", "127.9.9.9:80"),
        ("listen", "localhost:8000"),
        ("image", "registry.example:5000/a/b@sha256:0123"),
        ("cpu_limit", "0.5"),
        ("memory_limit", "1e9"),
        ("ready_path", "healthz?probe=1"),
        ("workspace_pvc_name", "home-{workspace_id_short}.x"),
        ("idle_ttl", "0.5s"),
        ("extra_env_vars", "{A: }"),
        ("local_root", "/srv/b\udcffd"),
        ("namespace", "agent-ws-{workspace_id_short}"),
        ("workspace_pvc_size", "10Gi"),
        ("workspace_mount_path", "/home/jovyan/work.d"),
        ("workspace_sub_path", "teams/{workspace_id}"),
        ("run_as_user", "1001"),
        ("pod_overlay", "{metadata: {labels: {team: a}}, spec: {tolerations: [{tolerationSeconds: 30}]}}"),
        ("pod_overlay", "{spec: {containers: [{name: notebook, env: null}]}}"),
        ("notebook_secret", "sixteen letters!"),
    ],
)
def test_what_is_allowed_is_accepted(name: str, text: str) -> None:
    config = load({name: text})

    assert config != Config()
    assert getattr(config, name) == getattr(make(name, text), name)


# What looks like a setting ------------------------------------------------------------------------------------------


def test_a_variable_that_is_no_setting_is_named_with_what_may_be_meant() -> None:
    assert unknown_variables({"NOTEBOOK_PROXY_IDLE_TLL": "4h", "HOME": "/", "NOTEBOOK_PROXY_IDLE_TTL": "4h"}) == [
        "NOTEBOOK_PROXY_IDLE_TLL is set, but there is no such setting; did you mean 'idle_ttl'?"
    ]


def test_variables_of_a_kubernetes_service_of_the_same_name_are_no_mistake() -> None:
    injected = {
        "NOTEBOOK_PROXY_SERVICE_HOST": "10.0.0.1",
        "NOTEBOOK_PROXY_SERVICE_PORT": "8000",
        "NOTEBOOK_PROXY_SERVICE_PORT_HTTP": "8000",
        "NOTEBOOK_PROXY_PORT": "tcp://10.0.0.1:8000",
        "NOTEBOOK_PROXY_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "NOTEBOOK_PROXY_PORT_8000_TCP_ADDR": "10.0.0.1",
    }

    assert unknown_variables(injected) == []


def test_a_port_that_a_person_set_is_a_mistake() -> None:
    assert len(unknown_variables({"NOTEBOOK_PROXY_PORT": "9000"})) == 1


def test_the_table_has_a_row_of_four_cells_for_each_setting() -> None:
    head, rule, *rows = settings_table().splitlines()

    assert head.startswith("| setting")
    assert set(rule) <= set("|- ")
    assert sorted(row.split("`")[1] for row in rows) == sorted(Config.model_fields)
    groups = [row.split(" | ")[2] for row in rows]
    assert [group for group, _ in itertools.groupby(groups)] == list(dict.fromkeys(groups))  # each in one piece
    assert {row.count(" | ") for row in rows} == {3}


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        ({"Big": {}}, "a mapping of names to profiles"),
        ({"big": "8Gi"}, "a mapping of names to profiles"),
        ({"big": {"memory": "8Gi"}}, "a mapping of names to profiles"),
        ({"big": {"description": {}}}, "a mapping of names to profiles"),
        ({"big": {"memory_limit": "much"}}, "in 'big' memory_limit = 'much'"),
        ({"big": {"image_pull_policy": "Sometimes"}}, "in 'big' image_pull_policy = 'Sometimes'"),
        ({"big": {"pod_overlay": {"kind": "Pod"}}}, "in 'big' pod_overlay"),
    ],
)
def test_profile_that_could_not_be_started_is_refused(profiles: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Config(profiles=profiles).check()

    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_profiles_of_allowed_settings_are_allowed() -> None:
    Config(profiles={"big": {"description": "8 GB", "memory-limit": "8Gi", "cpu_limit": 4}, "small": {}}).check()
