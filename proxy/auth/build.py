"""Builds the door that the settings ask for. What one way of `auth` needs alone is imported where it is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.auth.access import Access
from proxy.auth.door import Door
from proxy.auth.entry import Entry
from proxy.auth.hosts import Hosts
from proxy.auth.limits import Limits
from proxy.auth.peers import https, trust
from proxy.auth.secrets import Secrets
from proxy.auth.sites import Sites
from proxy.clock import Clock, SystemClock
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import web

    from proxy.auth.door import Reader
    from proxy.auth.jwks import Jwks
    from proxy.auth.keys import KeySet
    from proxy.config import Config
    from proxy.vitals import Vitals


def make_door(
    config: Config, clock: Clock | None = None, secrets: Secrets | None = None, vitals: Vitals | None = None
) -> Door:
    """Return the door that the settings ask for.

    Args:
        config: checked settings.
        clock: tells what has expired.
        secrets: by default what the settings have.
        vitals: is told of what runs in the background, and what is waited for.

    Raises:
        ConfigError: it cannot be built from them.
    """
    clock = clock or SystemClock()
    secrets = secrets or Secrets(config, clock)
    access, limits = _access(config, clock), _limits(config, clock)
    match config.auth:
        case "jwt":
            return _tokens(config, clock, access, limits, secrets=secrets, vitals=vitals)
        case "forward":
            return _forwarded(config, clock, access, limits, secrets)
        case _:
            return Door()


def make_sites(config: Config) -> Sites:
    """Return what judges where requests come from."""
    return Sites(config.allowed_origins, must_show=config.auth != "none")


def framed_by(config: Config) -> str:
    """Return whose pages may show ours in a frame, as Content Security Policy has it; empty if nobody's."""
    return " ".join("'self'" if word == "self" else word for word in config.frame_ancestors)


def seen_https(config: Config) -> Callable[[web.BaseRequest], bool]:
    """Return what tells whether a browser speaks https."""
    return https(trust(config.trusted_proxies), is_tls=bool(config.tls_cert))


def _tokens(
    config: Config, clock: Clock, access: Access, limits: Limits, *, secrets: Secrets, vitals: Vitals | None
) -> Door:
    from proxy.auth.jwks import Jwks  # noqa: PLC0415 - the library and what it stands on take 10 MB, and 0.1 s
    from proxy.auth.tokens import Tokens, Verifier  # noqa: PLC0415 - the same

    keys = _keys(config, secrets)
    published = Jwks(config.jwt_jwks_url, keys, clock, vitals) if config.jwt_jwks_url else None
    verifier = Verifier(keys, _algorithms(config), config.jwt_issuer, config.jwt_audience, clock)
    is_https = seen_https(config)
    reader = Tokens(verifier, keys, is_https, clock, published or secrets.source)
    if config.routing == "host":
        return _of_hosts(config, reader, clock, access, limits, secrets=secrets, keys=published)
    return Door(
        reader,
        access,
        limits=limits,
        entry=Entry(is_https, clock),
        is_https=is_https,
        login_url=config.login_url,
        logout_url=config.logout_url,
        keys=published,
    )


def _access(config: Config, clock: Clock) -> Access:
    authorizer = None
    if config.authorize_url:
        from proxy.auth.authorizer import Authorizer  # noqa: PLC0415 - a client of HTTP, where it is needed

        authorizer = Authorizer(config.authorize_url, config.authorize_ttl, clock=clock)
    return Access(template=config.workspace_template, admins=config.admin_users, authorizer=authorizer, clock=clock)


def _limits(config: Config, clock: Clock) -> Limits:
    return Limits(config.max_requests_per_user, config.max_connections_per_user, clock.monotonic)


def _forwarded(config: Config, clock: Clock, access: Access, limits: Limits, secrets: Secrets) -> Door:
    from proxy.auth.forward import Forwarded  # noqa: PLC0415 - where nobody is asked, nothing is loaded for it

    reader = Forwarded(config.identity_header, trust(config.trusted_proxies))
    if config.routing == "host":
        return _of_hosts(config, reader, clock, access, limits, secrets=secrets)
    return Door(
        reader,
        access,
        limits=limits,
        is_https=seen_https(config),
        login_url=config.login_url,
        logout_url=config.logout_url,
    )


def _of_hosts(
    config: Config,
    reader: Reader,
    clock: Clock,
    access: Access,
    limits: Limits,
    *,
    secrets: Secrets,
    keys: Jwks | None = None,
) -> Door:
    """Return the door before the main host, where `reader` finds out who asks, and before workspaces' hosts."""
    from proxy.auth.host_entry import HostEntry  # noqa: PLC0415 - the library for tokens is loaded for it
    from proxy.auth.host_reader import HostReader  # noqa: PLC0415 - the same
    from proxy.auth.session import Sessions  # noqa: PLC0415 - the same

    sessions = Sessions(secrets.for_sessions, config.session_ttl, clock)
    hosts, is_https = Hosts(config.base_domain), seen_https(config)
    takes_tokens = config.auth == "jwt"
    return Door(
        HostReader(reader, hosts, sessions, is_https, takes_tokens=takes_tokens),
        access,
        limits=limits,
        entry=HostEntry(hosts, sessions, is_https, clock, takes_tokens=takes_tokens),
        is_https=is_https,
        login_url=config.login_url,
        logout_url=config.logout_url,
        keys=keys,
    )


def _keys(config: Config, secrets: Secrets) -> KeySet:
    """Return the keys that are known from the start.

    Raises:
        ConfigError: there are none, or they cannot be used.
    """
    from proxy.auth.keys import KeySet, public_keys, secret_keys  # noqa: PLC0415 - the same

    if config.jwt_public_key:
        try:
            return KeySet(public_keys(config.jwt_public_key))
        except ValueError as error:
            raise ConfigError(f"jwt_public_key: must be {error}") from None
    if config.jwt_jwks_url:
        return KeySet()
    rotating = secrets.for_tokens
    if not rotating() and secrets.source is None:
        raise ConfigError("auth = jwt: one of jwt_secret, jwt_public_key and jwt_jwks_url must be given")
    keys = KeySet(secret_keys(rotating()))
    rotating.observe(lambda: keys.replace(secret_keys(rotating())))
    return keys


def _algorithms(config: Config) -> Sequence[str]:
    if config.jwt_algorithms:
        return config.jwt_algorithms
    return ("RS256", "ES256", "EdDSA") if config.jwt_public_key or config.jwt_jwks_url else ("HS256",)
