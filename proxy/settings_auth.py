"""The settings about who may enter; a part of `config.Config`, which alone is used.

Declares, and judges nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import SecretStr
from pydantic_settings import BaseSettings, NoDecode

from proxy.settings_page import AUTHENTICATION, CLIENTS
from proxy.settings_types import Count, Duration, Secret, Switch, Text, Words, setting


class AuthSettings(BaseSettings):
    """What the door reads."""

    auth: Literal["none", "jwt", "forward"] = setting(
        "none",
        AUTHENTICATION,
        "how it is known who asks: `none` asks nobody, and listens on this machine alone; `jwt` is a signed token; "
        "`forward` is a header of an authenticating proxy before this one",
    )
    insecure_no_auth: Switch = setting(
        default=False,
        group=AUTHENTICATION,
        description="allow any `listen` address and any `Host` without authentication: everyone who reaches the "
        "address may use every workspace",
    )
    jwt_secret: Secret = setting(
        SecretStr(""),
        AUTHENTICATION,
        "secret with which tokens are signed (HS256), at least 32 characters; where no key is set, one is made at "
        "first start, and kept in a Secret or in `local_root`",
        is_private=True,
    )
    secret_overlap: Duration = setting(
        timedelta(hours=1),
        AUTHENTICATION,
        "how long what was signed with a secret that was replaced in its file is still accepted; a restart ends it",
    )
    jwt_public_key: Text = setting(
        "",
        AUTHENTICATION,
        "public key with which tokens are verified, as PEM; several may stand one behind the other",
        has_file=True,
    )
    jwt_jwks_url: Text = setting(
        "",
        AUTHENTICATION,
        "where the keys are published with which tokens are verified (a JWK set): an https URL, or one on this machine",
    )
    jwt_algorithms: Annotated[Words, NoDecode] = setting(
        (),
        AUTHENTICATION,
        "algorithms that are accepted, separated by commas: `HS256` with `jwt_secret`, else of `RS256`, `ES256` and "
        "`EdDSA`; none is all that fit",
    )
    jwt_issuer: Text = setting("", AUTHENTICATION, "what a token's `iss` must be; none is anything")
    jwt_audience: Text = setting(
        "", AUTHENTICATION, "what a token's `aud` must be or contain; none refuses tokens that have one"
    )
    login_url: Text = setting(
        "",
        AUTHENTICATION,
        "where browsers without a credential are sent, such as `https://login.example.org/?to={url}`; `{url}` is the "
        "address that they wanted, encoded",
    )
    logout_url: Text = setting(
        "",
        AUTHENTICATION,
        "where browsers go on to that have signed out, such as `https://login.example.org/logout`; with `auth` = "
        "`forward`, that of the proxy that signs people in, such as `/oauth2/sign_out`",
    )
    routing: Literal["path", "host"] = setting(
        "path",
        AUTHENTICATION,
        "`path` serves every workspace at one host, so that their pages are one origin: for people who trust each "
        "other; `host` serves each at a host of its own, `<id>.<base_domain>`",
    )
    base_domain: Text = setting(
        "", AUTHENTICATION, "the main host's name, for `routing` = `host`: that of the dashboard and the API"
    )
    session_secret: Secret = setting(
        SecretStr(""),
        AUTHENTICATION,
        "secret with which workspaces' hosts sign who came from the main one, at least 32 characters, for `routing` = "
        "`host`; none is one that is made from `jwt_secret`",
        is_private=True,
    )
    session_ttl: Duration = setting(
        timedelta(hours=12),
        AUTHENTICATION,
        "how long a workspace's host knows who came from the main one, for `auth` = `forward`; a token says itself "
        "how long it holds",
    )
    identity_header: Text = setting(
        "X-Forwarded-User", AUTHENTICATION, "header in which `trusted_proxies` say who asks, for `auth` = `forward`"
    )
    identity_cookies: Annotated[Words, NoDecode] = setting(
        (),
        AUTHENTICATION,
        "how the names of cookies begin, separated by commas, by which a proxy before this one knows people: no "
        "notebook server gets them, nor those that such proxies usually have, such as `_oauth2_proxy`",
    )
    notebook_identity: Switch = setting(
        default=False,
        group=AUTHENTICATION,
        description="whether notebook servers take their users from the proxy, and refuse whoever comes without it; "
        "needs the configuration in `deploy/notebook`, which the local backend has",
    )
    allowed_origins: Annotated[Words, NoDecode] = setting(
        (),
        AUTHENTICATION,
        "origins whose pages may act here as our own may, such as `https://ide.example.org`, separated by commas; `*` "
        "stands for one label of a host, as in `https://*.example.org`",
    )
    frame_ancestors: Annotated[Words, NoDecode] = setting(
        (),
        AUTHENTICATION,
        "origins whose pages may show the proxy's own in a frame, and `self`, separated by commas; none may by default",
    )
    workspace_template: Text = setting(
        "",
        AUTHENTICATION,
        "gives each user a workspace of their own, which `/my/` leads to: an id with `{user_slug}`, a label made of "
        "their name that nobody else has, such as `{user_slug}` or `my-{user_slug}`; or `{jupyterhub_slug}` or "
        "`{jupyterhub_escaped}` alone, the slug that JupyterHub gave to their claim",
    )
    jupyterhub_paths: Switch = setting(
        default=False,
        group=AUTHENTICATION,
        description="whether JupyterHub's addresses lead on: `/user/<name>/…` to that user's workspace by "
        "workspace_template, `/hub/user-redirect/…` to one's own, other pages of the hub to the dashboard",
    )
    authorize_url: Text = setting(
        "",
        AUTHENTICATION,
        "is asked whether a user may open a workspace that is not theirs otherwise: `GET` with `user`, `workspace` and "
        "`method` in the query; 2xx allows, 403 denies, anything else denies and is reported",
    )
    authorize_ttl: Duration = setting(
        timedelta(seconds=30), AUTHENTICATION, "how long an answer of `authorize_url` holds, yes or no"
    )
    admin_users: Annotated[Words, NoDecode] = setting(
        (),
        AUTHENTICATION,
        "users who may see and stop every workspace, and open none by that, separated by commas",
    )
    max_requests_per_user: Count = setting(
        100,
        CLIENTS,
        "how many requests a user may send a second, on average of ten seconds, to each replica; more is answered 429",
    )
    max_connections_per_user: Count = setting(
        500, CLIENTS, "how many requests and websockets of one user each replica carries at once; more is answered 429"
    )
    max_starts_per_user: Count = setting(
        10, CLIENTS, "how many workspaces a user may start within a minute, on each replica; more is answered 429"
    )
    max_running_per_user: Count = setting(
        10, CLIENTS, "how many workspaces may run at once that one user has started; more is answered 429"
    )
