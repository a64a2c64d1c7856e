"""The settings of how the proxy is reached, and what clients may take; a part of `config.Config`, which alone is used.

Declares, and judges nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic_settings import BaseSettings, NoDecode

from proxy.settings_page import CLIENTS, PROXY
from proxy.settings_types import Count, Duration, Networks, OptionalDuration, Text, setting


class ServingSettings(BaseSettings):
    """What listens, and what waits for clients and notebook servers, reads these."""

    listen: Text = setting("127.0.0.1:8000", PROXY, "address and port to serve on; port 0 takes a free one")
    backend: Literal["auto", "local", "kubernetes"] = setting(
        "auto", PROXY, "what runs notebook servers; `auto` is `kubernetes` inside a cluster and `local` elsewhere"
    )
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
