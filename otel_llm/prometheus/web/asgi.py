"""The pages as an ASGI application: FastAPI, Starlette, Django and whatever else speaks it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from otel_llm.prometheus.web.answer import Answer, Site, own_site, path_below
from otel_llm.prometheus.web.auth import gate
from otel_llm.prometheus.web.pool import Pool

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Of our own: the event loop's threads are the application's, which resolves names in them before it can call a model.
_pages = Pool(threads=2, queue=8)
_passwords = Pool(threads=1, queue=8)
"""Who has been let in waits for nobody's wrong password."""


def make_asgi_app(
    *,
    basic_auth: Mapping[str, str] | None = None,
    bearer_token: str | None = None,
    bearer_token_file: str | os.PathLike[str] | None = None,
) -> AsgiApp:
    """Return an ASGI application with the pages, to be mounted at ``/metrics`` or at the root.

    Pages are made in two threads of our own, so that a large one does not hold up the event loop, be it asyncio's or
    trio's. Eight requests may wait for one; beyond that the answer is status 503.

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
        pool = _passwords if self._site.hashes(headers) else _pages
        work = pool.submit(partial(self._site.answer, scope["method"], path, query, headers))
        found = self._site.busy(scope["method"]) if work is None else await _result(work)
        written = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in found.headers]
        await send({"type": "http.response.start", "status": found.status.value, "headers": written})
        await send({"type": "http.response.body", "body": found.body})


async def _result(work: Future[Answer]) -> Answer:
    trio: Any = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        return await asyncio.wrap_future(work)
    done, token = trio.Event(), trio.lowlevel.current_trio_token()

    def tell(_: object) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    work.add_done_callback(tell)
    try:
        await done.wait()
    finally:
        work.cancel()
    return work.result()


async def _live(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
