"""Where `httpx` and `httpx2` are patched: ``send`` of their clients, through which every request passes once.

Redirects and authentication happen inside of it. A request that is no LLM call, or that belongs to a client which is
instrumented itself, costs a look at its method and its path.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

from opentelemetry import context as context_api

from otel_llm.context import current_context
from otel_llm.exchange import Exchange, owner
from otel_llm.faults import fault
from otel_llm.foreign import covered_by_any
from otel_llm.patching import Patches
from otel_llm.telemetry import Telemetry
from otel_llm.wire.failure import FAILURE
from otel_llm_httpx.rules import Rules

Begin: TypeAlias = "Callable[[Any], HttpExchange | None]"
"""Begins the exchange of a POST request that is an LLM call of nobody else's."""

_KNOWN = ("self", "request", "stream", "auth", "follow_redirects")


def patch(module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
    """Patch the sync and the async client of a library, where it has the two and they have not been patched yet."""
    begin = _begin(patches, telemetry, Rules(telemetry.settings.http_rules))
    for name, exact, generic in (("Client", _exact, _generic), ("AsyncClient", _aexact, _ageneric)):
        cls = getattr(module, name, None)
        # One library may stand in for the other, as `httpx2.alias_httpx()` has it.
        if isinstance(cls, type) and not patches.have_replaced(cls):
            patches.replace(cls, "send", partial(exact if _is_known(cls.__dict__.get("send")) else generic, begin))


def _is_known(send: object) -> bool:
    """Whether this is the method with the signature that we know."""
    return (
        type(send) is FunctionType
        and send.__code__.co_varnames[: len(_KNOWN)] == _KNOWN
        and send.__code__.co_argcount == 2
        and set(send.__kwdefaults__ or ()) == set(_KNOWN[2:])
    )


class HttpExchange(Exchange):
    """An exchange of which nothing is known but the HTTP request."""

    covered = staticmethod(covered_by_any)

    def received(self, response: Any) -> None:
        """Take note of a response that is about to be handed out, its body read or not."""
        try:
            if self._call is not None and response.status_code >= 400:
                self._call.error_type = str(response.status_code)
                self._call.streaming = False
                self._format = FAILURE
            self.answered(response)
        except Exception:
            fault("received")
        self.returned(response)


def _begin(patches: Patches, telemetry: Telemetry, rules: Rules) -> Begin:
    find = rules.find

    def begin(request: Any) -> HttpExchange | None:
        try:
            if owner() is not None or not patches.active:
                return None
            if telemetry.asleep and not telemetry.wakes():
                return None
            match = find(request)
            if match is None:
                return None
            if current_context.get().get(context_api._SUPPRESS_HTTP_INSTRUMENTATION_KEY):
                return None
        except Exception:
            fault("http_rules")
            return None
        exchange = HttpExchange()
        exchange.telemetry = telemetry
        try:
            format, server, endpoint, body, image = match
            exchange.begin(format, server, endpoint, body, raw=True, image=image)
        except Exception:
            fault("begin")
        except BaseException as error:
            exchange.failed(error)
            raise
        return None if exchange.idle else exchange

    return begin


def _observed(exchange: HttpExchange, send: Callable[[], Any]) -> Any:
    try:
        response = send()
    except BaseException as error:
        exchange.failed(error)
        raise
    exchange.received(response)
    return response


async def _aobserved(exchange: HttpExchange, send: Callable[[], Any]) -> Any:
    try:
        response = await send()
    except BaseException as error:
        exchange.failed(error)
        raise
    exchange.received(response)
    return response


# A call with the exact arguments costs a fifth of one with any, and most requests are no LLM calls.


def _exact(begin: Begin, original: Any) -> Callable[..., Any]:
    def send(self: Any, request: Any, *, stream: bool = False, auth: Any = None, follow_redirects: Any = None) -> Any:
        if request.method != "POST" or (exchange := begin(request)) is None:
            return original(self, request, stream=stream, auth=auth, follow_redirects=follow_redirects)
        return _observed(
            exchange, partial(original, self, request, stream=stream, auth=auth, follow_redirects=follow_redirects)
        )

    send.__kwdefaults__ = original.__kwdefaults__
    return send


def _aexact(begin: Begin, original: Any) -> Callable[..., Any]:
    async def send(
        self: Any, request: Any, *, stream: bool = False, auth: Any = None, follow_redirects: Any = None
    ) -> Any:
        if request.method != "POST" or (exchange := begin(request)) is None:
            return await original(self, request, stream=stream, auth=auth, follow_redirects=follow_redirects)
        return await _aobserved(
            exchange, partial(original, self, request, stream=stream, auth=auth, follow_redirects=follow_redirects)
        )

    send.__kwdefaults__ = original.__kwdefaults__
    return send


def _generic(begin: Begin, original: Callable[..., Any]) -> Callable[..., Any]:
    def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = args[0] if args else kwargs.get("request")
        if getattr(request, "method", None) != "POST" or (exchange := begin(request)) is None:
            return original(self, *args, **kwargs)
        return _observed(exchange, partial(original, self, *args, **kwargs))

    return send


def _ageneric(begin: Begin, original: Callable[..., Any]) -> Callable[..., Any]:
    async def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = args[0] if args else kwargs.get("request")
        if getattr(request, "method", None) != "POST" or (exchange := begin(request)) is None:
            return await original(self, *args, **kwargs)
        return await _aobserved(exchange, partial(original, self, *args, **kwargs))

    return send
