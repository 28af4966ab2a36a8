"""Misuse of the manual API is one clear error that names function, argument and what is accepted."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy
import pytest

import otel_llm
from otel_llm import faults
from otel_llm.testing import Seen

api: Any = otel_llm
"""Without its types: what is wrong here no checker would let pass."""
NAN, INF = float("nan"), float("inf")
Type, Value = TypeError, ValueError
WHOLE = "must be a whole number from 0 up"
SECONDS = "must be a number of seconds from 0 up"

WRONG: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("model", lambda: api.record_tokens(1), Type, "record_tokens: model must be a string or None, not int"),
    ("bool", lambda: api.record_tokens("m", True), Type, f"record_tokens: input_tokens {WHOLE}, not bool"),
    ("text", lambda: api.record_tokens("m", "3"), Type, f"record_tokens: input_tokens {WHOLE}, not str"),
    (
        "negative",
        lambda: api.record_tokens("m", 1, -1),
        Value,
        rf"record_tokens: output_tokens {WHOLE} .*, not -1",
    ),
    ("half", lambda: api.record_tokens(cache_read_tokens=0.5), Value, f"cache_read_tokens {WHOLE} .*, not 0.5"),
    ("nan", lambda: api.record_tokens(reasoning_tokens=NAN), Value, f"reasoning_tokens {WHOLE} .*, not nan"),
    (
        "large",
        lambda: api.record_tokens("m", 2**63),
        Value,
        rf"{WHOLE} to 2\*\*63 - 1, not 9223372036854775808",
    ),
    ("huge", lambda: api.record_tokens("m", 10**5000), Value, rf"{WHOLE} to 2\*\*63 - 1, not int"),
    (
        "huge fraction",
        lambda: api.set_memory_usage("m", Fraction(10**400)),
        Value,
        rf"set_memory_usage: size_bytes {WHOLE} to 2\*\*63 - 1, not 1000",
    ),
    ("provider", lambda: api.record_tokens(provider=b"x"), Type, "provider must be a string or None, not bytes"),
    (
        "error",
        lambda: api.record_error(3),
        Type,
        "error_type must be a string, an exception or its class, not int",
    ),
    (
        "class",
        lambda: api.record_error(int),
        Type,
        "error_type must be a string, an exception or its class, not type",
    ),
    ("no error", lambda: api.record_error(None), Type, "record_error: error_type must be .*, not NoneType"),
    ("empty error", lambda: api.record_error(""), Value, "error_type must be a string that is not empty"),
    ("client", lambda: api.record_rate_limit(7), Type, "record_rate_limit: client_id must be a string, not int"),
    ("empty client", lambda: api.record_rate_limit(""), Value, "client_id must be a string that is not empty"),
    ("size first", lambda: api.set_queue_size(5), Type, "set_queue_size: model must be a string or None, not int"),
    ("no size", lambda: api.set_queue_size("m"), Type, f"set_queue_size: size {WHOLE}, and is missing"),
    ("size", lambda: api.set_queue_size("m", -1), Value, f"set_queue_size: size {WHOLE} .*, not -1"),
    ("size of the wrong type", lambda: api.set_queue_size(5, 5), Type, "set_queue_size: model must be a string"),
    (
        "priority",
        lambda: api.set_queue_size("m", 1, priority=1),
        Type,
        "priority must be a string or None, not int",
    ),
    ("request", lambda: api.record_queue_request(model=1), Type, "record_queue_request: model must be a string"),
    ("rejection", lambda: api.record_queue_rejection(priority=1), Type, "record_queue_rejection: priority must"),
    ("wait", lambda: api.record_queue_wait("1"), Type, f"record_queue_wait: seconds {SECONDS}, not str"),
    ("wait of a bool", lambda: api.record_queue_wait(False), Type, f"seconds {SECONDS}, not bool"),
    (
        "negative wait",
        lambda: api.record_queue_wait(-0.1),
        Value,
        "must be a finite number of seconds .*, not -0.1",
    ),
    ("endless wait", lambda: api.record_queue_wait(INF), Value, "must be a finite number of seconds .*, not inf"),
    ("huge wait", lambda: api.record_queue_wait(10**400), Value, "must be a finite number of seconds .*, not inf"),
    (
        "nan wait",
        lambda: api.record_rate_limit_wait(NAN),
        Value,
        "record_rate_limit_wait: seconds must be a finite",
    ),
    ("workers", lambda: api.set_queue_workers(None), Type, f"set_queue_workers: count {WHOLE}, not NoneType"),
    ("info", lambda: api.set_model_info(None), Type, "set_model_info: model must be a string, not NoneType"),
    ("version", lambda: api.set_model_info("m", version=1.0), Type, "version must be a string or None, not float"),
    (
        "fact",
        lambda: api.set_model_info("m", size=4),
        Type,
        "set_model_info: size must be a string or None, not int",
    ),
    (
        "load",
        lambda: api.record_model_load("m", None),
        Type,
        f"record_model_load: seconds {SECONDS}, not NoneType",
    ),
    ("memory", lambda: api.set_memory_usage("m", -5), Value, f"set_memory_usage: size_bytes {WHOLE} .*, not -5"),
    (
        "memory of",
        lambda: api.set_memory_usage("", 5),
        Value,
        "set_memory_usage: model must be a string that is not",
    ),
    (
        "state",
        lambda: api.set_circuit_breaker_state("half_open"),
        Value,
        "set_circuit_breaker_state: state must be one of 'closed', 'half-open', 'open', not 'half_open'",
    ),
    ("state of a number", lambda: api.set_circuit_breaker_state(1), Type, "state must be a string, not int"),
    (
        "breaker",
        lambda: api.record_circuit_breaker_failure(model=1),
        Type,
        "model must be a string or None, not int",
    ),
    (
        "hit",
        lambda: api.record_cache_hit(None),
        Type,
        "record_cache_hit: cache_type must be a string, not NoneType",
    ),
    (
        "miss",
        lambda: api.record_cache_miss(""),
        Value,
        "record_cache_miss: cache_type must be a string that is not",
    ),
    ("operation", lambda: api.record_memory_operation(1), Type, "operation must be a string, not int"),
    ("health", lambda: api.set_backend_health("b", 1), Type, "healthy must be True or False, not int"),
    ("backend", lambda: api.set_backend_health(1, True), Type, "backend must be a string, not int"),
    ("workflow", lambda: api.track_workflow(None), Type, "track_workflow: name must be a string, not NoneType"),
    ("step", lambda: api.track_step(""), Value, "track_step: name must be a string that is not empty"),
    ("bare decorator", lambda: api.track_step(print), Type, "track_step: name must be a string, not builtin_"),
    (
        "tool",
        lambda: api.track_tool("t", tool_type=1),
        Type,
        "track_tool: tool_type must be a string or None, not",
    ),
    (
        "call",
        lambda: api.track_tool("t", call_id=1),
        Type,
        "track_tool: call_id must be a string or None, not int",
    ),
    ("agent", lambda: api.track_agent("a", model=1), Type, "track_agent: model must be a string or None, not int"),
    ("description", lambda: api.track_agent("a", description=1), Type, "description must be a string or None"),
    ("loading", lambda: api.track_model_load(1), Type, "track_model_load: model must be a string, not int"),
    ("no function", lambda: api.track_step("s")(3), Type, "track_step: expected a function to decorate, not 3"),
    (
        "class to track",
        lambda: api.track_step("s")(int),
        Type,
        "expected a function to decorate, not <class 'int'>",
    ),
    (
        "static",
        lambda: api.track_step("s")(staticmethod(len)),
        Type,
        "expected a function to decorate, not <static",
    ),
    (
        "limiter",
        lambda: api.instrument_queue(3),
        Type,
        (
            "instrument_queue: limiter must be one of asyncio.Semaphore, threading.Semaphore, anyio.Semaphore, "
            "anyio.CapacityLimiter, trio.Semaphore, trio.CapacityLimiter, concurrent.futures.Executor, asyncio.Queue, "
            "queue.Queue, not int"
        ),
    ),
    (
        "limiter's model",
        lambda: api.instrument_queue(3, model=1),
        Type,
        "instrument_queue: model must be a string",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), [wrong[1:] for wrong in WRONG], ids=[wrong[0] for wrong in WRONG])
def test_misuse(call: Callable[[], Any], kind: type[Exception], message: str, seen: Seen) -> None:
    """What is wrong is told at once, and nothing is counted."""
    with pytest.raises(kind, match=message) as raised:
        call()

    assert str(raised.value).startswith("otel_llm.")
    assert raised.value.__cause__ is None
    assert [] == seen.metrics
    assert {} == faults.counts


@pytest.mark.parametrize("call", [wrong[1] for wrong in WRONG], ids=[wrong[0] for wrong in WRONG])
def test_misuse_where_nothing_is_on(call: Callable[[], Any]) -> None:
    """What is wrong is told even where nobody listens."""
    with pytest.raises((TypeError, ValueError)):
        call()


class Priority(enum.StrEnum):
    HIGH = "high"


def test_numbers_of_other_types(seen: Seen) -> None:
    """Whatever is a number is taken as one: of `numpy`, a fraction, a whole float; and a string enum as its value."""
    api.record_tokens("m", numpy.int64(3), 4.0)
    api.record_tokens("m", numpy.float32(3), Fraction(8, 2))
    api.set_queue_size("m", numpy.uint8(7), priority=Priority.HIGH)
    api.record_queue_wait(numpy.float32(0.5))
    api.record_queue_wait(Fraction(1, 2))
    with pytest.raises(TypeError):
        api.record_tokens("m", numpy.bool_(True))
    with pytest.raises(TypeError):
        api.record_queue_wait(Decimal(1))

    assert [6, 8] == [point["value"] for point in seen.points("otel_llm.client.tokens")]
    (size,) = seen.points("otel_llm.queue.size")
    assert (7, int, "high", str) == (
        size["value"],
        type(size["value"]),
        size["attributes"]["otel_llm.queue.priority"],
        type(size["attributes"]["otel_llm.queue.priority"]),
    )
    (wait,) = seen.points("otel_llm.queue.wait.duration")
    assert (2, 1.0) == (wait["count"], wait["sum"])


@pytest.mark.parametrize("again", ["__enter__", "__exit__"])
@pytest.mark.parametrize("make", [lambda: otel_llm.track_step("s"), lambda: otel_llm.track_workflow("w")])
def test_blocks_twice(make: Callable[[], Any], again: str, seen: Seen) -> None:
    """A block that is entered or left a second time is an error, inside and outside; it counts once all the same."""
    block = make()
    function = block.function
    with block, pytest.raises(ValueError, match=rf"^otel_llm\.{function}: this block was entered before; make one for"):
        block.__enter__()
    message = {"__enter__": "entered before; make one for each time", "__exit__": "left before"}[again]
    with pytest.raises(ValueError, match=f"^{re.escape(f'otel_llm.{function}: this block was {message}')}$"):
        getattr(block, again)(*[None] * 3 if again == "__exit__" else ())

    assert 1 == len(seen.spans)
    assert 1 == sum(point["count"] for point in seen.metrics)


def test_block_never_entered() -> None:
    """A block that is left and was never entered is an error."""
    with pytest.raises(ValueError, match=r"^otel_llm\.track_tool: this block was never entered$"):
        otel_llm.track_tool("t").__exit__(None, None, None)
