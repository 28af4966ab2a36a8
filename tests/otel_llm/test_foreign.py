"""Other instrumentations around our calls, as their traces in context and on the stack look."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_llm.foreign import NOTHING, Covered, covered
from otel_llm_semconv.values import Operation

ALL = Covered(span=True, metrics=True)


def here(operation: str) -> Covered:
    """Return what is covered here."""
    return covered(operation, context_api.get_current())


WRAPPERS = """
def wrapper(wrapped, *args):
    return wrapped(*args)

async def awrapper(wrapped, *args):
    return await wrapped(*args)
"""


@pytest.fixture
def wrappers_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Any, Any]]:
    """Return a function that makes a sync and an async wrapper as a module of the given name would define them."""

    def make(name: str) -> tuple[Any, Any]:
        package = name.rpartition(".")[0].removesuffix(".shared").removesuffix(".v1")
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        module: dict[str, Any] = {"__name__": name}
        exec(WRAPPERS, module)
        return module["wrapper"], module["awrapper"]

    return make


def test_alone() -> None:
    """Nobody around, and a span of the user's own: everything is ours."""
    assert here(Operation.CHAT) == NOTHING
    with TracerProvider().get_tracer("my.app").start_as_current_span("work"):
        assert here(Operation.CHAT) == NOTHING


@pytest.mark.parametrize(
    ("key", "operation", "expected"),
    [
        ("inference", Operation.CHAT, ALL),
        ("inference", Operation.TEXT_COMPLETION, ALL),
        ("embedding", Operation.EMBEDDINGS, ALL),
        ("embedding", Operation.CHAT, NOTHING),
        ("inference", Operation.EMBEDDINGS, NOTHING),
        ("inference", "GET /files/{id}", NOTHING),
        ("fetch_response", Operation.FETCH_RESPONSE, ALL),
    ],
)
def test_the_keys_of_util_genai(key: str, operation: str, expected: Covered) -> None:
    """Version 1 says in the context which operation it is about."""
    context = Context({f"opentelemetry.genai.client.{key}.context": object()})

    assert covered(operation, context) == expected


def test_the_spans_of_openinference() -> None:
    """Its spans are of a kind of their own, and it has no metrics."""
    span = TracerProvider().get_tracer("openinference.instrumentation.openai").start_span("ChatCompletion")

    assert covered(Operation.CHAT, trace.set_span_in_context(span, Context())) == Covered(span=True)


def test_the_spans_of_util_genai() -> None:
    """Version 0 leaves nothing but its span."""
    span = TracerProvider().get_tracer("opentelemetry.util.genai.handler").start_span("chat")

    assert covered(Operation.CHAT, trace.set_span_in_context(span, Context())) == ALL


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("opentelemetry.instrumentation.openai_v2.patch", ALL),
        ("opentelemetry.instrumentation.openai.shared.chat_wrappers", ALL),
        ("opentelemetry.instrumentation.openai.shared.embeddings_wrappers", ALL),
        ("opentelemetry.instrumentation.openai.shared.completion_wrappers", Covered(span=True)),
        ("opentelemetry.instrumentation.openai.v1.responses_wrappers", Covered(span=True)),
        ("opentelemetry.instrumentation.openai.shared.other_wrappers", NOTHING),
        ("openlit.instrumentation.openai.openai", ALL),
        ("openlit.instrumentation.openai.async_openai", ALL),
        ("openlit.instrumentation.other.openai", NOTHING),
    ],
)
async def test_the_wrappers_on_the_stack(
    wrappers_of: Callable[[str], tuple[Any, Any]], module: str, expected: Covered
) -> None:
    """A wrapper that calls us is known by its module, though its span is sampled out, and in a coroutine too."""
    wrapper, awrapper = wrappers_of(module)

    async def request() -> Covered:
        await asyncio.sleep(0)
        return here(Operation.CHAT)

    with TracerProvider(sampler=ALWAYS_OFF).get_tracer("theirs").start_as_current_span("chat"):
        assert wrapper(here, Operation.CHAT) == expected
        assert await awrapper(request) == expected
    assert here(Operation.CHAT) == NOTHING
