"""What is said of an error: to programs, and to people."""

from __future__ import annotations

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy import errors
from proxy.errors import (
    InvalidKey,
    ProxyError,
    ShuttingDown,
    StartFailed,
    StartTimeout,
    UpstreamGone,
)
from proxy.pages import answer, wants_page
from tests.pages.markup import HOSTILE, Page, assert_is_self_contained


def kinds(base: type[ProxyError] = ProxyError) -> list[type[ProxyError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in kinds(child))]


def sample(kind: type[ProxyError]) -> ProxyError:
    """Return an error of any kind with hostile text wherever it takes some."""
    given: dict[str, object] = {"code": "some-code", "rule": "a rule", "seconds": 60}
    if kind.__init__ is ProxyError.__init__:
        error = kind(HOSTILE)
    else:
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
        wanted = [each.name for each in parameters if each.default is each.empty]
        error = kind(*(given.get(name, HOSTILE) for name in wanted))
    if isinstance(error, StartFailed):
        error.detail, error.retry_after = HOSTILE, 7
    return error


ALL = [sample(kind) for kind in kinds(ProxyError) if kind.__module__.startswith(errors.__name__)]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_a_program_gets_problem_json(error: ProxyError) -> None:
    status, body, headers = answer(error, as_page=False)

    problem = json.loads(body)
    assert headers["Content-Type"] == "application/problem+json"
    assert status == problem["status"] == error.status
    assert (problem["type"], problem["title"], problem["detail"]) == ("about:blank", error.title, str(error))
    assert problem["code"] == error.code


def test_problem_json_has_log_and_retry_only_where_there_is_one() -> None:
    full = json.loads(
        answer(StartFailed("exited", "It ended.", detail="line 1\nline 2", retry_after=3), as_page=False)[1]
    )
    bare = json.loads(answer(StartFailed("exited", "It ended."), as_page=False)[1])

    assert (full["log"], full["retry_after"]) == ("line 1\nline 2", 3)
    assert not {"log", "retry_after"} & bare.keys()


@pytest.mark.parametrize("as_page", [True, False])
def test_state_of_the_workspace_is_linked_where_there_is_one(as_page: bool) -> None:
    url = "/ws/demo/_proxy/status"

    _, body, headers = answer(StartTimeout("demo", 60), as_page=as_page, status_url=url)

    assert headers["Link"] == f'<{url}>; rel="status"'
    assert as_page or json.loads(body)["status_url"] == url
    assert "Link" not in answer(StartTimeout("demo", 60), as_page=as_page)[2]


@pytest.mark.parametrize("error", [StartTimeout("demo", 60), ShuttingDown()], ids=lambda error: error.code)
def test_page_that_answers_a_form_is_not_replaced_by_itself_and_says_what_is_lost(error: ProxyError) -> None:
    of_form = answer(error, as_page=True, can_repeat=False)[1]
    of_link = answer(error, as_page=True)[1]

    assert 'http-equiv="refresh"' in of_link
    assert 'http-equiv="refresh"' not in of_form
    assert "go back, and send it again" in Page(of_form).shown
    assert not [link for link in Page(of_form).all("a") if link.get("href") == ""]


@pytest.mark.parametrize("as_page", [True, False])
def test_retry_after_is_sent_where_asking_again_is_worthwhile(as_page: bool) -> None:
    assert answer(StartTimeout("demo", 60), as_page=as_page)[2]["Retry-After"] == "5"
    assert answer(StartFailed("x", "y", retry_after=30), as_page=as_page)[2]["Retry-After"] == "30"
    assert "Retry-After" not in answer(StartFailed("x", "y"), as_page=as_page)[2]
    assert "Retry-After" not in answer(InvalidKey("A", "rule"), as_page=as_page)[2]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_a_person_gets_a_page_that_shows_hostile_text_as_text(error: ProxyError) -> None:
    status, body, headers = answer(error, as_page=True)

    page = Page(body)
    assert status == error.status
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert str(error) in page.text
    assert f"code {error.code}" in page.text
    assert_is_self_contained(body)


def test_the_log_is_shown_as_text() -> None:
    body = answer(StartFailed("exited", "It ended.", detail=HOSTILE), as_page=True)[1]

    assert HOSTILE in Page(body).text
    assert "Last lines of its log" in body
    assert "Last lines of its log" not in answer(StartFailed("exited", "It ended."), as_page=True)[1]


@given(st.text(), st.text())
def test_no_text_adds_a_tag_to_a_page(message: str, detail: str) -> None:
    plain = Page(answer(StartFailed("exited", "x", detail="x"), as_page=True)[1])

    page = Page(answer(StartFailed("exited", message, detail=detail or "x"), as_page=True)[1])

    assert page.tags == plain.tags


@pytest.mark.parametrize("as_page", [True, False])
@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_every_answer_has_a_policy_that_allows_no_script_and_is_not_stored(error: ProxyError, as_page: bool) -> None:
    headers = answer(error, as_page=as_page)[2]

    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("error", "refresh"),
    [
        (StartTimeout("demo", 60), "5"),
        (ShuttingDown(), "5"),
        (UpstreamGone("gone"), "1"),
        (StartFailed("exited", "x", retry_after=7), None),
        (StartFailed("not-ready", "x"), None),
        (errors.TooManyStarts(500), "10"),
        (errors.UpstreamUnreachable("x"), None),
        (errors.BadResponse("x"), None),
        (InvalidKey("A", "rule"), None),
        (errors.CrossOrigin("x"), None),
    ],
)
def test_a_page_reloads_by_itself_only_where_that_heals(error: ProxyError, refresh: str | None) -> None:
    page = Page(answer(error, as_page=True)[1])

    assert page.refresh == refresh


def test_a_page_offers_to_try_again_where_that_is_worthwhile() -> None:
    assert "Try again" in answer(StartFailed("exited", "x", retry_after=7), as_page=True)[1]
    assert "Try again" not in answer(InvalidKey("A", "rule"), as_page=True)[1]


def test_one_answer_does_not_leak_headers_into_the_next() -> None:
    answer(StartTimeout("demo", 60), as_page=True)[2]["X-Added"] = "1"

    headers = answer(InvalidKey("A", "rule"), as_page=True)[2]

    assert not {"Retry-After", "X-Added"} & headers.keys()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"Accept": "*/*"}, False),
        ({"Accept": "application/json"}, False),
        ({"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, True),
        ({"Sec-Fetch-Mode": "navigate"}, True),
        ({"Sec-Fetch-Mode": "navigate", "Accept": "*/*"}, True),
        ({"Sec-Fetch-Mode": "cors", "Accept": "text/html"}, False),
        ({"Sec-Fetch-Mode": "no-cors", "Accept": "text/html"}, False),
        ({"Sec-Fetch-Mode": "websocket"}, False),
        ({"Sec-Fetch-Mode": "", "Accept": "text/html"}, False),
        ({"sec-fetch-mode": "navigate"}, True),
        ({"accept": "text/html"}, True),
    ],
)
def test_a_page_is_for_navigations_alone(headers: dict[str, str], expected: bool) -> None:
    assert wants_page(CIMultiDict(headers)) == expected
