"""The settings of how the proxy is reached beside `listen`; a part of `config.Config`, which alone is used.

Declares, and judges nothing.
"""

from __future__ import annotations

from pydantic_settings import BaseSettings

from proxy.settings_page import PROXY
from proxy.settings_types import Text, setting


class ServingSettings(BaseSettings):
    """What listens reads these."""

    tls_cert: Text = setting(
        "",
        PROXY,
        "PEM file of a certificate and its chain: with it and `tls_key`, `listen` speaks HTTPS; both are read again "
        "when they change",
    )
    tls_key: Text = setting("", PROXY, "PEM file of the certificate's private key, not encrypted")
    ops_listen: Text = setting(
        "127.0.0.1:8081",
        PROXY,
        "address and port of `/healthz`, `/readyz` and `/metrics`, which need no credential, or `off`",
    )
