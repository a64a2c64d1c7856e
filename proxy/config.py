"""Every setting: its type, unit, default and reason; where values come from; what is allowed.

`Config(...)` only holds values, `with_defaults()` fills in what is empty, `check()` says what is not allowed and
`load()` does all of it from file, environment and flags. Nothing else in the package reads the environment.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from proxy.errors import ConfigError
from proxy.settings_rules import problems
from proxy.settings_types import (
    Command,
    Duration,
    LogLevel,
    Networks,
    OptionalDuration,
    Quantity,
    StringMap,
    Switch,
    Text,
    format_value,
    parse_listen,
    read_yaml,
)

ENV_PREFIX: Final = "NOTEBOOK_PROXY_"
# Kubernetes injects these into every pod for a Service that is called notebook-proxy.
_SERVICE_LINK: Final = re.compile(r"SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?")
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://.*")  # the value of NOTEBOOK_PROXY_PORT is then one

_SHOWN_LENGTH: Final = 100
_NONE_IS_OFF: Final = frozenset({"upstream_timeout"})

_PROXY, _LIFE, _LOCAL, _KUBERNETES = "proxy", "life of a notebook server", "local backend", "Kubernetes backend"


def _setting(default: Any, group: str, description: str, *, is_private: bool = False) -> Any:
    """Declare a setting. The value of a private one is shown nowhere: not in `repr`, not in a complaint."""
    return Field(default=default, description=description, json_schema_extra={"group": group}, repr=not is_private)


class Config(BaseSettings):
    """All settings. Immutable; takes values by keyword and reads nothing by itself (`load` does).

    Blank text means "the default", as does None where None is not a value. Values are converted where their text has
    one meaning (`"4h"`), and a value that has none raises `ValueError`; ranges are judged by `check` alone.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENV_PREFIX)

    listen: Text = _setting("127.0.0.1:8000", _PROXY, "address and port to serve on; port 0 takes a free one")
    backend: Literal["auto", "local", "kubernetes"] = _setting(
        "auto", _PROXY, "what runs notebook servers; `auto` is `kubernetes` inside a cluster and `local` elsewhere"
    )
    trusted_proxies: Annotated[Networks, NoDecode] = _setting(
        (), _PROXY, "networks whose `X-Forwarded-*` headers are believed, separated by commas"
    )
    upstream_timeout: OptionalDuration = _setting(
        timedelta(minutes=10),
        _PROXY,
        "how long a notebook server may take until it sends response headers, or `off`; a body may take for ever",
    )
    shutdown_grace: Duration = _setting(
        timedelta(seconds=10), _PROXY, "how long requests in flight may take to finish after SIGTERM"
    )
    log_level: LogLevel = _setting("info", _PROXY, "the least that is logged")

    namespace: Text = _setting("default", _LIFE, "namespace of every workspace")
    ready_timeout: Duration = _setting(
        timedelta(seconds=60), _LIFE, "how long one request waits for a start; the start goes on after it"
    )
    failed_ttl: Duration = _setting(
        timedelta(minutes=10), _LIFE, "how long a start may go on without an answer before it counts as failed"
    )
    idle_ttl: Duration = _setting(timedelta(hours=4), _LIFE, "how long a workspace may go unused before it is stopped")
    reap_interval: Duration = _setting(timedelta(minutes=5), _LIFE, "how often the reaper looks for idle workspaces")
    reaper: Switch = _setting(default=True, group=_LIFE, description="whether idle workspaces are stopped at all")
    notebook_command: Annotated[Command, NoDecode] = _setting(
        (),
        _LIFE,
        "command instead of JupyterLab's, a list or one shell-like string; `{port}`, `{base_url}`, `{token}`, `{root}` "
        "and `{workspace_id}` are replaced literally",
    )
    ready_path: Text = _setting("api", _LIFE, "path below the base URL that answers 200 when the server is ready")
    extra_env_vars: Annotated[StringMap, NoDecode] = _setting(
        {},
        _LIFE,
        "environment variables of the notebook server, as a mapping; values may contain `{workspace_id}` and "
        "`{workspace_id_short}` (its first 8 characters)",
        is_private=True,
    )

    local_root: Path = _setting(Path("workspaces"), _LOCAL, "directory that holds one directory per workspace")
    stop_grace: Duration = _setting(
        timedelta(seconds=5), _LOCAL, "how long a notebook server may take to end after SIGTERM before SIGKILL"
    )

    image: Text = _setting(
        "quay.io/jupyter/minimal-notebook:latest", _KUBERNETES, "notebook image; pin it to a tag or digest of your own"
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = _setting(
        "IfNotPresent", _KUBERNETES, "when the image is pulled"
    )
    cpu_request: Quantity = _setting("500m", _KUBERNETES, "CPU that is reserved")
    cpu_limit: Quantity = _setting("2", _KUBERNETES, "CPU that may be used")
    memory_request: Quantity = _setting("1Gi", _KUBERNETES, "memory that is reserved")
    memory_limit: Quantity = _setting("4Gi", _KUBERNETES, "memory that may be used")
    ephemeral_storage: Quantity = _setting("5Gi", _KUBERNETES, "scratch disk that may be used")
    workspace_pvc_name: Text = _setting(
        "ws-{workspace_id}",
        _KUBERNETES,
        "name of a workspace's PersistentVolumeClaim, with `{workspace_id}` and `{workspace_id_short}`",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values by keyword only: constructing a Config reads neither environment nor files."""
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _blank_is_default(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if not _is_blank(name, value)}

    def with_defaults(self) -> Self:
        """Return a copy in which empty and zero values are the defaults. Never raises; judges nothing."""
        fields = type(self).model_fields
        empty = {name: info.get_default() for name, info in fields.items() if _is_empty(name, getattr(self, name))}
        return self.model_copy(update=empty)

    def check(self, sources: Mapping[str, str] | None = None) -> None:
        """Judge what no type can: ranges, forms, and values that came here past the types.

        Args:
            sources: for each field that was set, where from; it is part of the message.

        Raises:
            ConfigError: one line that names the field, its source, and what is allowed.
        """
        held = {name: getattr(self, name) for name in type(self).model_fields}
        typed = dict(_validated(held, sources or {}))
        for name, allowed in problems(typed):
            raise ConfigError(_complaint(name, typed[name], sources or {}, allowed))

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`."""
        return parse_listen(self.listen)


def _is_blank(name: str, value: Any) -> bool:
    if value is None:
        return name not in _NONE_IS_OFF
    return isinstance(value, str) and not value.strip()


def _is_empty(name: str, value: Any) -> bool:
    # Path() is ".", which is a place. A switch that is off is not empty. Other types than these come past validation.
    return _is_blank(name, value) or (isinstance(value, timedelta | tuple | Mapping | int | float) and _is_zero(value))


def _is_zero(value: Any) -> bool:
    return not isinstance(value, bool) and not value


def _complaint(name: str, value: object, sources: Mapping[str, str], allowed: str) -> str:
    info = Config.model_fields.get(name)
    text = repr(format_value(value))
    if len(text) > _SHOWN_LENGTH:
        text = text[:_SHOWN_LENGTH] + "..."
    shown = f" = {text}" if info is None or info.repr else ""
    return f"{name}{shown} (from {sources.get(name, 'the default')}): must be {allowed}"


def _validated(values: Mapping[str, Any], sources: Mapping[str, str]) -> Config:
    """Return a Config of these values, or raise ConfigError about the first that is not of its type."""
    try:
        return Config(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        allowed = first.get("ctx", {}).get("error") or first["msg"].removeprefix("Input should be ")
        if first["type"] == "extra_forbidden":
            allowed = f"left out: there is no such setting{_suggestion(name)}"
        raise ConfigError(_complaint(name, values.get(name), sources, str(allowed))) from None


def load(flags: Mapping[str, str] | None = None, config_file: Path | None = None) -> Config:
    """Return the settings that hold: defaults, then the file, then the environment, then flags; later wins.

    Args:
        flags: field name to text, as given on the command line; absent ones are left out.
        config_file: a YAML mapping of field names (dashes or underscores) to values.

    Raises:
        ConfigError: in one line, which value is wrong, where it came from and what is allowed.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for origin, found in (
        *([(str(config_file), _from_file(config_file))] if config_file else ()),
        (None, EnvSettingsSource(Config, env_prefix=ENV_PREFIX, case_sensitive=False)()),
        ("the command line", dict(flags or {})),
    ):
        for name, value in found.items():
            values[name] = value
            sources[name] = origin or ENV_PREFIX + name.upper()
    config = _validated(values, sources).with_defaults()
    config.check(sources)
    return config


def _from_file(path: Path) -> dict[str, Any]:
    try:
        found = read_yaml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--config {path}: not YAML: {error}") from error
    if not found:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"--config {path}: must be a mapping of settings to values, not {type(found).__name__}")
    settings = {str(name).replace("-", "_"): value for name, value in found.items()}
    for name in settings:
        if name not in Config.model_fields:
            raise ConfigError(f"--config {path}: there is no setting {name!r}{_suggestion(name)}")
    return settings


def is_in_cluster(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process runs in a Kubernetes pod, as client libraries do."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST"))


def inheritable_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment that notebook servers inherit: this process's own, without its settings."""
    return {name: value for name, value in environ.items() if not name.upper().startswith(ENV_PREFIX)}


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return one sentence for each `NOTEBOOK_PROXY_*` variable that is no setting: most often a typing error."""
    found = []
    for variable, value in sorted(environ.items()):
        name = variable.upper().removeprefix(ENV_PREFIX)
        if not variable.upper().startswith(ENV_PREFIX) or name.lower() in Config.model_fields:
            continue
        if not _SERVICE_LINK.fullmatch(name) and not (name == "PORT" and _SERVICE_URL.fullmatch(value)):
            found.append(f"{variable} is set, but there is no such setting{_suggestion(name.lower())}")
    return found


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, Config.model_fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else "; `notebook-proxy settings` lists them"


def settings_table() -> str:
    """Return every setting as a Markdown table: name, default, what it is of, meaning."""
    rows = []
    for name, info in Config.model_fields.items():
        extra = info.json_schema_extra
        group = extra["group"] if isinstance(extra, dict) else ""
        default = format_value(info.get_default())
        shown = f"`{default}`" if default else "none"
        rows.append(f"| `{name}` | {shown} | {group} | {info.description} |")
    return "\n".join(["| setting | default | of | meaning |", "| --- | --- | --- | --- |", *rows]) + "\n"
