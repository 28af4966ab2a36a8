"""Many at once: no call is lost, none is doubled, none ends under another's parent."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import openai
import pytest
from opentelemetry import trace

from otel_llm.testing import Seen, answers
from otel_llm.testing.server import ScriptedServer
from otel_llm_semconv import attributes as names
from tests.openai.styles import OUTPUT_TOKENS, client

LIBRARY: Any = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
STREAMS = 2_000
THREADS = 64
ROUNDS = 4


def _asked(number: int) -> dict[str, Any]:
    """Return a request of its own: its input tokens are its number."""
    return {"model": "gpt-5", "messages": [{"role": "user", "content": "word " * number}]}


def _each_under_its_own(seen: Seen, numbers: list[int]) -> None:
    """Check every span against the parent that asked for it, and the sums."""
    spans = seen.spans
    parents = {span["span_id"]: span for span in seen.all_spans if span["scope"] == "application"}
    assert len(numbers) == len(parents) == len(spans)
    assert len(parents) == len({span["parent_id"] for span in spans})
    for span in spans:
        parent = parents[span["parent_id"]]
        assert parent["trace_id"] == span["trace_id"]
        assert parent["attributes"]["number"] == span["attributes"][names.GEN_AI_USAGE_INPUT_TOKENS]
        # The id that the caller read, so that no span has the answer of another call.
        assert parent["attributes"]["id"] == span["attributes"][names.GEN_AI_RESPONSE_ID]
        assert ("unset", OUTPUT_TOKENS) == (span["status"], span["attributes"][names.GEN_AI_USAGE_OUTPUT_TOKENS])
    (duration,) = seen.points("gen_ai.client.operation.duration")
    assert len(numbers) == duration["count"]
    usage = {point["attributes"][names.GEN_AI_TOKEN_TYPE]: point for point in seen.points("gen_ai.client.token.usage")}
    assert (len(numbers), sum(numbers)) == (usage["input"]["count"], usage["input"]["sum"])
    assert (len(numbers), len(numbers) * OUTPUT_TOKENS) == (usage["output"]["count"], usage["output"]["sum"])
    tokens = {
        point["attributes"][names.OTEL_LLM_TOKEN_KIND]: point["value"]
        for point in seen.points("otel_llm.client.tokens")
    }
    assert (sum(numbers), len(numbers) * OUTPUT_TOKENS) == (tokens["input"], tokens["output"])
    (active,) = seen.points("otel_llm.client.active")
    assert 0 == active["value"]


def test_streams_of_one_loop(seen: Seen) -> None:
    """Two thousand streams of one loop, each under a span of its own, all of them open at the same time."""
    tracer = seen.tracer_provider.get_tracer("application")
    numbers = [1 + number % 50 for number in range(STREAMS)]

    async def main() -> None:
        reading = 0
        all_read = asyncio.Event()
        ids = count(1)

        async def body(events: list[Any]) -> AsyncIterator[bytes]:
            for number, event in enumerate(events):
                yield f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode()
                if number == 0:
                    await all_read.wait()
                await asyncio.sleep(0)

        def respond(request: Any) -> Any:
            events: Any = answers.answer("POST", request.url.path, json.loads(request.content), next(ids))
            return LIBRARY.Response(200, content=body(events), headers={"content-type": "text/event-stream"})

        async def one(own: Any, number: int) -> None:
            nonlocal reading
            with tracer.start_as_current_span("parent", attributes={"number": number}) as parent:
                stream = await own.chat.completions.create(
                    **_asked(number), stream=True, stream_options={"include_usage": True}
                )
                first = await anext(stream)
                reading += 1
                if reading == STREAMS:
                    assert [] == seen.spans
                    (active,) = seen.points("otel_llm.client.active")
                    assert STREAMS == active["value"]
                    all_read.set()
                async for chunk in stream:
                    # What is current here is the caller's own.
                    assert trace.get_current_span() is parent
                    assert first.id == chunk.id
                parent.set_attribute("id", first.id)

        http = LIBRARY.AsyncClient(transport=LIBRARY.MockTransport(respond))
        async with openai.AsyncOpenAI(base_url="http://127.0.0.1/v1", api_key="test", http_client=http) as own:
            await asyncio.gather(*(one(own, number) for number in numbers))

    asyncio.run(main())

    _each_under_its_own(seen, numbers)


@pytest.mark.parametrize("streamed", [False, True])
def test_threads(server: ScriptedServer, seen: Seen, streamed: bool) -> None:
    """Sixty-four threads of one client, each call under a span of its own."""
    tracer = seen.tracer_provider.get_tracer("application")
    own = client(server)
    ready = threading.Barrier(THREADS)
    failures: list[BaseException] = []
    more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}

    def work(number: int) -> None:
        try:
            ready.wait(30)
            for _ in range(ROUNDS):
                with tracer.start_as_current_span("parent", attributes={"number": number}) as parent:
                    made = own.chat.completions.create(**_asked(number), **more)
                    ids = {chunk.id for chunk in made} if streamed else {made.id}
                    assert trace.get_current_span() is parent
                    parent.set_attribute("id", ids.pop())
                    assert not ids
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, THREADS + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failures
    _each_under_its_own(seen, [number for number in range(1, THREADS + 1) for _ in range(ROUNDS)])
