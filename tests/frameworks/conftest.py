"""What the frameworks' tests share: a run without us, a run with us, and what must hold of both."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import openai
import pytest

from otel_llm.testing import capture
from otel_llm.testing.server import ScriptedServer
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics as known

Use: TypeAlias = Callable[[str], Awaitable[Any]]
"""Uses a framework on the server of the given base URL; returns what the framework makes of it."""
Check: TypeAlias = Callable[[Use], None]


@pytest.fixture
def check() -> Check:
    """Return a function that runs with and without us: one result, and one whole span of each request."""

    def run(use: Use) -> None:
        with ScriptedServer() as server:
            alone = asyncio.run(_once(use, server))
        with ScriptedServer() as server, capture() as seen:
            assert alone == asyncio.run(_once(use, server))
            asked = [request.json for request in server.requests]
        assert asked
        assert len(asked) == len(seen.spans)
        for span, body in zip(seen.spans, asked, strict=True):
            attributes = span["attributes"]
            assert ("unset", "client") == (span["status"], span["kind"])
            assert span["start_ns"] < span["end_ns"]
            assert body["model"] == attributes[names.GEN_AI_REQUEST_MODEL]
            assert attributes[names.GEN_AI_RESPONSE_ID]
            assert attributes[names.GEN_AI_RESPONSE_MODEL].startswith(body["model"])
            assert bool(body.get("stream")) == ("completed" == attributes.get(names.OTEL_LLM_STREAM_OUTCOME))
        tokens = [
            (span["attributes"][names.GEN_AI_USAGE_INPUT_TOKENS], span["attributes"][names.GEN_AI_USAGE_OUTPUT_TOKENS])
            for span in seen.spans
        ]
        if alone["tokens"] is None:
            assert all(given and made for given, made in tokens)
        else:
            assert alone["tokens"] == (sum(given for given, _ in tokens), sum(made for _, made in tokens))
        calls = sum(point["count"] for point in seen.points(known.GEN_AI_CLIENT_OPERATION_DURATION.name))
        assert len(asked) == calls

    return run


async def _once(use: Use, server: ScriptedServer) -> Any:
    try:
        return await use(server.base_url)
    finally:
        # The frameworks keep the clients that they make, some for ever.
        for own in gc.get_objects():
            if issubclass(type(own), openai.OpenAI):
                own.close()
            elif issubclass(type(own), openai.AsyncOpenAI):
                await own.close()
