"""LLM calls over plain `httpx` and `httpx2`: each is one span and one point of each metric, whoever reads it how."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Generator
from typing import Any

import pytest

from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer
from otel_llm_semconv import attributes as names
from tests.httpx.apis import APIS, LIBRARIES, MODES, READERS, STREAMED, Api, opened, pieces, run, settled

each_library = pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
each_mode = pytest.mark.parametrize("mode", MODES)


def told(span: dict[str, Any]) -> tuple[Any, ...]:
    """Return what `Api.told` says, of a span."""
    keys = (
        names.GEN_AI_OPERATION_NAME,
        names.GEN_AI_PROVIDER_NAME,
        names.GEN_AI_REQUEST_MODEL,
        names.GEN_AI_RESPONSE_MODEL,
        names.GEN_AI_USAGE_INPUT_TOKENS,
        names.GEN_AI_USAGE_OUTPUT_TOKENS,
    )
    return tuple([span["attributes"].get(key) for key in keys])


def streamed(api: Api) -> Reply:
    """Answer with the stream, each event in a chunk of its own."""
    return Reply(chunks=api.pieces, headers={"content-type": api.content_type})


def counted(seen: Seen) -> list[int]:
    """Return how many calls each point of the duration stands for."""
    return [point["count"] for point in seen.points("gen_ai.client.operation.duration")]


@each_library
@each_mode
@pytest.mark.parametrize("name", APIS)
def test_plain(server: ScriptedServer, seen: Seen, name: str, mode: str, library: Any) -> None:
    """The answer is the caller's as it is; the call is one span, with the HTTP span below it, and one count."""
    api = APIS[name]
    server.script(Reply(json=api.answer))
    path, body = api.request(stream=False)

    async def use(client: Any) -> Any:
        return await settled(client.post(server.url + path, json=body))

    response = run(mode, library, use)

    assert api.answer == response.json()
    assert body == server.requests[0].json
    (span,) = seen.spans
    assert api.told == told(span)
    assert ("127.0.0.1", server.port) == (
        span["attributes"][names.SERVER_ADDRESS],
        span["attributes"][names.SERVER_PORT],
    )
    assert "unset" == span["status"]
    (below,) = [other for other in seen.all_spans if other["scope"] != span["scope"]]
    assert span["span_id"] == below["parent_id"]
    assert [1] == counted(seen)
    assert response.elapsed.total_seconds() > 0


@each_library
@each_mode
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", STREAMED)
def test_stream(server: ScriptedServer, seen: Seen, name: str, reader: str, mode: str, library: Any) -> None:
    """However the caller reads a stream, he gets its bytes; the call is recorded, with the time of its first text."""
    api = STREAMED[name]
    server.script(streamed(api))
    path, body = api.request(stream=True)

    async def use(client: Any) -> tuple[Any, list[Any]]:
        response = await opened(client, server.url + path, body)
        assert [] == seen.spans
        return response, await pieces(response, reader)

    response, got = run(mode, library, use)

    sent = b"".join(api.pieces)
    if reader == "iter_lines":
        assert sent.decode().splitlines() == got
    else:
        assert sent == b"".join([piece.encode() if isinstance(piece, str) else piece for piece in got])
    (span,) = seen.spans
    attributes = span["attributes"]
    assert api.told == told(span)
    assert "completed" == attributes[names.OTEL_LLM_STREAM_OUTCOME]
    assert len(api.chunks) == attributes[names.OTEL_LLM_STREAM_CHUNKS]
    assert attributes[names.GEN_AI_REQUEST_STREAM]
    first, text = attributes[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK], attributes[names.OTEL_LLM_TIME_TO_FIRST_TEXT]
    assert 0 < first <= text < 60
    assert [1] == counted(seen)
    assert response.is_closed
    assert 0 < response.elapsed.total_seconds() < 60


@each_library
@each_mode
@pytest.mark.parametrize("name", STREAMED)
def test_stream_that_is_read_at_once(server: ScriptedServer, seen: Seen, name: str, mode: str, library: Any) -> None:
    """A stream whose body the client has read before it returns is recorded, too."""
    api = STREAMED[name]
    server.script(streamed(api))
    path, body = api.request(stream=True)

    async def use(client: Any) -> Any:
        return await settled(client.post(server.url + path, json=body))

    assert b"".join(api.pieces) == run(mode, library, use).content

    (span,) = seen.spans
    assert api.told == told(span)
    assert len(api.chunks) == span["attributes"][names.OTEL_LLM_STREAM_CHUNKS]


@each_library
@each_mode
def test_the_same_objects(server: ScriptedServer, seen: Seen, mode: str, library: Any) -> None:
    """What the caller gets is of the library's own classes, its request is the one that he made."""

    async def use(client: Any) -> tuple[Any, Any]:
        request = client.build_request("POST", server.base_url + "/chat/completions", json=APIS["openai chat"].asked)
        return request, await settled(client.send(request, stream=False))

    request, response = run(mode, library, use)

    assert request is response.request
    assert type(response) is library.Response
    assert "chat.completion" == response.json()["object"]


NO_CALLS: dict[str, tuple[str, str, Any]] = {
    "another path": ("POST", "/v1/orders", {"model": "m", "messages": []}),
    "another method": ("PUT", "/v1/chat/completions", {"model": "m", "messages": []}),
    "no messages": ("POST", "/v1/chat/completions", {"model": "m"}),
    "messages further in": ("POST", "/api/chat", {"model": "m", "data": {"messages": []}}),
    "no model": ("POST", "/api/chat", {"messages": []}),
    "no model for embeddings": ("POST", "/v1/embeddings", {"input": "x"}),
    "a list": ("POST", "/v1/chat/completions", ["messages"]),
    "mail": ("POST", "/v1/messages", {"to": "a@b", "messages": "hi", "model": "m"}),
    "a longer segment": ("POST", "/v1/mychat/completionss", {"model": "m", "messages": []}),
    "no segment of its own": ("POST", "/v1/xchat/completions", {"model": "m", "messages": []}),
    "the root": ("POST", "/", {"model": "m", "messages": []}),
    "Gemini elsewhere": ("POST", "/v1/x:generateContent", {"contents": []}),
}


@each_library
@pytest.mark.parametrize("name", NO_CALLS)
def test_other_requests(server: ScriptedServer, seen: Seen, name: str, library: Any) -> None:
    """A request that only looks like a call is none."""
    method, path, body = NO_CALLS[name]
    server.script(Reply(json={"ok": True}))
    assert {"ok": True} == library.request(method, server.url + path, json=body).json()

    assert [] == seen.spans
    assert [] == counted(seen)
    assert 1 == len(seen.all_spans)  # the HTTP span


@each_library
def test_a_body_that_is_no_json(server: ScriptedServer, seen: Seen, library: Any) -> None:
    """What cannot be read is sent as it is, and is no call: nothing says that it is one."""
    for content in (b"\xff", b"", b'{"messages": ', b'{"messages": ' + b"[" * 30_000):
        server.script(Reply(json={}))
        library.post(server.base_url + "/chat/completions", content=content)
        assert content == server.requests[-1].body

    assert [] == seen.spans


@each_library
@each_mode
def test_a_body_that_is_streamed(server: ScriptedServer, seen: Seen, mode: str, library: Any) -> None:
    """It is read by the transport alone, once; the call is known by its path, and nothing of the request is."""
    body = json.dumps(APIS["openai chat"].asked).encode()
    taken: list[int] = []

    def parts() -> Any:
        taken.append(1)
        yield body[:10]
        yield body[10:]

    async def aparts() -> Any:
        taken.append(1)
        yield body[:10]
        yield body[10:]

    async def use(client: Any) -> Any:
        content = parts() if mode == "sync" else aparts()
        return await settled(client.post(server.base_url + "/chat/completions", content=content))

    assert 200 == run(mode, library, use).status_code

    assert ([1], body) == (taken, server.requests[0].body)
    (span,) = seen.spans
    assert ("chat", None) == (span["name"], span["attributes"].get(names.GEN_AI_REQUEST_MODEL))
    assert span["attributes"][names.GEN_AI_USAGE_INPUT_TOKENS]


@each_library
def test_files(server: ScriptedServer, seen: Seen, library: Any) -> None:
    """An upload is a call with what the fields of its form tell; its file is read by the transport alone."""

    class Sound(io.BytesIO):
        def read(self, *args: Any) -> bytes:
            assert inspect.stack()[1].function == "render_data"  # of the transport
            return super().read(*args)

    server.script(Reply(json={"text": "hi", "usage": {"type": "tokens", "input_tokens": 9, "output_tokens": 4}}))
    library.post(
        server.base_url + "/audio/transcriptions",
        data={"model": "whisper", "temperature": 0.5, "stream": False, "language": "fr", "prompt": "x" * 2000},
        files={"file": ("a.mp3", Sound(b"sound"))},
    )

    assert b"sound" in server.requests[0].body
    (span,) = seen.spans
    assert ("generate_content", "openai", "whisper", None, 9, 4) == told(span)
    assert 0.5 == span["attributes"][names.GEN_AI_REQUEST_TEMPERATURE]
    assert names.GEN_AI_REQUEST_STREAM not in span["attributes"]


@each_library
@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("path", ["/audio/transcriptions", "/audio/translations", "/images/edits"])
def test_files_that_were_read(server: ScriptedServer, seen: Seen, path: str, size: int, library: Any) -> None:
    """A form whose bytes are there already is read in them, at its ends where it is large, but not its files."""
    server.script(Reply(json={"usage": {"input_tokens": 9, "output_tokens": 4}}))
    file = b'--\r\ncontent-disposition: form-data; name="model"\r\n\r\nfalse\r\n' + b"x" * size
    form = {"model": "4", "n": "2", "odd": "007", "a": "x" * 2000}
    request = library.Request("POST", server.base_url + path, data=form, files={"n": ("a", file)})
    request.read()
    with library.Client() as client:
        client.send(request)

    assert file in server.requests[0].body
    (span,) = seen.spans
    assert ("4", None, 9, 4) == told(span)[2:]
    assert 2 == span["attributes"][names.GEN_AI_REQUEST_CHOICE_COUNT]


@each_library
def test_odd_forms(server: ScriptedServer, seen: Seen, library: Any) -> None:
    """A form that is none is a call by its path, and is sent as it is."""
    for content, kind in [(b"--", "multipart/form-data; boundary="), (b"--x\r\n--x--", "text/plain"), (b"--x", "")]:
        server.script(Reply(json={}))
        headers = {"content-type": kind} if kind else {}
        library.post(server.base_url + "/audio/transcriptions", content=content, headers=headers)
        assert content == server.requests[-1].body

    assert [None] * 3 == [told(span)[2] for span in seen.spans]


@each_library
@pytest.mark.parametrize("first", ["model", "messages"])
def test_a_large_body(
    server: ScriptedServer, seen: Seen, monkeypatch: pytest.MonkeyPatch, first: str, library: Any
) -> None:
    """Of a large body only the ends are looked at: what stands there is read, and never from inside a message."""
    text = '"model": "false", \\"stream\\": true, ' * 4000
    asked = {"messages": [{"role": "user", "content": text, "model": "false"}], "model": "gpt-5", "temperature": 0.5}
    if first == "model":
        asked = dict(reversed(asked.items()))
    loads = json.loads

    def small(source: Any, *args: Any, **kwargs: Any) -> Any:
        assert len(source) < 64 * 1024
        return loads(source, *args, **kwargs)

    server.script(Reply(json=APIS["openai chat"].answer))
    monkeypatch.setattr(json, "loads", small)
    library.post(server.base_url + "/chat/completions", json=asked)
    monkeypatch.undo()

    assert asked == server.requests[0].json
    (span,) = seen.spans
    assert APIS["openai chat"].told == told(span)
    assert 0.5 == span["attributes"][names.GEN_AI_REQUEST_TEMPERATURE]
    assert names.GEN_AI_REQUEST_STREAM not in span["attributes"]


@pytest.mark.parametrize("length", [10, 100_000], ids=["small", "large"])
def test_content(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """Content is captured where it is asked for; of a large body nothing is, rather than a message with a hole."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    api = STREAMED["openai chat"]
    asked = {**api.asked, "stream": True, "messages": [{"role": "user", "content": "x" * length}]}
    for library in LIBRARIES:
        server.script(streamed(api), streamed(api))
        with capture() as seen:
            library.post(server.url + api.path, json=asked)
            opened: Any = library.stream("POST", server.url + api.path, json=asked)
            with opened as response:
                response.read()
        for span in seen.spans:
            assert (length < 1000) == ("x" * 10 in str(span["attributes"].get(names.GEN_AI_INPUT_MESSAGES)))
            assert "París" in str(span["attributes"][names.GEN_AI_OUTPUT_MESSAGES])


@each_library
@each_mode
def test_redirects_and_auth(server: ScriptedServer, seen: Seen, mode: str, library: Any) -> None:
    """Redirects and the steps of authentication are parts of one call, each with an HTTP span below it."""
    api = APIS["openai chat"]

    class Auth(library.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            response: Any = yield request
            if response.status_code == 401:
                request.headers["authorization"] = "Bearer x"
                yield request

    server.script(
        Reply(401, json={"error": "who?"}),
        Reply(307, headers={"location": server.url + "/elsewhere/chat/completions"}),
        Reply(json=api.answer),
    )

    async def use(client: Any) -> Any:
        return await settled(client.post(server.url + api.path, json=api.asked, auth=Auth(), follow_redirects=True))

    response: Any = run(mode, library, use)

    assert (200, 2, 3) == (response.status_code, len(response.history), len(server.requests))
    (span,) = seen.spans
    assert (api.told, "unset") == (told(span), span["status"])
    below = [other["parent_id"] for other in seen.all_spans if other is not span and other["scope"] != span["scope"]]
    assert [span["span_id"]] * 3 == below
    assert [1] == counted(seen)


@each_library
def test_a_redirect_that_is_not_followed(server: ScriptedServer, seen: Seen, library: Any) -> None:
    """It is an answer like another, and no error."""
    server.script(Reply(307, headers={"location": "/elsewhere"}))
    response = library.post(server.url + "/v1/chat/completions", json=APIS["openai chat"].asked)

    assert (307, "/elsewhere") == (response.status_code, response.next_request.url.path)
    (span,) = seen.spans
    assert "unset" == span["status"]
