"""Which token a request presents, and what is refused because it could be read in two ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.auth.presented import check_form, token_of
from proxy.errors import BadRequest, InvalidKey, Unauthenticated
from proxy.target import parse_target

JWT = "aaa.bbb.ccc"
OTHER = "ddd.eee.fff"


def presented(target: str, *headers: tuple[str, str], is_https: bool = False) -> str | None:
    return token_of(CIMultiDict(headers), parse_target(target, "localhost"), is_https=is_https)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_bearer_token_is_taken(scheme: str) -> None:
    assert presented("/ws/demo/lab", ("Authorization", f"{scheme} {JWT}")) == JWT


@pytest.mark.parametrize(
    "value", [f"token {JWT}", f"Basic {JWT}", JWT, f"Bearer{JWT}", f"Bearer\t{JWT}", f"xBearer {JWT}", ""]
)
def test_other_schemes_are_the_notebook_servers(value: str) -> None:
    assert presented("/ws/demo/lab", ("Authorization", value)) is None
    assert presented("/ws/demo/lab", ("Authorization", value), ("Cookie", f"notebook-proxy={OTHER}")) == OTHER


def test_a_token_in_the_query_is_taken() -> None:
    assert presented(f"/ws/demo/lab?a=1&token={JWT}") == JWT
    assert presented("/ws/demo/lab?%74oken=aaa%2Ebbb.ccc") == JWT


@pytest.mark.parametrize("value", ["", "abc", "0123456789abcdef", "a.b", "a.b.c.d"])
def test_a_notebook_servers_own_token_in_the_query_is_passed_over(value: str) -> None:
    assert presented(f"/ws/demo/lab?token={value}") is None
    assert presented(f"/ws/demo/lab?token={value}", ("Cookie", f"notebook-proxy={JWT}")) == JWT


def test_what_somebody_says_beats_their_cookie() -> None:
    cookie = ("Cookie", f"notebook-proxy={OTHER}")

    assert presented("/ws/demo/lab", ("Authorization", f"Bearer {JWT}"), cookie) == JWT
    assert presented(f"/ws/demo/lab?token={JWT}", cookie) == JWT


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/ws/demo/lab", [("Authorization", f"Bearer {JWT}"), ("authorization", f"Bearer {JWT}")]),
        ("/ws/demo/lab", [("Authorization", f"Bearer {JWT}"), ("Authorization", "token abc")]),
        (f"/ws/demo/lab?token={JWT}", [("Authorization", f"Bearer {JWT}")]),
        (f"/ws/demo/lab?token={JWT}&token={JWT}", []),
        (f"/ws/demo/lab?token={JWT}&token=", []),
        ("/ws/demo/lab", [("Cookie", f"notebook-proxy={JWT}; notebook-proxy={JWT}")]),
        ("/ws/demo/lab", [("Cookie", f"notebook-proxy={JWT}"), ("Cookie", f"notebook-proxy={JWT}")]),
        ("/", [("Cookie", f"notebook-proxy-site={JWT}; notebook-proxy-site={OTHER}")]),
    ],
)
def test_two_credentials_at_once_are_refused(target: str, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Unauthenticated, match="Two"):
        presented(target, *headers)


ALL = (
    "Cookie",
    "notebook-proxy=w.w.w; notebook-proxy-site=s.s.s; __Secure-notebook-proxy=W.W.W; __Host-notebook-proxy-site=S.S.S",
)


@pytest.mark.parametrize(
    ("target", "is_https", "token"),
    [
        ("/ws/demo/lab", False, "w.w.w"),
        ("/ws/demo/lab", True, "W.W.W"),
        ("/ws/demo", False, "s.s.s"),
        ("/ws/demo", True, "S.S.S"),
        ("/", True, "S.S.S"),
        ("/api/workspaces/demo", False, "s.s.s"),
    ],
)
def test_where_the_browser_speaks_https_only_names_with_a_prefix_are_read(
    target: str, is_https: bool, token: str
) -> None:
    assert presented(target, ALL, is_https=is_https) == token


@pytest.mark.parametrize(
    "token", ["", "a", "a.b", "a..c", ".b.c", "a.b.", "a.b.c.d", "a b.c.d", "a.b.c\n", "a.b.ü", "a.b." + "c" * 9000]
)
def test_what_cannot_be_a_token_is_refused_before_anything_is_computed(token: str) -> None:
    with pytest.raises(Unauthenticated):
        check_form(token)


PIECES = st.sampled_from(
    ["Bearer ", "token ", "a.b.c", "d.e.f", "notebook-proxy=", "notebook-proxy-site=", "; ", ",", " ", "=", "&"]
)
TEXT = st.lists(PIECES, max_size=6).map("".join)


@given(
    st.sampled_from(["/", "/ws/a/lab", "/ws/a"]),
    TEXT,
    st.lists(st.tuples(st.sampled_from(["Authorization", "Cookie"]), TEXT), max_size=3),
    st.booleans(),
)
def test_any_request_presents_one_token_none_or_is_refused(
    path: str, query: str, headers: list[tuple[str, str]], is_https: bool
) -> None:
    try:
        found = presented(f"{path}?token={query.replace(' ', '+')}", *headers, is_https=is_https)
    except (Unauthenticated, BadRequest, InvalidKey):
        return

    everything = query.replace(" ", "+") + "".join(value for _, value in headers)
    assert found is None or found in everything
