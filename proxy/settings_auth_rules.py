"""What the settings about who may enter must be beyond their types, alone and together. Pure."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from proxy.naming import is_base_domain
from proxy.settings_types import format_value
from proxy.slug import LEAST_ROOM, is_usable
from proxy.workspace import MAX_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MIN_SECRET_LENGTH: Final = 32  # RFC 7518 section 3.2: as long as the hash
_PUBLIC: Final = frozenset({"RS256", "ES256", "EdDSA"})
_KEYS: Final = ("jwt_secret", "jwt_public_key", "jwt_jwks_url")
_HEADER: Final = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_COOKIE: Final = re.compile(r"(?!__(?:Host|Secure)-)[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.IGNORECASE)  # RFC 9110: a token
_NOT_OF_WHO_ASKS: Final = frozenset(
    {"authorization", "connection", "content-length", "cookie", "host", "origin", "transfer-encoding", "upgrade"}
)
ORIGIN_FORM: Final = re.compile(
    r"https?://((\*\.)?[0-9a-z_-]+(\.[0-9a-z_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.IGNORECASE
)
"""What an origin looks like (RFC 6454 section 6.1); `*` stands for exactly one label."""
_ORIGIN_RULE: Final = "origins such as https://hub.example or https://*.hub.example:8443, separated by commas"
_OF_USERS: Final = ("workspace_template", "authorize_url", "admin_users")
_LONGEST_TTL: Final = timedelta(hours=1)
_VISIBLE: Final = re.compile(r"[!-~]*")


def auth_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name of each setting whose value is not allowed, and what is allowed."""
    if values["insecure_no_auth"] and values["auth"] != "none":
        yield "insecure_no_auth", "off where auth is on"
    if values["auth"] == "forward" and not values["trusted_proxies"]:
        yield "trusted_proxies", "the networks of the authenticating proxy where auth is `forward`"
    header = values["identity_header"]
    if not _HEADER.fullmatch(header) or header.lower() in _NOT_OF_WHO_ASKS:
        yield "identity_header", "a header's name of letters, digits and single dashes, that has no other meaning"
    if not all(map(_COOKIE.fullmatch, values["identity_cookies"])):
        yield "identity_cookies", "how names of cookies begin, without a prefix such as __Host-, separated by commas"
    yield from _way_problems(values)
    if not all(map(ORIGIN_FORM.fullmatch, values["allowed_origins"])):
        yield "allowed_origins", _ORIGIN_RULE
    if not all(word == "self" or ORIGIN_FORM.fullmatch(word) for word in values["frame_ancestors"]):
        yield "frame_ancestors", f"`self`, or {_ORIGIN_RULE}"
    if values["notebook_identity"] and values["auth"] == "none":
        yield "notebook_identity", "off where auth is none: then nobody has a name"
    yield from _key_problems(values)
    yield from _host_problems(values)
    yield from _access_problems(values)


def _way_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find where browsers cannot be sent to sign in, or after they have signed out."""
    login_url = values["login_url"]
    if login_url and not (_VISIBLE.fullmatch(login_url) and _is_url(login_url, ("https", "http"))):
        yield "login_url", "a URL that begins with https:// or http://, without spaces"
    logout_url = values["logout_url"]
    if logout_url and values["auth"] == "none":
        yield "logout_url", "left out where auth is none: then nobody signs in"
    elif logout_url and not (_VISIBLE.fullmatch(logout_url) and _is_place(logout_url)):
        yield "logout_url", "a URL that begins with https:// or http://, or a path that begins with one `/`"


def _key_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    secret = values["jwt_secret"].get_secret_value()
    if secret and len(secret) < _MIN_SECRET_LENGTH:
        yield "jwt_secret", f"at least {_MIN_SECRET_LENGTH} characters, such as `openssl rand -hex 32` prints"
    given = [name for name in _KEYS if (secret if name == "jwt_secret" else values[name])]
    if len(given) > 1:
        yield given[1], f"left out where {given[0]} is given"
    url = values["jwt_jwks_url"]
    if url and not (_VISIBLE.fullmatch(url) and (_is_url(url, ("https",)) or _is_of_this_machine(url))):
        yield "jwt_jwks_url", "a URL that begins with https://, or http:// and an address of this machine"
    fitting = _PUBLIC if values["jwt_public_key"] or url else frozenset({"HS256"})
    if not fitting.issuperset(values["jwt_algorithms"]):
        yield "jwt_algorithms", "of " + ", ".join(sorted(fitting)) + ", which fit the key"


def _host_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    base_domain, is_host = values["base_domain"], values["routing"] == "host"
    if (is_host or base_domain) and not is_base_domain(base_domain):
        yield "base_domain", "a domain of lower-case labels, such as notebooks.example.org, where routing is `host`"
    if base_domain and not is_host:
        yield "base_domain", "left out where routing is `path`"
    secret = values["session_secret"].get_secret_value()
    if secret and len(secret) < _MIN_SECRET_LENGTH:
        yield "session_secret", f"at least {_MIN_SECRET_LENGTH} characters, such as `openssl rand -hex 32` prints"
    is_signed_elsewhere = values["auth"] == "forward" or values["jwt_public_key"] or values["jwt_jwks_url"]
    if is_host and is_signed_elsewhere and not (secret or values["jwt_secret"].get_secret_value()):
        yield "session_secret", "given where routing is `host`, and there is no jwt_secret"


def _access_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find what could not say whose a workspace is; where nobody is asked who they are, everything is everybody's."""
    for name in _OF_USERS:
        if values[name] and values["auth"] == "none":
            yield name, "left out where auth is `none`"
    if values["workspace_template"] and not is_usable(values["workspace_template"]):
        room = MAX_ID - LEAST_ROOM
        yield (
            "workspace_template",
            f"letters, digits, single '-', `{{user_slug}}` once, and at most {room} besides; or JupyterHub's",
        )
    if values["jupyterhub_paths"] and not values["workspace_template"]:
        yield "jupyterhub_paths", "off, unless workspace_template says whose workspace is whose"
    url = values["authorize_url"]
    if url and not (_VISIBLE.fullmatch(url) and "#" not in url and _is_url(url, ("https", "http"))):
        yield "authorize_url", "a URL that begins with https:// or http://, without a user, spaces or '#'"
    if values["authorize_ttl"] > _LONGEST_TTL:
        yield "authorize_ttl", f"a duration above zero, at most {format_value(_LONGEST_TTL)}"


def _is_url(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        found = urlsplit(text)
        return found.scheme in schemes and bool(found.hostname) and not found.username
    except ValueError:
        return False


def _is_place(text: str) -> bool:
    """Tell whether this is a URL, or a path of this host: with two slashes it would be another's."""
    return _is_url(text, ("https", "http")) or (text.startswith("/") and not text.startswith(("//", "/\\")))


def _is_of_this_machine(url: str) -> bool:
    """Tell whether a URL names loopback by its address: a name could be made to lead elsewhere."""
    if not _is_url(url, ("http",)):
        return False
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
