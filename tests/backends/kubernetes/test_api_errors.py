from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.backends.kubernetes.api_errors import ApiError
from tests.backends.kubernetes.scripted import status_body

NOW = datetime(2024, 2, 29, 12, tzinfo=UTC)


def answered(status: int, body: bytes = b"", **headers: str) -> ApiError:
    return ApiError.of_answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, NOW)


def test_a_status_tells_reason_message_and_causes() -> None:
    error = ApiError.of_status(status_body(403, "Forbidden", "it is being terminated", "NamespaceTerminating"))

    assert (error.status, error.reason, error.message) == (403, "Forbidden", "it is being terminated")
    assert error.causes == ("NamespaceTerminating",)
    assert str(error) == "403 Forbidden: it is being terminated"


@pytest.mark.parametrize(
    ("code", "reason", "true"),
    [
        (401, "Unauthorized", {"is_unauthorized"}),
        (403, "Forbidden", {"is_forbidden"}),
        (404, "NotFound", {"is_not_found"}),
        (409, "AlreadyExists", {"is_already_exists"}),
        (409, "Conflict", {"is_conflict"}),
        (410, "Expired", {"is_gone"}),
        (422, "Invalid", {"is_invalid"}),
        (429, "TooManyRequests", {"is_not_taken"}),
        (500, "InternalError", {"is_server_error"}),
        (504, "Timeout", {"is_server_error"}),
    ],
)
def test_each_refusal_is_one_thing(code: int, reason: str, true: set[str]) -> None:
    error = ApiError.of_status(status_body(code, reason))

    assert {name for name in dir(ApiError) if name.startswith("is_") and getattr(error, name)} == true


@pytest.mark.parametrize(
    "body", [None, "text", [], {}, {"kind": "Pod", "code": 7}, {"kind": "Status"}, {"kind": "Status", "details": None}]
)
def test_what_is_no_status_is_a_failure_all_the_same(body: Any) -> None:
    error = ApiError.of_status(body, status=502)

    assert (error.status, error.reason, error.causes, error.may_be_done) == (502, "", (), True)


def test_a_page_is_not_repeated_in_the_message() -> None:
    error = answered(502, b"<html>who knows what", Content_Type="text/html")

    assert str(error) == "502 no Status but text/html"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("Thu, 29 Feb 2024 12:00:07 GMT", 7.0),
        ("Thu, 29 Feb 2024 11:00:00 GMT", 0.0),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        ("Thu, 29 Feb 2024 12:00:07", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    assert answered(429, Retry_After=header).retry_after == seconds


def test_a_status_tells_when_to_retry_if_no_header_does() -> None:
    body = b'{"kind": "Status", "code": 504, "details": {"retryAfterSeconds": 2}}'

    assert answered(504, body).retry_after == 2
    assert answered(504, body, Retry_After="5").retry_after == 5


def test_a_server_that_names_a_time_did_not_take_the_call() -> None:
    assert not answered(503, Retry_After="1").may_be_done
    assert answered(503).may_be_done
