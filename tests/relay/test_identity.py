"""Who asks: what others say of it does not reach a notebook server, in no spelling."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.headers import request_lines
from proxy.relay.identity import canonical, user_line

OURS = b"Authorization: token ours\r\nX-Forwarded-User: alice\r\n"
TOLD = [
    "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token", "X-Forwarded-Client-Cert", "X-Auth-Request-User", "X-Auth-Request-Email",
    "X-Auth-Request-Groups", "X-Auth-Request-Access-Token", "X-Auth-Request-Redirect", "Remote-User", "Remote-Groups",
    "Remote-Name", "Remote-Email", "X-Remote-User", "X-Remote-Group", "X-Remote-Extra-Scopes", "X-Amzn-Oidc-Data",
    "X-Amzn-Oidc-Accesstoken", "X-Amzn-Oidc-Identity", "Cf-Access-Jwt-Assertion", "Cf-Access-Authenticated-User-Email",
    "X-Goog-Iap-Jwt-Assertion", "X-Goog-Authenticated-User-Email", "X-Ms-Client-Principal-Name",
    "X-Ms-Token-Aad-Access-Token", "OIDC_CLAIM_sub", "OIDC_access_token", "X-Authentik-Username", "X-Webauth-User",
    "X-Pomerium-Jwt-Assertion", "X-Vouch-User", "X-Userinfo", "X-Id-Token", "X-Access-Token", "Tailscale-User-Login",
    "GAP-Auth", "Authorization", "Proxy-Authorization", "X-Consumer-Username", "Ssl-Client-Subject-Dn",
]  # fmt: skip


def spelled(name: str) -> list[bytes]:
    plain = [name, name.lower(), name.upper(), name.swapcase()]
    return [text.replace("-", between).encode() for text in plain for between in ("-", "_", ".", "~")]


@pytest.mark.parametrize("name", TOLD)
def test_what_says_who_asks_is_dropped_in_every_spelling(name: str) -> None:
    headers = [(b"Host", b"x"), *((form, b"root") for form in spelled(name)), (b"X-Kept", b"1")]

    assert request_lines(headers, OURS) == b"Host: x\r\nX-Kept: 1\r\n" + OURS


@pytest.mark.parametrize("name", TOLD)
def test_ours_stays_whatever_connection_names(name: str) -> None:
    headers = [(b"Connection", b"close, " + name.encode()), (name.encode(), b"root")]

    assert request_lines(headers, OURS) == OURS


def test_the_header_that_an_operator_chose_is_dropped_in_every_spelling() -> None:
    headers = [(form, b"root") for form in spelled("X-Corp-Login")]

    assert (
        request_lines([*headers, (b"X-Corp", b"1")], OURS, replaced=frozenset({b"x-corp-login"}))
        == b"X-Corp: 1\r\n" + OURS
    )


@pytest.mark.parametrize(
    "name",
    [
        "X-Forward",
        "User",
        "Remote",
        "X-Api-Key",
        "X-XSRFToken",
        "X-Auth",
        "X-Requested-With",
        "X-Tokens",
        "Cookies",
        "From",
    ],
)
def test_what_only_resembles_one_passes(name: str) -> None:
    assert request_lines([(name.encode(), b"1")], b"") == name.encode() + b": 1\r\n"


@pytest.mark.parametrize("cookies", [[b"notebook-proxy=x"], [b"__Host-notebook-proxy=x", b" ; notebook-proxy=y"]])
def test_a_cookie_header_that_holds_nothing_but_ours_is_dropped(cookies: list[bytes]) -> None:
    headers = [(b"cOOkie", value) for value in cookies]

    assert b"notebook-proxy" not in request_lines([*headers, (b"Cookie", b"a=1")], b"")
    assert request_lines([*headers, (b"Cookie", b"a=1")], b"").endswith(b"Cookie: a=1\r\n")


@given(st.text())
def test_any_name_is_one_line_of_visible_ascii_and_reads_back_as_it_was(name: str) -> None:
    line = user_line(name)

    if not name:
        assert line == b""
        return
    assert line.startswith(b"X-Forwarded-User: ")
    assert line.endswith(b"\r\n")
    value = line.removeprefix(b"X-Forwarded-User: ").removesuffix(b"\r\n").decode("ascii")
    assert all("!" <= character <= "~" for character in value)
    assert unquote(value, errors="surrogatepass") == name


@pytest.mark.parametrize("name", ["alice", "alice@example.org", "a+b@example.org", "CORP\\alice", "auth0|5f7c8e"])
def test_a_plain_name_is_sent_as_it_is(name: str) -> None:
    assert user_line(name) == f"X-Forwarded-User: {name}\r\n".encode()


@given(st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", fullmatch=True))
def test_every_spelling_of_a_name_has_one_canonical_form(name: bytes) -> None:
    assert (
        canonical(name)
        == canonical(name.swapcase())
        == canonical(name.replace(b"-", b"_"))
        == canonical(canonical(name))
    )
