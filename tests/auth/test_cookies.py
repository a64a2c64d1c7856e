"""Our cookies: which is honoured where, how it is set, and what is refused in raw headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.cookies import cookie, fits, name_of, path_of, value_of
from proxy.errors import Unauthenticated
from proxy.target import parse_target


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/api/workspaces/demo", "/"),
        ("/ws", "/"),
        ("/ws/demo", "/"),
        ("/ws/demo/", "/ws/demo/"),
        ("/ws/demo/lab", "/ws/demo/"),
        ("/ws/demo/_proxy/status", "/ws/demo/"),
        ("//ws/demo/", "/"),
    ],
)
def test_the_sites_cookie_is_honoured_only_outside_of_workspaces(target: str, path: str) -> None:
    assert path_of(parse_target(target, "localhost")) == path


@pytest.mark.parametrize(
    ("path", "is_https", "start"),
    [
        ("/", True, "__Host-notebook-proxy-site=t; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"),
        ("/", False, "notebook-proxy-site=t; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"),
        ("/ws/a/", True, "__Secure-notebook-proxy=t; Path=/ws/a/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"),
        ("/ws/a/", False, "notebook-proxy=t; Path=/ws/a/; Max-Age=60; HttpOnly; SameSite=Lax"),
    ],
)
def test_a_cookie_is_kept_from_scripts_and_lives_as_long_as_its_token(path: str, is_https: bool, start: str) -> None:
    assert cookie(name_of(path, is_https=is_https), "t", path, 60.9) == start


def test_a_life_is_at_least_none_and_at_most_what_browsers_take() -> None:
    assert "Max-Age=0;" in cookie("a", "t", "/", -5)
    assert "Max-Age=34560000;" in cookie("a", "t", "/", 1e300)


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], None),
        ([""], None),
        (["notebook-proxy=t"], "t"),
        (["a=1; notebook-proxy=t; b=2"], "t"),
        (["a=1;notebook-proxy = t ;b"], "t"),
        (["a=1", "notebook-proxy=t"], "t"),
        (["notebook-proxy="], ""),
        (["notebook-proxy=a=b"], "a=b"),
        (["notebook-proxy"], None),
        (["xnotebook-proxy=t; notebook-proxyx=t; Notebook-Proxy=t; notebook-proxy-site=t"], None),
        (["__Secure-notebook-proxy=t"], None),
        (['a="notebook-proxy=t"'], None),
    ],
)
def test_a_cookie_is_read_by_its_exact_name(headers: list[str], value: str | None) -> None:
    assert value_of(headers, "notebook-proxy") == value


@pytest.mark.parametrize(
    "headers",
    [
        ["notebook-proxy=a; notebook-proxy=b"],
        ["notebook-proxy=a; notebook-proxy=a"],
        ["notebook-proxy=a", "x=1; notebook-proxy=b"],
        ["notebook-proxy=; \tnotebook-proxy\t=b"],
    ],
)
def test_a_cookie_that_came_twice_is_refused_not_guessed(headers: list[str]) -> None:
    with pytest.raises(Unauthenticated, match="Two cookies"):
        value_of(headers, "notebook-proxy")


def plainly(headers: list[str], name: str) -> list[str]:
    """What is there, read pair by pair."""
    pairs = [pair.partition("=") for header in headers for pair in header.split(";")]
    return [value.strip(" \t") for key, mark, value in pairs if mark and key.strip(" \t") == name]


PIECES = st.sampled_from(["ab", "a", "b", "=", ";", "; ", " ", "\t", '"', "ab=", ";ab=x", "abab=", "é"])


@given(st.lists(st.lists(PIECES, max_size=9).map("".join), max_size=3))
def test_one_pass_over_all_cookies_finds_what_is_there_pair_by_pair(headers: list[str]) -> None:
    there = plainly(headers, "ab")

    if len(there) > 1:
        with pytest.raises(Unauthenticated):
            value_of(headers, "ab")
    else:
        assert value_of(headers, "ab") == (there[0] if there else None)


NAMES = st.sampled_from(["notebook-proxy", "notebook-proxy-site", "a", "notebook-prox", "", " notebook-proxy"])


@given(st.lists(st.lists(st.tuples(NAMES, st.sampled_from(["t", "", "a=b", '"'])), max_size=4), max_size=3))
def test_however_cookies_are_written_one_of_ours_is_found_or_refused(pairs: list[list[tuple[str, str]]]) -> None:
    headers = ["; ".join(f"{name}={value}" for name, value in header) for header in pairs]
    ours = [value for header in pairs for name, value in header if name.strip() == "notebook-proxy"]

    if len(ours) > 1:
        with pytest.raises(Unauthenticated):
            value_of(headers, "notebook-proxy")
    else:
        assert value_of(headers, "notebook-proxy") == (ours[0] if ours else None)


def test_what_no_browser_would_keep_does_not_fit() -> None:
    assert fits("a", "x" * 4094)
    assert not fits("a", "x" * 4095)
