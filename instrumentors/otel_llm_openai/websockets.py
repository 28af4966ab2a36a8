"""Where the `openai` client's websockets are patched: one call for each response of a connection.

Every connection class of every version has ``recv``, ``recv_bytes`` and ``send``; ``send_raw`` and ``close`` are its
own or those of a base class. A response begins when the caller sends ``response.create``, is known by its id from
``response.created`` on, and ends with its last event, an error, or the connection.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import cache, partial
from types import ModuleType
from typing import Any, TypeAlias
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from otel_llm import foreign
from otel_llm.call import Call
from otel_llm.context import current_context
from otel_llm.exchange import Server
from otel_llm.faults import fault, guarded
from otel_llm.patching import Make, Patches
from otel_llm.provider import provider_of
from otel_llm.streams import Tap
from otel_llm.telemetry import Telemetry, suppressed
from otel_llm.wire import Format
from otel_llm.wire.fields import field, fields, text
from otel_llm.wire.openai_realtime import CREATE, CREATED, ENDS, REALTIME, RESPONSES_EVENTS
from otel_llm_semconv import attributes as names
from otel_llm_semconv.providers import Provider

_FORMATS = {
    "openai.resources.realtime.realtime": REALTIME,
    "openai.resources.beta.realtime.realtime": REALTIME,
    "openai.resources.responses.responses": RESPONSES_EVENTS,
    "openai.resources.beta.responses.responses": RESPONSES_EVENTS,
}
"""The formats by the module that defines the connections."""

_CONNECTIONS = ("RealtimeConnection", "ResponsesConnection", "WebSocketConnectionBase")
_LANE = "ResponsesWebSocketLane"
"""A lane of a connection in ``openai.lib``, which sends past the connection's own methods."""

_OTHERS = frozenset({"session", "item", "audio", "conversation"})
"""First part of the parameter that an error of the Realtime API complains of, where that is not the response's."""

_CREATE_BYTES = CREATE.encode()

_Failed: TypeAlias = Callable[[BaseException], None]
"""Ends a response whose request could not be sent."""

_inside: ContextVar[bool] = ContextVar("otel_llm_websocket", default=False)
"""Whether a ``recv`` or ``send`` sees the event already, so that what it is made of need not."""


class _Asked:
    """One response: the request for it, then what comes of it."""

    __slots__ = ("call", "event_id", "stream_id", "tap")

    def __init__(self, event: Mapping[str, Any], stream_id: str | None) -> None:
        self.event_id = text(event.get("event_id"))
        self.stream_id = stream_id or text(event.get("stream_id"))
        self.call: Call | None = None
        self.tap: Tap | None = None
        """None where the user wants no record."""


class _Session:
    """The responses of one connection: those asked for, and those under way by their ids."""

    def __init__(self, telemetry: Telemetry, format: Format, connection: Any) -> None:
        self._telemetry = telemetry
        self._format = format
        self._server, self._model = _address(connection)
        self._session_model: str | None = None
        self._waiting: list[_Asked] = []
        self._running: dict[str, _Asked] = {}
        self._latest: dict[str | None, str] = {}
        """Id of the last response of each stream, since most events of the Responses API do not tell it."""

    def ask(self, event: Mapping[str, Any], stream_id: str | None = None) -> _Asked:
        """Begin the call of one response, as a child of the present span, unless the user asked for silence."""
        asked = _Asked(event, stream_id)
        self._waiting.append(asked)
        context = current_context.get()
        if context and suppressed(context):
            return asked
        telemetry, format = self._telemetry, self._format
        call = asked.call = Call()
        asked.tap = Tap(telemetry, call, format)
        call.operation = format.operation
        call.context = context
        call.provider, call.server_address, call.server_port = self._server
        try:
            format.read_request(call, event)
            call.request_model = call.request_model or self._model
            call.streaming = call.streamed = True
            call.attributes[names.GEN_AI_REQUEST_STREAM] = True
            if telemetry.captures_content and format.read_request_content is not None:
                format.read_request_content(call, event)
            if context or foreign.may_be_near():
                call.covered = foreign.covered(format.operation, context)
        finally:
            telemetry.begin(call)
        return asked

    @guarded
    def failed(self, asked: _Asked, error: BaseException) -> None:
        """End a response whose request could not be sent."""
        with suppress(ValueError):
            self._waiting.remove(asked)
        if asked.tap is not None:
            asked.tap.fail(error)

    def saw(self, event: object) -> None:
        """Take note of one event of the server's."""
        own = fields(event)
        kind = own.get("type")
        if not isinstance(kind, str):
            return
        if kind.startswith("response."):
            asked = self._of(own, kind)
            if asked is not None:
                self._told(asked, event, last=kind in ENDS)
        elif kind == "error":
            asked = self._blamed(own)
            if asked is not None:
                self._told(asked, event, last=True)
        elif kind in ("session.created", "session.updated"):
            self._session_model = text(field(own.get("session"), "model"))
            self._model = self._model or self._session_model

    def _told(self, asked: _Asked, event: object, *, last: bool) -> None:
        tap, call = asked.tap, asked.call
        if last:
            self._forget(asked)
        if tap is None or call is None:
            return
        tap.saw(event)
        if last:
            call.response_model = call.response_model or self._session_model
            tap.complete()

    def _of(self, event: Mapping[str, Any], kind: str) -> _Asked | None:
        """Return the response that an event is part of."""
        response = event.get("response")
        stream_id = text(event.get("stream_id"))
        identifier = text(event.get("response_id")) or text(field(response, "id")) or self._latest.get(stream_id, "")
        asked = self._running.get(identifier)
        if asked is not None or response is None:
            return asked
        asked = next((one for one in self._waiting if one.stream_id == stream_id), None)
        if asked is None and kind == CREATED:
            asked = self.ask({}, stream_id)  # by the server itself, such as when somebody has stopped speaking
        if asked is None:
            return None
        self._waiting.remove(asked)
        self._running[identifier] = asked
        self._latest[stream_id] = identifier
        return asked

    def _blamed(self, event: Mapping[str, Any]) -> _Asked | None:
        """Return the response that an error ends, if it is about one."""
        if self._format is not REALTIME:
            # The responses of one stream are made one after the other.
            stream_id = text(event.get("stream_id"))
            all = (*self._running.values(), *self._waiting)
            return next((one for one in all if one.stream_id == stream_id), None)
        # A response that has begun tells its failure itself.
        error = fields(event.get("error"))
        param = text(error.get("param")) or ""
        if param.partition(".")[0] in _OTHERS:
            return None
        event_id = text(error.get("event_id"))
        return next((one for one in self._waiting if one.event_id == event_id), None)

    def _forget(self, asked: _Asked) -> None:
        with suppress(ValueError):
            self._waiting.remove(asked)
        for identifier, one in list(self._running.items()):
            if one is asked:
                del self._running[identifier]

    def end(self, error: BaseException | None = None) -> None:
        """End all responses with the connection: with the exception that the reader gets, or closed by the caller."""
        left = [*self._running.values(), *self._waiting]
        self._running.clear()
        self._waiting.clear()
        for asked in left:
            if asked.call is not None and asked.tap is not None:
                asked.call.response_model = asked.call.response_model or self._session_model
                if error is None:
                    asked.tap.closed()
                else:
                    asked.tap.fail(error)


class _Sockets:
    """The sessions of all connections, and what the shells below tell them."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._sessions: WeakKeyDictionary[Any, _Session] = WeakKeyDictionary()
        """Ends with a connection that is dropped; then its taps end what was under way."""

    def _session(self, connection: Any) -> _Session | None:
        session = self._sessions.get(connection)
        if session is None:
            format = _format_of(connection.__class__)
            if format is not None:
                session = self._sessions[connection] = _Session(self._telemetry, format, connection)
        return session

    def asks(self, sender: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Failed | None:
        """Begin a response if what is sent asks for one; return what to call if that fails."""
        try:
            event = args[0] if args else next(iter(kwargs.values()))
            if isinstance(event, (str, bytes)):
                if (CREATE not in event) if isinstance(event, str) else (_CREATE_BYTES not in event):
                    return None
                event = json.loads(event)
            own = fields(event)
            if own.get("type") != CREATE:
                return None
            connection, stream_id = sender, None
            if any(cls.__name__.endswith(_LANE) for cls in type(sender).__mro__):
                connection, stream_id = sender._session.connection, sender._state.stream_id
            session = self._session(connection)
            if session is not None:
                return partial(session.failed, session.ask(own, stream_id))
        except Exception:
            fault("websocket.ask")
        return None

    @guarded
    def saw(self, connection: Any, event: Any) -> None:
        if isinstance(event, bytes):
            try:
                event = json.loads(event)
            except ValueError:
                return
        session = self._session(connection)
        if session is not None:
            session.saw(event)

    @guarded
    def lost(self, connection: Any, error: BaseException) -> None:
        """End the responses where the reader's exception says that the connection is closed."""
        closed: Any = getattr(sys.modules.get("websockets.exceptions"), "ConnectionClosed", ())
        session = self._sessions.get(connection) if isinstance(error, closed) else None
        if session is not None:
            session.end(error)

    @guarded
    def closes(self, connection: Any) -> None:
        session = self._sessions.get(connection)
        if session is not None:
            session.end()


@cache
def _format_of(kind: type[object]) -> Format | None:
    """Return what a class of connections speaks; not all that are patched by their base class are known."""
    return next((_FORMATS[cls.__module__] for cls in kind.__mro__ if cls.__module__ in _FORMATS), None)


def _address(connection: Any) -> tuple[Server, str | None]:
    """Return whom a connection talks to, and the model that its URL names."""
    protocol = getattr(connection._connection, "protocol", None)
    uri: Any = getattr(protocol, "uri", None) or getattr(protocol, "wsuri", None)  # websockets 15, and 13
    if not isinstance(getattr(uri, "host", None), str):  # somebody's own, as in tests
        return Server(Provider.OPENAI, None, None), None
    query = parse_qs(uri.query)
    azure = "api-version" in query
    provider = Provider.AZURE_AI_OPENAI if azure else provider_of(uri.host, uri.port, Provider.OPENAI)
    (model,) = query.get("deployment" if azure else "model", [None])[:1]
    return Server(provider, uri.host, uri.port), text(model)


_all: WeakKeyDictionary[Patches, _Sockets] = WeakKeyDictionary()
"""The one state of an instrumentation, whose patches lie in several modules."""


def patch(module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
    """Patch the connections, their base classes or the lanes that a module defines, sync and async."""
    sockets = _all.setdefault(patches, _Sockets(telemetry))
    for prefix, (receives, sends, closes) in {"": (_receives, _sends, _closes), "Async": _ASYNC}.items():
        for name in (*_CONNECTIONS, _LANE):
            cls = getattr(module, prefix + name, None)
            if cls is None or cls.__module__ != module.__name__:
                continue
            patches.replace(cls, "send", sends(patches, sockets))
            if name != _LANE:
                patches.replace(cls, "send_raw", sends(patches, sockets))
                patches.replace(cls, "recv", receives(patches, sockets))
                patches.replace(cls, "recv_bytes", receives(patches, sockets))
                patches.replace(cls, "close", closes(patches, sockets))


def _leave(token: Token[bool]) -> None:
    """Leave the inside, also where a coroutine is closed in a context that is not its own."""
    with suppress(ValueError, RuntimeError):
        _inside.reset(token)


def _receives(patches: Patches, sockets: _Sockets) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def receive(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active or _inside.get():
                return original(self, *args, **kwargs)
            token = _inside.set(True)
            try:
                event = original(self, *args, **kwargs)
            except BaseException as error:
                sockets.lost(self, error)
                raise
            finally:
                _leave(token)
            sockets.saw(self, event)
            return event

        return receive

    return make


def _areceives(patches: Patches, sockets: _Sockets) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def receive(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active or _inside.get():
                return await original(self, *args, **kwargs)
            token = _inside.set(True)
            try:
                event = await original(self, *args, **kwargs)
            except BaseException as error:
                sockets.lost(self, error)
                raise
            finally:
                _leave(token)
            sockets.saw(self, event)
            return event

        return receive

    return make


def _sends(patches: Patches, sockets: _Sockets) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def send(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active or _inside.get():
                return original(self, *args, **kwargs)
            failed = sockets.asks(self, args, kwargs)
            token = _inside.set(True)
            try:
                return original(self, *args, **kwargs)
            except BaseException as error:
                if failed is not None:
                    failed(error)
                raise
            finally:
                _leave(token)

        return send

    return make


def _asends(patches: Patches, sockets: _Sockets) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def send(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active or _inside.get():
                return await original(self, *args, **kwargs)
            failed = sockets.asks(self, args, kwargs)
            token = _inside.set(True)
            try:
                return await original(self, *args, **kwargs)
            except BaseException as error:
                if failed is not None:
                    failed(error)
                raise
            finally:
                _leave(token)

        return send

    return make


def _closes(patches: Patches, sockets: _Sockets) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def close(self: Any, *args: Any, **kwargs: Any) -> Any:
            if patches.active:
                sockets.closes(self)
            return original(self, *args, **kwargs)

        return close

    return make


def _acloses(patches: Patches, sockets: _Sockets) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def close(self: Any, *args: Any, **kwargs: Any) -> Any:
            if patches.active:
                sockets.closes(self)
            return await original(self, *args, **kwargs)

        return close

    return make


_ASYNC = (_areceives, _asends, _acloses)
