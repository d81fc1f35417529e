from __future__ import annotations

import json

import pytest

from headrace.kube import errors
from headrace.kube.errors import error_from_event, error_from_response


def status(code: int, reason: str, message: str = "no", **details: object) -> bytes:
    return json.dumps({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": message, "details": details or None,
    }).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", errors.BadRequest),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (410, "Expired", errors.Gone),
        (410, "Gone", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.ServerError),
        (503, "ServiceUnavailable", errors.ServerError),
        (504, "Timeout", errors.Timeout),
        (418, "", errors.ApiError),
    ],
)
def test_a_status_becomes_the_error_of_its_code_and_reason(code: int, reason: str, kind: type[errors.ApiError]) -> None:
    error = error_from_response(code, status(code, reason, "what the server says"), what="GET /x")
    assert type(error) is kind
    assert (error.status, error.reason, str(error)) == (code, reason, "what the server says")


def test_details_tell_the_fields_that_are_wrong() -> None:
    body = status(422, "Invalid", causes=[{"field": "spec.x", "reason": "FieldValueInvalid", "message": "bad"}])
    error = error_from_response(422, body, what="PATCH /x")
    assert error.details is not None
    assert error.details.causes is not None
    assert error.details.causes[0].field == "spec.x"


def test_the_time_in_the_status_counts_when_there_is_no_header() -> None:
    body = status(429, "TooManyRequests", retryAfterSeconds=7)
    assert error_from_response(429, body, what="GET /x").retry_after == 7.0
    assert error_from_response(429, body, what="GET /x", retry_after=2.0).retry_after == 2.0


@pytest.mark.parametrize("body", [b"", b"<html>secret of another server</html>", b'{"secret": 1}', b"\xff\xfe", b"[]"])
def test_an_answer_that_is_no_status_is_not_quoted(body: bytes) -> None:
    error = error_from_response(502, body, what="GET /api")
    assert isinstance(error, errors.ServerError)
    assert str(error) == "GET /api: the server answered HTTP 502"


def test_an_error_event_carries_its_code() -> None:
    assert isinstance(error_from_event(status(410, "Expired")), errors.Gone)
    assert isinstance(error_from_event(b'{"kind":"Other"}'), errors.ServerError)


def test_no_match_names_kind_and_version_as_kubectl_does() -> None:
    assert str(errors.NoMatch("example.com", "Foo", "v1")) == 'no matches for kind "Foo" in version "example.com/v1"'
    assert str(errors.NoMatch("", "Foo", "v1")) == 'no matches for kind "Foo" in version "v1"'
