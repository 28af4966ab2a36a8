"""pydantic-ai: agents on both of the APIs."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from otel_llm.testing import Seen, capture
from otel_llm.testing.server import ScriptedServer
from tests.frameworks.conftest import Beside, Check, once
from tests.frameworks.told import DURATION

ai: Any = pytest.importorskip("pydantic_ai", reason="tests/matrix.py brings pydantic-ai")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ASK = "What is the capital of France?"
MODELS = ("OpenAIChatModel", "OpenAIResponsesModel")


def _provider(url: str) -> Any:
    providers: Any = importlib.import_module("pydantic_ai.providers.openai")
    return providers.OpenAIProvider(base_url=url, api_key="test")


def _agent(url: str, api: str, model: str = "gpt-5") -> Any:
    models: Any = importlib.import_module("pydantic_ai.models.openai")
    return ai.Agent(getattr(models, api)(model, provider=_provider(url)))


def _told(run: Any, output: str) -> dict[str, Any]:
    usage = run.usage
    return {"output": output, "tokens": (usage.input_tokens, usage.output_tokens)}


@pytest.mark.parametrize("api", MODELS)
def test_run(check: Check, api: str) -> None:
    """A plain run."""

    async def use(url: str) -> Any:
        run = await _agent(url, api).run(ASK)
        return _told(run, run.output)

    check(use)


@pytest.mark.parametrize("api", MODELS)
def test_run_stream(check: Check, api: str) -> None:
    """A streamed run."""

    async def use(url: str) -> Any:
        async with _agent(url, api).run_stream(ASK) as run:
            return _told(run, "".join([text async for text in run.stream_text(delta=True)]))

    check(use)


@contextmanager
def _instrumented(seen: Seen) -> Generator[None]:
    """Switch on its own instrumentation of every agent."""
    settings: Any = importlib.import_module("pydantic_ai.models.instrumented").InstrumentationSettings
    ai.Agent.instrument_all(settings(tracer_provider=seen.tracer_provider, meter_provider=seen.meter_provider))
    try:
        yield
    finally:
        ai.Agent.instrument_all(False)


@pytest.mark.parametrize("api", MODELS)
def test_instrumented_run(beside: Beside, api: str) -> None:
    """A plain run that the framework traces itself: it counts tokens, but no calls."""

    async def use(url: str) -> Any:
        run = await _agent(url, api).run(ASK)
        return _told(run, run.output)

    beside(use, _instrumented, {DURATION})


@pytest.mark.parametrize("api", MODELS)
def test_instrumented_run_stream(beside: Beside, api: str) -> None:
    """A streamed run that the framework traces itself: it counts the time to the first chunk too."""

    async def use(url: str) -> Any:
        async with _agent(url, api).run_stream(ASK) as run:
            return _told(run, "".join([text async for text in run.stream_text(delta=True)]))

    beside(use, _instrumented, {DURATION})


def test_instrumented_embedding(beside: Beside) -> None:
    """An embedding that the framework traces itself."""
    embeddings: Any = importlib.import_module("pydantic_ai.embeddings.openai")

    @contextmanager
    def instrumented(seen: Seen) -> Generator[None]:
        settings: Any = importlib.import_module("pydantic_ai.models.instrumented").InstrumentationSettings
        ai.Embedder.instrument_all(settings(tracer_provider=seen.tracer_provider, meter_provider=seen.meter_provider))
        try:
            yield
        finally:
            ai.Embedder.instrument_all(False)

    async def use(url: str) -> Any:
        model = embeddings.OpenAIEmbeddingModel("text-embedding-3-small", provider=_provider(url))
        result = await ai.Embedder(model).embed_query("Paris")
        return {"embeddings": result.embeddings, "tokens": result.usage.input_tokens}

    beside(use, instrumented, {DURATION})


@pytest.mark.parametrize("api", MODELS)
def test_call_of_a_tool(api: str) -> None:
    """What a tool of an instrumented agent asks of a model is ours: the span around it is of the tool."""

    async def use(url: str) -> Any:
        agent = _agent(url, api, model="tools")

        async def ask(question: str) -> str:
            async with openai.AsyncOpenAI(base_url=url, api_key="test") as own:
                asked: Any = [{"role": "user", "content": question}]
                answer = await own.chat.completions.create(model="gpt-5", messages=asked)
            return str(answer.choices[0].message.content)

        agent.tool_plain(ask)
        return (await agent.run(ASK)).output

    with ScriptedServer() as server, capture() as seen, _instrumented(seen):
        assert asyncio.run(once(use, server))
        assert 3 == len(server.requests)
        [span] = seen.spans
        parents = {other["span_id"]: other["name"] for other in seen.all_spans}
        assert ("chat gpt-5", "execute_tool ask") == (span["name"], parents[span["parent_id"]])
