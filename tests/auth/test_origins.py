"""Who may enter: methods, names of this machine, origins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.auth.origins import check_host, check_method, is_loopback
from proxy.auth.sites import Sites
from proxy.errors import BadRequest, CrossOrigin, MethodRefused

if TYPE_CHECKING:
    import ipaddress

UNSAFE = ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "get"]
SAFE = ["GET", "HEAD", "OPTIONS"]


def is_refused(method: str, origins: list[str], host: str, *, is_upgrade: bool = False) -> bool:
    try:
        Sites().check(method, CIMultiDict([("Origin", origin) for origin in origins]), host, is_upgrade=is_upgrade)
    except CrossOrigin:
        return True
    return False


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_connect_and_trace_are_refused(method: str) -> None:
    with pytest.raises(MethodRefused, match=method):
        check_method(method)


@pytest.mark.parametrize("method", [*SAFE, *UNSAFE])
def test_every_other_method_passes(method: str) -> None:
    check_method(method)


OURS = [
    "localhost", "LOCALHOST:8000", "LocalHost", "a.localhost", "a.b.localhost:1", "localhost.", "localhost.:80",
    "localhost:", "127.0.0.1", "127.0.0.1:8000", "127.9.9.9", "127.255.255.255", "[::1]", "[::1]:80",
    "[0:0:0:0:0:0:0:1]",
]  # fmt: skip


@pytest.mark.parametrize(
    "host",
    OURS,
)
def test_names_of_this_machine_pass(host: str) -> None:
    assert is_loopback(host)
    check_host(host)


OTHERS = [
    "", " ", ":80", "evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "evil-localhost", "evillocalhost",
    "localhost@evil.com", "user@localhost", "localhost:80:80", "localhost:http", "localhost:-1", "localhost:٨٠",
    "localhost/", "localhost?", "localhost#", "localhost\\", "localhost ", " localhost", "localhost\n",
    "localhost\x00", "localhost, evil.com", "evil.com,a.localhost", "evil.com\\.localhost", "é.localhost",
    "łódź.localhost", "\udcff.localhost", "%6cocalhost", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1",
    "127.1", "127.0.0.1.1", "127.0.0.256", "128.0.0.1", "126.255.255.255", "0.0.0.0", "10.0.0.1", "192.168.0.1",
    "169.254.169.254", "[::]", "[::2]", "[fe80::1]", "[::1", "::1", "[::1]x", "[::1%25lo]", "[localhost]",
]  # fmt: skip


@pytest.mark.parametrize(
    "host",
    OTHERS,
)
def test_anything_else_is_refused_before_dns_can_be_rebound(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(BadRequest) as caught:
        check_host(host)
    assert caught.value.code == "bad-host"


@given(st.ip_addresses())
def test_an_address_passes_exactly_if_it_is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)

    assert is_loopback(host) == address.is_loopback


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535))
def test_the_whole_of_127_passes_with_any_port(second: int, third: int, fourth: int, port: int) -> None:
    assert is_loopback(f"127.{second}.{third}.{fourth}:{port}")


@given(st.text(max_size=20), st.sampled_from(["", "localhost", ".localhost", "127.0.0.1", ":80"]))
def test_any_host_is_judged_without_an_error(text: str, end: str) -> None:
    assert is_loopback(text + end) in (True, False)


def test_a_refused_host_is_shown_shortened() -> None:
    with pytest.raises(BadRequest) as caught:
        check_host("e" * 10_000)

    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("method", SAFE)
@pytest.mark.parametrize("origins", [[], ["http://evil.com"], ["null"], ["http://localhost", "http://evil.com"]])
def test_safe_methods_pass_whatever_the_origin(method: str, origins: list[str]) -> None:
    assert not is_refused(method, origins, "localhost")


@pytest.mark.parametrize("method", UNSAFE)
def test_unsafe_methods_pass_without_an_origin(method: str) -> None:
    assert not is_refused(method, [], "localhost:8000")


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize("origin", ["http://evil.com", "null", ""])
def test_unsafe_methods_of_another_site_are_refused(method: str, origin: str) -> None:
    assert is_refused(method, [origin], "localhost:8000")


@pytest.mark.parametrize("method", [*SAFE, *UNSAFE])
@pytest.mark.parametrize(
    ("origins", "refused"),
    [([], False), (["http://localhost:8000"], False), (["http://evil.com"], True), (["null"], True)],
)
def test_an_upgrade_is_judged_by_its_origin_whatever_the_method(method: str, origins: list[str], refused: bool) -> None:
    assert is_refused(method, origins, "localhost:8000", is_upgrade=True) == refused


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "localhost:8000"),
        ("HTTP://LOCALHOST:8000", "localhost:8000"),
        ("http://localhost:8000", "LocalHost:8000"),
        ("http://localhost", "localhost:80"),
        ("http://localhost:80", "localhost"),
        ("http://localhost", "localhost"),
        ("http://localhost", "localhost:"),
        ("https://localhost", "localhost:443"),
        ("https://localhost:443", "localhost"),
        ("https://localhost", "localhost"),
        ("https://localhost:8000", "localhost:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://127.0.0.1", "127.0.0.1"),
    ],
)
def test_an_origin_of_the_same_host_and_port_passes(origin: str, host: str) -> None:
    assert not is_refused("POST", [origin], host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8001", "localhost:8000"),
        ("http://localhost", "localhost:8000"),
        ("http://localhost:8000", "localhost"),
        ("http://localhost", "localhost:443"),
        ("https://localhost", "localhost:80"),
        ("http://127.0.0.1:8000", "localhost:8000"),
        ("http://a.localhost:8000", "localhost:8000"),
        ("http://localhost.evil.com:8000", "localhost:8000"),
        ("http://localhost:8000.evil.com", "localhost:8000"),
        ("http://user@localhost:8000", "localhost:8000"),
        ("http://evil.com@localhost:8000", "localhost:8000"),
        ("http://localhost:8000/", "localhost:8000"),
        ("http://localhost:8000/x", "localhost:8000"),
        ("http://localhost:8000?x", "localhost:8000"),
        ("http://localhost:8000#x", "localhost:8000"),
        ("http://localhost:8000 http://evil.com", "localhost:8000"),
        ("http://localhost:8000, http://evil.com", "localhost:8000"),
        (" http://localhost:8000", "localhost:8000"),
        ("http://localhost:8000\n", "localhost:8000"),
        ("ws://localhost:8000", "localhost:8000"),
        ("file://", "localhost:8000"),
        ("chrome-extension://localhost:8000", "localhost:8000"),
        ("localhost:8000", "localhost:8000"),
        ("//localhost:8000", "localhost:8000"),
        ("http://", ""),
        ("null", "null"),
        ("", ""),
        ("http://localhost:8000", ""),
        ("http://a/b", "a/b"),
        ("http://localhost:80:80", "localhost:80:80"),
    ],
)
def test_an_origin_of_another_host_port_or_form_is_refused(origin: str, host: str) -> None:
    assert is_refused("POST", [origin], host)


def test_two_origins_are_refused_even_if_both_are_this_host() -> None:
    own = "http://localhost:8000"

    assert is_refused("POST", [own, own], "localhost:8000")
    assert is_refused("GET", [own, own], "localhost:8000", is_upgrade=True)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_origin_is_judged_without_an_error(origin: str, host: str) -> None:
    assert is_refused("POST", [origin], host) in (True, False)
