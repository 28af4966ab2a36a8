"""Every Python example of the seeds runs as it is written, but for the import line; then the page says what they say.

Three of 003 have ``await`` outside of a function: they run inside of one. Classes of the applications have stand-ins.
"""

from __future__ import annotations

import asyncio
import sys
import textwrap
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.request import urlopen

import prometheus_client
import pytest

import otel_llm
from tests.by_hand import drop_in, rows

GENESIS_SERVER = """
from otel_llm.compat.local_llm import start_metrics_server

# Start on default port 9090
start_metrics_server()

# Start on custom port
start_metrics_server(port=9091)

# Disable metrics
start_metrics_server(enable_metrics=False)
"""
GENESIS_CLIENT = """
from infrastructure.local_llm_client import LocalLLMClient, LocalLLMConfig
from otel_llm.compat.local_llm import get_metrics_collector, track_inference

# Initialize metrics
collector = get_metrics_collector(port=9090)
collector.start()

# Set model metadata
collector.set_model_info(
    model_name="llama-3.2-vision",
    version="3.2",
    base_url="http://127.0.0.1:8001"
)

# Track inference
async def generate_with_metrics():
    client = LocalLLMClient()

    with track_inference("llama-3.2-vision"):
        response = await client.complete_text("Hello, world!")

    return response
"""
GENESIS_BY_HAND = """
from otel_llm.compat.local_llm import (
    get_metrics_collector,
    track_inference,
    record_rate_limit,
    record_error,
    record_tokens
)

collector = get_metrics_collector()

# Track inference
with track_inference("llama-3.2-vision"):
    # Your inference code here
    pass

# Record rate limit hit
record_rate_limit("client_123")

# Record error
record_error("timeout")

# Record token usage
record_tokens("llama-3.2-vision", prompt_tokens=100, completion_tokens=50)

# Update queue size
collector.set_queue_size("llama-3.2-vision", size=5)
"""
GENESIS_BIND = """
from otel_llm.compat.local_llm import start_metrics_server
start_metrics_server(host="127.0.0.1", port=9090)
"""
GENESIS_STARTED = """
from otel_llm.compat.local_llm import get_metrics_collector
collector = get_metrics_collector()
print(f"Server started: {collector._server_started}")
"""
TINYLLM_BASIC = """
from otel_llm.compat.tinyllm import get_metrics_collector

metrics = get_metrics_collector()

# Increment request count
metrics.increment_request_count(
    model="qwen2.5:0.5b",
    graph="multi_domain",
    request_type="generate"
)

# Record token usage
metrics.record_tokens(
    input_tokens=100,
    output_tokens=50,
    model="qwen2.5:0.5b",
    graph="multi_domain"
)
"""
TINYLLM_LATENCY = """
from otel_llm.compat.tinyllm import get_metrics_collector

metrics = get_metrics_collector()

# Track request latency automatically
with metrics.track_request_latency(model="qwen2.5:0.5b", graph="test"):
    # Your request handling code
    response = await client.generate(...)
"""
TINYLLM_NODE = """
from otel_llm.compat.tinyllm import get_metrics_collector

metrics = get_metrics_collector()

# Track node execution
with metrics.track_node_execution(node="router", graph="test"):
    result = await node.execute(message, context)
"""
TINYLLM_GRAPH = """
from otel_llm.compat.tinyllm import get_metrics_collector

metrics = get_metrics_collector()

# Track entire graph execution
with metrics.track_graph_execution(graph="multi_domain"):
    response = await executor.execute(task)
"""
TINYLLM_ERRORS = """
from otel_llm.compat.tinyllm import get_metrics_collector

metrics = get_metrics_collector()

try:
    response = await client.generate(...)
except TimeoutError:
    metrics.increment_error_count(
        error_type="timeout",
        model="qwen2.5:0.5b",
        graph="test"
    )
except Exception as e:
    metrics.increment_error_count(
        error_type=type(e).__name__,
        model="qwen2.5:0.5b",
        graph="test"
    )
"""
TINYLLM_BREAKER = """
from otel_llm.compat.tinyllm import get_metrics_collector

metrics = get_metrics_collector()

# Update circuit breaker state
metrics.update_circuit_breaker_state(
    state="open",  # closed, half-open, or open
    model="qwen2.5:0.5b"
)

# Increment failure count
metrics.increment_circuit_breaker_failures(model="qwen2.5:0.5b")
"""


class _Application:
    """Stands in for what the applications have of their own: whatever is asked of it is answered, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def _answer(self, *_: object) -> str:
        if self._error is not None:
            raise self._error
        return "Hello"

    complete_text = generate = execute = _answer


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Where the examples serve the registry; a free port of this host stands in for each."""
    asked: list[tuple[int, str]] = []
    start = prometheus_client.start_http_server

    def start_here(port: int, addr: str) -> object:
        asked.append((port, addr))
        server, thread = start(0, "127.0.0.1")
        try:
            with urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as response:
                assert b"python_info" in response.read()
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        return server, thread

    monkeypatch.setattr(prometheus_client, "start_http_server", start_here)
    return asked


def _run(example: str, **names: object) -> dict[str, Any]:
    """Run an example, inside a function where it waits, and return the names that it leaves."""
    if "\n    response = await" in example or "\n    result = await" in example:
        lines = textwrap.indent(example, "    ")
        exec(f"async def _example():\n{lines}", names)
        asyncio.run(names["_example"]())  # type: ignore[operator]
    else:
        exec(example, names)
    return names


def _page(dialect: str, *prefixes: str) -> dict[str, float]:
    """Return what the page of a dialect and the default registry show, which is the same."""
    shown = rows(otel_llm.generate_latest(dialect), *prefixes)
    there = rows(prometheus_client.generate_latest(), *prefixes)
    assert shown.keys() == there.keys()
    assert shown == pytest.approx(there)
    return shown


def test_genesis_server(served: list[tuple[int, str]], caplog: pytest.LogCaptureFixture) -> None:
    """The first start serves, and every further one is only a warning."""
    _run(GENESIS_SERVER)

    assert [(9090, "0.0.0.0")] == served
    assert ["otel_llm: the metrics server is started already"] * 2 == [each.getMessage() for each in caplog.records]


def test_genesis_with_a_client(monkeypatch: pytest.MonkeyPatch, served: list[tuple[int, str]]) -> None:
    """A tracked inference is a request with a latency, of a model that is known."""
    module: Any = ModuleType("infrastructure.local_llm_client")
    module.LocalLLMClient, module.LocalLLMConfig = _Application, SimpleNamespace
    monkeypatch.setitem(sys.modules, "infrastructure.local_llm_client", module)

    names = _run(GENESIS_CLIENT)
    assert "Hello" == asyncio.run(names["generate_with_metrics"]())

    page = _page("local_llm", "llm_inference", "llm_model_info", "llm_active")
    model = 'model="llama-3.2-vision"'
    assert 1.0 == page[f'llm_model_info{{base_url="http://127.0.0.1:8001",{model},version="3.2"}}']
    assert 1.0 == page[f'llm_inference_requests_total{{{model},status="success"}}']
    assert 1.0 == page[f"llm_inference_latency_seconds_count{{{model}}}"]
    assert 0.0 == page[f"llm_active_connections{{{model}}}"]


def test_genesis_by_hand() -> None:
    """Every function feeds the family that the document has for it."""
    _run(GENESIS_BY_HAND)

    page = _page("local_llm", "llm_")
    model = 'model="llama-3.2-vision"'
    assert {
        f'llm_inference_requests_total{{{model},status="success"}}': 1.0,
        f"llm_inference_latency_seconds_count{{{model}}}": 1.0,
        'llm_rate_limit_hits_total{client_id="client_123"}': 1.0,
        f"llm_active_connections{{{model}}}": 0.0,
        f"llm_queue_size{{{model}}}": 5.0,
        'llm_error_total{error_type="timeout"}': 1.0,
        f'llm_tokens_total{{{model},type="prompt"}}': 100.0,
        f'llm_tokens_total{{{model},type="completion"}}': 50.0,
    } == {key: value for key, value in page.items() if "_bucket" not in key and "_sum" not in key}


def test_genesis_bound_to_an_address(served: list[tuple[int, str]], capsys: pytest.CaptureFixture[str]) -> None:
    """The server can be bound to one address, and the collector knows that it is started."""
    _run(GENESIS_STARTED)
    _run(GENESIS_BIND)
    _run(GENESIS_STARTED)

    assert [(9090, "127.0.0.1")] == served
    assert "Server started: False\nServer started: True\n" == capsys.readouterr().out


def test_aegis() -> None:
    """The functions give the page that the document shows."""
    aegis = drop_in("aegis")
    for latency, times in ((0.3, 3), (0.7, 1)):
        for _ in range(times):
            aegis.track_llm_request("local_ollama", "llama3.2", "generation", 100, 0.0, latency)
    aegis.track_llm_request("alibaba_cloud", "qwen-plus", "extraction", 1200, 12.34, 0.45, 800, 400)
    aegis.track_llm_error("openai", "generation", "timeout")
    aegis.update_budget_metrics("alibaba_cloud", 2.35, 10)
    aegis.update_budget_metrics("openai", 6.78, 20)

    page = _page("aegis", "llm_", "monthly_")
    ollama, alibaba = '{provider="local_ollama"', '{provider="alibaba_cloud"'
    shown = {
        'llm_requests_total{model="llama3.2",provider="local_ollama",task_type="generation"}': 4.0,
        'llm_requests_total{model="qwen-plus",provider="alibaba_cloud",task_type="extraction"}': 1.0,
        'llm_latency_seconds_bucket{le="0.5",provider="local_ollama",task_type="generation"}': 3.0,
        'llm_latency_seconds_bucket{le="1.0",provider="local_ollama",task_type="generation"}': 4.0,
        f'llm_latency_seconds_count{ollama},task_type="generation"}}': 4.0,
        f"llm_cost_usd{alibaba}}}": 12.34,
        f"llm_cost_usd_total{alibaba}}}": 12.34,
        f'llm_tokens_used{alibaba},token_type="input"}}': 800.0,
        f'llm_tokens_used{alibaba},token_type="output"}}': 400.0,
        f'llm_tokens_used{alibaba},token_type="total"}}': 1200.0,
        'llm_errors_total{error_type="timeout",provider="openai",task_type="generation"}': 1.0,
        f"monthly_spend_usd{alibaba}}}": 2.35,
        'monthly_spend_usd{provider="openai"}': 6.78,
        f"monthly_budget_remaining_usd{alibaba}}}": 7.65,
        'monthly_budget_remaining_usd{provider="openai"}': pytest.approx(13.22),
    }
    assert shown == {key: page[key] for key in shown}
    assert f'llm_tokens_used{ollama},token_type="input"}}' not in page


@pytest.mark.parametrize(
    ("example", "shown"),
    [
        (
            TINYLLM_BASIC,
            {
                'requests_total{graph="multi_domain",model="qwen2.5:0.5b",request_type="generate"}': 1.0,
                'tokens_input_total{graph="multi_domain",model="qwen2.5:0.5b"}': 100.0,
                'tokens_output_total{graph="multi_domain",model="qwen2.5:0.5b"}': 50.0,
            },
        ),
        (
            TINYLLM_LATENCY,
            {
                'request_latency_seconds_count{graph="test",model="qwen2.5:0.5b"}': 1.0,
                'active_requests{graph="test",model="qwen2.5:0.5b"}': 0.0,
            },
        ),
        (
            TINYLLM_NODE,
            {
                'node_executions_total{graph="test",node="router"}': 1.0,
                'node_execution_duration_seconds_count{graph="test",node="router"}': 1.0,
            },
        ),
        (
            TINYLLM_GRAPH,
            {
                'graph_executions_total{graph="multi_domain"}': 1.0,
                'graph_execution_duration_seconds_count{graph="multi_domain"}': 1.0,
            },
        ),
        (
            TINYLLM_BREAKER,
            {
                'circuit_breaker_state{model="qwen2.5:0.5b"}': 2.0,
                'circuit_breaker_failures_total{model="qwen2.5:0.5b"}': 1.0,
            },
        ),
    ],
    ids=["basic", "latency", "node", "graph", "breaker"],
)
def test_tinyllm(example: str, shown: dict[str, float]) -> None:
    """Each example feeds the families of its section, and no others."""
    application = _Application()
    _run(example, client=application, node=application, executor=application, message="", context="", task="")

    page = _page("tinyllm", "tinyllm_")
    told = {key: value for key, value in page.items() if "{" in key and "_bucket" not in key and "_sum" not in key}
    assert {f"tinyllm_{key}": value for key, value in shown.items()} == {
        key: value for key, value in told.items() if not key.startswith("tinyllm_system_info")
    }


@pytest.mark.parametrize(("error", "shown"), [(TimeoutError(), "timeout"), (KeyError(), "KeyError")])
def test_tinyllm_errors(error: Exception, shown: str) -> None:
    """An error is counted by what the application calls it."""
    _run(TINYLLM_ERRORS, client=_Application(error))

    assert {f'tinyllm_errors_total{{error_type="{shown}",graph="test",model="qwen2.5:0.5b"}}': 1.0} == _page(
        "tinyllm", "tinyllm_errors"
    )
