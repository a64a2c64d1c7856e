"""Which cookies cross the proxy, and in what form."""

from __future__ import annotations

from email.message import Message
from http.cookiejar import CookieJar
from typing import Any, cast
from urllib.request import Request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cookie_names import is_ours
from proxy.relay.cookies import held_to, without_credentials

BASE = b"/ws/demo/"
OURS = [
    b"notebook-proxy", b"__Host-notebook-proxy", b"__Secure-notebook-proxy", b"__host-Notebook-Proxy",
    b"NOTEBOOK-PROXY",
    b"notebook-proxy-session", b" notebook-proxy", b"notebook-proxy ", b"\tnotebook-proxy\t", b"=notebook-proxy",
    b" = = notebook-proxy",
]  # fmt: skip
NAMES = st.sampled_from([*OURS, b"_xsrf", b"a", b"", b"username-localhost-8888", b'"notebook', b"Path"])


@pytest.mark.parametrize("name", OURS)
def test_our_cookies_are_cut_out_of_what_a_client_sends(name: bytes) -> None:
    ours = name + b"=secret"

    assert without_credentials(ours) == b""
    assert without_credentials(b"a=1; " + ours + b"; b=\xff\x80") == b"a=1; b=\xff\x80"
    assert without_credentials(ours + b";a=1") == b"a=1"
    assert without_credentials(b"a=1;" + ours + b";" + ours) == b"a=1"


@pytest.mark.parametrize(
    "value", [b"", b"a=1", b"a=1;b=2 ;  c", b"a=notebook-proxy", b"; a=1;;", b'a="x; y"', b"notebook=1; proxy=2"]
)
def test_what_is_not_ours_is_not_touched(value: bytes) -> None:
    assert without_credentials(value) == value


@pytest.mark.parametrize(
    "name",
    [
        b"_oauth2_proxy", b"_oauth2_proxy_0", b"__Host-_oauth2_proxy", b"__secure-_OAUTH2_proxy_csrf",
        b"CF_Authorization", b"AWSELBAuthSessionCookie-1", b"__Host-GCP_IAP_AUTH_TOKEN_1", b"authelia_session",
        b"VouchCookie_1of2", b"mod_auth_openidc_session", b" _forward_auth",
    ],
)  # fmt: skip
def test_by_what_a_proxy_in_front_knows_people_is_cut_out_too(name: bytes) -> None:
    assert without_credentials(b"_xsrf=1; " + name + b"=secret; b=2") == b"_xsrf=1; b=2"


def test_a_proxy_in_front_may_call_its_cookie_anything() -> None:
    sent = b"sso=1; __Host-SSO_2=2; a-sso=3; b=sso"

    assert without_credentials(sent) == sent
    assert without_credentials(sent, (b"sso",)) == b"a-sso=3; b=sso"


def test_a_quotation_hides_nothing() -> None:
    assert without_credentials(b'a="1; notebook-proxy=secret; b=2"') == b'a="1; b=2"'


@given(st.lists(st.tuples(NAMES, st.binary(max_size=6).map(lambda text: text.translate(None, b";\r\n"))), max_size=6))
def test_none_of_ours_is_left_and_everything_else_is(pairs: list[tuple[bytes, bytes]]) -> None:
    sent = [name + b"=" + text for name, text in pairs]

    kept = without_credentials(b"; ".join(sent))

    expected = [pair for pair in sent if b"notebook-proxy" not in pair.lstrip(b" \t=").partition(b"=")[0].lower()]
    assert [pair.strip(b" \t") for pair in kept.split(b";")] == [pair.strip(b" \t") for pair in expected or [b""]]


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        (b"a=b; Path=/ws/demo/", b"a=b; Path=/ws/demo/"),
        (b"a=b;path=/ws/demo/lab;HttpOnly", b"a=b;path=/ws/demo/lab;HttpOnly"),
        (b"a=b", b"a=b; Path=/ws/demo/"),
        (b"a=b; Path=/; Secure", b"a=b; Secure; Path=/ws/demo/"),
        (b"a=b; Path=/ws/demo", b"a=b; Path=/ws/demo/"),
        (b"a=b; Path=/ws/demo2/", b"a=b; Path=/ws/demo/"),
        (b"a=b; Path=/ws/other/", b"a=b; Path=/ws/demo/"),
        (b"a=b; Path=/WS/demo/", b"a=b; Path=/ws/demo/"),
        (b"a=b; Path", b"a=b; Path=/ws/demo/"),
        (b"a=b; Path=", b"a=b; Path=/ws/demo/"),
        (b'a=b; Path="/ws/demo/"', b"a=b; Path=/ws/demo/"),
        (b"a=b; Path=/ws/demo/x; Path=/", b"a=b; Path=/ws/demo/"),
        (b"a=b; Path=/; Path=/ws/demo/x", b"a=b; Path=/ws/demo/x"),
        (b"a=b; Path=/; Path=/ws/demo/" + b"x" * 1024, b"a=b; Path=/ws/demo/"),
        (b"a=b; Domain=example.org", b"a=b; Path=/ws/demo/"),
        (b"a=b; DOMAIN = .example.org;Max-Age=3;domain; Path=/ws/demo/x", b"a=b;Max-Age=3; Path=/ws/demo/x"),
        (b'a="b; domain=x"; Path=/ws/demo/', b'a="b; Path=/ws/demo/'),
        (b"a=b; x-domain=1; Expires=Thu, 01 Jan 1970", b"a=b; x-domain=1; Expires=Thu, 01 Jan 1970; Path=/ws/demo/"),
        (b"", b"; Path=/ws/demo/"),
        (b"_xsrf=\xff=; SameSite=None", b"_xsrf=\xff=; SameSite=None; Path=/ws/demo/"),
        (b"a\tb=c", b"a\tb=c; Path=/ws/demo/"),
    ],
)  # fmt: skip
def test_a_notebooks_cookie_stays_with_its_workspace(sent: bytes, passed: bytes) -> None:
    assert held_to(BASE, sent) == passed


@pytest.mark.parametrize("name", OURS)
def test_a_notebook_cannot_set_a_cookie_of_ours(name: bytes) -> None:
    assert held_to(BASE, name + b"=theirs; Path=/ws/demo/") is None
    assert held_to(BASE, name) is None


@pytest.mark.parametrize(
    "sent", [b"a=b\x00", b"a=b\x01; Domain=x", b"a\x7f=b", b"a=b; Do\x0bmain=x", b"a=b\x1f; Path=/"]
)
def test_what_browsers_do_not_agree_on_is_refused(sent: bytes) -> None:
    assert held_to(BASE, sent) is None


PARTS = st.sampled_from(
    [b"Path=/", b"path=/ws/demo/x", b" PATH =/ws/", b"Domain=evil.example", b" domain", b"Secure", b"", b" Path"]
)


class Answer:
    """A response, as `http.cookiejar` wants one."""

    def __init__(self, value: str) -> None:
        self._value = value

    def info(self) -> Message:
        message = Message()
        message["Set-Cookie"] = self._value
        return message


@given(NAMES, st.lists(PARTS, max_size=6))
def test_another_reader_of_what_passes_sends_it_below_the_workspace_only(name: bytes, parts: list[bytes]) -> None:
    passed = held_to(BASE, b";".join([name + b"=1", *parts]))

    if passed is None:
        assert is_ours(name.strip(b" \t="))
        return
    assert held_to(BASE, passed) == passed
    jar = CookieJar()
    jar.extract_cookies(cast("Any", Answer(passed.decode("latin-1"))), Request("http://hub.example/ws/demo/lab"))
    for cookie in jar:
        assert cookie.path.startswith("/ws/demo/"), passed
        assert not cookie.domain_specified
