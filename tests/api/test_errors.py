"""One status and one OpenAI body for each kind of error."""

from __future__ import annotations

import json

import pytest
from starlette.exceptions import HTTPException

from atoll.api.errors import ApiError, ContextExceeded, describe, error_response
from atoll.domain.errors import AtollError, BadRequest, EngineFault, Overloaded, RingDown

CASES: list[tuple[Exception, int, str | None]] = [
    (BadRequest("no", param="n"), 400, None),
    (ContextExceeded("too long", param="messages"), 400, "context_length_exceeded"),
    (Overloaded("full", retry_after_s=4), 503, "overloaded"),
    (RingDown("a node is missing"), 503, "ring_down"),
    (EngineFault("the engine died"), 500, "internal_error"),
    (AtollError("something"), 500, "internal_error"),
    (ApiError("who", status=401, code="invalid_api_key"), 401, "invalid_api_key"),
    (HTTPException(404), 404, "unknown_url"),
    (HTTPException(405), 405, "method_not_allowed"),
    (ValueError("a secret detail"), 500, "internal_error"),
]


@pytest.mark.parametrize(("error", "status", "code"), CASES)
def test_status_and_code(error: Exception, status: int, code: str | None) -> None:
    response = error_response(error)
    assert response.status_code == status
    body = json.loads(bytes(response.body))
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == code


def test_the_field_is_named() -> None:
    assert describe(BadRequest("no", param="n")).body.param == "n"


def test_retry_after() -> None:
    assert describe(Overloaded("full", retry_after_s=4)).headers == {"retry-after": "4"}
    assert describe(Overloaded("full", retry_after_s=0)).headers == {"retry-after": "1"}
    assert "retry-after" in describe(RingDown("a node is missing")).headers


def test_the_hint_reaches_the_client() -> None:
    assert "send less" in describe(BadRequest("too long", hint="send less")).body.message


def test_our_own_mistakes_stay_ours(caplog: pytest.LogCaptureFixture) -> None:
    response = error_response(ValueError("a secret detail"))
    assert b"secret" not in bytes(response.body)
    assert "a secret detail" in caplog.text


def test_a_clients_mistake_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    error_response(BadRequest("the prompt says hello"))
    assert caplog.text == ""
