"""Which pages may act, and what a request must show of where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.auth.sites import Sites
from proxy.errors import CrossOrigin
from proxy.settings_auth_rules import ORIGIN_FORM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HOST = "hub.example"
OWN = "https://hub.example"
ALLOWED = ("https://ide.example:8443", "https://*.apps.example", "http://plain.example:80")
UNSAFE = ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "get"]
OPEN, CLOSED = Sites(ALLOWED), Sites(ALLOWED, must_show=True)


def passes(
    sites: Sites,
    method: str = "POST",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    *,
    upgrade: bool = False,
    https: bool = False,
) -> bool:
    try:
        sites.check(method, CIMultiDict(headers), HOST, is_upgrade=upgrade, is_https=https)
    except CrossOrigin:
        return False
    return True


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": OWN}, True),
        ({"Origin": OWN}, True),
        ({"Origin": "http://hub.example"}, True),
        ({"Authorization": "Bearer eyJ"}, True),
        ({"Authorization": "bearer eyJ"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": OWN}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, False),
        ({"Sec-Fetch-Site": "x"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Sec-Fetch-Site": "Same-Origin"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "https://a.hub.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "https://evil.example", "Authorization": "Bearer eyJ"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer eyJ"}, False),
    ],
)
def test_an_act_shows_that_it_is_our_own_pages_or_brings_its_credential_itself(
    method: str, headers: dict[str, str], *, shown: bool
) -> None:
    assert passes(CLOSED, method, headers) == shown
    assert passes(CLOSED, "GET", headers, upgrade=True) == shown


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cookie": "notebook-proxy=eyJ"},
        {"Referer": OWN},
        {"Authorization": "token eyJ"},
        {"Authorization": "Basic eyJ"},
        {"Authorization": "Bearer"},
        {"Proxy-Authorization": "Bearer eyJ"},
        {"X-Requested-With": "XMLHttpRequest"},
    ],
)
def test_an_act_that_shows_nothing_passes_only_where_nobody_needs_a_credential(
    method: str, headers: dict[str, str]
) -> None:
    assert not passes(CLOSED, method, headers)
    assert not passes(CLOSED, "GET", headers, upgrade=True)
    assert passes(OPEN, method, headers)
    assert passes(OPEN, "GET", headers, upgrade=True)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, True),
        ({"Origin": "https://evil.example"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, True),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, True),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, True),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "\xff", "Sec-Fetch-Mode": "cors"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": "https://evil.example"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": "https://ide.example:8443"}, True),
    ],
)
def test_what_another_sites_page_fetches_is_refused_but_a_navigation_may_come_from_anywhere(
    method: str, headers: dict[str, str], *, expected: bool
) -> None:
    assert passes(CLOSED, method, headers) == expected
    assert passes(OPEN, method, headers) == expected


@pytest.mark.parametrize(
    "origin",
    [
        "https://ide.example:8443", "HTTPS://IDE.example:8443", "https://a.apps.example", "https://a-1.apps.example",
        "https://a.apps.example:443", "http://plain.example", "http://plain.example:80",
    ],
)  # fmt: skip
@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
def test_pages_of_an_origin_that_is_allowed_may_act(origin: str, site: str | None) -> None:
    headers = {"Origin": origin} | ({} if site is None else {"Sec-Fetch-Site": site})

    assert passes(CLOSED, "POST", headers)
    assert passes(CLOSED, "GET", headers, upgrade=True)


@pytest.mark.parametrize(
    "origin",
    [
        "https://ide.example", "http://ide.example:8443", "https://ide.example:84430", "https://ide.example:8443.evil",
        "https://evil.example/https://ide.example:8443", "https://xide.example:8443", "https://ideXexample:8443",
        "https://apps.example", "https://.apps.example", "https://a.b.apps.example", "https://a.apps.example.evil",
        "https://a.apps.example:444", "https://a/.apps.example", "https://a@b.apps.example", "https://*.apps.example",
        "https://a.apps.example\n", " https://ide.example:8443", "https://plain.example", "http://plain.example:443",
        "null", "*", "", "https://ide.example:8443, https://ide.example:8443",
    ],
)  # fmt: skip
def test_what_only_resembles_an_origin_that_is_allowed_may_not(origin: str) -> None:
    assert not passes(CLOSED, "POST", {"Origin": origin})
    assert not passes(CLOSED, "POST", {"Origin": origin, "Sec-Fetch-Site": "cross-site"})
    assert not passes(OPEN, "GET", {"Origin": origin}, upgrade=True)


def test_two_origins_are_one_too_many() -> None:
    assert not passes(OPEN, "POST", [("Origin", "https://ide.example:8443")] * 2)
    assert not passes(OPEN, "POST", [("Origin", OWN), ("Origin", OWN)])


def test_a_page_on_plain_http_is_another_origin_where_the_browser_speaks_https() -> None:
    assert passes(CLOSED, "POST", {"Origin": OWN}, https=True)
    assert not passes(CLOSED, "POST", {"Origin": "http://hub.example"}, https=True)
    assert not passes(CLOSED, "GET", {"Origin": "http://hub.example:443"}, upgrade=True, https=True)


@given(
    st.sampled_from(["GET", *UNSAFE]),
    st.booleans(),
    st.lists(
        st.tuples(
            st.sampled_from(["Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Authorization", "Cookie"]),
            st.sampled_from(
                [OWN, "https://evil.example", "null", "same-origin", "same-site", "cross-site", "none", "navigate"]
            )
            | st.text(max_size=4),
        ),
        max_size=4,
    ),
)
def test_whoever_may_act_with_a_credential_may_without_one_and_nobody_foreign_ever(
    method: str, upgrade: bool, headers: list[tuple[str, str]]
) -> None:
    closed = passes(CLOSED, method, headers, upgrade=upgrade)

    assert passes(OPEN, method, headers, upgrade=upgrade) or not closed
    is_act = upgrade or method != "GET"
    if is_act and any(name == "Origin" and value != OWN for name, value in headers):
        assert not closed
    if is_act and closed:
        assert any(value in (OWN, "same-origin", "none") or value.lower().startswith("bearer ") for _, value in headers)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("https://hub.example", True), ("http://localhost:3000", True), ("https://*.apps.example:8443", True),
        ("http://[::1]:3000", True), ("https://hub.example/", False), ("hub.example", False), ("*", False),
        ("https://*", False), ("https://*.*.example", False), ("https://a*.example", False), ("null", False),
        ("https://hub.example:", False), ("wss://hub.example", False), ("https://user@hub.example", False),
        ("https://hub..example", False), ("HTTPS://Hub.example", True),
    ],
)  # fmt: skip
def test_an_origin_has_one_form(text: str, *, is_one: bool) -> None:
    assert bool(ORIGIN_FORM.fullmatch(text)) == is_one
