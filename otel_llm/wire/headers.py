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
_REQUEST_IDS = frozenset({b"x-request-id", b"request-id", b"apim-request-id"})


def read_headers(call: Call, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Read the headers in one pass; a later answer's values replace those of an earlier attempt.

    Source: the ``x-ratelimit-*`` headers of OpenAI's "Rate limits" guide.
    """
    for name, value in headers:
        name = name.lower()
        if name in _RATE_LIMITS:
            if value.isdigit() and len(value) < 19:
                if call.rate_limits is None:
                    call.rate_limits = {}
                call.rate_limits[_RATE_LIMITS[name]] = int(value)
        elif name in _REQUEST_IDS:
            call.attributes[names.OTEL_LLM_REQUEST_ID] = value.decode("latin-1")
