"""The same ten lines, run the three ways: Ollama answers, Prometheus scrapes, a Collector receives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.backends.fixtures import StartPrometheus
from tests.backends.servers import Collector, Ollama, OtlpSink, wait_until
from tests.ways.pages import free_port, page_at
from tests.ways.process import APP, APP_ONE_LINE, ZERO_CODE, running

COMMANDS: dict[str, list[str | Path]] = {"zero code": [*ZERO_CODE, APP], "one line": [sys.executable, APP_ONE_LINE]}
DISTROS = {
    "ours": {"OTEL_PYTHON_DISTRO": "otel_llm", "OTEL_PYTHON_CONFIGURATOR": "otel_llm"},
    "upstream": {"OTEL_PYTHON_DISTRO": "distro", "OTEL_PYTHON_CONFIGURATOR": "configurator"},
}
OPERATIONS = {"chat": 2, "embeddings": 1}
WAYS = pytest.mark.parametrize("way", COMMANDS, ids=lambda way: way.replace(" ", "-"))


def openai_at(server: Ollama) -> dict[str, str]:
    """Return the variables that lead the openai client to the server's OpenAI endpoints."""
    return {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "none"}


def tokens_of(usages: list[dict[str, Any]]) -> dict[str, int]:
    """Return the tokens that the answers told, by their type."""
    return {
        "input": sum(usage["prompt_tokens"] for usage in usages),
        "output": sum(usage.get("completion_tokens", 0) for usage in usages),
    }


def by(label: str, series: list[tuple[dict[str, str], float]]) -> dict[str, float]:
    """Return the values by one of their labels."""
    return {labels[label]: value for labels, value in series}


def counts(sink: OtlpSink) -> dict[str, int]:
    """Return how many calls there were of each operation, as the sink heard last."""
    points = [point for point in sink.metrics() if point["name"] == "gen_ai.client.operation.duration"]
    return {point["attributes"]["gen_ai.operation.name"]: point["count"] for point in points}


@pytest.mark.parametrize(
    ("way", "distro"),
    [("zero code", "ours"), ("zero code", "upstream"), ("one line", "ours")],
    ids=["zero-code", "zero-code-upstream", "one-line"],
)
def test_prometheus_scrapes_the_page(
    ollama_server: Ollama, prometheus_server: StartPrometheus, tmp_path: Path, way: str, distro: str
) -> None:
    """The target is up, and its samples equal the calls made and the tokens in the answers."""
    port = free_port()
    # Upstream's own default is to send to a collector, which is not there.
    quiet = {"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "prometheus"}
    variables = openai_at(ollama_server) | page_at(port) | DISTROS[distro] | (quiet if distro == "upstream" else {})
    with running(COMMANDS[way], tmp_path, variables) as app:
        tokens = tokens_of(app.usages())
        prometheus = prometheus_server(f"127.0.0.1:{port}")
        calls = prometheus.wait_for("sum by (gen_ai_operation_name) (gen_ai_client_operation_duration_seconds_count)")
        usage = prometheus.query("sum by (gen_ai_token_type) (gen_ai_client_token_usage_sum)")
        countable = prometheus.query("sum by (otel_llm_token_kind) (otel_llm_client_tokens_total)")
        requests = prometheus.query("sum(http_client_request_duration_seconds_count)")
        models = prometheus.query("gen_ai_client_operation_duration_seconds_count")
        up, targets = prometheus.query("up"), prometheus.targets()
        app.finish()

    assert [value for _, value in up] == [1]
    assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")]
    assert by("gen_ai_operation_name", calls) == OPERATIONS
    assert by("gen_ai_token_type", usage) == tokens
    assert {kind: by("otel_llm_token_kind", countable)[kind] for kind in tokens} == tokens
    assert distro == "upstream" or [value for _, value in requests] == [sum(OPERATIONS.values())]
    assert {labels["gen_ai_request_model"] for labels, _ in models} == {"tiny"}
    assert {labels["server_port"] for labels, _ in models} == {ollama_server.url.rpartition(":")[2]}
    assert app.log == ""


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"], ids=["grpc", "http"])
@WAYS
def test_a_collector_receives_traces_and_metrics(
    ollama_server: Ollama,
    collector_server: Collector,
    otlp_sink: OtlpSink,
    prometheus_server: StartPrometheus,
    tmp_path: Path,
    way: str,
    protocol: str,
) -> None:
    """Spans and metrics pass through it with what the answers told, and Prometheus scrapes the same from it."""
    service = f"{way}-{protocol}".replace(" ", "-").replace("/", "-")
    otlp = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector_server.grpc if protocol == "grpc" else collector_server.http,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_SERVICE_NAME": service,
    }
    variables = openai_at(ollama_server) | page_at(free_port()) | DISTROS["ours"] | otlp
    with running(COMMANDS[way], tmp_path, variables) as app:
        usages = app.usages()
        app.finish()
    tokens = tokens_of(usages)
    spans = [span for span in otlp_sink.spans() if span["scope"] == "otel_llm"]
    points = [point for point in otlp_sink.metrics() if point["scope"] == "otel_llm"]

    assert [span["name"] for span in spans] == ["chat tiny", "chat tiny", "embeddings tiny"]
    assert [span["attributes"]["gen_ai.usage.input_tokens"] for span in spans] == [
        usage["prompt_tokens"] for usage in usages
    ]
    assert {(span["kind"], span["status"], span["resource"]["service.name"]) for span in spans} == {
        ("CLIENT", "UNSET", service)
    }
    requests = [span for span in otlp_sink.spans() if span["scope"].endswith(".httpx")]
    assert [span["parent_span_id"] for span in requests] == [span["span_id"] for span in spans]

    assert counts(otlp_sink) == OPERATIONS
    spent = dict.fromkeys(tokens, 0)
    for point in points:
        if point["name"] == "gen_ai.client.token.usage":
            spent[point["attributes"]["gen_ai.token.type"]] += point["sum"]
    assert spent == tokens

    place = collector_server.prometheus_url.removeprefix("http://").removesuffix("/metrics")
    prometheus = prometheus_server(place)
    ours = f'{{exported_job="{service}"}}'
    query = f"sum by (gen_ai_operation_name) (gen_ai_client_operation_duration_seconds_count{ours})"
    assert by("gen_ai_operation_name", prometheus.wait_for(query)) == OPERATIONS
    query = f"sum by (gen_ai_token_type) (gen_ai_client_token_usage_sum{ours})"
    assert by("gen_ai_token_type", prometheus.query(query)) == tokens
    assert app.log == ""


def test_everything_at_once(
    ollama_server: Ollama,
    collector_server: Collector,
    otlp_sink: OtlpSink,
    prometheus_server: StartPrometheus,
    tmp_path: Path,
) -> None:
    """With `OTEL_METRICS_EXPORTER=prometheus,otlp` the page and the Collector tell the same, while the process runs."""
    port = free_port()
    both = {
        "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector_server.grpc,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    variables = openai_at(ollama_server) | page_at(port) | DISTROS["ours"] | both
    with running(COMMANDS["zero code"], tmp_path, variables) as app:
        app.usages()
        prometheus = prometheus_server(f"127.0.0.1:{port}")
        scraped = prometheus.wait_for("sum(gen_ai_client_operation_duration_seconds_count)")
        wait_until(lambda: len([span for span in otlp_sink.spans() if span["scope"] == "otel_llm"]) == 3)
        wait_until(lambda: counts(otlp_sink) == OPERATIONS, what="the metrics")
        app.finish()

    assert [value for _, value in scraped] == [3]
    assert app.log == ""
