"""A websocket server that answers as a test says, one caller for sync and async connections, and their cases."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from tests.openai.styles import has, opened

Event = dict[str, Any]
ABORT = "abort"
"""Cuts the connection without a word."""
Step = Event | float | int | str
"""An event to send, seconds to wait, a code to close with, or `ABORT`."""
Answer = Callable[[Event], Iterable[Step]]

REALTIME = "gpt-realtime-2026-01-01"
RESPONSES = "gpt-5-2026-10-01"


class SocketServer:
    """Answers each event of the client with what `answer` gives for it."""

    answer: Answer

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._server = serve(self._serve, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        port: int = self._server.socket.getsockname()[1]
        self.port = port
        self.url = f"ws://127.0.0.1:{port}/v1"

    def __enter__(self) -> SocketServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        path = connection.request.path
        self.paths.append(path)
        try:
            if "/realtime" in path:
                session = {"id": "sess_1", "object": "realtime.session", "type": "realtime", "model": REALTIME}
                connection.send(json.dumps({"type": "session.created", "event_id": "e0", "session": session}))
            for message in connection:
                for step in self.answer(json.loads(message)):
                    if isinstance(step, dict):
                        connection.send(json.dumps(step))
                    elif isinstance(step, int):
                        connection.close(step)
                    elif isinstance(step, float):
                        time.sleep(step)
                    else:
                        connection.socket.shutdown(socket.SHUT_RDWR)
        except ConnectionClosed:
            pass


def realtime(identifier: str = "resp_1", status: str = "completed", **details: Any) -> list[Event]:
    """Return the events of one response of the Realtime API."""
    own = {"response_id": identifier, "item_id": "item_1", "output_index": 0, "content_index": 0, "event_id": "e"}
    usage = {
        "total_tokens": 30,
        "input_tokens": 18,
        "output_tokens": 12,
        "input_token_details": {
            "text_tokens": 8,
            "audio_tokens": 10,
            "cached_tokens": 4,
            "cached_tokens_details": {"text_tokens": 1, "audio_tokens": 3},
        },
        "output_token_details": {"text_tokens": 5, "audio_tokens": 7},
    }
    response: Event = {"id": identifier, "object": "realtime.response", "conversation_id": "conv_1", "output": []}
    return [
        {"type": "response.created", "event_id": "e", "response": {**response, "status": "in_progress"}},
        {"type": "response.output_audio.delta", "delta": "AAAA", **own},
        {"type": "response.output_audio_transcript.delta", "delta": "Paris", **own},
        {
            "type": "response.done",
            "event_id": "e",
            "response": {**response, "status": status, "status_details": details, "usage": usage},
        },
        {"type": "rate_limits.updated", "event_id": "e", "rate_limits": []},
    ]


def responses(
    identifier: str = "resp_1", status: str = "completed", *, stream_id: str | None = None, **more: Any
) -> list[Event]:
    """Return the events of one response over a websocket."""
    usage = {
        "input_tokens": 18,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 30,
    }
    response: Event = {"id": identifier, "object": "response", "model": RESPONSES, "created_at": 1, "output": []}
    item = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    message: Event = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    events: list[Event] = [
        {"type": "response.created", "response": {**response, "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": message},
        {"type": "response.output_text.delta", "delta": "Paris", "logprobs": [], **item},
        {"type": f"response.{status}", "response": {**response, "status": status, "usage": usage, **more}},
    ]
    lane = {} if stream_id is None else {"stream_id": stream_id}
    return [{**event, "sequence_number": number, **lane} for number, event in enumerate(events)]


class Caller:
    """A connection, sync or async, whose methods are awaited either way."""

    def __init__(self, connection: Any, mode: str) -> None:
        self.connection = connection
        self._sync = mode == "sync"

    async def _result(self, result: Any) -> Any:
        return result if self._sync else await result

    async def send(self, event: Any) -> None:
        assert None is await self._result(self.connection.send(event))

    async def send_raw(self, data: str | bytes) -> None:
        assert None is await self._result(self.connection.send_raw(data))

    async def recv(self) -> Any:
        return await self._result(self.connection.recv())

    async def recv_bytes(self) -> Any:
        return await self._result(self.connection.recv_bytes())

    async def dispatch_events(self) -> None:
        await self._result(self.connection.dispatch_events())

    async def close(self) -> None:
        await self._result(self.connection.close())

    async def until(self, kind: str, times: int = 1) -> list[Any]:
        """Read to the last of so many events of one type."""
        got: list[Any] = []
        while times:
            got.append(await self.recv())
            times -= got[-1].type == kind
        return got

    async def events(self) -> AsyncIterator[Any]:
        """Iterate as the connection does."""
        if self._sync:
            for event in self.connection:
                yield event
        else:
            async for event in self.connection:
                yield event


def make(client: Any, api: str, **more: Any) -> Any:
    """Return the manager of a connection, such as ``client.beta.realtime.connect()``."""
    resource = client
    for name in api.split("."):
        resource = getattr(resource, name)
    if "realtime" in api:
        more = {"model": "gpt-realtime", **more}
    return resource.connect(**more)


@asynccontextmanager
async def connected(
    server: SocketServer, api: str, mode: str, *, url: str | None = None, **more: Any
) -> AsyncGenerator[Caller]:
    """Open a connection of either kind as its user does."""
    url = url or server.url
    if mode == "sync":
        client = openai.OpenAI(
            api_key="test", websocket_base_url=url, http_client=openai.DefaultHttpxClient(verify=False)
        )
        opened.append(client)
        with make(client, api, **more) as connection:
            yield Caller(connection, mode)
    else:
        http_client = openai.DefaultAsyncHttpxClient(verify=False)
        async with (
            openai.AsyncOpenAI(api_key="test", websocket_base_url=url, http_client=http_client) as aclient,
            make(aclient, api, **more) as connection,
        ):
            yield Caller(connection, mode)


def run(scenario: Callable[[Caller], Awaitable[Any]], server: SocketServer, api: str, mode: str, **more: Any) -> Any:
    """Run a scenario on a new connection."""

    async def main() -> Any:
        async with connected(server, api, mode, **more) as caller:
            return await scenario(caller)

    return asyncio.run(main())


APIS = ["realtime", "beta.realtime", "responses", "beta.responses"]
MODES = ["sync", "async"]

both = pytest.mark.parametrize("mode", MODES)
every = pytest.mark.parametrize("api", [api for api in APIS if has(f"{api}.connect")])
realtime_only = pytest.mark.parametrize("api", [api for api in APIS[:1] if has(f"{api}.connect")])
responses_only = pytest.mark.parametrize("api", [api for api in APIS[2:3] if has(f"{api}.connect")])


def events_of(api: str, *args: Any, **more: Any) -> list[Event]:
    """Return the events of one response."""
    return realtime(*args, **more) if "realtime" in api else responses(*args, **more)


def last_of(api: str) -> str:
    """Return the type of a response's last event."""
    return "response.done" if "realtime" in api else "response.completed"


def create(api: str, **more: Any) -> Event:
    """Return what asks for a response."""
    if "realtime" in api:
        return {
            "type": "response.create",
            "response": {"max_output_tokens": 50, "output_modalities": ["audio"]},
            **more,
        }
    return {"type": "response.create", "model": "gpt-5", "input": "The capital of France?", **more}


def answering(server: SocketServer, *steps: Step) -> None:
    """Answer ``response.create`` with these steps, and nothing else."""
    server.answer = lambda event: steps if event["type"] == "response.create" else ()


async def ask(caller: Caller, api: str) -> None:
    """Have one response, from the request to its last event."""
    await caller.send(create(api))
    await caller.until(last_of(api))
