"""HTTP spans that we have switched on: whatever fails in them, the request of the caller is as without."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
import httpx2
import openai
import pytest
from opentelemetry import context, propagate
from opentelemetry.instrumentation import httpx as contrib
from opentelemetry.instrumentation.httpx.version import __version__ as contrib_version
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.metrics import NoOpMeter
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from otel_llm import faults
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer, error
from otel_llm_semconv import attributes as names
from tests.crossing import Got, finish, put_down
from tests.openai.styles import ASK, Style, aclient, client, run, treat
from tests.ways.pages import free_port

LIBRARY: Any = __import__(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
INSTRUMENTOR: Any = {"httpx": contrib.HTTPXClientInstrumentor, "httpx2": contrib.HTTPX2ClientInstrumentor}[
    LIBRARY.__name__
]
SCOPE = contrib.__name__


class _Processor(SpanProcessor):
    """Fails with the spans of HTTP requests."""

    def __init__(self, at: str, raised: BaseException | None = None) -> None:
        self._at = at
        self._raised = raised or RuntimeError("injected")

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._fail("start", span)

    def on_end(self, span: Any) -> None:
        self._fail("end", span)

    def _fail(self, at: str, span: Any) -> None:
        if at == self._at and span.instrumentation_scope.name == SCOPE:
            raise self._raised


class _Sampler(Sampler):
    def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "POST":
            raise RuntimeError("injected")
        return ALWAYS_ON.should_sample(parent_context, trace_id, name, *args, **kwargs)

    def get_description(self) -> str:
        return "fails with HTTP requests"


class _Propagator(TextMapPropagator):
    fields: Any = ()

    def extract(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("injected")

    def inject(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("injected")


class _Instrument:
    def record(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("injected")


class _Meter(NoOpMeter):
    def create_histogram(self, *args: Any, **kwargs: Any) -> Any:
        return _Instrument()


class _MeterProvider(MeterProvider):
    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return _Meter(name) if name == SCOPE else super().get_meter(name, *args, **kwargs)


def _processor(at: str) -> dict[str, Any]:
    provider = TracerProvider()
    provider.add_span_processor(_Processor(at))
    return {"tracer_provider": provider}


def _propagator(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    patch.setattr(propagate, "_HTTP_TEXT_FORMAT", _Propagator())
    return {}


def _contrib(name: str) -> Callable[[pytest.MonkeyPatch], dict[str, Any]]:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("injected")

    def apply(patch: pytest.MonkeyPatch) -> dict[str, Any]:
        patch.setattr(contrib, name, broken)
        return {}

    return apply


BROKEN: dict[str, Callable[[pytest.MonkeyPatch], dict[str, Any]]] = {
    "processor at start": lambda patch: _processor("start"),
    "processor at end": lambda patch: _processor("end"),
    "sampler": lambda patch: {"tracer_provider": TracerProvider(sampler=_Sampler())},
    "propagator": _propagator,
    "meter": lambda patch: {"meter_provider": _MeterProvider()},
    "contrib, request": _contrib("_apply_request_client_attributes_to_span"),
    "contrib, response": _contrib("_apply_response_client_attributes_to_metrics"),
}
"""What may fail around a request, and the settings with which it does."""
NO_RESPONSE = ("meter", "contrib, response")
"""What has nothing to do where nobody answers."""

KINDS: dict[str, tuple[str, list[Reply]]] = {
    "plain": ("plain", []),
    "stream": ("stream", []),
    "body": ("streaming response, bytes", []),
    "404": ("plain", [error(404, message="no")]),
    "404 of a stream": ("stream", [error(404, message="no")]),
    "refused": ("plain", []),
}
NOWHERE = "http://127.0.0.1:1/v1/"


def _accounts(mode: str) -> dict[str, Any]:
    """Make a call of every kind, and return what the caller got and how many requests the server did."""
    found: dict[str, Any] = {}

    async def call(server: ScriptedServer, kind: str, own: Any) -> None:
        form, replies = KINDS[kind]
        server.script(*replies)
        if kind == "refused":
            own.base_url = NOWHERE
        got = Got([], [])
        before = context.get_current()
        await put_down(got, treat(Style("chat", form), own, "consumed", got.pieces))
        assert before is context.get_current()
        pieces = [b"".join(got.pieces)] if form.endswith("bytes") else got.pieces
        found[kind] = (Got(pieces, got.raised).account(), len(server.requests))

    for kind in KINDS:
        with ScriptedServer() as server:
            run(server, mode, partial(call, server, kind))
    return found


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("place", BROKEN)
def test_a_pipeline_that_fails(
    quiet: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str, mode: str
) -> None:
    """Each request is sent once and answered as without us; one line is logged, each fault counts."""
    bare = _accounts(mode)
    caplog.set_level(logging.WARNING, "otel_llm")

    with capture(**BROKEN[place](monkeypatch)):
        assert bare == _accounts(mode)

    assert {"http": len(KINDS) - (place in NO_RESPONSE)} == faults.counts
    assert 1 == len([record for record in caplog.records if record.name == "otel_llm"])


class _FalseError(Exception):
    def __bool__(self) -> bool:
        return False


class _HiddenError(Exception):
    @property
    def response(self) -> Any:
        raise RuntimeError("nobody may ask")


@pytest.mark.parametrize("kind", [_FalseError, _HiddenError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", ["none", "start", "end"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_what_the_transport_raises(
    quiet: None, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException], at: str, mode: str
) -> None:
    """It comes out as the same object, with its own traceback, cause and context."""
    raised, cause, own_context = kind(), ValueError("cause"), ValueError("context")

    def refuse(*args: Any) -> Any:
        try:
            raise own_context
        except ValueError:
            raise raised from cause

    async def arefuse(*args: Any) -> Any:
        return refuse()

    monkeypatch.setattr(LIBRARY.HTTPTransport, "handle_request", refuse)
    monkeypatch.setattr(LIBRARY.AsyncHTTPTransport, "handle_async_request", arefuse)
    request = LIBRARY.Request("GET", NOWHERE)

    def send() -> None:
        if mode == "sync":
            LIBRARY.HTTPTransport(verify=False).handle_request(request)
        else:
            finish(LIBRARY.AsyncHTTPTransport(verify=False).handle_async_request(request))

    with capture(**_processor(at)):
        try:
            raise KeyError("what the caller is at")
        except KeyError:
            with pytest.raises(type(raised)) as caught:
                send()

    assert raised is caught.value
    assert (cause, own_context) == (raised.__cause__, raised.__context__)
    frames = [frame.name for frame in traceback.extract_tb(raised.__traceback__)]
    assert ("refuse", 1) == (frames[-1], frames.count("refuse"))
    assert not [name for name in frames if name.endswith("_request_wrapper")]


@pytest.mark.parametrize("extensions", [{}, {"http_version": "HTTP/1.1"}, {"http_version": 2}], ids=str)
def test_odd_responses(quiet: None, monkeypatch: pytest.MonkeyPatch, extensions: Any) -> None:
    """A response is the transport's own, whatever contrib makes of it."""
    mine = LIBRARY.Response(200, extensions=extensions)

    def answer(*args: Any) -> Any:
        return mine

    monkeypatch.setattr(LIBRARY.HTTPTransport, "handle_request", answer)

    with capture():
        got = LIBRARY.HTTPTransport(verify=False).handle_request(LIBRARY.Request("GET", NOWHERE))

    assert mine is got
    assert ({"http": 1} if extensions else {}) == faults.counts


def test_a_request_that_is_no_text(server: ScriptedServer, seen: Seen) -> None:
    """Headers, a path and a method that are no plain ASCII are sent as they are."""
    headers = [("x-name", "caf\xe9".encode()), ("x-name", b"\xff")]
    with LIBRARY.Client(verify=False) as own:
        response = own.request("BREW", f"{server.url}/caf\xe9?x=\xff%00", headers=headers)

    (request,) = server.requests
    assert ("BREW", 404) == (request.method, response.status_code)
    assert "traceparent" in request.headers


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_who_interrupts_is_heard(server: ScriptedServer, quiet: None, raised: BaseException) -> None:
    """An interrupt that comes inside of telemetry is the caller's, and no fault."""
    with capture() as seen:
        seen.tracer_provider.add_span_processor(_Processor("end", raised))
        with pytest.raises(type(raised)) as caught:
            client(server).chat.completions.create(model="gpt-5", messages=ASK)

    assert raised is caught.value
    assert {} == faults.counts


def test_a_call_that_is_cancelled(server: ScriptedServer, quiet: None) -> None:
    """A cancelled call is cancelled though its span fails at its end."""
    server.script(Reply(delay=60))

    async def main() -> bool:
        async with aclient(server) as own:
            call = asyncio.create_task(own.chat.completions.create(model="gpt-5", messages=ASK))
            while not server.requests:  # noqa: ASYNC110  # the server is in another thread
                await asyncio.sleep(0.01)
            call.cancel()
            await asyncio.wait([call])
            return call.cancelled()

    with capture(**_processor("end")):
        assert asyncio.run(main())

    assert {"http": 1} == faults.counts


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_request_that_is_cancelled(server: ScriptedServer, seen: Seen, library: Any) -> None:
    """A cancelled request has a span that says so."""
    server.script(Reply(delay=60))

    async def main() -> None:
        async with library.AsyncClient() as own:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(own.get(server.url), 0.2)

    asyncio.run(main())

    (span,) = seen.all_spans
    assert ("error", "CancelledError") == (span["status"], span["attributes"][names.ERROR_TYPE])


def test_a_request_without_a_span_that_is_cancelled(server: ScriptedServer, seen: Seen) -> None:
    """What is cancelled without a span of its own leaves the application's alone."""
    server.script(Reply(delay=60))

    async def main() -> None:
        with seen.tracer_provider.get_tracer("app").start_as_current_span("mine"):
            async with httpx.AsyncClient() as own:
                with suppress_http_instrumentation(), pytest.raises(TimeoutError):
                    await asyncio.wait_for(own.get(server.url), 0.2)

    asyncio.run(main())

    (span,) = seen.all_spans
    assert ("mine", "unset", {}) == (span["name"], span["status"], span["attributes"])


def test_contrib_that_is_the_applications(server: ScriptedServer, quiet: None) -> None:
    """What the application has switched on itself stays as it is, with its faults."""
    provider: Any = _processor("start")["tracer_provider"]
    INSTRUMENTOR().instrument(tracer_provider=provider, skip_dep_check=True)
    try:
        theirs = LIBRARY.HTTPTransport.__dict__["handle_request"]
        with capture():
            assert theirs is LIBRARY.HTTPTransport.__dict__["handle_request"]
            with pytest.raises((RuntimeError, openai.APIConnectionError)) as caught:
                client(server).chat.completions.create(model="gpt-5", messages=ASK)
        assert theirs is LIBRARY.HTTPTransport.__dict__["handle_request"]
    finally:
        INSTRUMENTOR().uninstrument()

    assert "injected" == str(caught.value.__cause__ or caught.value)
    assert {} == faults.counts


def test_contrib_that_comes_after_us(server: ScriptedServer, quiet: None) -> None:
    """What the application switches on once we are off is not guarded."""
    with capture():
        pass
    INSTRUMENTOR().instrument(tracer_provider=_processor("start")["tracer_provider"], skip_dep_check=True)
    try:
        with pytest.raises((RuntimeError, openai.APIConnectionError)):
            client(server).chat.completions.create(model="gpt-5", messages=ASK)
    finally:
        INSTRUMENTOR().uninstrument()


def test_contrib_that_cannot_be_guarded(server: ScriptedServer, quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a later version has its wrappers elsewhere, it is left off, with one fault."""
    monkeypatch.delattr(contrib._BaseHTTPXClientInstrumentor, "_handle_async_request_wrapper")

    with capture() as seen:
        client(server).chat.completions.create(model="gpt-5", messages=ASK)

        assert 1 == len(seen.all_spans)
    assert {f"patch {LIBRARY.__name__}"} <= set(faults.counts)
    for library in ("httpx", "httpx2"):
        if library in sys.modules:
            assert not hasattr(sys.modules[library].HTTPTransport.__dict__["handle_request"], "__wrapped__")


def test_the_spans_are_contribs(server: ScriptedServer) -> None:
    """With the guard there are the spans that there are without it, under contrib's own name and version."""

    def spans(provider: TracerProvider) -> list[Any]:
        exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        server.script(error(404))
        for address in (server.base_url, server.base_url, NOWHERE):
            own = client(server)
            own.base_url = address
            with suppress(openai.APIError):
                own.chat.completions.create(model="gpt-5", messages=ASK)
        return [
            (
                span.name,
                span.kind,
                span.status.status_code,
                span.status.description,
                dict(span.attributes or {}),
                span.instrumentation_scope,
                [(event.name, (event.attributes or {}).get("exception.type")) for event in span.events],
            )
            for span in exporter.get_finished_spans()
            if span.instrumentation_scope and span.instrumentation_scope.name == SCOPE
        ]

    theirs = TracerProvider()
    INSTRUMENTOR().instrument(tracer_provider=theirs, skip_dep_check=True)
    try:
        expected = spans(theirs)
    finally:
        INSTRUMENTOR().uninstrument()
    with capture() as seen:
        actual = spans(seen.tracer_provider)

    assert 3 == len(actual)
    assert expected == actual
    assert contrib_version == actual[0][5].version


def test_a_failed_request_keeps_nothing_of_its_caller() -> None:
    """What the caller of a refused request holds goes with him, if it does without us, not with the next collection."""

    class Held:
        pass

    def ask() -> weakref.ref[Held]:
        held = Held()
        with suppress(openai.APIConnectionError):
            own.chat.completions.create(model="gpt-5", messages=ASK)
        return weakref.ref(held)

    def keeps() -> bool:
        ask()
        gc.collect()
        gc.disable()
        try:
            return ask()() is not None
        finally:
            gc.enable()

    with openai.OpenAI(base_url=f"http://127.0.0.1:{free_port()}", api_key="test", max_retries=0) as own:
        bare = keeps()  # from Python 3.12 on, the client's own frames go round in a circle
        with capture():
            assert bare or not keeps()
