"""Other GenAI instrumentations, really installed, together with ours: nothing is told twice, nothing breaks.

The overlays of ``tests/matrix.py`` bring one of them each.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import openai
import pytest
from opentelemetry import metrics, trace

import otel_llm
from otel_llm import runtime
from otel_llm.testing import Seen
from otel_llm.testing.server import Reply, ScriptedServer
from tests.frameworks.told import DURATION, FIRST_CHUNK, TOKENS, Told
from tests.openai.endpoints import DONE
from tests.openai.styles import ASK, aclient, client

WORDS = "The capital of France is Paris. "


class Other(NamedTuple):
    """Another instrumentation: where its instrumentor is, and what it leaves to us."""

    module: str
    spans: tuple[str, ...]
    """The calls that it makes spans of, which are all ways to make them, or one."""
    counts: dict[str, set[str]]
    """The metrics that it makes of a call."""
    prepare: Callable[[], None] = lambda: None
    stays: bool = False
    """Whether it leaves wrappers behind when it is uninstrumented."""


def _prepare_openlit() -> None:
    """Do what its ``init`` does for the client, without what it asks of the network."""
    config: Any = importlib.import_module("openlit._config").OpenlitConfig
    setup: Any = importlib.import_module("openlit.otel.metrics").setup_meter
    config()  # sets its defaults
    config.metrics_dict, error = setup(
        application_name="test",
        environment="test",
        meter=metrics.get_meter("openlit"),
        otlp_endpoint=None,
        otlp_headers=None,
    )
    assert error is None


ALL = {DURATION, TOKENS, FIRST_CHUNK}
TEXT = ("chat", "embeddings", "responses")
MEDIA = ("image", "moderation", "transcription")
OTHERS = {
    "official": Other("opentelemetry.instrumentation.genai.openai", TEXT, dict.fromkeys(TEXT, ALL)),
    "openllmetry": Other(
        "opentelemetry.instrumentation.openai",
        (*TEXT, "completions"),
        {"chat": {DURATION, TOKENS}, "embeddings": {DURATION, TOKENS}, "image sync": {DURATION}},
        stays=True,
    ),
    "openinference": Other("openinference.instrumentation.openai", (*TEXT, "completions", *MEDIA), {}),
    "openlit": Other(
        "openlit.instrumentation.openai",
        (*TEXT, *MEDIA),
        {**dict.fromkeys(TEXT, ALL), **{call: {DURATION} for call in MEDIA}},
        _prepare_openlit,
        stays=True,
    ),
}


def _installed() -> tuple[str, Other] | None:
    for name, other in OTHERS.items():
        try:
            importlib.import_module(other.module)
        except ImportError:
            continue
        return name, other
    return None


FOUND = _installed()
if FOUND is None:
    pytest.skip("no other instrumentation is installed; tests/matrix.py brings them", allow_module_level=True)
NAME, OTHER = FOUND
for module in pkgutil.walk_packages(importlib.import_module("openai.resources").__path__, "openai.resources."):
    importlib.import_module(module.name)  # the client does so only when it is asked for a resource

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _chat(own: Any) -> Any:
    return own.chat.completions.create(model="gpt-5", messages=ASK)


def _chat_stream(own: Any) -> Any:
    return own.chat.completions.create(model="gpt-5", messages=ASK, stream=True, stream_options={"include_usage": True})


def _embeddings(own: Any) -> Any:
    return own.embeddings.create(model="text-embedding-3-small", input="Paris")


def _responses(own: Any) -> Any:
    return own.responses.create(model="gpt-5", input="What is the capital of France?")


def _responses_stream(own: Any) -> Any:
    return own.responses.create(model="gpt-5", input="What is the capital of France?", stream=True)


def _completions(own: Any) -> Any:
    return own.completions.create(model="gpt-3.5-turbo-instruct", prompt="Paris is")


def _image(own: Any) -> Any:
    return own.images.generate(model="gpt-image-2", prompt="a cat")


def _moderation(own: Any) -> Any:
    return own.moderations.create(model="omni-moderation-latest", input="hello")


def _transcription(own: Any) -> Any:
    return own.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.mp3", b"sound"))


def _chat_text(answer: Any) -> str:
    return str(answer.choices[0].message.content)


def _deltas(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def _embedded(answer: Any) -> str:
    return f"{len(answer.data)} of {len(answer.data[0].embedding) > 1}"


def _response_text(answer: Any) -> str:
    return str(answer.output_text)


def _events(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


CALLS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], str]]] = {
    "chat": (_chat, _chat_text),
    "chat stream": (_chat_stream, _deltas),
    "embeddings": (_embeddings, _embedded),
    "responses": (_responses, _response_text),
    "responses stream": (_responses_stream, _events),
    "completions": (_completions, lambda answer: str(answer.choices[0].text)),
    "image": (_image, lambda answer: str(answer.data[0].b64_json)),
    "moderation": (_moderation, lambda answer: str(answer.results[0].flagged)),
    "transcription": (_transcription, lambda answer: str(answer.text)),
}
"""How to make a call, and how to tell its result in a word."""


def _run(server: ScriptedServer, kind: str) -> str:
    make, tell = CALLS[kind]
    result = make(client(server))
    return tell(list(result) if kind.endswith("stream") else result)


def _arun(server: ScriptedServer, kind: str) -> str:
    make, tell = CALLS[kind]

    async def main() -> str:
        async with aclient(server) as own:
            made: Awaitable[Any] = make(own)
            result: Any = await made
            return tell([chunk async for chunk in result] if kind.endswith("stream") else result)

    return asyncio.run(main())


State: TypeAlias = dict[type, dict[str, Any]]

RUNS = {"sync": _run, "async": _arun}


def _classes() -> list[type]:
    """Return the classes of the client that anybody might patch."""
    modules = [module for name, module in sorted(sys.modules.items()) if name.startswith("openai.")]
    found = {cls for module in modules for cls in vars(module).values() if inspect.isclass(cls)}
    places = ("openai.resources", "openai._base", "openai._client")
    return [cls for cls in found if cls.__module__ == "openai" or cls.__module__.startswith(places)]


def _state() -> State:
    """Return what the client's classes are made of."""
    return {cls: dict(vars(cls)) for cls in (*_classes(), openai.Stream, openai.AsyncStream)}


def _changed(before: State) -> set[tuple[type, str]]:
    """Return which attributes are others than before."""
    return {
        (cls, name)
        for cls, then in before.items()
        for name in then.keys() | vars(cls).keys()
        if then.get(name) is not vars(cls).get(name)
    }


def _put_back(before: State) -> None:
    for cls, name in _changed(before):
        if name in before[cls]:
            setattr(cls, name, before[cls][name])
        else:
            delattr(cls, name)


@pytest.fixture(scope="module")
def everything() -> Iterator[Seen]:
    """Make the global providers, once: one of the others never lets go of the first tracer it got."""
    seen = Seen()
    trace.set_tracer_provider(seen.tracer_provider)
    metrics.set_meter_provider(seen.meter_provider)
    yield seen
    seen.tracer_provider.shutdown()
    seen.meter_provider.shutdown()
    seen.logger_provider.shutdown()


@pytest.fixture
def seen(everything: Seen) -> Told:
    """Return what all of us record in this test."""
    everything.clear()
    return Told(everything)


@pytest.fixture(autouse=True)
def before() -> Iterator[State]:
    """Keep the client as it was, and put it back, which one of the others does not."""
    before = _state()
    yield before
    theirs = _theirs()
    if theirs.is_instrumented_by_opentelemetry:
        theirs.uninstrument()
    otel_llm.uninstrument()
    _put_back(before)


def _theirs() -> Any:
    instrumentor = importlib.import_module(OTHER.module).OpenAIInstrumentor
    return instrumentor()


def _instrument(order: str) -> Any:
    theirs = _theirs()
    OTHER.prepare()
    steps = [theirs.instrument, lambda: otel_llm.instrument(serve=False)]
    for step in steps if order == "after them" else reversed(steps):
        step()
    return theirs


@pytest.mark.parametrize("order", ["before them", "after them"])
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("kind", CALLS)
def test_nothing_twice(server: ScriptedServer, seen: Told, kind: str, run: str, order: str) -> None:
    """One span of the call, each of its measurements once, ours where they make none, and the right answer."""
    with ScriptedServer() as other_server:
        expected = RUNS[run](other_server, kind)
    _instrument(order)

    assert expected == RUNS[run](server, kind)
    call = kind.split()[0]
    assert 1 == len(seen.spans), seen.spans
    assert (call in OTHER.spans) == (runtime.SCOPE not in seen.spans)
    points = {(DURATION, "")}
    if call != "moderation":
        points.add((TOKENS, "input"))
        if call != "embeddings":
            points.add((TOKENS, "output"))
    if kind.endswith("stream"):
        points.add((FIRST_CHUNK, ""))
    assert dict.fromkeys(points, 1) == seen.points
    theirs = OTHER.counts.get(call) or OTHER.counts.get(f"{call} {run}") or set()
    assert {name for name, _ in points} - theirs == set(seen.ours)
    assert 1 == len(server.requests)


@pytest.mark.skipif(NAME != "openllmetry", reason="only OpenLLMetry makes spans of assistants' runs")
@pytest.mark.parametrize("order", ["before them", "after them"])
@pytest.mark.parametrize("run", RUNS)
def test_assistants(server: ScriptedServer, seen: Told, run: str, order: str) -> None:
    """They make the span of a sync run when its messages are read; that of an async run, and of the rest, is ours."""
    assistant = {"id": "asst_1", "model": "gpt-5", "object": "assistant"}
    _instrument(order)
    server.script(
        Reply(json=assistant), Reply(json=DONE), Reply(json={"object": "list", "data": [], "has_more": False})
    )
    calls: list[Callable[[Any], Any]] = [
        lambda own: own.beta.assistants.create(model="gpt-5"),
        lambda own: own.beta.threads.runs.create(thread_id="thread_1", assistant_id="asst_1"),
        lambda own: own.beta.threads.messages.list(thread_id="thread_1"),
    ]

    async def asynchronous() -> None:
        async with aclient(server) as own:
            for call in calls:
                await call(own)

    if run == "async":
        asyncio.run(asynchronous())
    else:
        own = client(server)
        for call in calls:
            call(own)

    ran = ["openai.assistant.run"] if run == "sync" else ["invoke_agent"]
    listed = ["GET /threads/{id}/messages"]
    assert sorted(["create_agent", *ran, *listed]) == sorted(seen.names)
    assert {(DURATION, ""): 1, (TOKENS, "input"): 1, (TOKENS, "output"): 1} == seen.points
    assert {DURATION, TOKENS} == set(seen.ours)


@pytest.mark.parametrize("first_out", ["we", "they"])
@pytest.mark.parametrize("order", ["before them", "after them"])
def test_both_leave(server: ScriptedServer, seen: Told, before: State, order: str, first_out: str) -> None:
    """When both have gone the client is as they alone would have left it, and works; nothing is recorded any more."""
    theirs = _theirs()
    theirs.instrument()
    theirs.uninstrument()
    left = _changed(before)
    _put_back(before)

    theirs = _instrument(order)
    steps = [otel_llm.uninstrument, theirs.uninstrument]
    for step in steps if first_out == "we" else reversed(steps):
        step()

    assert left == _changed(before)
    for kind in CALLS:
        for run in RUNS.values():
            assert run(server, kind)
    assert left or [] == seen.spans
    assert 0 == seen.ours[DURATION]


@pytest.mark.parametrize("order", ["before them", "after them"])
def test_they_leave(server: ScriptedServer, seen: Told, order: str) -> None:
    """When they have gone and we are asked again, each call is ours, once."""
    theirs = _instrument(order)
    theirs.uninstrument()
    otel_llm.uninstrument()
    otel_llm.instrument(serve=False)

    for run in RUNS.values():
        run(server, "chat")
    assert 2 == len(seen.spans)
    assert 2 == seen.points[DURATION, ""]
    assert OTHER.stays or 2 == seen.ours[DURATION]
