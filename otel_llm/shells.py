"""What stands in place of a client's request method: two shells, sync and async, around one body, the `Exchange`.

The client's own value and exception go through untouched; nothing here can fail but the client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from otel_llm.exchange import Exchange
from otel_llm.faults import fault
from otel_llm.patching import Make, Patches
from otel_llm.telemetry import Telemetry

Begin: TypeAlias = Callable[[Exchange, Any, tuple[Any, ...], dict[str, Any]], None]
"""Begins the exchange from the client and the arguments of its request, or leaves it alone; it may raise."""


def around(patches: Patches, telemetry: Telemetry, begin: Begin) -> Make:
    """Return how to replace a sync request method."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active or (telemetry.asleep and not telemetry.wakes()):
                return original(self, *args, **kwargs)
            exchange = Exchange()
            exchange.telemetry = telemetry
            try:
                begin(exchange, self, args, kwargs)
            except Exception:
                fault("begin")
            except BaseException as error:
                exchange.failed(error)
                raise
            if exchange.idle:
                exchange.step_aside()
            try:
                result = original(self, *args, **kwargs)
            except BaseException as error:
                exchange.failed(error)
                raise
            exchange.returned(result)
            return result

        return request

    return make


def aaround(patches: Patches, telemetry: Telemetry, begin: Begin) -> Make:
    """Return how to replace an async request method."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active or (telemetry.asleep and not telemetry.wakes()):
                return await original(self, *args, **kwargs)
            exchange = Exchange()
            exchange.telemetry = telemetry
            try:
                begin(exchange, self, args, kwargs)
            except Exception:
                fault("begin")
            except BaseException as error:
                exchange.failed(error)
                raise
            if exchange.idle:
                exchange.step_aside()
            try:
                result = await original(self, *args, **kwargs)
            except BaseException as error:
                exchange.failed(error)
                raise
            exchange.returned(result)
            return result

        return request

    return make
