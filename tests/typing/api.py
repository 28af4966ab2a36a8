"""What users write, for the type checkers: this file is never run."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Semaphore
from typing import assert_type

import otel_llm
from otel_llm import Call, Content, Handle
from otel_llm.testing import Seen, capture


def drop_secrets(call: Call) -> None:
    """Drop some calls and mark the others."""
    if call.request_model == "secret":
        call.drop()
    call.attributes["team"] = "search"
    assert_type(call.duration, float)
    assert_type(call.input_tokens, int | None)


def redact(content: Content) -> Content | None:
    """Keep the answers only."""
    return content._replace(input_messages=None)


handle = otel_llm.instrument(
    serve="127.0.0.1:9464",
    semconv="both",
    max_series=500,
    labels={"team": "search"},
    content_hook=redact,
    call_hook=drop_secrets,
)
assert_type(handle, Handle)
assert_type(handle.url, str | None)
assert_type(otel_llm.generate_latest(), bytes)


@otel_llm.track_step("fetch")
def fetch(number: int) -> str:
    """Fetch."""
    return str(number)


@otel_llm.track_tool("search")
async def search(number: int) -> str:
    """Search."""
    found = fetch(number)
    assert_type(found, str)
    return found


async def search_twice() -> None:
    """Search twice."""
    assert_type(await search(1), str)
    async with otel_llm.track_agent("clerk", model="gpt-5"):
        await search(2)


@otel_llm.track_workflow("stream")
def stream() -> Iterator[int]:
    """Stream."""
    yield 1


assert_type(fetch(1), str)
assert_type(stream(), Iterator[int])
assert_type(otel_llm.instrument_queue(Semaphore(2), model="m"), Semaphore)
otel_llm.record_error(ValueError)
otel_llm.record_error(ValueError("x"), model="m")
otel_llm.set_queue_size("m", 5)
otel_llm.set_queue_size(size=5, priority="high")

with otel_llm.labels(task_type="extraction"), otel_llm.attributes({"gen_ai.conversation.id": "c1"}):
    pass


@otel_llm.labels(graph="support")
def answer() -> int:
    """Return what it returns, label or not."""
    return 1


assert_type(answer(), int)

with capture(semconv="latest") as seen:
    assert_type(seen, Seen)

with otel_llm.instrument():
    pass

otel_llm.uninstrument()
