"""Every way out of a call over plain HTTP ends its span once and says why; what the caller gets is as without us."""

from __future__ import annotations

import asyncio
import gc
import traceback
from typing import Any

import pytest
from opentelemetry import context

from otel_llm.testing import Seen, capture
from otel_llm.testing.server import DROP, RESET, STALL, TRUNCATE, Reply, ScriptedServer
from otel_llm_semconv import attributes as names
from tests.httpx.apis import STREAMED, Api, opened, run, settled, streams
from tests.httpx.test_calls import counted, each_library, each_mode, streamed, told

each_api = pytest.mark.parametrize("name", STREAMED)
WAYS = ("closed", "left", "dropped", "never read", "broken off at the last event")
OUTCOMES = {
    "closed": "closed",
    "left": "closed",
    "dropped": "abandoned",
    "never read": "abandoned",
    "broken off at the last event": "completed",
}


async def _treat(client: Any, url: str, body: Any, way: str, count: int) -> None:
    """Open a stream and go away in one of `WAYS`."""
    is_async = hasattr(client, "aclose")
    if way == "left":
        if is_async:
            async with client.stream("POST", url, json=body) as response:
                async for _ in response.aiter_raw():
                    break
        else:
            with client.stream("POST", url, json=body) as response:
                for _ in response.iter_raw():
                    break
        return
    response = await opened(client, url, body)
    if way == "never read":
        return
    taken = 1 if way != "broken off at the last event" else count
    iterator = response.aiter_raw() if is_async else response.iter_raw()
    for _ in range(taken):
        await settled(anext(iterator) if is_async else next(iterator))
    if way != "dropped":
        await settled(response.aclose() if is_async else response.close())


@each_library
@each_mode
@pytest.mark.parametrize("way", WAYS)
@each_api
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ways_out_of_a_stream(server: ScriptedServer, seen: Seen, name: str, way: str, mode: str, library: Any) -> None:
    """Nobody has to read to the end: the call ends when the caller goes, with what was known by then."""
    api = STREAMED[name]
    sent = api.pieces
    path, body = api.request(stream=True)
    pause: list[Any] = [part for piece in sent for part in (piece, 0.005)]
    # The server keeps quiet after the last event: who waits for the end of the bytes would wait forever.
    server.script(Reply(chunks=[*pause, STALL], headers={"content-type": api.content_type}))

    async def use(client: Any) -> None:
        await _treat(client, server.url + path, body, way, len(sent))
        gc.collect()
        await asyncio.sleep(0) if mode == "async" else None

    before = context.get_current()
    run(mode, library, use)
    gc.collect()

    (span,) = seen.spans
    # httpx2 closes a response when the loop over its bytes is left, whether a block is around it or not.
    outcome = "abandoned" if (way, mode, library.__name__) == ("left", "sync", "httpx2") else OUTCOMES[way]
    assert (outcome, "unset") == (span["attributes"][names.OTEL_LLM_STREAM_OUTCOME], span["status"])
    assert api.told[:3] == told(span)[:3]
    if way == "broken off at the last event":
        assert api.told == told(span)
    assert [1] == counted(seen)
    assert before is context.get_current()


STATUSES: dict[str, tuple[Reply, str, str | None]] = {
    "openai": (Reply(429, json={"error": {"message": "slow down", "code": "rate_limit"}}), "429", "slow down"),
    "ollama": (Reply(404, json={"error": "model 'nope' not found"}), "404", "model 'nope' not found"),
    "anthropic": (
        Reply(529, json={"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        "529",
        "Overloaded",
    ),
    "gemini": (
        Reply(400, json=[{"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}]),
        "400",
        "bad",
    ),
    "fastapi": (Reply(422, json={"detail": [{"loc": ["body"], "msg": "field required"}]}), "422", "field required"),
    "bedrock": (Reply(400, json={"message": "no access"}), "400", "no access"),
    "text": (Reply(502, body=b"<html>bad gateway</html>"), "502", None),
    "nothing": (Reply(500), "500", None),
}


@each_library
@each_mode
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("name", STATUSES)
def test_statuses(server: ScriptedServer, seen: Seen, name: str, stream: bool, mode: str, library: Any) -> None:
    """A status from 400 on is an error of the call, though nobody raises; its message is what the body says."""
    reply, error, message = STATUSES[name]
    server.script(reply)
    path, body = STREAMED["openai chat"].request(stream=stream)

    async def use(client: Any) -> Any:
        if not stream:
            return await settled(client.post(server.url + path, json=body))
        response = await opened(client, server.url + path, body)
        await settled(response.aread() if mode == "async" else response.read())
        return response

    response = run(mode, library, use)

    assert reply.status == response.status_code
    (span,) = seen.spans
    assert ("error", error, message) == (span["status"], span["attributes"][names.ERROR_TYPE], span["description"])
    assert names.OTEL_LLM_STREAM_OUTCOME not in span["attributes"]
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert error == point["attributes"][names.ERROR_TYPE]


MIDWAY: dict[str, tuple[str, bytes, str, str]] = {
    "openai chat": (
        "openai chat",
        b'data: {"error": {"message": "lost", "type": "server_error", "code": null}}\n\n',
        "server_error",
        "lost",
    ),
    "gateway": ("openai chat", b'data: {"error": {"message": "lost", "code": 502}}\n\n', "502", "lost"),
    "openai responses": (
        "openai responses",
        b'event: error\ndata: {"type": "error", "code": "server_error", "message": "lost"}\n\n',
        "server_error",
        "lost",
    ),
    "anthropic": (
        "anthropic",
        b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "lost"}}\n\n',
        "overloaded_error",
        "lost",
    ),
    "ollama": ("ollama chat", b'{"error": "lost"}\n', "_OTHER", "lost"),
    "gemini": (
        "gemini sse",
        b'data: {"error": {"code": 503, "message": "lost", "status": "UNAVAILABLE"}}\n\n',
        "UNAVAILABLE",
        "lost",
    ),
}


@each_library
@each_mode
@pytest.mark.parametrize("name", MIDWAY)
def test_an_error_in_a_stream(server: ScriptedServer, seen: Seen, name: str, mode: str, library: Any) -> None:
    """What the server reports in the middle of a stream is the caller's to read, and an error of the call."""
    api_name, event, error, message = MIDWAY[name]
    api = STREAMED[api_name]
    sent = [api.pieces[0], event]
    server.script(Reply(chunks=sent, headers={"content-type": api.content_type}))
    path, body = api.request(stream=True)

    async def use(client: Any) -> Any:
        response = await opened(client, server.url + path, body)
        return await settled(response.aread() if mode == "async" else response.read())

    assert b"".join(sent) == run(mode, library, use)

    (span,) = seen.spans
    assert ("error", error, message) == (span["status"], span["attributes"][names.ERROR_TYPE], span["description"])
    assert [1] == counted(seen)


def _account(error: BaseException) -> tuple[Any, ...]:
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return type(error), str(error), type(error.__cause__), type(error.__context__), frames[-1]


def _fault(server: ScriptedServer, api: Api, kind: str, stream: bool, mode: str, library: Any) -> tuple[Any, ...]:
    """Make a call that ends in a fault of the network, and tell what the caller gets."""
    path, body = api.request(stream=stream)
    url = server.url + path
    options: dict[str, Any] = {}
    if kind == "refused":
        url = f"http://127.0.0.1:1{path}"
    elif kind == "dropped":
        server.script(DROP)
    elif kind == "timeout":
        server.script(Reply(delay=5))
        options = {"timeout": 0.05}
    elif kind == "cut off":
        server.script(Reply(chunks=[api.pieces[0], 0.05, TRUNCATE], headers={"content-type": api.content_type}))
    elif kind == "reset":
        server.script(Reply(chunks=[api.pieces[0], 0.05, RESET], headers={"content-type": api.content_type}))
    elif kind == "stalled":
        server.script(Reply(chunks=[api.pieces[0], STALL], headers={"content-type": api.content_type}))
        options = {"timeout": 0.1}
    got: list[bytes] = []

    async def use(client: Any) -> tuple[Any, ...]:
        try:
            if not stream:
                await settled(client.post(url, json=body))
            elif mode == "async":
                async with client.stream("POST", url, json=body) as response:
                    async for piece in response.aiter_raw():
                        got.append(piece)
            else:
                with client.stream("POST", url, json=body) as response:
                    for piece in response.iter_raw():
                        got.append(piece)
        except library.HTTPError as error:
            return (*_account(error), error.request.url.path, b"".join(got))
        raise AssertionError("nothing was raised")

    account: tuple[Any, ...] = run(mode, library, use, **options)
    return account


@each_library
@each_mode
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("kind", ["refused", "dropped", "timeout", "cut off", "reset", "stalled"])
@pytest.mark.parametrize("name", ["openai chat", "ollama chat", "gemini"])
def test_faults(name: str, kind: str, stream: bool, mode: str, library: Any) -> None:
    """What the network does comes out as without us, and is the error of the one call."""
    api = STREAMED[name]
    with ScriptedServer() as server:
        bare = _fault(server, api, kind, stream, mode, library)
    with ScriptedServer() as server, capture() as seen:
        assert bare == _fault(server, api, kind, stream, mode, library)

    (span,) = seen.spans
    assert ("error", f"{library.__name__}.{bare[0].__name__}") == (span["status"], span["attributes"][names.ERROR_TYPE])
    assert api.told[:3] == told(span)[:3]


@each_library
@pytest.mark.parametrize("when", ["before the answer", "in the stream", "by a deadline"])
def test_cancelled(server: ScriptedServer, seen: Seen, when: str, library: Any) -> None:
    """A task that is cancelled is cancelled, and so is its call."""
    api = STREAMED["openai chat"]
    path, body = api.request(stream=True)
    if when == "before the answer":
        server.script(Reply(delay=60))
    else:
        server.script(Reply(chunks=[api.pieces[0], STALL], headers={"content-type": api.content_type}))
    reading = asyncio.Event()

    async def read() -> None:
        async with (
            library.AsyncClient(verify=False) as client,
            client.stream("POST", server.url + path, json=body) as response,
        ):
            async for _ in response.aiter_lines():
                reading.set()

    async def main() -> bool:
        if when == "by a deadline":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(read(), 0.3)
            return True
        task = asyncio.create_task(read())
        if when == "in the stream":
            await reading.wait()
        while not server.requests:  # noqa: ASYNC110  # the server is in another thread
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())

    (span,) = seen.spans
    assert ("error", "asyncio.CancelledError") == (span["status"], span["attributes"][names.ERROR_TYPE])


@each_library
@each_mode
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupts(seen: Seen, kind: type[BaseException], mode: str, library: Any) -> None:
    """An interrupt in the middle of a request is the caller's own object."""
    raised = kind()

    class Transport(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            raise raised

        async def handle_async_request(self, request: Any) -> Any:
            raise raised

    path, body = STREAMED["openai chat"].request(stream=False)

    async def use(client: Any) -> BaseException:
        try:
            await settled(client.post("http://x.test" + path, json=body))
        except BaseException as error:
            return error
        raise AssertionError

    assert raised is run(mode, library, use, transport=Transport())

    (span,) = seen.spans
    assert kind.__name__ == span["attributes"][names.ERROR_TYPE]


@each_library
@each_mode
def test_the_stream_is_closed_once(seen: Seen, mode: str, library: Any) -> None:
    """What the transport gave is closed as often as without us, and its attributes are still there to be asked for."""
    api = STREAMED["openai chat"]
    path, body = api.request(stream=True)
    stream = streams(library)(api.pieces)
    stream.mine = "yes"

    async def use(client: Any) -> Any:
        response = await opened(client, "http://x.test" + path, body)
        return await settled(response.aread() if mode == "async" else response.read())

    def answer(request: Any) -> Any:
        return library.Response(200, headers={"content-type": api.content_type}, stream=stream)

    assert b"".join(api.pieces) == run(mode, library, use, transport=library.MockTransport(answer))
    assert 1 == stream.closed
    (span,) = seen.spans
    assert api.told == told(span)


@each_library
def test_many_at_once(server: ScriptedServer, seen: Seen, library: Any) -> None:
    """Calls that run at the same time do not take each other's numbers."""
    server.script(*[streamed(STREAMED[name]) for name in STREAMED for _ in range(5)])

    async def one(client: Any, api: Api) -> None:
        path, body = api.request(stream=True)
        async with client.stream("POST", server.url + path, json=body) as response:
            async for _ in response.aiter_bytes():
                await asyncio.sleep(0)

    async def main() -> None:
        async with library.AsyncClient(verify=False) as client:
            for name in STREAMED:
                await asyncio.gather(*[one(client, STREAMED[name]) for _ in range(5)])

    asyncio.run(main())

    assert sorted([STREAMED[name].told for name in STREAMED for _ in range(5)], key=str) == sorted(
        [told(span) for span in seen.spans], key=str
    )
    assert 5 * len(STREAMED) == sum(counted(seen))
