"""Serve scripted LLM answers, and true-looking ones where nothing is scripted, over real HTTP on the loopback."""

import argparse
import asyncio
import contextlib
import errno
import json
import os
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from http.client import responses as phrases
from itertools import count
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from otel_llm.testing import answers, anthropic, ollama


class Action(Enum):
    """What a reply can do to its connection in the middle of a body."""

    RESET = "reset"
    TRUNCATE = "truncate"
    STALL = "stall"


RESET: Final = Action.RESET
"""Reset the connection (TCP RST). Pause before it where the client must have read what came earlier."""
TRUNCATE: Final = Action.TRUNCATE
"""Close the connection without the final chunk."""
STALL: Final = Action.STALL
"""Keep the connection open and send nothing until the client leaves or the server stops."""

Chunk: TypeAlias = bytes | str | float | Action
Headers: TypeAlias = Mapping[str, str | None]


@dataclass(frozen=True)
class Reply:
    """Describe one answer: its `json`, or its `body`, or its `chunks`.

    Args:
        status: the HTTP status.
        json: a JSON value.
        body: a raw body, sent with its length.
        chunks: pieces of a body sent in chunked transfer encoding; a number among them is a pause in seconds.
        headers: headers that replace the server's own of the same name; None leaves one out.
        delay: seconds before anything is sent.
    """

    status: int = 200
    json: object = None
    body: bytes = b""
    chunks: Sequence[Chunk] | None = None
    headers: Headers = field(default_factory=dict[str, str | None])
    delay: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what could not be sent."""
        json.dumps(self.json)
        if not isinstance(cast("object", self.body), bytes):
            raise TypeError(f"body is bytes, not {self.body!r}")
        if (self.json is not None) + bool(self.body) + (self.chunks is not None) > 1:
            raise TypeError("a reply has one of json, body and chunks")
        if self.chunks is not None and not isinstance(cast("object", self.chunks), list | tuple):
            raise TypeError(f"chunks is a list or a tuple, not {self.chunks!r}")
        for chunk in self.chunks or ():
            if isinstance(chunk, bool) or not isinstance(cast("object", chunk), bytes | str | float | int | Action):
                raise TypeError(f"a chunk is bytes, str, a pause in seconds or an Action, not {chunk!r}")


DROP: Final = Reply(status=0)
"""Close the connection before any answer."""


def sse(*events: Mapping[str, Any] | Chunk, done: bool = True) -> Reply:
    """Stream server-sent events, each in a chunk of its own.

    Args:
        events: the data of the events: mappings, of which those with a `type` also get an `event:` line as in the
            Responses API, or text; pauses and actions may stand between them.
        done: whether `data: [DONE]` ends the stream.
    """

    def chunk(event: Mapping[str, Any] | Chunk) -> Chunk:
        match event:
            case Mapping():
                name = f"event: {event['type']}\n" if "type" in event else ""
                return f"{name}data: {json.dumps(event, separators=(',', ':'))}\n\n"
            case str():
                return f"data: {event}\n\n"
            case bytes():
                return b"data: %s\n\n" % event
            case _:
                return event

    chunks = [chunk(event) for event in events] + ["data: [DONE]\n\n"] * done
    return Reply(chunks=chunks, headers={"content-type": "text/event-stream; charset=utf-8"})


def error(status: int, *, code: str | None = None, message: str | None = None, headers: Headers | None = None) -> Reply:
    """Answer with an error in OpenAI's form."""
    known = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}
    kind = "requests" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    detail = {"message": message or phrases.get(status, "Error"), "type": kind, "param": None}
    return Reply(status, {"error": detail | {"code": code or known.get(status)}}, headers=headers or {})


@dataclass(frozen=True)
class RecordedRequest:
    """Hold one request as it came in; the names of its headers are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)

    @property
    def fields(self) -> dict[str, Any]:
        """Give the JSON object or the plain form fields of the body, and the model an Azure path names."""
        deployment = re.search(r"/deployments/([^/]+)/", self.path)
        fields: dict[str, Any] = {"model": deployment[1]} if deployment else {}
        if "multipart/form-data" in self.headers.get("content-type", ""):
            form = re.findall(r'; name="([^"]+)"\r\n\r\n(.*?)\r\n', self.body.decode("utf-8", "replace"))
            return fields | dict(form)
        return fields | self.json if self.body else fields


class _Connection(asyncio.Protocol):
    """Read requests from one connection and send their replies, one after the other."""

    def __init__(
        self, peers: set["_Connection"], answer: Callable[[RecordedRequest], tuple[Reply, dict[str, str | None]]]
    ) -> None:
        self._peers = peers
        self._answer = answer
        self._reader = asyncio.StreamReader(limit=1 << 20)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self.transport = cast("asyncio.Transport", transport)
        self._peers.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Pass bytes on to the reader."""
        self._reader.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """End whatever is being read or sent: a client that goes away is no error."""
        self._peers.discard(self)
        self._task.cancel()

    async def _serve(self) -> None:
        try:
            while not self.transport.is_closing():
                try:
                    request = await self._read()
                except (ValueError, asyncio.LimitOverrunError):
                    self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    break
                await self._send(request, *self._answer(request))
        finally:
            self.transport.close()

    async def _read(self) -> RecordedRequest:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, target, version = first.split(" ")
        headers: dict[str, str] = {"connection": "close"} if version == "HTTP/1.0" else {}
        for name, _, value in (line.partition(":") for line in lines):
            headers[name.lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                body += (await self._reader.readexactly(size + 2))[:-2]
            while await self._reader.readuntil(b"\r\n") != b"\r\n":
                pass  # trailers
        else:
            body += await self._reader.readexactly(int(headers.get("content-length", 0)))
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        return RecordedRequest(method, unquote(url.path), query, headers, bytes(body))

    async def _send(self, request: RecordedRequest, reply: Reply, headers: dict[str, str | None]) -> None:
        await asyncio.sleep(reply.delay)
        if reply.status == DROP.status:
            self.transport.close()
            return
        body = reply.body if reply.json is None else json.dumps(reply.json).encode()
        headers |= {} if reply.json is None else {"content-type": "application/json"}
        headers |= {"content-length": str(len(body))} if reply.chunks is None else {"transfer-encoding": "chunked"}
        headers |= {"connection": "close"} if request.headers.get("connection", "").lower() == "close" else {}
        headers |= {name.lower(): value for name, value in reply.headers.items()}
        head = [f"HTTP/1.1 {reply.status} {phrases.get(reply.status, '')}"]
        head += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        bare = request.method == "HEAD"
        self.transport.write("\r\n".join([*head, "\r\n"]).encode("latin-1") + (b"" if bare else body))
        if reply.chunks is not None and not bare:
            await self._send_chunks(reply.chunks)
        if headers.get("connection") == "close":
            self.transport.close()

    async def _send_chunks(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            match chunk:
                case Action.RESET:
                    while self.transport.get_write_buffer_size():  # noqa: ASYNC110  # a transport has no such event
                        await asyncio.sleep(0.001)
                    linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
                    self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.transport.abort()
                    return
                case Action.TRUNCATE:
                    self.transport.close()
                    return
                case Action.STALL:
                    await asyncio.get_running_loop().create_future()
                case str() | bytes():
                    data = chunk.encode() if isinstance(chunk, str) else chunk
                    self.transport.write(b"%x\r\n%s\r\n" % (len(data), data) if data else b"")
                    await asyncio.sleep(0)  # streams take turns
                case _:
                    await asyncio.sleep(chunk)
        self.transport.write(b"0\r\n\r\n")


_SPEAKERS: Final = (ollama.answer, answers.answer, anthropic.answer)
"""Who may have an answer, in this order; their paths differ."""


class ScriptedServer:
    """Serve LLM answers from a thread: scripted replies first, then what an OpenAI server might say.

    Args:
        host: the address to listen on.
        port: the port to listen on, 0 for any free one.
        words: the text of unscripted answers; streams send it word by word.
        chunk_delay: seconds between the chunks of unscripted streams.
    """

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, words: str = answers.WORDS, chunk_delay: float = 0.0
    ) -> None:
        self.host = host
        self.port = port
        self.requests: list[RecordedRequest] = []
        self._words = words
        self._chunk_delay = chunk_delay
        self._numbers = count(1)
        self._tokens = 30_000
        self._script: deque[Reply] = deque()
        self._models: dict[str, deque[Reply]] = {}
        self._connections: set[_Connection] = set()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Give the address of the server."""
        return f"http://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """Give the base URL for an OpenAI client."""
        return self.url + "/v1"

    @property
    def open_connections(self) -> int:
        """Count the connections open now."""
        return len(self._connections)

    def script(self, *replies: Reply) -> None:
        """Answer the next requests with these replies, first in first out, whatever they ask."""
        self._script.extend(replies)

    def on_model(self, model: str, *replies: Reply) -> None:
        """Answer the requests for a model with these replies in turn, the last one again and again."""
        self._models[model] = deque(replies)

    def start(self) -> Self:
        """Listen, and serve from a daemon thread."""
        if self._thread is not None:
            raise RuntimeError("the server runs already")
        listener = socket.create_server((self.host, self.port), backlog=4096)
        self.port = listener.getsockname()[1]
        runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        self._loop, self._stopping = runner.get_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(runner, listener), name="scripted-server", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close every connection and join the thread; do nothing if the server does not run."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        """Start the server."""
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        """Stop the server."""
        self.stop()

    def _run(self, runner: asyncio.Runner, listener: socket.socket) -> None:
        with runner, listener:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        server = await self._loop.create_server(
            lambda: _Connection(self._connections, self._answer), sock=listener, backlog=4096
        )
        await self._stopping.wait()
        # asyncio takes two turns to hand over a connection it has just accepted, and would lose it if closed by then.
        self._loop.remove_reader(listener)
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()
        while self._connections:
            for connection in self._connections:
                connection.transport.abort()
            await asyncio.sleep(0)

    def _answer(self, request: RecordedRequest) -> tuple[Reply, dict[str, str | None]]:
        self.requests.append(request)
        number = next(self._numbers)
        self._tokens = max(0, self._tokens - len(request.body) // 4)
        reply = self._choose(request, number)
        usual: dict[str, str | None] = {
            "x-request-id": f"req_{number:08}",
            "openai-processing-ms": str(round(reply.delay * 1000) + 1),
            "x-ratelimit-limit-requests": "500",
            "x-ratelimit-remaining-requests": str(max(0, 500 - number)),
            "x-ratelimit-limit-tokens": "30000",
            "x-ratelimit-remaining-tokens": str(self._tokens),
        }
        return reply, usual

    def _choose(self, request: RecordedRequest, number: int) -> Reply:
        if self._script:
            return self._script.popleft()
        try:
            fields = {} if request.path.startswith(ollama.BLOBS) else request.fields
            if replies := self._models.get(fields.get("model", "")):
                return replies.popleft() if len(replies) > 1 else replies[0]
            asked = request.method, request.path, fields, number, self._words
            answer = next((made for make in _SPEAKERS if (made := make(*asked)) is not None), None)
        except Exception as exc:
            return error(400, message=f"cannot answer this request: {exc!r}")
        match answer:
            case None:
                return error(404, message=f"Invalid URL ({request.method} {request.path})")
            case bytes():
                return Reply(body=answer, headers={"content-type": "audio/mpeg"})
            case ollama.Lines():
                lines: list[Chunk] = [part for line in answer for part in (self._chunk_delay, f"{json.dumps(line)}\n")]
                return Reply(chunks=lines[1:], headers={"content-type": "application/x-ndjson"})
            case list():
                paused = [part for event in answer for part in (self._chunk_delay, event)]
                return sse(*paused[1:] if self._chunk_delay else answer, done=False)
            case dict():
                return Reply(json=answer)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m otel_llm.testing.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--words", default=answers.WORDS, help="the text to answer with")
    parser.add_argument("--chunk-delay", type=float, default=0.0, help="seconds between the chunks of a stream")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(ScriptedServer(**vars(options)))
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                parser.exit(1, f"port {options.port} is taken: choose another with --port\n")
            parser.exit(1, f"cannot listen on {options.host}, port {options.port}: {problem}\n")
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        print(f"Serving {server.base_url} until Ctrl-C", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
