"""The reader: what it takes over, what it leaves behind, and that many may scrape at once."""

from __future__ import annotations

import gc
import logging
import socket
import sys
import threading
import weakref
from collections import Counter as Count
from collections.abc import Iterator
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest
from opentelemetry.exporter import prometheus as upstream
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, CollectorRegistry

from otel_llm.prometheus import PrometheusReader
from otel_llm.prometheus.reader import AutoPrometheusReader, adopt, shown_registry

from .prometheus_pages import assert_valid, close_all, only, provider, series, text, values, warnings


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Leave no page behind."""
    yield
    close_all()


def use(own: MeterProvider) -> None:
    """Count and record something."""
    meter = own.get_meter("s")
    for n in range(3):
        meter.create_counter("c").add(1, {"n": n})
    meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1]).record(1)


def fetch(url: str) -> str:
    """Return the page at a URL."""
    with build_opener(ProxyHandler({})).open(url, timeout=10) as response:
        return str(response.read().decode())


def test_a_reader_that_somebody_else_set_up() -> None:
    """An upstream reader shows our page from then on, with its own options, and is shut down by its provider."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(
        True, "pre", False, resource_attribute_filter=only("service.name"), registry=registry
    )
    own = provider(reader)
    use(own)
    assert 'pre_h_bucket{le="1",service_name="shop"} 1.0' in text(registry)
    for _ in range(2):
        adopt(reader, 2)
    assert text(registry) == [
        "# HELP pre_c_total ",
        "# TYPE pre_c_total counter",
        'pre_c_total{n="0",otel_metric_overflow="",service_name="shop"} 1.0',
        'pre_c_total{n="1",otel_metric_overflow="",service_name="shop"} 1.0',
        'pre_c_total{n="",otel_metric_overflow="true",service_name="shop"} 1.0',
        "# HELP pre_h ",
        "# TYPE pre_h histogram",
        'pre_h_bucket{le="1.0",service_name="shop"} 1.0',
        'pre_h_bucket{le="+Inf",service_name="shop"} 1.0',
        'pre_h_count{service_name="shop"} 1.0',
        'pre_h_sum{service_name="shop"} 1.0',
    ]
    own.shutdown()
    assert text(registry) == []
    assert not registry._collector_to_names


def test_a_reader_that_is_shut_down_already() -> None:
    """A reader that was shut down is not put back on the page."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    own = provider(reader)
    use(own)
    own.shutdown()
    adopt(reader, 10)
    assert text(registry) == []


def test_upstreams_reader_that_serves_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of OTEL_METRICS_EXPORTER=prometheus is taken over, and the page it serves is ours."""
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    started: list[Any] = []
    start: Any = vars(upstream)["start_http_server"]

    def remember(*args: Any, **kwargs: Any) -> None:
        started.append(start(*args, **kwargs))

    monkeypatch.setattr(upstream, "start_http_server", remember)
    reader = upstream._AutoPrometheusMetricReader()
    ((server, thread),) = started
    try:
        own = provider(reader)
        use(own)
        url = f"http://localhost:{server.server_port}/metrics"
        assert 'h_bucket{le="1",' in fetch(url)
        adopt(reader, 10)
        assert 'h_bucket{le="1.0",' in fetch(url)
        own.shutdown()
        assert "h_bucket" not in fetch(url)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_readers_of_both_sorts_in_one_registry() -> None:
    """A reader that was taken over and one of ours share a page, and either can go first."""
    registry = CollectorRegistry()
    theirs = PrometheusMetricReader(registry=registry, prefix="theirs")
    first, second = provider(theirs), provider(PrometheusReader(registry=registry, prefix="ours"))
    adopt(theirs, 10)
    use(first)
    use(second)
    assert_valid(registry)
    assert values(registry, "theirs_c_total", "n").keys() == values(registry, "ours_c_total", "n").keys()
    second.shutdown()
    assert values(registry, "theirs_c_total", "n")
    assert not values(registry, "ours_c_total", "n")
    first.shutdown()
    assert text(registry) == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_shutdown_takes_a_reader_off_the_page(order: tuple[int, int]) -> None:
    """A reader that is shut down is gone from the page, whichever of several it is; a second shutdown does nothing."""
    registry = CollectorRegistry()
    readers = [PrometheusReader(registry=registry, prefix=f"p{n}") for n in range(2)]
    own = [provider(reader) for reader in readers]
    for one in own:
        use(one)
    gone, left = order
    own[gone].shutdown()
    readers[gone].shutdown()
    assert not values(registry, f"p{gone}_c_total")
    assert values(registry, f"p{left}_c_total")
    assert values(registry, "target_info")
    assert_valid(registry)
    own[left].shutdown()
    assert text(registry) == []


def test_a_reader_that_the_provider_lets_go() -> None:
    """A reader that is added to a running provider and removed from it comes to the page and goes."""
    registry = CollectorRegistry()
    reader = PrometheusReader(registry=registry)
    own = provider()
    own.add_metric_reader(reader)
    use(own)
    assert values(registry, "h_count") == {(): 1}
    own.remove_metric_reader(reader)
    assert text(registry) == []


def test_nothing_keeps_a_registry_that_is_dropped() -> None:
    """A provider that is dropped without a shutdown leaves neither its reader nor its registry behind."""
    registry = CollectorRegistry()
    own = MeterProvider([PrometheusReader(registry=registry)], shutdown_on_exit=False)
    use(own)
    text(registry)
    left = weakref.ref(registry), weakref.ref(own)
    del registry, own
    gc.collect()
    assert [one() for one in left] == [None, None]


def test_the_registry_that_the_process_shows() -> None:
    """The default registry is the one that is shown, if a reader is in it; else any with a reader; else none."""
    gc.collect()
    assert shown_registry() is None
    registry = CollectorRegistry()
    own = provider(PrometheusReader(registry=registry))
    assert shown_registry() is registry
    default = provider(PrometheusReader())
    assert shown_registry() is REGISTRY
    default.shutdown()
    assert shown_registry() is registry
    own.shutdown()
    assert shown_registry() is None


def test_many_scrape_at_once() -> None:
    """While many threads scrape and measure, no page shows a series twice and no counter falls."""
    registry = CollectorRegistry()
    own = provider(PrometheusReader(registry=registry), PrometheusReader(registry=registry, prefix="again"))
    meter = own.get_meter("s")
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h")
    meter.create_observable_gauge("g", [observe])
    stop = threading.Event()
    failures: list[BaseException] = []

    def measure() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            counter.add(1, {"n": n % 50})
            histogram.record(n % 10, {"n": n % 5})

    def flush() -> None:
        while not stop.is_set():
            own.force_flush()

    def scrape() -> None:
        try:
            before = 0.0
            for _ in range(25):
                lines = text(registry)
                assert set(Count(series(lines)).values()) <= {1}
                names = Count(line for line in lines if line.startswith("# TYPE"))
                assert set(names.values()) <= {1}
                total = sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("c_total"))
                assert total >= before
                before = total
            assert before
        except BaseException as failure:
            failures.append(failure)

    workers = [threading.Thread(target=measure), threading.Thread(target=flush)]
    scrapers = [threading.Thread(target=scrape) for _ in range(6)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        counter.add(1, {"n": 0})
        for thread in (*workers, *scrapers):
            thread.start()
        for thread in scrapers:
            thread.join()
    finally:
        stop.set()
        sys.setswitchinterval(interval)
    for thread in workers:
        thread.join()
    assert not failures
    assert_valid(registry)


def observe(options: CallbackOptions) -> list[Observation]:
    """Observe a few series."""
    return [Observation(n, {"n": n}) for n in range(20)]


def test_the_reader_that_serves_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of OTEL_METRICS_EXPORTER=otel_llm serves the page, and stops serving it at shutdown."""
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    monkeypatch.setenv("OTEL_LLM_MAX_SERIES", "2")
    reader = AutoPrometheusReader()
    own = provider(reader)
    use(own)
    page = reader._page
    assert page is not None
    shown = fetch(page.url)
    assert 'h_bucket{le="1.0",' in shown
    assert shown.count("\nc_total{") == 3
    own.shutdown()
    with pytest.raises(OSError, match="refused"):
        fetch(page.url)
    assert shown_registry() is None
    reader.shutdown()


def test_the_reader_that_finds_its_port_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A port that is taken is one line in the log, which names it; the metrics are there all the same."""
    family, *_, place = socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family) as busy:
        busy.bind((place[0], 0))
        busy.listen()
        port = busy.getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
        reader = AutoPrometheusReader()
    own = provider(reader)
    use(own)
    assert values(REGISTRY, "h_count") == {(): 1}
    (line,) = warnings(caplog)
    assert line.startswith(f"otel_llm: no Prometheus page on localhost:{port}: [Errno ")
    assert caplog.records[0].levelno == logging.ERROR
    own.shutdown()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "many", "otel_llm: no Prometheus page: OTEL_EXPORTER_PROMETHEUS_PORT='many'"),
        (
            "OTEL_EXPORTER_PROMETHEUS_HOST",
            "no.such.host.invalid",
            "otel_llm: no Prometheus page on no.such.host.invalid",
        ),
        ("OTEL_EXPORTER_PROMETHEUS_HOST", "a" * 70, "otel_llm: no Prometheus page on aaa"),
        ("OTEL_LLM_MAX_SERIES", "none", "otel_llm: OTEL_LLM_MAX_SERIES='none'"),
    ],
)
def test_the_reader_with_a_wrong_setting(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A setting that is wrong is one line in the log; the process goes on."""
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    monkeypatch.setenv(name, value)
    own = provider(AutoPrometheusReader())
    use(own)
    (line,) = warnings(caplog)
    assert line.startswith(said)
    assert values(REGISTRY, "h_count") == {(): 1}
    own.shutdown()
