"""An application as gunicorn and uvicorn serve it: each request of ``/call`` makes one call of a model."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import openai
import prometheus_client
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider

import otel_llm
from otel_llm.prometheus import PrometheusReader

if os.environ.get("PREFORK_ONLY_THE_PAGE"):
    metrics.set_meter_provider(MeterProvider(metric_readers=[PrometheusReader()]))
    page = otel_llm.serve_metrics()
    calls = metrics.get_meter("app").create_counter("app_calls")
elif not os.environ.get("PREFORK_ZERO_CODE"):
    otel_llm.instrument(dialects=("aegis",), serve=True if os.environ.get("PREFORK_SERVE") else None)

if os.environ.get("PREFORK_NATIVE"):
    prometheus_client.Counter("shop_orders", "Orders.").inc()

client = openai.OpenAI(base_url=os.environ["PREFORK_LLM"], api_key="none", max_retries=0)


def call() -> None:
    """Make a call."""
    if os.environ.get("PREFORK_ONLY_THE_PAGE"):
        calls.add(1)
        return
    client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "?"}])


for _ in range(int(os.environ.get("PREFORK_AT_IMPORT", "0"))):
    call()


def answer(path: str) -> bytes:
    """Return what is at a path: a page, else the number of the process."""
    if path == "/call":
        call()
    if path.startswith("/metrics"):
        return otel_llm.generate_latest(path.removeprefix("/metrics").strip("/") or None)
    return str(os.getpid()).encode()


def wsgi(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    """Serve by WSGI."""
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Serve by ASGI."""
    if scope["type"] == "lifespan":
        while (event := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{event['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = answer(scope["path"])
    headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
