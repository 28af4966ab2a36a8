"""What an attack once broke: collections at bad moments, hooks of the wrong shape, forks, odd subclasses and texts."""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
from typing import Any

import openai
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import INVALID_SPAN, get_current_span

import otel_llm
from otel_llm import Content, faults
from otel_llm.exchange import current_exchange
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer, error
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK, client

LIBRARY = openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]

DROPPED = """
import gc, sys, threading, time
import openai
from otel_llm.testing import capture

with capture() as seen:
    gc.set_threshold(50, 2, 2)

    def work():
        own = openai.OpenAI(http_client=openai.DefaultHttpxClient(verify=False))
        for number in range(60):
            stream = own.chat.completions.create(
                model="gpt-5", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            next(stream)
            circle = [stream]
            circle.append(circle)
            del stream, circle

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.metrics
        time.sleep(0.01)
    gc.collect()
    (active,) = seen.points("otel_llm.client.active")
    print(len(seen.spans), active["value"])
"""


@pytest.mark.skipif(
    LIBRARY == "httpx", reason="the pool of httpx itself hangs when the collector comes, without us too"
)
def test_streams_dropped_in_circles(server: ScriptedServer) -> None:
    """The collector may come at any moment, also inside a change of the context: nothing crashes, nothing is lost."""
    environment = {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test"}
    done = subprocess.run(
        [sys.executable, "-c", DROPPED], env=environment, capture_output=True, text=True, timeout=120, check=False
    )

    assert (0, "120 0") == (done.returncode, done.stdout.strip()), done.stderr


@pytest.mark.parametrize("result", [True, (1, 2), {"input_messages": None}, "x"])
def test_a_content_hook_of_the_wrong_shape(
    server: ScriptedServer,
    quiet: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    result: Any,
) -> None:
    """What is no `Content` is a fault, and the log says whose; the content is dropped and the call is whole."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")

    def hook(content: Content) -> Any:
        return result

    with capture(content_hook=hook) as seen:
        client(server).chat.completions.create(model="gpt-5", messages=ASK)

        (span,) = seen.spans
        assert names.GEN_AI_INPUT_MESSAGES not in span["attributes"]
        assert {"content_hook": 1} == faults.counts
        assert ["otel_llm: your content_hook failed"] == [record.message.split(";")[0] for record in caplog.records]


def test_a_body_that_is_a_stream_of_both_kinds(server: ScriptedServer, seen: Seen) -> None:
    """A response out of a cache, whose body is there, is read and closed as without us."""
    list(client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=True))
    library: Any = sys.modules[LIBRARY]
    body = b'data: {"id": "1", "model": "m", "choices": []}\n\ndata: [DONE]\n\n'

    class Cached(library.Client):  # type: ignore[misc]  # whichever library the client uses
        """A client that answers out of a cache."""

        def send(self, request: Any, **kwargs: Any) -> Any:
            headers = {"content-type": "text/event-stream"}
            return library.Response(200, content=body, headers=headers, request=request)

    with openai.OpenAI(api_key="test", http_client=Cached()) as own:
        stream = own.chat.completions.create(model="gpt-5", messages=ASK, stream=True)
        assert 1 == len(list(stream))
        copy.copy(stream.response.stream)

    assert 2 == len(seen.spans)


def test_a_stream_that_has_no_response(seen: Seen) -> None:
    """A subclass of the client's stream that wraps something else works as without us."""

    class Own(openai.Stream[int]):
        def __init__(self, items: list[int]) -> None:
            self._iterator = iter(items)

    assert [1, 2] == list(Own([1, 2]))
    assert 1 == next(Own([1]))


def test_an_inner_call_that_is_not_observed(server: ScriptedServer, seen: Seen) -> None:
    """What a request makes of its own and nobody observes is no part of the call around it."""
    own = client(server, max_retries=2)
    inner = client(server, max_retries=2)

    def hook(request: Any) -> None:
        if "outer" in request.content.decode():
            with suppress_instrumentation():
                server.script(error(429, headers={"retry-after-ms": "1"}))
                inner.models.list()

    own._client.event_hooks = {"request": [hook]}
    own.chat.completions.create(model="outer", messages=ASK)

    (span,) = seen.spans
    assert names.OTEL_LLM_RETRIES not in span["attributes"]
    assert [] == seen.points("otel_llm.client.retries")


def test_text_that_utf8_cannot_carry(server: ScriptedServer, seen: Seen) -> None:
    """Half a surrogate pair in an answer or an error keeps no span from being encoded."""
    server.script(Reply(json={"id": "\ud83d", "model": "m\udc80", "choices": [{"finish_reason": "\ud83d"}]}))
    client(server).chat.completions.create(model="gpt-5", messages=ASK)
    server.script(error(400, message="\ud83d"))
    with pytest.raises(openai.BadRequestError):
        client(server).chat.completions.create(model="gpt-5", messages=ASK)

    assert encode_spans(seen._spans.get_finished_spans()).SerializeToString()
    assert ("?", "m?", ("?",)) == tuple(
        seen.spans[0]["attributes"][name]
        for name in (names.GEN_AI_RESPONSE_ID, names.GEN_AI_RESPONSE_MODEL, names.GEN_AI_RESPONSE_FINISH_REASONS)
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_stream_that_a_fork_inherits(server: ScriptedServer, seen: Seen) -> None:
    """The child neither ends the parent's call nor counts it as in flight."""
    stream = client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=True)
    next(stream)
    child = os.fork()
    if child == 0:
        del stream
        gc.collect()
        (active,) = seen.points("otel_llm.client.active")
        os._exit(0 if not seen.spans and active["value"] == 0 else 1)
    _, status = os.waitpid(child, 0)
    list(stream)

    assert 0 == status
    assert 1 == len(seen.spans)


DURING_CALLS = """
import sys, threading, time
import httpx2, openai, otel_llm

body = {"id": "1", "object": "chat.completion", "created": 1, "model": "gpt-5", "choices": []}
transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=body))
client = openai.OpenAI(base_url="http://test/v1", api_key="test", http_client=httpx2.Client(transport=transport))
calls, failures, stop = [], [], threading.Event()

def work():
    while not stop.is_set():
        try:
            calls.append(client.chat.completions.create(model="gpt-5", messages=[]))
        except Exception as failure:
            failures.append(repr(failure))

sys.setswitchinterval(1e-5)
assert "httpx" not in sys.modules
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
while len(calls) < 20:
    time.sleep(0.01)
with otel_llm.instrument(serve=False):
    so_far = len(calls)
    while len(calls) < so_far + 20:
        time.sleep(0.01)
stop.set()
for thread in threads:
    thread.join()
print("httpx" in sys.modules, failures[:1])
"""


@pytest.mark.skipif(LIBRARY == "httpx", reason="only openai 3 looks for httpx among the modules")
def test_instrument_while_calls_are_under_way() -> None:
    """`instrument()` imports no library that the calls of other threads would meet half made."""
    done = subprocess.run(
        [sys.executable, "-c", DURING_CALLS], capture_output=True, text=True, timeout=120, check=False
    )

    assert (0, "False []") == (done.returncode, done.stdout.strip()), done.stderr


LEFT_OPEN = """
import openai, otel_llm
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

provider = TracerProvider()
formatter = lambda span: span.name + " " + str(dict(span.attributes)["otel_llm.stream.outcome"]) + "\\n"
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=formatter)))
otel_llm.instrument(tracer_provider=provider, serve=False)
client = openai.OpenAI(http_client=openai.DefaultHttpxClient(verify=False))
stream = client.chat.completions.create(model="gpt-5", messages=[], stream=True)
next(stream)
"""


def test_the_interpreter_exits_in_mid_stream(server: ScriptedServer) -> None:
    """A stream that is open when the interpreter exits ends once, while its span can still be exported."""
    environment = {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test"}
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN], env=environment, capture_output=True, text=True, timeout=120, check=False
    )

    assert (0, "chat gpt-5 abandoned") == (done.returncode, done.stdout.strip()), done.stderr


def test_an_interrupt_while_the_call_begins(server: ScriptedServer) -> None:
    """Ctrl-C in the middle of our own beginning reaches the caller; no call stays in flight, and no span current."""

    class Interrupting(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            raise KeyboardInterrupt

        def get_description(self) -> str:
            return "interrupting"

    handle = otel_llm.instrument(
        tracer_provider=TracerProvider(sampler=Interrupting()), meter_provider=MeterProvider(), serve=False
    )
    telemetry = handle.telemetry
    try:
        with pytest.raises(KeyboardInterrupt):
            client(server).chat.completions.create(model="gpt-5", messages=ASK)
    finally:
        otel_llm.uninstrument()

    assert telemetry is not None
    assert [0] == [lane.active for lane in telemetry.ledger.lanes.values()]
    assert (INVALID_SPAN, None) == (get_current_span(), current_exchange.get())
