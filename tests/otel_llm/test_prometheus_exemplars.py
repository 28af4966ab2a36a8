"""Exemplars: trace and span of the newest sampled measurement of each bucket, whoever scrapes, for as long as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry

from otel_llm.prometheus import PrometheusReader
from otel_llm.prometheus.reader import _shared

from .prometheus_pages import assert_valid, close_all, openmetrics, parsed, provider, text

TRACER = TracerProvider().get_tracer("t")
EXPONENTIAL = View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Leave no page behind."""
    yield
    close_all()


class Page:
    """A page and what feeds it."""

    def __init__(self, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.reader = PrometheusReader(registry=self.registry, **options)
        self.provider: MeterProvider = provider(self.reader, views=[EXPONENTIAL])
        self.meter = self.provider.get_meter("s")

    def record(self, amount: float, name: str = "h", **attributes: str) -> dict[str, str]:
        """Record in a span of its own, and return the labels that the exemplar has."""
        histogram = self.meter.create_histogram(name, "s", explicit_bucket_boundaries_advisory=[1, 5, 10])
        with TRACER.start_as_current_span("call") as span:
            histogram.record(amount, attributes)
        context = span.get_span_context()
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def exemplars(self, name: str = "h_seconds") -> dict[str, tuple[dict[str, str], float]]:
        """Return labels and value of each bucket's exemplar, by ``le``, as the strict parser reads them."""
        assert_valid(self.registry)
        return {
            sample.labels["le"]: (sample.exemplar.labels, sample.exemplar.value)
            for sample in parsed(openmetrics(self.registry))[name].samples
            if sample.exemplar is not None
        }


def test_an_exemplar_in_the_bucket_it_fell_into() -> None:
    """Each bucket has the exemplar of its newest measurement, at its own bound only, on the bound included."""
    page = Page()
    low, edge, high = page.record(0.5), page.record(5), page.record(100)
    assert page.exemplars() == {"1.0": (low, 0.5), "5.0": (edge, 5), "+Inf": (high, 100)}


def test_an_exemplar_has_the_time_of_its_measurement() -> None:
    """An exemplar says when it was measured, in seconds."""
    page = Page()
    with TRACER.start_as_current_span("call"):
        page.meter.create_histogram("h", "s").record(1)
    (sample,) = (sample for sample in parsed(openmetrics(page.registry))["h_seconds"].samples if sample.exemplar)
    assert sample.exemplar is not None
    assert 1_700_000_000 < float(sample.exemplar.timestamp or 0) < 5_000_000_000


def test_exemplars_stay_until_the_next_one() -> None:
    """An exemplar is there at every scrape of either format until a newer one takes its place."""
    page = Page()
    first, other = page.record(0.5), page.record(7)
    for _ in range(3):
        assert page.exemplars() == {"1.0": (first, 0.5), "10.0": (other, 7)}
        assert not any("trace_id" in line for line in text(page.registry))
    second = page.record(0.25)
    for _ in range(2):
        text(page.registry)
        assert page.exemplars() == {"1.0": (second, 0.25), "10.0": (other, 7)}


def test_exemplars_survive_a_flush() -> None:
    """A flush collects, which empties the SDK; the page keeps what came of it, and of two flushes the newer one."""
    page = Page()
    page.record(0.5)
    page.provider.force_flush()
    newest, other = page.record(0.75), page.record(7)
    page.provider.force_flush()
    page.provider.force_flush()
    assert page.exemplars() == {"1.0": (newest, 0.75), "10.0": (other, 7)}


def test_exemplars_survive_the_text_format() -> None:
    """A scrape of the text format, which cannot show exemplars, does not take them from the next one."""
    page = Page()
    labels = page.record(0.5)
    text(page.registry)
    assert page.exemplars() == {"1.0": (labels, 0.5)}


def test_exemplars_belong_to_their_series() -> None:
    """Series of one histogram have exemplars of their own."""
    page = Page()
    one, two = page.record(0.5, model="a"), page.record(0.75, model="b")
    found = {
        sample.labels["model"]: sample.exemplar.labels
        for sample in parsed(openmetrics(page.registry))["h_seconds"].samples
        if sample.exemplar is not None
    }
    assert found == {"a": one, "b": two}


def test_measurements_that_were_not_traced() -> None:
    """Outside a sampled span there is no exemplar."""
    page = Page()
    histogram = page.meter.create_histogram("h", "s")
    histogram.record(1)
    with TracerProvider(sampler=ALWAYS_OFF).get_tracer("t").start_as_current_span("call"):
        histogram.record(2)
    assert page.exemplars() == {}


def test_exemplars_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the exemplar filter is always on, what was measured outside a span is no exemplar: it leads nowhere."""
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_on")
    page = Page()
    page.meter.create_histogram("h", "s").record(1)
    assert page.exemplars() == {}


def test_exemplars_of_exponential_histograms() -> None:
    """Exponential histograms have exemplars too, which stay at their bound when the scale falls."""
    page = Page()
    one, two = page.record(0.3, "exponential"), page.record(3, "exponential")
    assert page.exemplars("exponential_seconds") == {"0.5": (one, 0.3), "4.0": (two, 3)}
    three = page.record(1e6, "exponential")
    assert page.exemplars("exponential_seconds") == {
        "0.5": (one, 0.3),
        "4.0": (two, 3),
        "1.048576e+06": (three, 1e6),
    }


def test_exemplars_of_the_overflow() -> None:
    """The overflow of a histogram has the newest exemplar of all that is in it."""
    page = Page(max_series=1)
    first = page.record(0.5, model="a")
    page.record(0.5, model="b")
    newest, high = page.record(0.75, model="c"), page.record(100, model="b")
    for _ in range(2):
        found = {
            (sample.labels["model"], sample.labels["le"]): sample.exemplar.labels
            for sample in parsed(openmetrics(page.registry))["h_seconds"].samples
            if sample.exemplar is not None
        }
        assert found == {("a", "1.0"): first, ("", "1.0"): newest, ("", "+Inf"): high}


def test_exemplars_go_with_their_series() -> None:
    """What is remembered of a series is forgotten when the series is gone."""
    page = Page()
    memory = _shared[page.registry].memory
    other = PrometheusReader(registry=page.registry)
    meter = provider(other).get_meter("other")
    page.record(0.5)
    with TRACER.start_as_current_span("call"):
        for number in range(10):
            meter.create_histogram("g").record(1, {"n": number})
    text(page.registry)
    assert len(memory.exemplars) == 11
    assert len(memory.admitted) == 2
    other.shutdown()
    text(page.registry)
    assert len(memory.exemplars) == 1
    assert len(memory.admitted) == 1
    assert page.exemplars()


def test_counters_have_no_exemplars() -> None:
    """Exemplars are for buckets; the page says nothing of those that the SDK keeps for counters."""
    page = Page()
    with TRACER.start_as_current_span("call"):
        page.meter.create_counter("c").add(1)
    assert not any("trace_id" in line for line in openmetrics(page.registry))
