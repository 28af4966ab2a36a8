"""What the headers of an answer tell: the request id and the headroom of the rate limits."""

from __future__ import annotations

from collections.abc import Iterable

from otel_llm.call import Call
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics

_RATE_LIMITS = {
    b"x-ratelimit-remaining-requests": metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING.name,
    b"x-ratelimit-limit-requests": metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_LIMIT.name,
    b"x-ratelimit-remaining-tokens": metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_REMAINING.name,
    b"x-ratelimit-limit-tokens": metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_LIMIT.name,
}
_REQUEST_ID = names.OTEL_LLM_REQUEST_ID
_TOLD: dict[bytes, str] = {
    **_RATE_LIMITS,
    b"x-request-id": _REQUEST_ID,
    b"request-id": _REQUEST_ID,
    b"apim-request-id": _REQUEST_ID,
}


def read_headers(call: Call, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Read the headers in one pass; a later answer's values replace those of an earlier attempt.

    Source: the ``x-ratelimit-*`` headers of OpenAI's "Rate limits" guide.
    """
    for name, value in headers:
        told = _TOLD.get(name.lower())
        if told is None:
            continue
        if told is _REQUEST_ID:
            call.attributes[told] = value.decode("latin-1")
        elif value.isdigit() and len(value) < 19:
            if call.rate_limits is None:
                call.rate_limits = {}
            call.rate_limits[told] = int(value)
