"""Random calls of every kind, as the ledger gets them, and what each failure is called."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import NamedTuple

from otel_llm.call import Call
from otel_llm.context import Labels
from otel_llm.ledger import Ledger
from otel_llm.prometheus.dialects import bounds, label_names, load, shipped
from otel_llm.state import Columns
from otel_llm_semconv.values import Operation

SERVICE = "shop"
STATIC = {"version": "1.4", "container": "web"}
"""Labels from the configuration."""


class RateLimitError(Exception):
    status_code = 429


class AuthenticationError(Exception):
    status_code = 401


class PermissionDeniedError(Exception):
    status_code = 403


class InternalServerError(Exception):
    status_code = 500


class APIConnectionError(Exception):
    pass


class Case(NamedTuple):
    """One way to fail, and what the systems make of it."""

    error_type: str
    error: BaseException | None
    name: str
    """000, 002, 003: name of the exception's class."""
    status_000: str
    error_001: str
    status_004: str
    error_004: str


_RATE_LIMIT = ("rate_limited", "rate_limit", "failure", "rate_limit")
_TIMEOUT = ("error", "timeout", "timeout", "timeout")
_AUTH = ("error", "api_error", "failure", "auth")
_NETWORK = ("error", "api_error", "failure", "network")
_API_ERROR = ("error", "api_error", "failure", "api_error")

CASES = (
    Case("t.RateLimitError", RateLimitError(), "RateLimitError", *_RATE_LIMIT),
    Case("429", None, "429", *_RATE_LIMIT),
    Case("TimeoutError", TimeoutError(), "TimeoutError", *_TIMEOUT),
    Case("504", None, "504", *_TIMEOUT),
    Case("t.AuthenticationError", AuthenticationError(), "AuthenticationError", *_AUTH),
    Case("t.PermissionDeniedError", PermissionDeniedError(), "PermissionDeniedError", *_AUTH),
    Case("t.APIConnectionError", APIConnectionError(), "APIConnectionError", *_NETWORK),
    Case("ConnectionRefusedError", ConnectionRefusedError(), "ConnectionRefusedError", *_NETWORK),
    Case("t.InternalServerError", InternalServerError(), "InternalServerError", *_API_ERROR),
    Case("404", None, "404", *_API_ERROR),
    Case(
        "asyncio.CancelledError",
        asyncio.CancelledError(),
        "CancelledError",
        "error",
        "api_error",
        "cancelled",
        "unknown",
    ),
    Case("LookupError", LookupError(), "LookupError", "error", "api_error", "failure", "unknown"),
)
"""Every kind of failure that the systems tell apart (issue 6)."""


class Moment(float):
    """When a call ended: its duration is what it says, where a difference of two floats would miss a bucket's bound."""

    seconds: float

    def __sub__(self, other: float) -> float:
        return self.seconds


class Made(NamedTuple):
    """A call, and how it failed."""

    call: Call
    case: Case | None


BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
"""Upper bounds of the five systems."""
SERVERS = (
    ("openai", "api.openai.com", 443, "https://api.openai.com/v1", "/v1/chat/completions"),
    ("openai", "dashscope-intl.aliyuncs.com", 443, "https://dashscope-intl.aliyuncs.com/v1", "/v1/chat/completions"),
    ("openai", "dashscope.aliyuncs.com", 443, "https://dashscope.aliyuncs.com/v1", "/v1/chat/completions"),
    ("ollama", "localhost", 11434, "http://localhost:11434", "/api/chat"),
    ("ollama", "localhost", 11434, "http://localhost:11434", "/api/embed"),
    ("anthropic", "api.anthropic.com", 443, "https://api.anthropic.com", "/v1/messages"),
    ("openai", None, None, None, None),
)
MODELS = ("gpt-5", "qwen-plus", "llama3.2", 'odd "model" \\ with\nlines', "é模", None)


def made(seed: int, number: int) -> Iterator[Made]:
    """Yield random calls as they end; durations are often exactly a bound, tokens often 0 or unknown."""
    chance = random.Random(seed)
    for at in range(number):
        call = Call()
        call.provider, call.server_address, call.server_port, call.base_url, call.endpoint = chance.choice(SERVERS)
        call.operation = Operation.EMBEDDINGS if call.endpoint == "/api/embed" else Operation.CHAT
        call.request_model = chance.choice(MODELS)
        call.response_model = chance.choice((None, "answered", call.request_model))
        call.image = chance.random() < 0.1
        call.labels = _labels(chance)
        seconds = chance.choice(BOUNDS) if chance.random() < 0.5 else chance.expovariate(0.2)
        ended = Moment(at + 1)
        ended.seconds = seconds
        call.started_at, call.ended_at = 0.0, ended
        case = chance.choice(CASES) if chance.random() < 0.3 else None
        if case is not None:
            call.error_type, call.error = case.error_type, case.error
        if chance.random() < (0.2 if case else 0.9):
            call.input_tokens = chance.choice((0, 1, 17, 4000))
            if call.operation != Operation.EMBEDDINGS:
                call.output_tokens = (
                    chance.choice((1, 64, 1000)) if call.provider == "ollama" else chance.choice((0, 3, 70))
                )
            if call.provider == "ollama":
                call.load_seconds = chance.choice(BOUNDS)
                call.generation_seconds = chance.choice((0.5, 3.0))
        call.series = (
            call.operation,
            call.provider,
            call.request_model,
            call.response_model,
            call.server_address,
            call.server_port,
        )
        yield Made(call, case)


def _labels(chance: random.Random) -> Labels | None:
    if chance.random() < 0.5:
        return None
    possible = {
        "task_type": "extraction",
        "graph": "support",
        "request_type": "stream",
        "container": "worker",
        "backend": "GPT-4o",
        "client_id": chance.choice(("c1", "c2")),
        "unused": str(chance.random()),
    }
    return Labels({key: value for key, value in possible.items() if chance.random() < 0.5})


def ledger(max_series: int = 10_000) -> Ledger:
    """Return a ledger that keeps what all shipped dialects want."""
    dialects = [load(name) for name in shipped()]
    labels = label_names(dialects)
    return Ledger(max_series, Columns(bounds(dialects), labels.always, labels.on_failure))
