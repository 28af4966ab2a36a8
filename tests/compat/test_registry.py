"""Where the families of a drop-in are shown: the default registry, what serves it, and our own pages."""

from __future__ import annotations

import importlib
import logging
import socket
import sys
from collections.abc import Generator
from typing import Any
from urllib.request import urlopen
from wsgiref.util import setup_testing_defaults

import prometheus_client
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, Counter, Gauge

import otel_llm
from otel_llm.prometheus import PrometheusReader, by_hand, pages
from otel_llm.prometheus.collector import DialectCollector
from otel_llm.prometheus.dialects import load
from tests.by_hand import DROP_INS, drop_in, rows


def _collectors(dialect: str) -> list[DialectCollector]:
    every = list(REGISTRY._collector_to_names)
    return [each for each in every if isinstance(each, DialectCollector) and each.dialect.name == dialect]


@pytest.mark.parametrize("name", DROP_INS)
def test_names_of_the_originals(name: str) -> None:
    """The registry can be asked for every sample by its name, as soon as the module is imported."""
    drop_in(name)

    for spec in load(name).families:
        assert spec.sample_names <= REGISTRY._names_to_collectors.keys()


def test_sample_values() -> None:
    """Counters, histograms, gauges and infos can be read from the registry, by the names that the originals have."""
    aegis, tinyllm, local_llm = map(drop_in, ("aegis", "tinyllm", "local_llm"))
    aegis.track_llm_request("openai", "gpt", "chat", 3, 0.5, 0.7)
    tinyllm.get_metrics_collector().update_queue_size(3)
    local_llm.get_metrics_collector().set_model_info("m", "1", "u")
    value, labels = REGISTRY.get_sample_value, {"provider": "openai", "task_type": "chat"}

    assert 0.5 == value("llm_cost_usd_total", {"provider": "openai"})
    assert (
        1.0
        == value("llm_latency_seconds_count", labels)
        == value("llm_latency_seconds_bucket", {**labels, "le": "1.0"})
    )
    assert 0.0 == value("llm_latency_seconds_bucket", {**labels, "le": "0.5"})
    assert 0.7 == value("llm_latency_seconds_sum", labels)
    assert 3.0 == value("tinyllm_queue_size", {"priority": "all"})
    assert 1.0 == value("llm_model_info", {"model": "m", "version": "1", "base_url": "u"})
    assert value("llm_cost_usd_total", {"provider": "other"}) is None


@pytest.mark.parametrize("name", DROP_INS)
def test_imported_again(name: str) -> None:
    """A second import and a reload add nothing, lose nothing, and go on with what was counted."""
    module = drop_in(name)
    fed = dict(by_hand._of_functions)
    drop_in(name)
    importlib.reload(module)

    assert 1 == len(_collectors(name))
    assert fed == by_hand._of_functions
    assert fed


def test_a_collector_that_is_there() -> None:
    """Who has put the dialect there already has it there once."""
    REGISTRY.register(DialectCollector("aegis"))
    drop_in("aegis")

    assert 1 == len(_collectors("aegis"))


def test_the_original_is_there() -> None:
    """Beside the original, the import is one error that names what is taken, and it leaves nothing behind."""
    original = Gauge("monthly_spend_usd", "Mine", ["provider"])
    try:
        for _ in range(2):
            with pytest.raises(ValueError, match=r"^otel_llm\.compat\.aegis: .*monthly_spend_usd"):
                drop_in("aegis")
        assert [] == _collectors("aegis")
        assert frozenset() == by_hand.uncounted()
        Counter("llm_requests_total", "Mine")
    finally:
        for collector in (original, REGISTRY._names_to_collectors["llm_requests_total"]):
            REGISTRY.unregister(collector)
    assert "otel_llm.compat.aegis" not in sys.modules


def _taken() -> socket.socket:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken


def test_the_port_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    """As in the originals, a port that is taken is a warning, and the collector takes itself for started."""
    with _taken() as taken:
        port = taken.getsockname()[1]
        drop_in("tinyllm").start_metrics_server(port, "127.0.0.1")
        collector = drop_in("local_llm").LocalLLMMetricsCollector(port, "127.0.0.1")
        collector.start()

    assert collector._server_started
    warning = f"otel_llm: port {port} is in use already; metrics are supposed to be served there"
    assert [(logging.WARNING, warning)] * 2 == [(each.levelno, each.getMessage()) for each in caplog.records]


def test_an_address_that_is_none() -> None:
    """As in the originals, an address that cannot be bound for another reason is an error, and nothing is started."""
    collector = drop_in("local_llm").LocalLLMMetricsCollector(0, "192.0.2.1")
    with pytest.raises(OSError):
        collector.start()
    assert not collector._server_started


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Generator[list[Any]]:
    """Keep servers that are started, and close them at the end."""
    servers: list[Any] = []
    start = prometheus_client.start_http_server

    def kept(port: int, addr: str) -> None:
        servers.append(start(port, addr))

    monkeypatch.setattr(prometheus_client, "start_http_server", kept)
    yield servers
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("name", ["local_llm", "tinyllm"])
def test_served(name: str, started: list[Any]) -> None:
    """The server shows what the functions were told, and the application's own metrics beside it."""
    module = drop_in(name)
    module.get_metrics_collector()
    own = Counter("orders", "Orders")
    try:
        own.inc()
        if name == "tinyllm":
            module.get_metrics_collector().increment_cache_hit()
            module.start_metrics_server(0, "127.0.0.1")
        else:
            module.record_error("mine")
            module.LocalLLMMetricsCollector(0, "127.0.0.1").start()
        with urlopen(f"http://127.0.0.1:{started[0][0].server_port}/metrics") as response:
            page = rows(response.read())
    finally:
        REGISTRY.unregister(own)

    told = (
        'tinyllm_cache_hits_total{cache_type="general"}' if name == "tinyllm" else 'llm_error_total{error_type="mine"}'
    )
    assert 1.0 == page[told] == page["orders_total"]


def test_applications_that_show_the_registry() -> None:
    """`generate_latest()` and `make_wsgi_app()` of `prometheus_client` show it."""
    drop_in("local_llm").record_error("mine")
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    untyped: Any = prometheus_client

    def started(status: str, headers: object) -> None:
        assert "200 OK" == status

    body = b"".join(untyped.make_wsgi_app()(environ, started))

    for page in (prometheus_client.generate_latest(), body):
        assert 1.0 == rows(page)['llm_error_total{error_type="mine"}']


@pytest.mark.parametrize("asked", [(), ("aegis",), ("local_llm", "tinyllm")])
def test_our_main_page(asked: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    """`/metrics` has each family once and says nothing, whether the dialect is asked for or only in the registry."""
    drop_in("aegis").track_llm_request("openai", "gpt", "chat", 3, 0.5, 0.7)
    provider = MeterProvider(metric_readers=[PrometheusReader()])
    otel_llm.instrument(meter_provider=provider, serve=False, dialects=asked)
    try:
        with caplog.at_level(logging.WARNING):
            page = otel_llm.generate_latest().decode()
        rendered = pages.render("/metrics", "application/openmetrics-text", ())
    finally:
        otel_llm.uninstrument()
        provider.shutdown()

    assert [] == caplog.records
    names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert sorted(set(names)) == sorted(names)
    assert {"llm_cost_usd", "llm_cost_usd_total", "llm_requests_total", "python_info"} <= set(names)
    assert ("tinyllm_requests_total" in names) is ("tinyllm" in asked)
    assert "# TYPE llm_cost_usd counter\n" in page
    assert 0.5 == rows(page)['llm_cost_usd{provider="openai"}']
    assert rendered is not None
    assert rendered.content_type.startswith("text/plain")


@pytest.mark.parametrize("way", ["nothing", "own provider", "own provider, asked"])
def test_our_main_page_without_a_reader(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """`/metrics` has each family once where no reader of ours shows a registry, instrumented or not."""
    drop_in("aegis").track_llm_request("openai", "gpt", "chat", 3, 0.5, 0.7)
    if way != "nothing":
        asked = ("aegis",) if "asked" in way else ()
        otel_llm.instrument(meter_provider=MeterProvider(), serve=False, dialects=asked)
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = "/metrics"

    def started(status: str, headers: object, *more: object) -> Any:
        assert "200 OK" == status

    try:
        with caplog.at_level(logging.WARNING):
            page = otel_llm.generate_latest().decode()
            mounted = b"".join(otel_llm.make_wsgi_app()(environ, started))
        rendered = pages.render("/metrics", "application/openmetrics-text", ())
    finally:
        otel_llm.uninstrument()

    assert [] == caplog.records
    assert page == mounted.decode()
    names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert sorted(set(names)) == sorted(names)
    assert {"llm_cost_usd", "llm_cost_usd_total", "gen_ai_client_operation_duration_seconds"} <= set(names)
    assert "tinyllm_requests_total" not in names
    assert 0.5 == rows(page)['llm_cost_usd{provider="openai"}']
    assert rendered is not None
    assert rendered.content_type.startswith("text/plain")


def test_our_main_page_of_another_registry() -> None:
    """Where a reader has a registry of its own, `/metrics` shows that one, and not what is in the default one."""
    drop_in("aegis").track_llm_request("openai", "gpt", "chat", 3, 0.5, 0.7)
    registry = prometheus_client.CollectorRegistry()
    provider = MeterProvider(metric_readers=[PrometheusReader(registry=registry)])
    otel_llm.instrument(meter_provider=provider, serve=False)
    try:
        without = otel_llm.generate_latest()
        registry.register(DialectCollector("aegis"))
        page = otel_llm.generate_latest()
    finally:
        otel_llm.uninstrument()
        provider.shutdown()

    assert b"llm_cost_usd" not in without
    assert 1 == page.count(b"# TYPE llm_cost_usd counter\n")


def test_dialects_that_share_names(caplog: pytest.LogCaptureFixture) -> None:
    """What the application has in its registry wins over a dialect that was asked for, and the log says so once."""
    drop_in("aegis").track_llm_error("openai", "chat", "timeout")
    provider = MeterProvider(metric_readers=[PrometheusReader()])
    otel_llm.instrument(meter_provider=provider, serve=False, dialects=["llmbackend"])
    try:
        with caplog.at_level(logging.WARNING):
            page = [otel_llm.generate_latest().decode() for _ in range(2)][-1]
    finally:
        otel_llm.uninstrument()
        provider.shutdown()

    names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert sorted(set(names)) == sorted(names)
    assert 'llm_errors_total{error_type="timeout",provider="openai",task_type="chat"} 1.0' in page
    assert "llm_backend_health" in names
    assert ["llm_requests_total", "llm_errors_total"] == [each.getMessage().split()[1] for each in caplog.records]
