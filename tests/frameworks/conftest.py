"""What the frameworks' tests share: a run without us, a run with us, and what must hold of both."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol, TypeAlias

import openai
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import otel_llm
from otel_llm import runtime
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import ScriptedServer
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics as known
from tests.frameworks.told import DURATION, FIRST_CHUNK, TOKENS, Told

Use: TypeAlias = Callable[[str], Awaitable[Any]]
"""Uses a framework on the server of the given base URL; returns what the framework makes of it."""
Check: TypeAlias = Callable[[Use], None]
Theirs: TypeAlias = Callable[[Seen], AbstractContextManager[None]]
"""Turns a framework's own instrumentation on for a while, to record into the given place."""


class Beside(Protocol):
    """What the fixture `beside` returns."""

    def __call__(self, use: Use, theirs: Theirs, left: set[str], *, forgets: bool = False) -> None:
        """Run with and without us; *left* names the metrics that are ours.

        It *forgets* what is sampled out if it counts only what it traces.
        """


@pytest.fixture
def check() -> Check:
    """Return a function that runs with and without us: one result, and one whole span of each request."""

    def run(use: Use) -> None:
        with ScriptedServer() as server:
            alone = asyncio.run(once(use, server))
        with ScriptedServer() as server, capture() as seen:
            assert alone == asyncio.run(once(use, server))
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


@contextmanager
def _ours(seen: Seen) -> Generator[None]:
    otel_llm.instrument(tracer_provider=seen.tracer_provider, meter_provider=seen.meter_provider, serve=False)
    try:
        yield
    finally:
        otel_llm.uninstrument()


@pytest.fixture(params=["before us", "after us", "before us, sampled out", "after us, sampled out"])
def beside(request: pytest.FixtureRequest) -> Beside:
    """Return a function that runs a framework which is instrumented already, without us and with us, in either order.

    It makes one call of a model: the framework's result and its spans are the same, none is ours, and each measurement
    is made once.
    """
    order: str = request.param
    sampled_out = order.endswith("sampled out")

    def run(use: Use, theirs: Theirs, left: set[str], *, forgets: bool = False) -> None:
        recorded: list[tuple[Any, list[str]]] = []
        told: Told | None = None
        for hands in ([theirs], [theirs, _ours] if order.startswith("before") else [_ours, theirs]):
            seen = Seen()
            if sampled_out:
                seen.tracer_provider.sampler = ALWAYS_OFF
            told = Told(seen)
            with ScriptedServer() as server, ExitStack() as stack:
                for hand in hands:
                    stack.enter_context(hand(seen))
                recorded.append((asyncio.run(once(use, server)), told.spans))
                bodies = [request.json for request in server.requests]
            assert 1 == len(bodies)
        assert told is not None
        alone, together = recorded
        assert alone == together
        assert runtime.SCOPE not in together[1]
        assert sampled_out or together[1]
        expected = Counter({(DURATION, ""): 1, (TOKENS, "input"): 1})
        if "embedding" not in bodies[0]["model"]:
            expected[TOKENS, "output"] = 1
        if bodies[0].get("stream"):
            expected[FIRST_CHUNK, ""] = 1
        assert left & {name for name, _ in expected} == set(told.ours)
        if forgets and sampled_out:
            expected = Counter({key: count for key, count in expected.items() if key[0] in left})
        assert expected == told.points

    return run


async def once(use: Use, server: ScriptedServer) -> Any:
    """Use a framework, and close its clients."""
    try:
        return await use(server.base_url)
    finally:
        # The frameworks keep the clients that they make, some for ever.
        for own in gc.get_objects():
            if issubclass(type(own), openai.OpenAI):
                own.close()
            elif issubclass(type(own), openai.AsyncOpenAI):
                await own.close()
        # Those that are closed must not be found again when a server gets the port of an earlier one.
        kept: Any = sys.modules.get("langchain_openai.chat_models._client_utils")
        if kept is not None:
            kept._cached_sync_httpx_client.cache_clear()
            kept._cached_async_httpx_client.cache_clear()
