"""What the known endpoints tell: model, usage, streams and ids; and that asking for the rest costs nobody anything."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from openai._resource import AsyncAPIResource, SyncAPIResource

from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer, error, sse
from otel_llm_semconv import attributes as names
from otel_llm_semconv.environment import OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT
from tests.openai.endpoints import AUDIO, DONE, KNOWN, RAN, RUN, RUN_EVENTS, RUN_USAGE, TOKENS, UNCOUNTED, USED, events
from tests.openai.styles import ASK, adrain, client, drain, has, run_async

RESOURCES = (SyncAPIResource, AsyncAPIResource)
ALWAYS = {
    names.GEN_AI_OPERATION_NAME,
    names.GEN_AI_PROVIDER_NAME,
    names.GEN_AI_REQUEST_MODEL,
    names.SERVER_ADDRESS,
    names.SERVER_PORT,
    names.OTEL_LLM_REQUEST_ID,
}
SOMETIMES = {
    names.HTTP_REQUEST_METHOD,
    names.URL_TEMPLATE,
    names.OTEL_LLM_STREAM_CHUNKS,
    names.OTEL_LLM_STREAM_OUTCOME,
    names.OTEL_LLM_TIME_TO_FIRST_TEXT,
    names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
}


def importable(path: str) -> bool:
    """Whether the client has this resource, or this module of types."""
    if path.startswith("types."):
        try:
            importlib.import_module(f"openai.{path}")
        except ModuleNotFoundError:
            return False
        return True
    return has(path)


def perform(server: ScriptedServer, mode: str, make: Callable[[Any], Any]) -> None:
    """Make a call and read what streams, sync or async."""
    if mode == "sync":
        result: Any = make(client(server))
        if isinstance(result, openai.Stream):
            drain(result)
        return

    async def aperform(own: Any) -> None:
        made = make(own)
        result: Any = await made if inspect.isawaitable(made) else made
        if isinstance(result, openai.AsyncStream):
            await adrain(result)

    run_async(aperform, server)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("name", [*KNOWN, *UNCOUNTED])
def test_what_an_endpoint_tells(server: ScriptedServer, seen: Seen, name: str, mode: str) -> None:
    """The span has the name, the attributes and no others; only calls that run a model are counted, once."""
    needs, make, reply, title, expected = {**KNOWN, **UNCOUNTED}[name]
    if not importable(needs):
        pytest.skip(f"this client has no {needs}")
    server.script(reply)

    perform(server, mode, make)

    (span,) = seen.spans
    attributes = span["attributes"]
    assert (title, "unset") == (span["name"], span["status"])
    assert expected == {key: attributes.get(key) for key in expected}
    assert [type(value) for value in expected.values()] == [type(attributes[key]) for key in expected]
    assert set() == attributes.keys() - expected.keys() - ALWAYS - SOMETIMES
    counted = seen.points("gen_ai.client.operation.duration")
    assert [attributes[names.GEN_AI_OPERATION_NAME]] * (name in KNOWN) == [
        point["attributes"][names.GEN_AI_OPERATION_NAME] for point in counted
    ]
    tokens = [point["sum"] for point in seen.points("gen_ai.client.token.usage")]
    assert [value for key, value in expected.items() if key in USED] == tokens
    (active,) = seen.points("otel_llm.client.active")
    assert 0 == active["value"]


STREAMS = [name for name, case in {**KNOWN, **UNCOUNTED}.items() if case[2].chunks and "thread and" not in name]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_read_by_the_caller(server: ScriptedServer, seen: Seen, name: str) -> None:
    """As raw bytes of a streaming response, a stream tells the same, and the first text where there is text."""
    needs, make, reply, title, expected = {**KNOWN, **UNCOUNTED}[name]
    if not importable(needs):
        pytest.skip(f"this client has no {needs}")
    server.script(reply)

    class Streaming:
        """Hands out the streaming wrappers of the resources."""

        def __init__(self, owner: Any) -> None:
            self._owner = owner

        def __getattr__(self, name: str) -> Any:
            found = getattr(self._owner, name)
            if isinstance(found, RESOURCES):
                return Streaming(found)
            return getattr(self._owner.with_streaming_response, name)

    with make(Streaming(client(server))) as response:
        body = b"".join(response.iter_bytes())

    assert b"".join(str(chunk).encode() for chunk in reply.chunks or ()) == body
    (span,) = seen.spans
    assert title == span["name"]
    assert expected == {key: span["attributes"].get(key) for key in expected}
    assert ("images" in name) == (names.OTEL_LLM_TIME_TO_FIRST_TEXT not in span["attributes"])


def test_speech_as_events(server: ScriptedServer, seen: Seen) -> None:
    """Speech that streams as events tells its usage at the end."""
    spoken = sse({"type": "speech.audio.delta", "audio": ""}, {"type": "speech.audio.done", "usage": TOKENS})
    server.script(spoken)
    own = client(server)

    extra = {"stream_format": "sse"}
    with own.audio.speech.with_streaming_response.create(
        model="tts-2", voice="alloy", input="hello", extra_body=extra
    ) as response:
        list(response.iter_lines())

    (span,) = seen.spans
    assert USED == {key: span["attributes"].get(key) for key in USED}


def test_results_are_the_client_s_own(server: ScriptedServer, seen: Seen) -> None:
    """Text, bytes, raw answers and pages come as they would without us."""
    server.script(
        Reply(body=b"1\nhello", headers={"content-type": "text/plain"}),
        Reply(body=b"\xffsound", headers={"content-type": "audio/mpeg"}),
        Reply(body=b"\xffsound", headers={"content-type": "audio/mpeg"}),
        Reply(json={"object": "list", "data": [{"id": "a"}], "has_more": True}),
        Reply(json={"object": "list", "data": [], "has_more": False}),
    )
    own = client(server)

    assert "1\nhello" == own.audio.transcriptions.create(model="w", file=AUDIO, response_format="srt")
    assert b"\xffsound" == own.audio.speech.create(model="t", voice="alloy", input="hello").content
    with own.files.with_streaming_response.content("file_1") as response:
        assert b"\xffsound" == response.read()
    assert ["a"] == [job.id for job in own.fine_tuning.jobs.list(limit=1)]

    operations = [span["attributes"][names.GEN_AI_OPERATION_NAME] for span in seen.spans]
    pages = ["GET /fine_tuning/jobs"] * 2
    assert ["generate_content", "generate_content", "GET /files/{id}/content", *pages] == operations


async def _pages(own: Any) -> list[str]:
    jobs: AsyncIterator[Any] = own.fine_tuning.jobs.list(limit=1)
    return [job.id async for job in jobs]


def test_each_agent_has_its_own_span_name(server: ScriptedServer, seen: Seen) -> None:
    """A span about an agent is named by it, also where all else is the same as in the call before."""
    server.script(Reply(json={"id": "asst_1"}), Reply(json={"id": "asst_2"}))

    for name in "AB":
        client(server).post("/assistants", cast_to=object, body={"model": "gpt-5", "name": name})

    assert ["create_agent A", "create_agent B"] == [span["name"] for span in seen.spans]


def test_async_pages(server: ScriptedServer, seen: Seen) -> None:
    """An async list asks page by page, and each page is one record."""
    server.script(
        Reply(json={"object": "list", "data": [{"id": "a"}], "has_more": True}),
        Reply(json={"object": "list", "data": [], "has_more": False}),
    )

    assert ["a"] == run_async(_pages, server)
    assert ["GET /fine_tuning/jobs"] * 2 == [span["name"] for span in seen.spans]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_polling(server: ScriptedServer, seen: Seen) -> None:
    """A helper that polls is one record per request; asking again for a run counts nothing again."""
    soon = {"openai-poll-after-ms": "1"}
    server.script(Reply(json=RUN), Reply(json={**RUN, "status": "in_progress"}, headers=soon), Reply(json=DONE))

    run = client(server).beta.threads.runs.create_and_poll(
        thread_id="thread_1", assistant_id="asst_1", poll_interval_ms=1
    )

    assert "completed" == run.status
    poll = "GET /threads/{id}/runs/{id}"
    assert ["invoke_agent", poll, poll] == [span["name"] for span in seen.spans]
    (duration,) = seen.points("gen_ai.client.operation.duration")
    assert 1 == duration["count"]
    assert [] == seen.points("gen_ai.client.token.usage")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_s_helper_stream(server: ScriptedServer, seen: Seen) -> None:
    """The assistants' own stream helper is one record, with the usage of the whole run once."""
    server.script(RUN_EVENTS)

    with client(server).beta.threads.runs.stream(thread_id="thread_1", assistant_id="asst_1") as stream:
        stream.until_done()

    (span,) = seen.spans
    assert RAN == {key: span["attributes"].get(key) for key in RAN}
    assert "completed" == span["attributes"][names.OTEL_LLM_STREAM_OUTCOME]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_that_fails(server: ScriptedServer, seen: Seen) -> None:
    """A run that fails in its stream is an error, by the code that it tells; the usage of a step is not the run's."""
    failed = {**RUN, "status": "failed", "last_error": {"code": "rate_limit_exceeded", "message": "Too many"}}
    step = {"id": "step_1", "object": "thread.run.step", "usage": RUN_USAGE}
    server.script(
        events(("thread.run.created", RUN), ("thread.run.step.completed", step), ("thread.run.failed", failed))
    )

    list(client(server).beta.threads.runs.create("thread_1", assistant_id="asst_1", stream=True))

    (span,) = seen.spans
    assert ("error", "Too many") == (span["status"], span["description"])
    assert names.GEN_AI_USAGE_INPUT_TOKENS not in span["attributes"]
    assert "rate_limit_exceeded" == span["attributes"][names.ERROR_TYPE]
    assert ("error",) == span["attributes"][names.GEN_AI_RESPONSE_FINISH_REASONS]


def test_an_error_of_any_endpoint(server: ScriptedServer, seen: Seen) -> None:
    """A request that fails is a record with the error, and its retries are counted."""
    server.script(error(500, headers={"retry-after-ms": "1"}), error(404))

    with pytest.raises(openai.NotFoundError):
        client(server, max_retries=1).files.retrieve("file_1")

    (span,) = seen.spans
    assert ("GET /files/{id}", "error") == (span["name"], span["status"])
    assert span["attributes"][names.ERROR_TYPE]
    (retries,) = seen.points("otel_llm.client.retries")
    assert "GET /files/{id}" == retries["attributes"][names.GEN_AI_OPERATION_NAME]


def test_a_response_that_is_not_there(server: ScriptedServer, seen: Seen) -> None:
    """A fetch that fails still tells which response was asked for."""
    if not has("responses"):
        pytest.skip("this client has no responses")
    server.script(error(404))

    with pytest.raises(openai.NotFoundError):
        client(server).responses.retrieve("resp_1")

    (span,) = seen.spans
    assert ("fetch_response", "error") == (span["name"], span["status"])
    assert "resp_1" == span["attributes"][names.GEN_AI_RESPONSE_ID]


def test_by_url(server: ScriptedServer, seen: Seen) -> None:
    """Absolute URLs, versions, queries and paths without a slash are the endpoints that they name."""
    body: Any = {"model": "gpt-5", "messages": ASK}
    own = client(server)
    for url in (
        "chat/completions",
        "/chat/completions?x=http://y",
        f"{server.base_url}/chat/completions",
        f"{server.url}/openai/deployments/gpt-5/chat/completions?api-version=1",
    ):
        own.post(url, cast_to=dict[str, Any], body=body)

    assert ["chat gpt-5"] * 4 == [span["name"] for span in seen.spans]
    assert {server.port} == {span["attributes"][names.SERVER_PORT] for span in seen.spans}


def test_events_of_other_calls(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a call that runs a model has an event with its details."""
    monkeypatch.setenv(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, "EVENT_ONLY")
    with capture() as seen:
        own = client(server)
        own.models.list()
        own.moderations.create(model="mod-1", input="hello")

        assert 2 == len(seen.spans)
        assert ["moderation"] == [event["attributes"][names.GEN_AI_OPERATION_NAME] for event in seen.events]
