"""The settings about who may enter, alone and together."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession

from proxy.app import App
from proxy.auth.build import make_door
from proxy.config import Config, load
from proxy.errors import ConfigError
from tests.auth.tokens import SECRET, pem, signed, token

if TYPE_CHECKING:
    from pathlib import Path


HOST = {"routing": "host", "base_domain": "nb.example.org"}


def complaint(**values: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        Config(**values).with_defaults().check()
    return str(refused.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"auth": "jwt", "insecure_no_auth": True, "jwt_secret": SECRET}, "off where auth is on"),
        ({"auth": "forward"}, "trusted_proxies"),
        ({"identity_header": "X_User"}, "identity_header"),
        ({"identity_header": "Cookie"}, "identity_header"),
        ({"identity_header": "X User"}, "identity_header"),
        ({"identity_cookies": "a=b"}, "identity_cookies"),
        ({"identity_cookies": "__Host-sso"}, "without a prefix"),
        ({"jwt_secret": "x" * 31}, "at least 32 characters"),
        ({"jwt_secret": SECRET, "jwt_public_key": pem("ES256")}, "left out where jwt_secret is given"),
        ({"jwt_public_key": "x", "jwt_jwks_url": "https://a.example/"}, "left out where jwt_public_key is given"),
        ({"jwt_jwks_url": "http://issuer.example/keys"}, "begins with https"),
        ({"jwt_jwks_url": "http://localhost.evil.example/"}, "begins with https"),
        ({"jwt_jwks_url": "http://127.0.0.1@evil.example/"}, "begins with https"),
        ({"jwt_jwks_url": "file:///etc/passwd"}, "begins with https"),
        ({"jwt_jwks_url": "https://"}, "begins with https"),
        ({"jwt_secret": SECRET, "jwt_algorithms": "RS256"}, "of HS256"),
        ({"jwt_public_key": "x", "jwt_algorithms": "HS256"}, "of ES256, EdDSA, RS256"),
        ({"jwt_algorithms": "none"}, "of HS256"),
        ({"login_url": "javascript:alert(1)"}, "login_url"),
        ({"login_url": "https://a b"}, "login_url"),
        ({"listen": "0.0.0.0:8000"}, "without authentication"),
        ({"allowed_origins": "https://ide.example/"}, "origins such as"),
        ({"allowed_origins": "https://ide.example, *"}, "origins such as"),
        ({"frame_ancestors": "none"}, "`self`, or origins"),
        ({"frame_ancestors": "https://a.example; script-src"}, "`self`, or origins"),
        ({"notebook_identity": True}, "off where auth is none"),
        ({"routing": "host"}, "base_domain"),
        ({"routing": "host", "base_domain": "*.example.org"}, "a domain of lower-case labels"),
        ({"routing": "host", "base_domain": "example.org:8443"}, "a domain of lower-case labels"),
        ({"base_domain": "example.org"}, "left out where routing is `path`"),
        ({**HOST, "auth": "jwt", "jwt_public_key": "x"}, "there is no jwt_secret"),
        ({**HOST, "auth": "jwt", "jwt_jwks_url": "https://issuer.example/keys"}, "there is no jwt_secret"),
        ({**HOST, "auth": "forward", "trusted_proxies": "10.0.0.0/8"}, "there is no jwt_secret"),
        ({**HOST, "session_secret": "x" * 31}, "at least 32 characters"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(values: dict[str, Any], words: str) -> None:
    said = complaint(**values)

    assert words in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "values",
    [
        {"auth": "jwt", "jwt_secret": SECRET, "listen": "0.0.0.0:8000"},
        {"auth": "forward", "trusted_proxies": "10.0.0.0/8", "listen": ":8000"},
        {"auth": "jwt", "jwt_jwks_url": "https://issuer.example/keys?a=b"},
        {"auth": "jwt", "jwt_jwks_url": "http://[::1]:8080/keys"},
        {"auth": "jwt", "jwt_jwks_url": "http://localhost:8080/keys"},
        {"auth": "jwt", "jwt_public_key": "x", "jwt_algorithms": "RS256, ES256"},
        {"login_url": "https://login.example.org/?to={url}"},
        {"allowed_origins": "https://ide.example:8443, http://*.apps.example", "frame_ancestors": "self"},
        {"auth": "jwt", "jwt_secret": SECRET, "notebook_identity": True},
        HOST,
        {**HOST, "auth": "jwt", "jwt_secret": SECRET},
        {**HOST, "auth": "jwt", "jwt_jwks_url": "https://issuer.example/keys", "session_secret": SECRET},
        {**HOST, "auth": "forward", "trusted_proxies": "10.0.0.0/8", "session_secret": SECRET},
    ],
)
def test_what_makes_sense_is_allowed(values: dict[str, Any]) -> None:
    Config(**values).with_defaults().check()


@pytest.mark.parametrize("values", [{}, {"jwt_public_key": "no key"}])
def test_without_a_key_that_can_be_used_nothing_is_served(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="jwt_"):
        make_door(Config(auth="jwt", **values))


def test_a_public_key_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(pem("ES256"))

    config = load({"auth": "jwt", "jwt_public_key_file": str(tmp_path / "key.pem")})

    assert config.jwt_public_key == pem("ES256").strip()
    make_door(config)


async def test_a_proxy_that_asks_for_a_token_may_have_any_host_and_is_no_open_door(tmp_path: Path) -> None:
    config = Config(listen="127.0.0.1:0", backend="local", local_root=tmp_path, auth="jwt", jwt_public_key=pem("EdDSA"))
    config.check()

    async with App(config) as app, ClientSession(headers={"Host": "notebooks.example.org"}) as client:
        statuses = [
            (await client.get(app.url, headers={"Authorization": f"Bearer {bearer}"})).status
            for bearer in (signed("EdDSA"), signed("EdDSA", number=1), token())
        ]
        open_status = (await client.get(app.url)).status

    assert (statuses, open_status) == ([200, 401, 401], 401)


def test_where_nobody_is_asked_nothing_is_loaded_for_it() -> None:
    code = (
        "import sys; from proxy.app import App; from proxy.auth.build import make_door;"
        "from proxy.config import Config;"
        "make_door(Config()); print([name for name in ('jwt', 'cryptography') if name in sys.modules])"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert said.stdout.strip() == "[]"
