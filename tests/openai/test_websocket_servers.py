"""Whom a websocket talks to is told as it is over HTTP; and where nobody listens, nothing is done for its events."""

from __future__ import annotations

import socket
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_llm.call import Call
from otel_llm.testing import Seen, capture
from otel_llm_openai import OpenAIInstrumentor
from otel_llm_openai.server import server_of
from otel_llm_semconv import attributes as names
from tests.openai.styles import opened

pytest.importorskip("websockets")

from otel_llm_openai import websockets
from tests.openai import websocket_server as ws
from tests.openai.websocket_server import (
    Caller,
    SocketServer,
    answering,
    ask,
    both,
    create,
    events_of,
    every,
    last_of,
    realtime_only,
    run,
)


@both
@realtime_only
def test_azure(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """A URL of Azure's form tells the provider, and the deployment as the model."""
    answering(sockets, *ws.realtime())
    query = {"api-version": "2026-01-01", "deployment": "mine"}

    run(lambda caller: ask(caller, api), sockets, api, mode, extra_query=query)

    (span,) = seen.spans
    assert "mine" == span["attributes"][names.GEN_AI_REQUEST_MODEL]
    assert "azure.ai.openai" == span["attributes"][names.GEN_AI_PROVIDER_NAME]


@both
@every
@pytest.mark.parametrize("image", [False, True])
def test_facts(sockets: SocketServer, api: str, mode: str, image: bool) -> None:
    """The base URL is the one that is dialled, the endpoint its whole path; an image is seen in what is asked."""
    answering(sockets, *events_of(api))
    calls: list[Call] = []
    look = [{"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]}]
    event = create(api)
    if image:
        event = {**event, "response": {"input": look}} if "realtime" in api else {**event, "input": look}

    async def scenario(caller: Caller) -> None:
        await caller.send(event)
        await caller.until(last_of(api))

    with capture(call_hook=calls.append):
        run(scenario, sockets, api, mode, url=f"{sockets.url}/", extra_query={"key": "secret"})

    assert [(sockets.url, sockets.paths[0].partition("?")[0], image)] == [
        (call.base_url, call.endpoint, call.image) for call in calls
    ]
    assert "/v1/" + ("realtime" if "realtime" in api else "responses") == calls[0].endpoint


HOSTS = [
    ("bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
    ("bedrock-mantle.us-east-1.api.aws", "aws.bedrock"),
    ("us-central1-aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("mine.openai.azure.com", "azure.ai.openai"),
    ("gateway.example.com", "openai"),
]


@both
@every
@pytest.mark.parametrize(("host", "provider"), HOSTS)
def test_host(sockets: SocketServer, seen: Seen, api: str, mode: str, host: str, provider: str) -> None:
    """The host tells the provider, the same one as over HTTP."""
    answering(sockets, *events_of(api))
    plain = openai.OpenAI(
        api_key="test", base_url=f"https://{host}/v1", http_client=openai.DefaultHttpxClient(verify=False)
    )
    opened.append(plain)
    with socket.create_connection(("127.0.0.1", sockets.port)) as tcp:
        run(
            lambda caller: ask(caller, api),
            sockets,
            api,
            mode,
            url=f"ws://{host}/v1",
            websocket_connection_options={"sock": tcp},
        )

    (span,) = seen.spans
    attributes = span["attributes"]
    assert (provider, host) == (attributes[names.GEN_AI_PROVIDER_NAME], attributes[names.SERVER_ADDRESS])
    assert (provider, host) == server_of(plain)[0][:2]


@both
@every
def test_nothing_begins_before_there_is_an_sdk(
    sockets: SocketServer, unset: None, monkeypatch: pytest.MonkeyPatch, api: str, mode: str
) -> None:
    """While nobody listens no event is looked at; from the moment that somebody does the connection is seen."""
    looked: list[str] = []

    def spy(name: str) -> None:
        original = getattr(websockets._Sockets, name)

        def look(self: Any, *args: Any) -> Any:
            looked.append(name)
            return original(self, *args)

        monkeypatch.setattr(websockets._Sockets, name, look)

    spy("asks")
    spy("saw")
    answering(sockets, *events_of(api))
    spans = InMemorySpanExporter()
    before: list[str] = []

    async def scenario(caller: Caller) -> None:
        await ask(caller, api)
        before.extend(looked)
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        trace.set_tracer_provider(provider)
        await ask(caller, api)

    OpenAIInstrumentor().instrument()
    try:
        run(scenario, sockets, api, mode)
    finally:
        OpenAIInstrumentor().uninstrument()

    assert [] == before
    assert {"asks", "saw"} == set(looked)
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert 4 == span.attributes[names.OTEL_LLM_STREAM_CHUNKS]


@both
@every
def test_events_that_the_client_does_not_know(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """A piece of a response counts for it, by its id or its stream, though the client has no class for it."""
    realtime = "realtime" in api
    asked: list[ws.Event] = []

    def answer(event: ws.Event) -> list[ws.Event]:
        asked.append(event)
        if len(asked) < 2:
            return []
        one = ws.realtime("resp_a") if realtime else ws.responses("resp_a", stream_id="a")
        two = ws.realtime("resp_b") if realtime else ws.responses("resp_b", stream_id="b")
        new = {"type": "response.new.delta", **({"response_id": "resp_a"} if realtime else {"stream_id": "a"})}
        return [one[0], two[0], new, new, one[3], two[3]]

    sockets.answer = answer

    async def scenario(caller: Caller) -> None:
        for stream in ("a", "b"):
            await caller.send(ws.create(api, **({} if realtime else {"stream_id": stream})))
        await caller.until(ws.last_of(api), times=2)

    run(scenario, sockets, api, mode)

    assert [("resp_a", 4), ("resp_b", 2)] == [
        (span["attributes"][names.GEN_AI_RESPONSE_ID], span["attributes"][names.OTEL_LLM_STREAM_CHUNKS])
        for span in seen.spans
    ]
