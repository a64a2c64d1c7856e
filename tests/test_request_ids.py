"""A client may name its request, but only in a form that can do no harm in a log."""

from __future__ import annotations

import re

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.access_log import path_of
from proxy.request_ids import given_id, request_id

USER_INFO = "somebody:their-word"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize("name", ["abc", "f058ebd6-02f7-4d3f-942e-904344e8cde5", TRACE, "a" * 128, "1-5759e988/x=y@z"])
def test_name_that_a_client_gives_is_taken(name: str) -> None:
    assert given_id(headers(("x-request-id", name), ("traceparent", f"00-{'1' * 32}-{'2' * 16}-01"))) == name


@pytest.mark.parametrize("name", ["", " a", "-a", "a b", "a\nb", "a\x1b[2J", "é", "\udc80", "a" * 129, 'a"b', "a;b"])
def test_name_that_could_do_harm_is_none(name: str) -> None:
    assert given_id(headers(("X-Request-Id", name))) == ""


def test_two_names_are_none() -> None:
    assert given_id(headers(("X-Request-Id", "a"), ("X-Request-Id", "b"))) == ""


def test_trace_is_the_name_where_there_is_no_other() -> None:
    assert given_id(headers(("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"))) == TRACE


@pytest.mark.parametrize(
    "trace",
    [
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",
        f"00-{TRACE}-b7ad6b7169203331",
        f"00-{TRACE}-b7ad6b7169203331-01\n",
        "x",
    ],
)
def test_trace_that_is_not_valid_is_none(trace: str) -> None:
    assert given_id(headers(("traceparent", trace))) == ""


def test_request_without_a_name_gets_one_and_keeps_it() -> None:
    first, second = make_mocked_request("GET", "/"), make_mocked_request("GET", "/")

    assert request_id(first) == request_id(first) != request_id(second)
    assert re.fullmatch("[0-9a-f]{32}", request_id(first))


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/ws/demo/lab?token=secret", "/ws/demo/lab"),
        ("/ws/demo/lab#token=secret", "/ws/demo/lab"),
        (f"http://{USER_INFO}@host/ws/demo/lab?token=secret", "/ws/demo/lab"),
        (f"http://{USER_INFO}@host?token=secret", ""),
        ("*", "*"),
        ("?token=secret", ""),
    ],
)
def test_of_a_target_only_the_path_is_logged(target: str, path: str) -> None:
    assert path_of(target) == path


def test_path_that_is_too_long_is_cut() -> None:
    assert len(path_of("/" + "a" * 10_000)) < 600
