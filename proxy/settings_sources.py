"""Where settings come from: a YAML file, the environment, flags, and files that hold one value each.

Reads, and decides which source wins; judges no value. The only module that reads the environment. A secret is never an
argument, which every user of the machine could read: it has `<setting>_file` instead of a flag.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pydantic import SecretStr
from pydantic_settings import EnvSettingsSource

from proxy.errors import ConfigError
from proxy.settings_yaml import read_typed_yaml, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_settings import BaseSettings

Fields: TypeAlias = "Mapping[str, FieldInfo]"

# Kubernetes injects these into every pod for a Service that is called notebook-proxy.
_SERVICE_LINK: Final = re.compile(r"SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?")
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://.*")  # the value of NOTEBOOK_PROXY_PORT is then one
_FILE: Final = "_file"
CLIENT: Final = ("server", "token")
"""What the environment tells the commands that are clients of a proxy: no settings, but with the same prefix."""


def is_secret(info: FieldInfo) -> bool:
    """Tell whether a setting is secret: its type says so."""
    return info.annotation is SecretStr


def is_tree(info: FieldInfo) -> bool:
    """Tell whether a setting is a mapping whose numbers and switches are not text."""
    return info.annotation == dict[str, Any]


def _has_file(info: FieldInfo) -> bool:
    extra = info.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("has_file"))


def file_settings(fields: Fields) -> dict[str, str]:
    """Return the settings that name a file with another setting's value, each with that other one."""
    return {name + _FILE: name for name, info in fields.items() if is_secret(info) or is_tree(info) or _has_file(info)}


def gather(
    model: type[BaseSettings], flags: Mapping[str, str], config_file: Path | None
) -> tuple[dict[str, Any], dict[str, str], dict[str, Path]]:
    """Return the values that were set, and where each came from; the file, the environment, then flags, later wins.

    Last, the files that hold the value of one setting each.

    Raises:
        ConfigError: a file cannot be read, or has what is no setting.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    files: dict[str, Path] = {}
    prefix = model.model_config["env_prefix"]
    for origin, found in (
        *([(str(config_file), _from_file(model.model_fields, config_file))] if config_file else ()),
        (None, _from_environment(model, prefix)),
        ("the command line", dict(flags)),
    ):
        origins = {name: origin or prefix + name.upper() for name in found}
        named = _read_named_files(found, origins, file_settings(model.model_fields))
        files = {name: path for name, path in files.items() if name not in found} | named
        values.update(found)
        sources.update(origins)
    return values, sources, files


def _from_file(fields: Fields, path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = read_yaml(text)
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--config {path}: not YAML: {error}") from error
    if not found:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"--config {path}: must be a mapping of settings to values, not {type(found).__name__}")
    settings: dict[str, Any] = {}
    for written, value in found.items():
        name = str(written).replace("-", "_")
        if name not in fields and name not in file_settings(fields):
            raise ConfigError(f"--config {path}: there is no setting {name!r}{suggestion(name, fields)}")
        settings[name] = value
        if name in fields and is_tree(fields[name]) and not isinstance(value, str):
            settings[name] = read_typed_yaml(text)[written]
    return settings


def _from_environment(model: type[BaseSettings], prefix: str) -> dict[str, Any]:
    found = EnvSettingsSource(model, env_prefix=prefix, case_sensitive=False)()
    named = file_settings(model.model_fields)
    for variable, value in os.environ.items():
        name = variable.lower().removeprefix(prefix.lower())
        if name in named and variable.upper().startswith(prefix):
            found[name] = value
    return found


def _read_named_files(found: dict[str, Any], origins: dict[str, str], named: Mapping[str, str]) -> dict[str, Path]:
    """Put the content of each file that a `<setting>_file` names in that setting's place; return the files."""
    files = {}
    for setting in [name for name in found if name in named]:
        path, origin, target = found.pop(setting), origins.pop(setting), named[setting]
        if not str(path or "").strip():
            continue
        if str(found.get(target) or "").strip():
            raise ConfigError(f"{setting} (from {origin}): must be left out where {target} is given")
        files[target] = Path(str(path).strip())
        found[target] = read_value(setting, files[target], origin)
        origins[target] = f"the file that {setting} names"
    return files


def read_value(setting: str, path: Path, origin: str = "the file itself") -> str:
    """Return the one value that a file holds.

    Raises:
        ConfigError: it holds none; the message has nothing of what it holds.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise ConfigError(f"{setting} = {str(path)!r} (from {origin}): {error.strerror}") from error
    except ValueError as error:  # not UTF-8, or a NUL in the path; the error would show the bytes
        raise ConfigError(f"{setting} = {str(path)!r} (from {origin}): must be a file of UTF-8 text") from error
    if not text:
        raise ConfigError(f"{setting} = {str(path)!r} (from {origin}): must be a file that is not empty")
    return text


def unknown_variables(fields: Fields, prefix: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield one sentence for each variable with our prefix that is no setting."""
    known = {*fields, *file_settings(fields), *CLIENT}
    for variable, value in sorted(environ.items()):
        name = variable.upper().removeprefix(prefix)
        if not variable.upper().startswith(prefix) or name.lower() in known:
            continue
        if not _SERVICE_LINK.fullmatch(name) and not (name == "PORT" and _SERVICE_URL.fullmatch(value)):
            yield f"{variable} is set, but there is no such setting{suggestion(name.lower(), known)}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the setting which may be meant."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "; `notebook-proxy settings` lists them"
