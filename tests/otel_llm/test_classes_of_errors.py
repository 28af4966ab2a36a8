"""The class of a failure, from which every dialect makes its own spelling."""

from __future__ import annotations

from email.message import Message
from typing import Any
from urllib.error import HTTPError, URLError

import httpx
import openai
import pytest

from otel_llm.errors import error_type, failure, failure_told
from otel_llm.prometheus.foreign.points import failure_of

REQUEST = httpx.Request("POST", "http://localhost/v1")

Anthropics: Any = type("APIStatusError", (Exception,), {})
"""As `anthropic` raises it for an error in the middle of a stream."""


Aiohttps: Any = type("ClientResponseError", (Exception,), {})
"""As `aiohttp` raises it by ``raise_for_status()``."""
Googles: Any = type("ClientError", (Exception,), {})
"""As `google.genai` raises it."""
Botos: Any = type("ThrottlingException", (Exception,), {})
"""As `botocore` raises it, with what came as a dictionary."""
Shops: Any = type("ShopError", (Exception,), {})
"""With a code of its own."""


def _made(kind: type[BaseException], **fields: Any) -> BaseException:
    """Return an exception without running what its class does with a response."""
    error = kind.__new__(kind)
    error.__dict__.update(fields)
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_made(openai.RateLimitError, status_code=429), "rate_limit"),
        (_made(openai.AuthenticationError, status_code=401), "auth"),
        (_made(openai.PermissionDeniedError, status_code=403), "auth"),
        (_made(openai.InternalServerError, status_code=500), "api_error"),
        (_made(openai.InternalServerError, status_code=504), "timeout"),
        (_made(openai.APITimeoutError), "timeout"),
        (_made(openai.APIConnectionError), "network"),
        (_made(openai.APIError, code="rate_limit_exceeded", type="requests"), "rate_limit"),
        (_made(openai.APIError, code="server_error", type=None), "api_error"),
        (_made(Anthropics, status_code=200, body={"error": {"type": "rate_limit_error"}}), "rate_limit"),
        (_made(Anthropics, status_code=200, body={"error": {"type": "overloaded_error"}}), "api_error"),
        (_made(httpx.HTTPStatusError, response=httpx.Response(403)), "auth"),
        (httpx.ConnectError("x", request=REQUEST), "network"),
        (httpx.ReadTimeout("x", request=REQUEST), "timeout"),
        (httpx.TooManyRedirects("x", request=REQUEST), "unknown"),
        (_made(openai.APIError, code=["odd"], type={}, body=3), "api_error"),
        (HTTPError("http://localhost", 429, "", Message(), None), "rate_limit"),
        (HTTPError("http://localhost", 418, "", Message(), None), "api_error"),
        (URLError(ConnectionRefusedError()), "network"),
        (_made(Aiohttps, status=429), "rate_limit"),
        (_made(Aiohttps, status=200), "api_error"),
        (_made(Googles, code=403, status="PERMISSION_DENIED"), "auth"),
        (_made(Botos, response={"Error": {"Code": "ThrottlingException"}}), "rate_limit"),
        (_made(Shops, code=70_429), "unknown"),
        (SystemExit(429), "unknown"),
        (ValueError("mine"), "unknown"),
    ],
    ids=repr,
)
def test_exceptions(error: BaseException, expected: str) -> None:
    """An exception has the class of its status, of what the API calls it, or of its own class, in this order."""
    found = failure(error_type(error), error)

    assert (expected, type(error).__name__) == (found.error_class, found.name)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("429", "rate_limit"),
        ("401", "auth"),
        ("408", "timeout"),
        ("500", "api_error"),
        ("418", "api_error"),
        ("rate_limit_error", "rate_limit"),
        ("_OTHER", "api_error"),
        ("overloaded_error", "api_error"),
        ("timeout", "timeout"),
        ("rate_limit", "rate_limit"),
    ],
)
def test_answers(told: str, expected: str) -> None:
    """Where nothing was raised, what the answer told decides; it is the name of the failure as well."""
    assert (told, told, expected) == failure(told, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timeout", "timeout"),
        ("rate_limit", "rate_limit"),
        ("network", "network"),
        ("auth", "auth"),
        ("cancelled", "cancelled"),
        ("api_error", "api_error"),
        ("budget_exceeded", "budget_exceeded"),
        ("429", "rate_limit"),
        ("503", "api_error"),
        ("70429", "unknown"),
        ("9" * 5000, "unknown"),
        ("server_error", "api_error"),
        ("overloaded_error", "api_error"),
        ("insufficient_quota", "rate_limit"),
        ("RESOURCE_EXHAUSTED", "rate_limit"),
        ("openai.APITimeoutError", "timeout"),
        ("socket.timeout", "timeout"),
        ("ThrottlingException", "rate_limit"),
        ("TooManyRequestsException", "rate_limit"),
        ("google.api_core.exceptions.DeadlineExceeded", "timeout"),
        ("_OTHER", "unknown"),
        ("out of memory", "unknown"),
        ("", "unknown"),
    ],
    ids=lambda value: value[:40],
)
def test_names(name: str, expected: str) -> None:
    """A name has the same class whoever tells it: the application by hand, or another instrumentation."""
    assert expected == failure_told(name).error_class == failure_of(name).error_class
