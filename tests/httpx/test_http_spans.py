"""HTTP spans below LLM calls: silenced on request; and durations of requests that nobody answered."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import openai
import pytest
from opentelemetry.instrumentation import httpx as contrib
from opentelemetry.instrumentation.utils import suppress_http_instrumentation

from otel_llm import faults
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import ScriptedServer
from otel_llm_httpx.guard import _Attempt
from tests.httpx.apis import APIS, ASK, run, settled
from tests.httpx.test_calls import counted, each_library, each_mode

CHAT = APIS["openai chat"]
INSTRUMENTORS: dict[str, Any] = {"httpx": contrib.HTTPXClientInstrumentor, "httpx2": contrib.HTTPX2ClientInstrumentor}


def _below(seen: Seen) -> list[Any]:
    return [span["attributes"] for span in seen.all_spans if span["scope"] == contrib.__name__]


@each_library
@each_mode
def test_silence(server: ScriptedServer, mode: str, library: Any) -> None:
    """With `http_spans` off a call has no HTTP span, other requests have theirs, and the server knows the trace."""

    async def use(client: Any) -> None:
        await settled(client.post(server.url + CHAT.path, json=CHAT.asked))
        await settled(client.get(server.url + "/v1/models"))

    with capture(http_spans=False) as seen:
        run(mode, library, use)

        assert ["/v1/models"] == [
            next(value for key, value in attributes.items() if "url" in key).removeprefix(server.url)
            for attributes in _below(seen)
        ]
        (span,) = seen.spans
        assert [1] == counted(seen)
    sent = server.requests[0].headers["traceparent"].split("-")
    assert [f"{span['trace_id']:032x}", f"{span['span_id']:016x}"] == sent[1:3]


def test_silence_of_clients(server: ScriptedServer) -> None:
    """It holds for the calls of instrumented clients, too, and by the variable."""
    with capture(http_spans=False) as seen, openai.OpenAI(base_url=server.base_url, api_key="x") as own:
        own.chat.completions.create(model="gpt-5", messages=ASK)
        assert [] == _below(seen)
        assert 1 == len(seen.spans)
    assert "traceparent" in server.requests[0].headers


@each_library
def test_silence_of_the_applications_own(server: ScriptedServer, library: Any) -> None:
    """It holds for an instrumentation that the application has switched on itself."""
    with capture(http_spans=False) as seen:
        pass
    instrumentor = INSTRUMENTORS[library.__name__]()
    seen = Seen()
    instrumentor.instrument(tracer_provider=seen.tracer_provider, skip_dep_check=True)
    try:
        with capture(http_spans=False, tracer_provider=seen.tracer_provider):
            library.post(server.url + CHAT.path, json=CHAT.asked)
            library.get(server.url + "/v1/models")
    finally:
        instrumentor.uninstrument()

    assert 1 == len(_below(seen))
    assert 1 == len(seen.spans)


def test_by_variable(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable switches them off as the keyword does."""
    import httpx

    monkeypatch.setenv("OTEL_LLM_HTTP_SPANS", "false")
    with capture() as seen:
        httpx.post(server.url + CHAT.path, json=CHAT.asked)
        assert [] == _below(seen)


class _Histogram:
    def __init__(self) -> None:
        self.points: list[tuple[float, dict[str, Any]]] = []

    def record(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        self.points.append((amount, dict(attributes)))


class _Request:
    def __init__(self, library: Any, method: str = "POST") -> None:
        self.made = library.Request(method, "http://127.0.0.1:1/v1/x")


def _count(library: Any, error: BaseException, *, record: bool = False, **options: Any) -> list[Any]:
    """Let an attempt fail, and return what was recorded of it."""
    histogram = _Histogram()
    options = {"duration_histogram_new": histogram, **options}
    attempt = _Attempt(options)
    attempt.begin()
    attempt.keep(error)
    if record:
        options["duration_histogram_new"].record(1.0, attributes={"by": "contrib"})
    attempt.count((_Request(library).made,), options)
    return histogram.points


@each_library
def test_attributes_of_a_failure(library: Any) -> None:
    """They are those that contrib gives to requests that were answered, and the class of the exception."""
    for error in (library.ConnectTimeout("x"), asyncio.CancelledError(), KeyboardInterrupt()):
        ((seconds, attributes),) = _count(library, error)

        assert 0 <= seconds < 1
        assert {
            "http.request.method": "POST",
            "server.address": "127.0.0.1",
            "server.port": 1,
            "error.type": type(error).__name__,
        } == attributes


@each_library
def test_failures_that_are_not_recorded(library: Any) -> None:
    """A later contrib that records them itself is enough; who drops a request, or is silent, stays silent."""

    class Excluded:
        def url_disabled(self, url: str) -> bool:
            return url == "http://127.0.0.1:1/v1/x"

    error = library.ConnectError("x")
    assert [(1.0, {"by": "contrib"})] == _count(library, error, record=True)
    assert [] == _count(library, GeneratorExit())
    assert [] == _count(library, error, excluded_urls=Excluded())
    with suppress_http_instrumentation():
        assert [] == _count(library, error)
    assert [] == _count(library, error, duration_histogram_new=None)
    assert {} == faults.counts


_FAILURES = """
import asyncio, contextlib, sys
import httpx, httpx2
import otel_llm
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from otel_llm.testing.server import DROP, Reply, ScriptedServer

reader = InMemoryMetricReader()
with ScriptedServer() as server, otel_llm.instrument(
    tracer_provider=TracerProvider(), meter_provider=MeterProvider(metric_readers=[reader]), serve=False
):
    server.script(Reply(json={}), DROP, Reply(delay=2))
    async def main(library):
        async with library.AsyncClient() as client:
            with contextlib.suppress(library.HTTPError):
                await client.get("http://127.0.0.1:1/")
    for library in (httpx, httpx2):
        asyncio.run(main(library))
    library = httpx2
    for url in (server.url, server.url, server.url):
        with contextlib.suppress(library.HTTPError):
            library.get(url, timeout=0.2)
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name.startswith("http."):
                    for point in sorted(metric.data.data_points, key=lambda each: str(each.attributes)):
                        told = point.attributes
                        print(metric.name, metric.unit, point.count, told.get("http.response.status_code"),
                              told.get("error.type"), told.get("server.address"))
"""


@pytest.mark.parametrize("mode", ["http", "", "http/dup"])
def test_durations_of_failures(mode: str) -> None:
    """With the stable names there is a duration of every request; with the old ones there is what contrib makes."""
    import os

    environ = {**os.environ, "OTEL_SEMCONV_STABILITY_OPT_IN": mode}
    done = subprocess.run(
        [sys.executable, "-c", _FAILURES], capture_output=True, text=True, check=False, timeout=60, env=environ
    )

    assert ("", 0) == (done.stderr, done.returncode)
    lines = done.stdout.splitlines()
    stable = [line for line in lines if line.startswith("http.client.request.duration")]
    expected = [
        "http.client.request.duration s 2 None ConnectError 127.0.0.1",
        "http.client.request.duration s 1 None ReadTimeout 127.0.0.1",
        "http.client.request.duration s 1 None RemoteProtocolError 127.0.0.1",
        "http.client.request.duration s 1 200 None 127.0.0.1",
    ]
    assert sorted(expected if mode else []) == sorted(stable)
    assert (0 if mode == "http" else 1) == len(lines) - len(stable)
