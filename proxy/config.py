"""Every setting: its type, unit, default and reason; where values come from; what is allowed.

`Config(...)` only holds values, `with_defaults()` fills in what is empty, `check()` says what is not allowed and
`load()` does all of it from file, environment and flags (see `settings_sources`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from proxy import settings_page, settings_sources
from proxy.errors import ConfigError
from proxy.profiles import Profile, read_profiles
from proxy.settings_auth import AuthSettings
from proxy.settings_kubernetes import KubernetesSettings
from proxy.settings_operations import OperationsSettings
from proxy.settings_page import CLIENTS, LIFE, LOCAL, PROXY
from proxy.settings_rules import problems
from proxy.settings_serving import ServingSettings
from proxy.settings_sources import gather, suggestion
from proxy.settings_types import (
    Command,
    Count,
    Duration,
    Networks,
    OptionalDuration,
    Rules,
    StringMap,
    Switch,
    Text,
    format_value,
    parse_listen,
    setting,
)

ENV_PREFIX: Final = "NOTEBOOK_PROXY_"
_SHOWN_LENGTH: Final = 100
_NONE_IS_OFF: Final = frozenset({"upstream_timeout", "body_idle_timeout", "max_age", "drain_delay"})


class Config(AuthSettings, OperationsSettings, KubernetesSettings, ServingSettings):
    """All settings. Immutable; takes values by keyword and reads nothing by itself (`load` does).

    Blank text means "the default", as does None where None is not a value. Values are converted where their text has
    one meaning (`"4h"`), and a value that has none raises `ValueError`; ranges are judged by `check` alone.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENV_PREFIX, hide_input_in_errors=True)

    listen: Text = setting("127.0.0.1:8000", PROXY, "address and port to serve on; port 0 takes a free one")
    backend: Literal["auto", "local", "kubernetes"] = setting(
        "auto", PROXY, "what runs notebook servers; `auto` is `kubernetes` inside a cluster and `local` elsewhere"
    )
    trusted_proxies: Annotated[Networks, NoDecode] = setting(
        (), PROXY, "networks whose `X-Forwarded-*` headers are believed, separated by commas"
    )
    upstream_timeout: OptionalDuration = setting(
        timedelta(minutes=10),
        PROXY,
        "how long a notebook server may take until it sends response headers, or `off`; a body may take for ever",
    )
    page_after: Duration = setting(
        timedelta(seconds=0.7), PROXY, "how long a browser waits for a start before it is shown a page about it"
    )
    hold_timeout: Duration = setting(
        timedelta(seconds=50), PROXY, "how long every other request waits for a start; ingresses often cut at a minute"
    )
    drain_delay: OptionalDuration = setting(
        None,
        PROXY,
        "how long everything goes on after SIGTERM, but for `/readyz`, so that load balancers can follow, or `off`",
    )
    shutdown_grace: Duration = setting(
        timedelta(seconds=10),
        PROXY,
        "how long requests in flight may take to finish after that; many websockets are closed evenly over it",
    )

    max_connections: Count = setting(
        0,
        CLIENTS,
        "how many clients' connections may be open; more are answered 503. `0` is as many as there are file "
        "descriptors for (two each), at most 10000",
    )
    max_header_bytes: Count = setting(
        32_768, CLIENTS, "how large a request line and headers may be together; more is answered 431"
    )
    header_timeout: Duration = setting(
        timedelta(seconds=15),
        CLIENTS,
        "how long a client may take to send a request line and headers, and to begin after it has connected",
    )
    body_idle_timeout: OptionalDuration = setting(
        timedelta(minutes=1),
        CLIENTS,
        "how long nothing may come of a request's body while it is waited for, or `off`; a body that goes on may take "
        "for ever",
    )
    client_stall_timeout: Duration = setting(
        timedelta(minutes=2),
        CLIENTS,
        "how long a client may take nothing of what is sent to it before it counts as gone",
    )

    namespace: Text = setting(
        "default",
        LIFE,
        "namespace of every workspace, or a template with `{workspace_id}` or `{workspace_id_short}`, such as "
        "`agent-ws-{workspace_id_short}`",
    )
    ready_timeout: Duration = setting(
        timedelta(seconds=60), LIFE, "how long a caller of the library waits for a start; the start goes on after it"
    )
    max_concurrent_starts: Count = setting(
        100, LIFE, "how many workspaces start at once; more wait for their turn, in the order in which they came"
    )
    max_queued: Count = setting(1000, LIFE, "how many wait for their turn to start at most; more are answered 503")
    failed_ttl: Duration = setting(
        timedelta(minutes=10), LIFE, "how long a start may go on without an answer before it counts as failed"
    )
    idle_ttl: Duration = setting(timedelta(hours=4), LIFE, "how long a workspace may go unused before it is stopped")
    max_idle_ttl: Duration = setting(
        timedelta(hours=24), LIFE, "the longest `idle_ttl` that a workspace may have of its own"
    )
    reap_interval: Duration = setting(timedelta(minutes=5), LIFE, "how often the reaper looks for idle workspaces")
    reap_grace: Duration = setting(
        timedelta(seconds=10), LIFE, "how long other replicas have to object before an idle workspace is stopped"
    )
    reap_concurrency: Count = setting(20, LIFE, "how many idle workspaces are asked, or stopped, at once")
    protect_busy: Switch = setting(
        default=True,
        group=LIFE,
        description="whether a kernel or terminal that works, or did within `idle_ttl`, keeps a workspace that nobody "
        "uses; Jupyter is asked before a workspace is stopped",
    )
    max_busy: Duration = setting(
        timedelta(hours=24),
        LIFE,
        "how long after its last use a workspace is kept at most because its kernels work: one that waits for input is "
        "busy for ever",
    )
    max_unknown: Duration = setting(
        timedelta(hours=1), LIFE, "how long a workspace is kept that nobody uses, and that does not say what it does"
    )
    max_age: OptionalDuration = setting(
        None, LIFE, "how long a notebook server may run at most, whatever it does, or `off`"
    )
    reap_warning: Duration = setting(
        timedelta(minutes=10),
        LIFE,
        "how long before it is stopped for being idle people are warned, at most half of `idle_ttl`",
    )
    max_extend: Duration = setting(
        timedelta(hours=24), LIFE, "how long from now people may keep a workspace at most that nobody uses"
    )
    activity: Literal["traffic", "interactive"] = setting(
        "traffic",
        LIFE,
        "what counts as use: `traffic` is every request and every websocket frame, `interactive` leaves out what a "
        "page does by itself",
    )
    activity_rules: Annotated[Rules, NoDecode] = setting(
        (),
        LIFE,
        "rules about what counts in addition to the README's table, and before it, such as `GET api/metrics/** "
        "ignored`; a list, or separated by commas",
    )
    wake: Literal["any", "intent"] = setting(
        "any",
        LIFE,
        "what starts a workspace that does not run: `any` is every request, `intent` only what somebody means",
    )
    reaper: Switch = setting(default=True, group=LIFE, description="whether idle workspaces are stopped at all")
    dry_run_reaper: Switch = setting(
        default=False,
        group=LIFE,
        description="whether the reaper only logs what it would stop, and stops nothing; `serve --dry-run-reaper` is "
        "enough",
    )
    stop_grace: Duration = setting(
        timedelta(seconds=5), LIFE, "how long a notebook server may take to end after SIGTERM before SIGKILL"
    )
    notebook_command: Annotated[Command, NoDecode] = setting(
        (),
        LIFE,
        "command instead of JupyterLab's, a list or one shell-like string; `{port}`, `{base_url}`, `{token}`, `{root}` "
        "and `{workspace_id}` are replaced literally",
    )
    ready_path: Text = setting("api", LIFE, "path below the base URL that answers 200 when the server is ready")
    extra_env_vars: Annotated[StringMap, NoDecode] = setting(
        {},
        LIFE,
        "environment variables of the notebook server, as a mapping; values may contain `{workspace_id}` and "
        "`{workspace_id_short}` (its first 8 characters)",
        is_private=True,
    )

    local_root: Path = setting(Path("workspaces"), LOCAL, "directory that holds one directory per workspace")

    _files: dict[str, Path] = PrivateAttr(default_factory=dict)

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
        for profile in read_profiles(self.profiles).values():
            self._check_profile(profile, typed, sources or {})

    def _check_profile(self, profile: Profile, typed: dict[str, Any], sources: Mapping[str, str]) -> None:
        """Judge what a profile puts in the place of settings, as those."""
        try:
            changed = dict(_validated({**typed, **profile.changes}, {}))
        except ConfigError as error:
            wrong = str(error)
        else:
            found = next(problems(changed), None)
            if found is None:
                return
            wrong = _complaint(found[0], changed[found[0]], {}, found[1])
        allowed = f"profiles of allowed settings, but in {profile.name!r} {wrong}"
        raise ConfigError(_complaint("profiles", self.profiles, sources, allowed))

    def remember_files(self, files: Mapping[str, Path]) -> None:
        """Note which files the values of some settings were read from."""
        self._files.update(files)

    def file_of(self, name: str) -> Path | None:
        """Return the file that a setting's value was read from; None where it came from elsewhere."""
        return self._files.get(name)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`."""
        return parse_listen(self.listen)


def _is_blank(name: str, value: Any) -> bool:
    if value is None:
        return name not in _NONE_IS_OFF
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
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
            allowed = f"left out: there is no such setting{suggestion(name, Config.model_fields)}"
        raise ConfigError(_complaint(name, values.get(name), sources, str(allowed))) from None


def load(flags: Mapping[str, str] | None = None, config_file: Path | None = None) -> Config:
    """Return the settings that hold; see `load_with_sources`."""
    return load_with_sources(flags, config_file)[0]


def load_with_sources(
    flags: Mapping[str, str] | None = None, config_file: Path | None = None
) -> tuple[Config, dict[str, str]]:
    """Return the settings that hold, and where each comes from that is not the default.

    Defaults, then the file, then the environment, then flags; later wins. What is given as empty is the default.

    Args:
        flags: field name to text, as given on the command line; absent ones are left out.
        config_file: a YAML mapping of field names (dashes or underscores) to values.

    Raises:
        ConfigError: in one line, which value is wrong, where it came from and what is allowed.
    """
    values, sources, files = gather(Config, flags or {}, config_file)
    given = _validated(values, sources)
    config = given.with_defaults()
    config.remember_files(files)
    config.check(sources)
    is_set = {name for name in given.model_fields_set if not _is_empty(name, getattr(given, name))}
    return config, {name: source for name, source in sources.items() if name in is_set}


def is_in_cluster(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process runs in a Kubernetes pod, as client libraries do."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST"))


def client_variables(environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """Return what the environment tells a client of a proxy: its address, and the token; empty where nothing is set."""
    server, token = (environ.get(ENV_PREFIX + name.upper(), "").strip() for name in settings_sources.CLIENT)
    return server, token


def backend_name(config: Config) -> str:
    """Return which backend the settings mean: `kubernetes` or `local`."""
    if config.backend != "auto":
        return config.backend
    return "kubernetes" if is_in_cluster() else "local"


def inheritable_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment that notebook servers inherit: this process's own, without its settings."""
    return {name: value for name, value in environ.items() if not name.upper().startswith(ENV_PREFIX)}


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return one sentence for each `NOTEBOOK_PROXY_*` variable that is no setting: most often a typing error."""
    return list(settings_sources.unknown_variables(Config.model_fields, ENV_PREFIX, environ))


def settings_table() -> str:
    """Return every setting as a Markdown table: name, default, what it is of, meaning."""
    return settings_page.table(Config.model_fields)
