"""Every setting, by the parts that declare them (`settings_*`): where values come from, and what is allowed.

`Config(...)` only holds values, `with_defaults()` fills in what is empty, `check()` says what is not allowed and
`load()` does all of it from file, environment and flags (see `settings_sources`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

from pydantic import PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from proxy import settings_page, settings_sources
from proxy.errors import ConfigError
from proxy.profiles import Profile, read_profiles
from proxy.settings_auth import AuthSettings
from proxy.settings_kubernetes import KubernetesSettings
from proxy.settings_life import LifeSettings
from proxy.settings_operations import OperationsSettings
from proxy.settings_page import LOCAL
from proxy.settings_rules import problems
from proxy.settings_serving import ServingSettings
from proxy.settings_sources import gather, suggestion
from proxy.settings_types import format_value, parse_listen, setting

ENV_PREFIX: Final = "NOTEBOOK_PROXY_"
_SHOWN_LENGTH: Final = 100
_NONE_IS_OFF: Final = frozenset({"upstream_timeout", "body_idle_timeout", "max_age", "drain_delay"})


class Config(AuthSettings, OperationsSettings, KubernetesSettings, LifeSettings, ServingSettings):
    """All settings. Immutable; takes values by keyword and reads nothing by itself (`load` does).

    Blank text means "the default", as does None where None is not a value. Values are converted where their text has
    one meaning (`"4h"`), and a value that has none raises `ValueError`; ranges are judged by `check` alone.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENV_PREFIX, hide_input_in_errors=True)

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
