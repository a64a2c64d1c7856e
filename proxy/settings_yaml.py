"""YAML as settings are written in: every scalar is text, or, for what goes to Kubernetes, what JSON would make of it.

Pure: text in, values out; a complaint is one line.
"""

from __future__ import annotations

import re
from typing import Any

import yaml


def read_yaml(text: str) -> Any:
    """Return YAML as mappings, lists and text. Every scalar stays the text it is, as in the environment.

    So `off`, `010`, `1:30` and `2026-01-01` mean here what they mean everywhere else, and not what YAML 1.1 makes of
    them.

    Raises:
        ValueError: in one line, where it is not YAML.
    """
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes text, lists, mappings  # nosec B506
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError:
        raise ValueError("nested too deeply") from None


class _CoreLoader(yaml.SafeLoader):
    """YAML as JSON understands its scalars: null, true, false and decimal numbers; all else is text (YAML 1.2, 10.2).

    So `on`, `1:30`, `010` and dates stay text, as `kubectl` and people read them.
    """


_CoreLoader.yaml_implicit_resolvers = {}
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|)$"), ["~", "n", ""])
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)$"), ["t", "f"])
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"-?(?:0|[1-9][0-9]{0,18})$"), list("-0123456789")
)
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"-?[0-9]{1,18}\.[0-9]{1,18}$"), list("-0123456789")
)


def read_typed_yaml(text: str) -> Any:
    """Return YAML as mappings, lists, text, decimal numbers, switches and None: for what Kubernetes will read.

    Raises:
        ValueError: in one line, where it is not YAML.
    """
    return _first(read_typed_documents(text))


def read_typed_documents(text: str) -> list[Any]:
    """Return each document of a YAML stream as `read_typed_yaml` would.

    Raises:
        ValueError: in one line, where it is not YAML.
    """
    try:
        return list(yaml.load_all(text, Loader=_CoreLoader))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _first(documents: list[Any]) -> Any:
    if len(documents) > 1:
        raise ValueError("more than one YAML document")
    return documents[0] if documents else None
