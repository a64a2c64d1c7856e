"""The settings about how the proxy is watched; a part of `config.Config`, which alone is used.

Declares, and judges nothing.
"""

from __future__ import annotations

from typing import Literal

from pydantic_settings import BaseSettings

from proxy.settings_page import OPERATIONS
from proxy.settings_types import Count, LogLevel, setting


class OperationsSettings(BaseSettings):
    """What whoever runs the proxy chooses."""

    log_level: LogLevel = setting("info", OPERATIONS, "the least that is logged")
    log_format: Literal["auto", "text", "json"] = setting(
        "auto",
        OPERATIONS,
        "how it is logged: `text` for people, `json` is one JSON object a line, and `auto` text on a terminal and JSON "
        "elsewhere",
    )
    access_log: Literal["off", "sampled", "full"] = setting(
        "off",
        OPERATIONS,
        "whether requests are logged: `full` is each, `sampled` one in `access_log_sample` and each that fails by a "
        "fault of the server's side; both cost small requests some of their speed",
    )
    access_log_sample: Count = setting(100, OPERATIONS, "of how many requests one is logged with `access_log: sampled`")
