"""Everything on at once: each logical call counts once, and all spans are one tree with the right parents."""

from __future__ import annotations

import asyncio
import importlib
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import httpx
import httpx2
import ollama
import openai
import pytest
from opentelemetry.instrumentation import httpx as contrib

from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer, error
from otel_llm_semconv import attributes as names
from tests.httpx.apis import APIS, ASK, Api
from tests.httpx.test_calls import streamed
from tests.openai.styles import adrain, drain

DURATION = "gen_ai.client.operation.duration"
APP = "the application"

try:
    anthropic: Any = importlib.import_module("anthropic")
except ImportError:
    anthropic = None

COMPETITORS = {
    "official": "opentelemetry.instrumentation.genai.openai",
    "openllmetry": "opentelemetry.instrumentation.openai",
    "openinference": "openinference.instrumentation.openai",
    "anthropic-openinference": "openinference.instrumentation.anthropic",
}


def _competitors() -> list[Any]:
    found: list[Any] = [None]
    for module in COMPETITORS.values():
        try:
            found.append(importlib.import_module(module))
        except ImportError:
            continue
    return found


@pytest.fixture(params=_competitors(), ids=lambda module: module.__name__ if module else "alone")
def everything(request: pytest.FixtureRequest) -> Generator[Seen]:
    """Instrument with us and, where one is installed, with another instrumentation of a client."""
    with capture() as seen:
        theirs = None
        if request.param is not None:
            module: Any = request.param
            found: list[str] = [name for name in dir(module) if name.endswith("Instrumentor")]
            (name,) = [name for name in found if name != "BaseInstrumentor"]
            theirs = getattr(module, name)()
            theirs.instrument(
                tracer_provider=seen.tracer_provider, meter_provider=seen.meter_provider, skip_dep_check=True
            )
        yield seen
        if theirs is not None:
            theirs.uninstrument()


CHAT: dict[str, Any] = {"model": "gpt-5", "messages": ASK}
STREAM: dict[str, Any] = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}


def _openai(server: ScriptedServer) -> int:
    with openai.OpenAI(base_url=server.base_url, api_key="x", max_retries=2) as own:
        server.script(error(500), error(429, headers={"retry-after-ms": "1"}))
        own.chat.completions.create(**CHAT)
        drain(own.chat.completions.create(**STREAM))
        own.embeddings.create(model="text-embedding-3-small", input="Paris")
        own.chat.completions.with_raw_response.create(**CHAT)
    return 4


async def _aopenai(server: ScriptedServer) -> int:
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="x") as own:
        await own.chat.completions.create(**CHAT)
        await adrain(await own.chat.completions.create(**STREAM))
    return 2


def _ollama(server: ScriptedServer) -> int:
    api = APIS["ollama chat"]
    own: Any = ollama.Client(host=server.url)
    server.script(Reply(json=api.answer), streamed(api))
    own.chat(model="tiny", messages=ASK)
    for _ in own.chat(model="tiny", messages=ASK, stream=True):
        pass
    own._client.close()
    return 2


async def _aollama(server: ScriptedServer) -> int:
    api = APIS["ollama chat"]
    own: Any = ollama.AsyncClient(host=server.url)
    server.script(Reply(json=api.answer), streamed(api))
    await own.chat(model="tiny", messages=ASK)
    async for _ in await own.chat(model="tiny", messages=ASK, stream=True):
        pass
    await own._client.aclose()
    return 2


def _anthropic(server: ScriptedServer) -> int:
    if anthropic is None:
        return 0
    api = APIS["anthropic"]
    with anthropic.Anthropic(base_url=server.url, api_key="x") as own:
        server.script(Reply(529, json={"type": "error", "error": {"type": "overloaded_error", "message": "x"}}))
        server.script(Reply(json=api.answer), streamed(api))
        own.messages.create(model="claude-4", max_tokens=9, messages=ASK)
        for _ in own.messages.create(model="claude-4", max_tokens=9, messages=ASK, stream=True):
            pass
    return 2


RAW = [APIS[name] for name in ("openai chat", "anthropic", "gemini", "ollama generate")]


def _raw(server: ScriptedServer, library: Any) -> int:
    with library.Client(verify=False) as own:
        for api in RAW:
            path, body = api.request(stream=False)
            server.script(Reply(json=api.answer), streamed(api))
            own.post(server.url + path, json=body)
            path, body = api.request(stream=True)
            with own.stream("POST", server.url + path, json=body) as response:
                for _ in response.iter_lines():
                    pass
        own.get(server.url + "/v1/models")
    return 2 * len(RAW)


async def _araw(server: ScriptedServer, library: Any) -> int:
    async def one(own: Any, api: Api) -> None:
        path, body = api.request(stream=True)
        async with own.stream("POST", server.url + path, json=body) as response:
            async for _ in response.aiter_bytes():
                pass

    async with library.AsyncClient(verify=False) as own:
        for api in RAW:
            server.script(streamed(api), streamed(api))
            await asyncio.gather(one(own, api), one(own, api))
    return 2 * len(RAW)


def _all_durations(seen: Seen) -> int:
    """Return how many calls were counted, whoever did it."""
    data: Any = seen._reader.get_metrics_data()
    return sum(
        point.count
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == DURATION
        for point in metric.data.data_points
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_everything_at_once(server: ScriptedServer, everything: Seen) -> None:
    """One span and one count for each call, below the application's; one HTTP span for each request, below its call."""
    seen = everything
    calls: list[Callable[[], int]] = [
        lambda: _openai(server),
        lambda: asyncio.run(_aopenai(server)),
        lambda: _ollama(server),
        lambda: asyncio.run(_aollama(server)),
        lambda: _anthropic(server),
        lambda: _raw(server, httpx),
        lambda: _raw(server, httpx2),
        lambda: asyncio.run(_araw(server, httpx)),
        lambda: asyncio.run(_araw(server, httpx2)),
    ]
    with seen.tracer_provider.get_tracer(APP).start_as_current_span("work") as root:
        made = sum(call() for call in calls)
    models = 2  # requests for the list of models are no calls

    spans = seen.all_spans
    by_id = {span["span_id"]: span for span in spans}
    work = root.get_span_context().span_id
    http = [span for span in spans if span["scope"] == contrib.__name__]
    called = [span for span in spans if span["scope"] not in (contrib.__name__, APP)]
    assert {root.get_span_context().trace_id} == {span["trace_id"] for span in spans}
    assert made == len(called)
    assert {work} == {span["parent_id"] for span in called}
    assert len(server.requests) == len(http)
    parents = Counter(span["parent_id"] for span in http)
    assert models == parents.pop(work)
    assert {span["span_id"] for span in called} == set(parents)
    assert sorted([1] * (made - (2 if anthropic else 1)) + [3] + ([2] if anthropic else [])) == sorted(parents.values())
    assert all(span["parent_id"] in by_id or span["span_id"] == work for span in spans)
    sent = {request.headers["traceparent"].split("-")[2] for request in server.requests}
    assert {f"{span['span_id']:016x}" for span in http} == sent
    assert made == _all_durations(seen)
    retried = [
        span["attributes"][names.OTEL_LLM_RETRIES] for span in spans if names.OTEL_LLM_RETRIES in span["attributes"]
    ]
    assert (sorted([2, *([1] if anthropic else [])]) == sorted(retried)) or len(called) != len(seen.spans)
