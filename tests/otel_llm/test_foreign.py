"""Other instrumentations around our calls, as their traces in context and on the stack look."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_llm.foreign import NOTHING, Covered, covered, may_be_near
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import Operation

ALL = Covered(span=True, duration=True, tokens=True, first_chunk=True)
TRACED_AND_COUNTED = Covered(span=True, duration=True, tokens=True)
PYDANTIC_AI = Covered(span=True, tokens=True, first_chunk=True)


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
        ("opentelemetry.instrumentation.openai.shared.chat_wrappers", TRACED_AND_COUNTED),
        ("opentelemetry.instrumentation.openai.shared.embeddings_wrappers", TRACED_AND_COUNTED),
        ("opentelemetry.instrumentation.openai.shared.image_gen_wrappers", Covered(duration=True)),
        ("opentelemetry.instrumentation.openai.shared.completion_wrappers", Covered(span=True)),
        ("opentelemetry.instrumentation.openai.v1.responses_wrappers", Covered(span=True)),
        ("opentelemetry.instrumentation.openai.v1.realtime_wrappers", Covered(span=True)),
        ("opentelemetry.instrumentation.openai.v1.assistant_wrappers", NOTHING),
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


@pytest.mark.parametrize(
    ("module", "operation", "expected"),
    [
        ("opentelemetry.instrumentation.openai.v1.assistant_wrappers", Operation.INVOKE_AGENT, Covered(span=True)),
        ("opentelemetry.instrumentation.openai.v1.assistant_wrappers", Operation.CREATE_AGENT, NOTHING),
        ("openlit.instrumentation.openai.openai", Operation.EMBEDDINGS, ALL),
        ("openlit.instrumentation.openai.openai", Operation.MODERATION, Covered(span=True, duration=True)),
        ("openlit.instrumentation.openai.openai", Operation.GENERATE_CONTENT, Covered(span=True, duration=True)),
    ],
)
def test_the_wrappers_of_an_operation(
    wrappers_of: Callable[[str], tuple[Any, Any]], module: str, operation: str, expected: Covered
) -> None:
    """What wrappers make depends on the operation."""
    wrapper, _ = wrappers_of(module)

    assert wrapper(here, operation) == expected


@pytest.mark.parametrize(
    ("operation", "counts", "expected"),
    [
        (Operation.CHAT, True, TRACED_AND_COUNTED),
        (Operation.CHAT, False, Covered(span=True)),
        (Operation.EMBEDDINGS, True, NOTHING),
    ],
)
def test_the_frameworks_of_openllmetry(
    monkeypatch: pytest.MonkeyPatch, operation: str, counts: bool, expected: Covered
) -> None:
    """They tell in the context that a model is being called; the one of LangChain counts the call too."""
    if counts:
        name = "opentelemetry.instrumentation.langchain"
        monkeypatch.setitem(sys.modules, name, ModuleType(name))

    assert covered(operation, Context({"suppress_language_model_instrumentation": True})) == expected
    assert covered(operation, Context({"suppress_language_model_instrumentation": False})) == NOTHING


@pytest.mark.parametrize(
    ("theirs", "operation", "expected"),
    [
        ("chat", Operation.CHAT, PYDANTIC_AI),
        ("embeddings", Operation.EMBEDDINGS, Covered(span=True, tokens=True)),
        ("image_generation", Operation.GENERATE_CONTENT, Covered(span=True, tokens=True)),
        ("chat", Operation.MODERATION, NOTHING),
        ("execute_tool", Operation.CHAT, NOTHING),
        ("invoke_agent", Operation.CHAT, NOTHING),
        (None, Operation.CHAT, NOTHING),
    ],
)
def test_the_spans_of_pydantic_ai(theirs: str | None, operation: str, expected: Covered) -> None:
    """Only a span of the same operation is of the call: others are around it."""
    attributes = {names.GEN_AI_OPERATION_NAME: theirs} if theirs else None
    span = TracerProvider().get_tracer("pydantic-ai").start_span("any", attributes=attributes)

    assert covered(operation, trace.set_span_in_context(span, Context())) == expected


def test_pydantic_ai_sampled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span of its that tells nothing is known by its own variable, and no other span is taken for it."""
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("pydantic-ai")
    span, other = tracer.start_span("chat"), tracer.start_span("chat")
    unset = trace.INVALID_SPAN
    module: Any = ModuleType("pydantic_ai._instrumentation")
    module.include_content_ctx = ContextVar[Any]("include_content", default=None)
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def seen(current: trace.Span, operation: str = Operation.CHAT) -> Covered:
        return covered(operation, trace.set_span_in_context(current, Context()))

    assert seen(span) == NOTHING
    module.include_content_ctx.set(SimpleNamespace(span=span))
    assert [seen(span), seen(other), seen(unset)] == [PYDANTIC_AI, NOTHING, NOTHING]
    assert seen(span, Operation.EMBEDDINGS) == NOTHING
    module.include_content_ctx.set(SimpleNamespace(span=unset))
    assert seen(unset) == NOTHING  # it has no tracer that could make a span


def test_openinference_around_langchain(
    monkeypatch: pytest.MonkeyPatch, wrappers_of: Callable[[str], tuple[Any, Any]]
) -> None:
    """LangChain on the stack means a span of openinference's for as long as that is instrumenting."""
    wrapper, _ = wrappers_of("langchain_core.language_models.chat_models")
    assert wrapper(here, Operation.CHAT) == NOTHING
    instrumentor = SimpleNamespace(is_instrumented_by_opentelemetry=False)
    module: Any = ModuleType("openinference.instrumentation.langchain")
    module.LangChainInstrumentor = lambda: instrumentor
    monkeypatch.setitem(sys.modules, module.__name__, module)

    assert wrapper(here, Operation.CHAT) == NOTHING
    instrumentor.is_instrumented_by_opentelemetry = True
    assert wrapper(here, Operation.CHAT) == Covered(span=True)
    assert here(Operation.CHAT) == NOTHING


def test_one_that_is_loaded_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded between two calls is seen by the second, and what is not there any more by the third."""
    assert not may_be_near()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openlit.instrumentation.openai", ModuleType("openlit"))
        assert may_be_near()
    assert not may_be_near()
