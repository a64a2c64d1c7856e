"""The settings about who may enter; a part of `config.Config`, which alone is used.

Declares, and judges nothing.
"""

from __future__ import annotations

from pydantic_settings import BaseSettings

from proxy.settings_page import AUTHENTICATION
from proxy.settings_types import Switch, setting


class AuthSettings(BaseSettings):
    """What the door reads."""

    insecure_no_auth: Switch = setting(
        default=False,
        group=AUTHENTICATION,
        description="allow any `listen` address and any `Host` without authentication: everyone who reaches the "
        "address may use every workspace",
    )
