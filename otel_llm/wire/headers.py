"""What the headers of an answer tell: the request id and the headroom of the rate limits."""

from __future__ import annotations

from typing import Any

from otel_llm.call import Call
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics

_RATE_LIMITS = {
    b"x-ratelimit-remaining-requests": metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING.name,
    b"x-ratelimit-limit-requests": metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_LIMIT.name,
    b"x-ratelimit-remaining-tokens": metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_REMAINING.name,
    b"x-ratelimit-limit-tokens": metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_LIMIT.name,
    b"anthropic-ratelimit-requests-remaining": metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING.name,
    b"anthropic-ratelimit-requests-limit": metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_LIMIT.name,
    b"anthropic-ratelimit-tokens-remaining": metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_REMAINING.name,
    b"anthropic-ratelimit-tokens-limit": metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_LIMIT.name,
}
_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id")


def read_request_id(call: Call, headers: Any) -> None:
    """Read the id that the server gave the request, from the headers of an httpx response of either library."""
    for name in _REQUEST_IDS:
        value = headers.get(name)
        if value:
            call.attributes[names.OTEL_LLM_REQUEST_ID] = value
            return


def rate_limits(headers: Any) -> dict[str, int]:
    """Return the headroom that the headers tell, by the metric that shows it.

    Source: the ``x-ratelimit-*`` headers of OpenAI's "Rate limits" guide, and Anthropic's ``anthropic-ratelimit-*``.
    """
    told: dict[str, int] = {}
    for name, value in headers.raw:
        metric = _RATE_LIMITS.get(name.lower())
        if metric is not None and value.isdigit() and len(value) < 19:
            told[metric] = int(value)
    return told


def told_count(call: Call, name: str) -> int | None:
    """Return a count that a header of the answer tells, or None."""
    value = None if call.response_headers is None else call.response_headers.get(name)
    return int(value) if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) < 19 else None
