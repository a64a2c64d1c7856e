"""Builds the door that the settings ask for. What one way of `auth` needs alone is imported where it is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.auth.door import Door
from proxy.auth.entry import Entry
from proxy.auth.peers import https, trust
from proxy.auth.sites import Sites
from proxy.clock import Clock, SystemClock
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.auth.keys import KeySet
    from proxy.auth.tokens import Renewable
    from proxy.config import Config


def make_door(config: Config, clock: Clock | None = None) -> Door:
    """Return the door that the settings ask for.

    Raises:
        ConfigError: it cannot be built from them.
    """
    match config.auth:
        case "jwt":
            return _tokens(config, clock or SystemClock())
        case "forward":
            from proxy.auth.forward import Forwarded  # noqa: PLC0415 - where nobody is asked, nothing is loaded for it

            return Door(Forwarded(config.identity_header, trust(config.trusted_proxies)), login_url=config.login_url)
        case _:
            return Door()


def make_sites(config: Config) -> Sites:
    """Return what judges where requests come from."""
    return Sites(config.allowed_origins, must_show=config.auth != "none")


def framed_by(config: Config) -> str:
    """Return whose pages may show ours in a frame, as Content Security Policy has it; empty if nobody's."""
    return " ".join("'self'" if word == "self" else word for word in config.frame_ancestors)


def _tokens(config: Config, clock: Clock) -> Door:
    from proxy.auth.jwks import Jwks  # noqa: PLC0415 - the library and what it stands on take 10 MB, and 0.1 s
    from proxy.auth.tokens import Tokens, Verifier  # noqa: PLC0415 - the same

    keys = _keys(config)
    source = Jwks(config.jwt_jwks_url, keys, clock) if config.jwt_jwks_url else None
    verifier = Verifier(keys, _algorithms(config), config.jwt_issuer, config.jwt_audience, clock)
    is_https = https(trust(config.trusted_proxies), is_tls=bool(config.tls_cert))
    renewable: Renewable | None = source
    reader = Tokens(verifier, keys, is_https, clock, renewable)
    return Door(reader, entry=Entry(is_https, clock), login_url=config.login_url, keys=source)


def _keys(config: Config) -> KeySet:
    """Return the keys that are known from the start.

    Raises:
        ConfigError: there are none, or they cannot be used.
    """
    from proxy.auth.keys import KeySet, public_keys, secret_keys  # noqa: PLC0415 - the same

    secret = config.jwt_secret.get_secret_value()
    if secret:
        return KeySet(secret_keys([secret]))
    if config.jwt_public_key:
        try:
            return KeySet(public_keys(config.jwt_public_key))
        except ValueError as error:
            raise ConfigError(f"jwt_public_key: must be {error}") from None
    if not config.jwt_jwks_url:
        raise ConfigError("auth = jwt: one of jwt_secret, jwt_public_key and jwt_jwks_url must be given")
    return KeySet()


def _algorithms(config: Config) -> Sequence[str]:
    if config.jwt_algorithms:
        return config.jwt_algorithms
    return ("HS256",) if config.jwt_secret.get_secret_value() else ("RS256", "ES256", "EdDSA")
