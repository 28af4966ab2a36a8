"""The pages as an ASGI application: FastAPI, Starlette, Django and whatever else speaks it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

from otel_llm.prometheus.web.answer import Answer, Site, own_site, path_below
from otel_llm.prometheus.web.auth import gate

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def make_asgi_app(
    *,
    basic_auth: Mapping[str, str] | None = None,
    bearer_token: str | None = None,
    bearer_token_file: str | os.PathLike[str] | None = None,
) -> AsgiApp:
    """Return an ASGI application with the pages, to be mounted at ``/metrics`` or at the root.

    Pages are made in a thread, so that a large one does not hold up the event loop, be it asyncio's or trio's.

    Args:
        basic_auth: bcrypt hashes by user name; who else asks is answered with status 401.
        bearer_token: a token that is as good as a password.
        bearer_token_file: the path of a file with the token, which may be replaced at any time.

    Raises:
        ValueError: a hash or a token is none; the message names the setting.
        ImportError: *basic_auth* is given and `bcrypt`, of the extra ``serve``, is not installed.
    """
    return AsgiApp(own_site(gate(basic_auth, bearer_token, bearer_token_file)))


class AsgiApp:
    """A site as an ASGI application.

    An object and no function: Starlette takes a function that is a route for one of requests to responses.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request; source: ASGI 3.0, HTTP and lifespan."""
        match scope["type"]:
            case "http":
                await self._answer(scope, send)
            case "lifespan":
                await _live(receive, send)
            case "websocket":
                await send({"type": "websocket.close"})
            case kind:
                raise ValueError(f"otel_llm: the pages are served over http, not {kind}")

    async def _answer(self, scope: MutableMapping[str, Any], send: Send) -> None:
        headers: dict[str, str] = {}
        for raw, value in scope["headers"]:
            name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        path = path_below(scope.get("root_path", ""), scope["path"])
        query = scope.get("query_string", b"").decode("latin-1")
        found = await _in_a_thread(partial(self._site.answer, scope["method"], path, query, headers))
        written = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in found.headers]
        await send({"type": "http.response.start", "status": found.status.value, "headers": written})
        await send({"type": "http.response.body", "body": found.body})


async def _in_a_thread(work: Callable[[], Answer]) -> Answer:
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        answer: Answer = await trio.to_thread.run_sync(work)
        return answer
    return await asyncio.to_thread(work)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
