"""Other instrumentations of `anthropic`, really installed, together with ours: nothing is told twice, nothing breaks.

The overlays of ``tests/matrix.py`` bring one of them each.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import pytest

import otel_llm
from otel_llm import runtime
from otel_llm.testing import Seen
from otel_llm.testing.anthropic import CACHED
from otel_llm.testing.server import ScriptedServer, error
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics
from tests.crossing import finish, settled
from tests.family.clients import CLIENTS, run_async
from tests.frameworks.told import DURATION, FIRST_CHUNK, TOKENS, Told
from tests.openai.styles import ASK

anthropic: Any = pytest.importorskip("anthropic")


class Other(NamedTuple):
    """Another instrumentation, and what it makes of calls."""

    module: str
    spans: tuple[str, ...]
    counts: set[str]
    misunderstands: tuple[str, ...] = ()
    """The calls that it takes for done when they are only described."""


MESSAGES = ("create", "stream", "helper", "beta", "beta stream", "beta helper", "raw", "streaming response")
OTHERS = {
    "openllmetry": Other("opentelemetry.instrumentation.anthropic", MESSAGES, {DURATION, TOKENS}, ("beta helper",)),
    "openinference": Other("openinference.instrumentation.anthropic", (*MESSAGES, "parse", "count"), set()),
}


def _installed() -> tuple[str, Other] | None:
    for name, other in OTHERS.items():
        try:
            if find_spec(other.module) is not None:
                return name, other
        except ModuleNotFoundError:
            continue
    return None


FOUND = _installed()
if FOUND is None:
    pytest.skip("no other instrumentation is installed; tests/matrix.py brings them", allow_module_level=True)
NAME, OTHER = FOUND

ASKED: dict[str, Any] = {"model": "claude-opus-5", "max_tokens": 100, "messages": ASK}


async def _events(stream: Any, mode: str) -> str:
    """Read a stream of events to its end, and put its text together."""
    events = list(stream) if mode == "sync" else [event async for event in stream]
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    return "".join([delta.text for delta in deltas if delta.type == "text_delta"])


async def _inside(manager: Any, mode: str, use: Callable[[Any], Awaitable[str]]) -> str:
    # What stands in for a manager may have the methods of both kinds.
    if mode == "sync":
        with manager as entered:
            return await use(entered)
    async with manager as entered:
        return await use(entered)


async def _text(answer: Any) -> str:
    return str((await settled(answer)).content[0].text)


async def call(own: Any, kind: str, mode: str) -> str:
    """Make one call, and tell its result in a word."""
    messages = own.beta.messages if kind.startswith("beta") else own.messages
    match kind.removeprefix("beta").strip():
        case "stream":
            return await _events(await settled(messages.create(**ASKED, stream=True)), mode)
        case "helper":
            return await _inside(messages.stream(**ASKED), mode, lambda stream: _events(stream, mode))
        case "raw":
            return await _text((await settled(messages.with_raw_response.create(**ASKED))).parse())
        case "streaming response":
            made = messages.with_streaming_response.create(**ASKED)
            return await _inside(made, mode, lambda response: _text(response.parse()))
        case "parse":
            return await _text(messages.parse(**ASKED))
        case "count":
            counted = await settled(messages.count_tokens(model="claude-opus-5", messages=ASK))
            return str(counted.input_tokens)
        case _:
            return await _text(messages.create(**ASKED))


def run(server: ScriptedServer, kind: str, mode: str, **options: Any) -> str:
    """Make one call, sync or async."""
    if mode == "sync":
        with CLIENTS["anthropic"].sync(server, **options) as own:
            return str(finish(call(own, kind, mode)))
    return str(run_async("anthropic", lambda own: call(own, kind, mode), server, **options))


KINDS = (*MESSAGES, "parse", "count")
MODES = ("sync", "async")
ORDERS = ("before them", "after them")


def _theirs() -> Any:
    return importlib.import_module(OTHER.module).AnthropicInstrumentor()


def _instrument(seen: Seen, order: str) -> Any:
    theirs = _theirs()
    providers: dict[str, Any] = {"tracer_provider": seen.tracer_provider, "meter_provider": seen.meter_provider}
    steps = [lambda: theirs.instrument(**providers), lambda: otel_llm.instrument(**providers, serve=False)]
    for step in steps if order == "after them" else reversed(steps):
        step()
    return theirs


def _state() -> dict[tuple[type, str], Any]:
    """Return what the classes are made of that anybody might patch."""
    modules = ("resources.messages", "resources.beta.messages", "_base_client", "_streaming")
    return {
        (cls, name): value
        for module in modules
        for cls in vars(importlib.import_module(f"anthropic.{module}")).values()
        if inspect.isclass(cls) and cls.__module__.startswith("anthropic.")
        for name, value in vars(cls).items()
    }


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Keep in memory what all of us record, and put the client back."""
    before = _state()
    seen = Seen()
    yield seen
    theirs = _theirs()
    if theirs.is_instrumented_by_opentelemetry:
        theirs.uninstrument()
    otel_llm.uninstrument()
    for (cls, name), value in before.items():
        if vars(cls).get(name) is not value:
            setattr(cls, name, value)
    seen.tracer_provider.shutdown()
    seen.meter_provider.shutdown()
    seen.logger_provider.shutdown()


pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:coroutine 'AsyncAPIResponse.parse' was never awaited:RuntimeWarning"),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_twice(server: ScriptedServer, seen: Seen, kind: str, mode: str, order: str) -> None:
    """One span of the call, each of its measurements once, ours where they make none, and the right answer."""
    if kind in OTHER.misunderstands:
        pytest.skip("they tell of a call that has not begun, and go")
    with ScriptedServer() as other_server:
        expected = run(other_server, kind, mode)
    _instrument(seen, order)
    told = Told(seen)

    assert expected == run(server, kind, mode)
    assert 1 == len(server.requests)
    assert 1 == len(told.spans), told.names
    assert (kind in OTHER.spans) == (runtime.SCOPE not in told.spans)
    points = set[tuple[str, str]]() if kind == "count" else {(DURATION, ""), (TOKENS, "input"), (TOKENS, "output")}
    if kind.endswith(("stream", "helper")):
        points.add((FIRST_CHUNK, ""))
    assert dict.fromkeys(points, 1) == told.points
    theirs = OTHER.counts if kind in OTHER.spans else set[str]()
    assert {name for name, _ in points} - theirs == set(told.ours)
    counted = {
        point["attributes"][names.OTEL_LLM_TOKEN_KIND]: point["value"]
        for point in seen.points(metrics.OTEL_LLM_CLIENT_TOKENS.name)
    }
    assert ((6 + 2 * CACHED, 8) if points else (None, None)) == (counted.get("input"), counted.get("output"))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_a_failure_is_told_once(server: ScriptedServer, seen: Seen, mode: str, order: str) -> None:
    """A call that fails has one span, which is an error, and one duration."""
    server.script(error(529))
    _instrument(seen, order)
    told = Told(seen)

    with pytest.raises(anthropic.InternalServerError):
        run(server, "create", mode)
    assert 1 == len(told.spans), told.names
    assert ["error"] == [span["status"] for span in seen.all_spans if span["scope"] in told.spans]
    assert {(DURATION, ""): 1} == told.points


@pytest.mark.parametrize("mode", MODES)
def test_it_traces_itself_too(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """With the client's own spans on there is one span still."""
    _instrument(seen, "after them")
    told = Told(seen)
    options = {"open_telemetry": {"tracer_provider": seen.tracer_provider}}
    for kind in ("create", "stream", "helper"):
        run(server, kind, mode, **options)

    assert 3 == len(told.spans), told.names
    assert {OTHER.module} == set(told.spans)


@pytest.mark.parametrize("first_out", ["we", "they"])
@pytest.mark.parametrize("order", ORDERS)
def test_both_leave(server: ScriptedServer, seen: Seen, order: str, first_out: str) -> None:
    """When both have gone nothing of ours is recorded, and the client works."""
    theirs = _instrument(seen, order)
    told = Told(seen)
    steps = [otel_llm.uninstrument, theirs.uninstrument]
    for step in steps if first_out == "we" else reversed(steps):
        step()
    for mode in MODES:
        run(server, "create", mode)
        run(server, "helper", mode)

    assert set() == set(told.ours)
    assert runtime.SCOPE not in told.spans
