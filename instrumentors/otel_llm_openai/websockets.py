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
from contextvars import ContextVar
from functools import cache, partial
from types import ModuleType
from typing import Any, TypeAlias, cast
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary, ref

from otel_llm import foreign
from otel_llm.call import Call
from otel_llm.context import current_context
from otel_llm.exchange import Server
from otel_llm.faults import fault, guarded
from otel_llm.patching import Make, Patches
from otel_llm.provider import base_url_of, provider_of
from otel_llm.streams import Tap
from otel_llm.telemetry import Telemetry, suppressed
from otel_llm.wire import Format
from otel_llm.wire.fields import field, fields, text
from otel_llm.wire.openai_realtime import (
    AUDIO_EVENTS,
    CREATE,
    CREATED,
    ENDS,
    HEARD,
    REALTIME,
    RESPONSES_EVENTS,
    Conversation,
    Items,
    hear,
)
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

_OTHERS = ("input_audio_buffer_", "output_audio_buffer_", "item_", "response_cancel_", "session_")
"""How the codes of errors of the Realtime API begin that are about something else than the request for a response."""

_CREATE_BYTES = CREATE.encode()
_NOTHING: Mapping[str, Any] = {}

_Failed: TypeAlias = Callable[[BaseException], None]
"""Ends a response whose request could not be sent."""

_inside: ContextVar[bool] = ContextVar("otel_llm_websocket", default=False)
"""Whether a ``recv`` or ``send`` sees the event already, so that what it is made of need not."""


class _Asked:
    """One response: the request for it, then what comes of it."""

    __slots__ = ("call", "event_id", "request", "said", "stream_id", "tap")

    def __init__(self, event: Mapping[str, Any], stream_id: str | None) -> None:
        self.event_id = text(event.get("event_id"))
        self.stream_id = stream_id or text(event.get("stream_id"))
        self.request: Mapping[str, Any] = {}
        """What the Realtime API is asked for."""
        self.said: Items = {}
        """What it answers, where content is captured."""
        self.call: Call | None = None
        self.tap: Tap | None = None
        """None where the user wants no record."""


class _Session:
    """The responses of one connection: those asked for, and those under way by their ids."""

    def __init__(self, telemetry: Telemetry, format: Format, connection: Any) -> None:
        self._telemetry = telemetry
        self._format = format
        self._server, self._endpoint, self._model = _address(connection)
        self._session_model: str | None = None
        self._waiting: list[_Asked] = []
        self._running: dict[str, _Asked] = {}
        self._latest: dict[str | None, _Asked] = {}
        """The last response of each stream, since most events of the Responses API do not tell its id."""
        captures = telemetry.captures_content and format is REALTIME
        self._conversation = Conversation() if captures else None

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
        call.provider, call.server_address, call.server_port, call.base_url = self._server
        call.endpoint = self._endpoint
        try:
            format.read_request(call, event)
            call.request_model = call.request_model or self._model
            call.streaming = call.streamed = True
            call.attributes[names.GEN_AI_REQUEST_STREAM] = True
            if self._conversation is not None:
                asked.request = {**fields(event.get("response"))}
                self._conversation.read(call, asked.request, asked.said)
            elif telemetry.captures_content and format.read_request_content is not None:
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
        # What `fields` does, without its frame and its copy: most events are a piece of a response that has begun.
        own: Mapping[str, Any] = (
            cast("dict[str, Any]", event) if event.__class__ is dict else getattr(event, "__dict__", _NOTHING)
        )
        extra: Mapping[str, Any] = getattr(event, "__pydantic_extra__", None) or _NOTHING
        kind = own.get("type") or extra.get("type")
        if type(kind) is not str:
            return
        if kind[:9] == "response.":
            if own.get("response") is not None:
                asked = self._of(fields(event), kind)
            elif type(identifier := own.get("response_id") or extra.get("response_id")) is str:
                asked = self._running.get(identifier)
            else:
                asked = self._latest.get(text(own.get("stream_id") or extra.get("stream_id")))
            if asked is None:
                return
            if kind in ENDS:
                self._last(asked, event)
            elif asked.tap is not None:
                asked.tap.saw(None if kind in AUDIO_EVENTS else event)
        elif kind == "error":
            asked = self._blamed(fields(event))
            if asked is not None:
                self._last(asked, event)
        else:
            if kind in ("session.created", "session.updated"):
                self._session_model = text(field(own.get("session"), "model"))
                self._model = self._model or self._session_model
            if self._conversation is not None:
                self._listen(self._conversation, kind, fields(event))

    def _last(self, asked: _Asked, event: object) -> None:
        """End a response with its last event."""
        self._forget(asked)
        tap, call = asked.tap, asked.call
        if tap is not None and call is not None:
            tap.saw(event)
            call.response_model = call.response_model or self._session_model
            tap.complete()

    def _of(self, event: Mapping[str, Any], kind: str) -> _Asked | None:
        """Return the response that an event tells the state of; it may be the first event of it."""
        stream_id = text(event.get("stream_id"))
        identifier = text(field(event.get("response"), "id"))
        asked = self._latest.get(stream_id) if identifier is None else self._running.get(identifier)
        if asked is not None or identifier is None:
            return asked
        asked = next((one for one in self._waiting if one.stream_id == stream_id), None)
        if asked is None and kind == CREATED:
            asked = self.ask({}, stream_id)  # by the server itself, such as when somebody has stopped speaking
        if asked is None:
            return None
        self._waiting.remove(asked)
        self._running[identifier] = self._latest[stream_id] = asked
        if self._conversation is not None:
            asked.said = self._conversation.take(asked.request)
            if asked.call is not None:
                self._conversation.read(asked.call, asked.request, asked.said)
        return asked

    def _listen(self, conversation: Conversation, kind: str, event: Mapping[str, Any]) -> None:
        """Take note of what was said; the transcript of a question may come while it is answered."""
        if kind != HEARD:
            conversation.saw(kind, event)
        elif not hear(conversation.items, event):
            for asked in self._running.values():
                if hear(asked.said, event) and asked.call is not None:
                    conversation.read(asked.call, asked.request, asked.said)

    def _blamed(self, event: Mapping[str, Any]) -> _Asked | None:
        """Return the response that an error ends, if it is about one."""
        if self._format is not REALTIME:
            # The responses of one stream are made one after the other. What has a number is part of the one under way;
            # else a request is refused, which is the next one if there is one.
            stream_id = text(event.get("stream_id"))
            all = [one for one in (*self._running.values(), *self._waiting) if one.stream_id == stream_id]
            refused = [one for one in all if one in self._waiting]
            return next(iter(all if event.get("sequence_number") is not None else refused or all), None)
        # A response that has begun tells its failure itself. An error names the event that caused it where that event
        # had an id, so one without a name is about none of those. It may be about any other event, such as audio: it is
        # the response's unless its parameter or its code say otherwise, and the oldest one's, since they are taken in
        # turn. Source: ``event_id``, ``param`` and ``code`` of the Realtime API's error event.
        error = fields(event.get("error"))
        event_id = text(error.get("event_id"))
        if event_id is None:
            param, code = text(error.get("param")) or "response", text(error.get("code")) or ""
            if param.partition(".")[0] != "response" or code.startswith(_OTHERS):
                return None
        return next((one for one in self._waiting if one.event_id == event_id), None)

    def _forget(self, asked: _Asked) -> None:
        """Let go of a response, so that what comes later is no part of it."""
        with suppress(ValueError):
            self._waiting.remove(asked)
        self._running = {key: one for key, one in self._running.items() if one is not asked}
        self._latest = {key: one for key, one in self._latest.items() if one is not asked}

    def end(self, error: BaseException | None = None) -> None:
        """End all responses with the connection: with the exception that the reader gets, or closed by the caller."""
        left = [*self._running.values(), *self._waiting]
        self._running.clear()
        self._latest.clear()
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
        self.telemetry = telemetry
        self._sessions: dict[int, tuple[ref[Any], _Session]] = {}
        """By the connection's identity: a weak dictionary would hash and compare for every event. It goes with a
        connection that is dropped; then its taps end what was under way."""

    def _session(self, connection: Any) -> _Session | None:
        format = _format_of(connection.__class__)
        if format is None:
            return None
        key, sessions = id(connection), self._sessions
        known = ref(connection, lambda _: sessions.pop(key, None)), _Session(self.telemetry, format, connection)
        # One thread may send while another receives; of two that meet a new connection the first is right.
        return sessions.setdefault(key, known)[1]

    def asks(self, sender: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Failed | None:
        """Begin a response if what is sent asks for one; return what to call if that fails."""
        try:
            event = args[0] if args else next(iter(kwargs.values()))
            if isinstance(event, (str, bytes)):
                if (CREATE not in event) if isinstance(event, str) else (_CREATE_BYTES not in event):
                    return None
                try:
                    event = json.loads(event)
                except ValueError:
                    return None
            own = fields(event)
            if own.get("type") != CREATE:
                return None
            connection, stream_id = sender, None
            if any(cls.__name__.endswith(_LANE) for cls in type(sender).__mro__):
                connection, stream_id = sender._session.connection, sender._state.stream_id
            known = self._sessions.get(id(connection))
            session = self._session(connection) if known is None else known[1]
            if session is not None:
                return partial(session.failed, session.ask(own, stream_id))
        except Exception:
            fault("websocket.ask")
        return None

    def saw(self, connection: Any, event: Any) -> None:
        """Take note of one event of the server's, as the client made it or in bytes."""
        try:
            known = self._sessions.get(id(connection))
            session = self._session(connection) if known is None else known[1]
            if session is None:
                return
            if type(event) is bytes:
                try:
                    event = json.loads(event)
                except ValueError:
                    return
            session.saw(event)
        except Exception:
            fault("websocket.saw")

    @guarded
    def lost(self, connection: Any, error: BaseException) -> None:
        """End the responses where the reader's exception says that the connection is closed."""
        closed: Any = getattr(sys.modules.get("websockets.exceptions"), "ConnectionClosed", ())
        if isinstance(error, closed) and (known := self._sessions.get(id(connection))) is not None:
            known[1].end(error)

    @guarded
    def closes(self, connection: Any) -> None:
        """End the responses of a connection that the caller closes."""
        known = self._sessions.get(id(connection))
        if known is not None:
            known[1].end()


@cache
def _format_of(kind: type[object]) -> Format | None:
    """Return what a class of connections speaks; not all that are patched by their base class are known."""
    return next((_FORMATS[cls.__module__] for cls in kind.__mro__ if cls.__module__ in _FORMATS), None)


def _address(connection: Any) -> tuple[Server, str | None, str | None]:
    """Return whom a connection talks to, its path, and the model that its URL names.

    A connection does not know its client. One with ``provider=`` is refused by `openai` 3.52 unless it is of the beta
    and brings its own authorization; then, as in older versions, the host tells the provider, unless it is a gateway.
    """
    protocol = getattr(connection._connection, "protocol", None)
    uri: Any = getattr(protocol, "uri", None) or getattr(protocol, "wsuri", None)  # websockets 15, and 13
    if not isinstance(getattr(uri, "host", None), str):  # somebody's own, as in tests
        return Server(Provider.OPENAI, None, None), None, None
    query = parse_qs(uri.query)
    azure = "api-version" in query
    provider = Provider.AZURE_AI_OPENAI if azure else provider_of(uri.host, uri.port, Provider.OPENAI)
    (model,) = query.get("deployment" if azure else "model", [None])[:1]
    scheme, path = "wss" if uri.secure else "ws", text(uri.path)
    base_url = base_url_of(scheme, uri.host, uri.port, (path or "").rpartition("/")[0])
    return Server(provider, uri.host, uri.port, base_url), path, text(model)


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


def _receives(patches: Patches, sockets: _Sockets) -> Make:
    telemetry = sockets.telemetry

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def receive(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active or _inside.get() or (telemetry.asleep and not telemetry.wakes()):
                return original(self, *args, **kwargs)
            _inside.set(True)
            try:
                event = original(self, *args, **kwargs)
            except BaseException as error:
                sockets.lost(self, error)
                raise
            finally:
                _inside.set(False)
            sockets.saw(self, event)
            return event

        return receive

    return make


def _areceives(patches: Patches, sockets: _Sockets) -> Make:
    telemetry = sockets.telemetry

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def receive(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active or _inside.get() or (telemetry.asleep and not telemetry.wakes()):
                return await original(self, *args, **kwargs)
            _inside.set(True)
            try:
                event = await original(self, *args, **kwargs)
            except BaseException as error:
                sockets.lost(self, error)
                raise
            finally:
                _inside.set(False)
            sockets.saw(self, event)
            return event

        return receive

    return make


def _sends(patches: Patches, sockets: _Sockets) -> Make:
    telemetry = sockets.telemetry

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def send(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active or _inside.get() or (telemetry.asleep and not telemetry.wakes()):
                return original(self, *args, **kwargs)
            failed = sockets.asks(self, args, kwargs)
            _inside.set(True)
            try:
                return original(self, *args, **kwargs)
            except BaseException as error:
                if failed is not None:
                    failed(error)
                raise
            finally:
                _inside.set(False)

        return send

    return make


def _asends(patches: Patches, sockets: _Sockets) -> Make:
    telemetry = sockets.telemetry

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def send(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active or _inside.get() or (telemetry.asleep and not telemetry.wakes()):
                return await original(self, *args, **kwargs)
            failed = sockets.asks(self, args, kwargs)
            _inside.set(True)
            try:
                return await original(self, *args, **kwargs)
            except BaseException as error:
                if failed is not None:
                    failed(error)
                raise
            finally:
                _inside.set(False)

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
