"""The cap on the label sets of a family, and the overflow beyond it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Counter
from prometheus_client import CollectorRegistry

from otel_llm.prometheus import PrometheusReader

from .prometheus_pages import assert_valid, close_all, only, provider, shown_by_both, text, values, warnings


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Leave no page behind."""
    yield
    close_all()


class Page:
    """A page with a cap, and what feeds it."""

    def __init__(self, max_series: int, **options: Any) -> None:
        self.registry = CollectorRegistry()
        reader = PrometheusReader(registry=self.registry, max_series=max_series, **options)
        self.provider = provider(reader)
        self.meter = self.provider.get_meter("s")

    def counts(self, name: str = "c_total") -> dict[str, float]:
        """Return the values by the label ``n``, that of the overflow as "overflow"."""
        assert_valid(self.registry)
        found = values(self.registry, name, "n", "otel_metric_overflow")
        return {"overflow" if overflow == "true" else n: value for (n, overflow), value in found.items()}


def test_counters_beyond_the_cap(caplog: pytest.LogCaptureFixture) -> None:
    """As many series as the cap allows have a line each, all others are added up in one, and one warning says so."""
    page = Page(3)
    counter = page.meter.create_counter("c")
    for n in range(10):
        counter.add(n, {"n": n})
    for _ in range(2):
        assert page.counts() == {"0": 0, "1": 1, "2": 2, "overflow": 42}
    assert warnings(caplog) == ["otel_llm: c: more than 3 label sets; the rest is one series"]


def test_at_the_cap() -> None:
    """A family with exactly as many series as the cap allows has no overflow, nor a label that speaks of one."""
    page = Page(3)
    for n in range(3):
        page.meter.create_counter("c").add(1, {"n": n})
    assert page.counts() == {"0": 1, "1": 1, "2": 1}
    assert "overflow" not in "\n".join(text(page.registry))


def test_histograms_beyond_the_cap() -> None:
    """Histograms beyond the cap are added up bucket by bucket."""
    page = Page(1)
    histogram = page.meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1, 5])
    for n, amount in enumerate((0.5, 0.5, 3, 3, 100)):
        histogram.record(amount, {"n": n})
    assert page.counts("h_count") == {"0": 1, "overflow": 4}
    assert page.counts("h_sum") == {"0": 0.5, "overflow": 106.5}
    buckets = values(page.registry, "h_bucket", "otel_metric_overflow", "le")
    assert {le: count for (overflow, le), count in buckets.items() if overflow} == {"1.0": 1, "5.0": 3, "+Inf": 4}


def test_up_down_counters_beyond_the_cap() -> None:
    """Up-down counters beyond the cap are added up."""
    page = Page(1)
    for n in range(4):
        page.meter.create_up_down_counter("c").add(-n, {"n": n})
    assert page.counts("c") == {"0": 0, "overflow": -6}


def test_gauges_beyond_the_cap() -> None:
    """Gauges cannot be added up: the overflow is the last of them, as it is in the SDK."""
    page = Page(1)
    for n in range(4):
        page.meter.create_gauge("g").set(n * 10, {"n": n})
    assert page.counts("g") == {"0": 0, "overflow": 30}


def test_the_cap_is_for_each_family() -> None:
    """One family's overflow leaves the others alone."""
    page = Page(2)
    for n in range(4):
        page.meter.create_counter("c").add(1, {"n": n})
    page.meter.create_counter("d").add(1, {"n": 0})
    assert page.counts("c_total") == {"0": 1, "1": 1, "overflow": 2}
    assert page.counts("d_total") == {"0": 1}


def test_the_cap_is_for_all_scopes_together() -> None:
    """Scopes that feed one family share its cap; what is beyond is added up for each scope, with the scope's labels."""
    page = Page(3, resource_attribute_filter=only("service.name"))
    for scope in ("one", "two"):
        for n in range(3):
            page.provider.get_meter(scope).create_counter("c").add(n + 1, {"n": n})
    own = values(page.registry, "c_total", "service_name", "otel_scope_name", "n", "otel_metric_overflow")
    assert own == {
        ("shop", "one", "0", ""): 1,
        ("shop", "one", "1", ""): 2,
        ("shop", "one", "2", ""): 3,
        ("shop", "two", "", "true"): 6,
    }
    assert_valid(page.registry)


def test_who_is_in_stays_in() -> None:
    """Series that come later push none into the overflow that had a line before, whichever scope they are of."""
    page = Page(4)
    for n in range(2):
        page.provider.get_meter("one").create_counter("c").add(1, {"n": f"a{n}"})
        page.provider.get_meter("two").create_counter("c").add(1, {"n": f"b{n}"})
    assert page.counts() == {"a0": 1, "a1": 1, "b0": 1, "b1": 1}
    for n in range(2, 4):
        page.provider.get_meter("one").create_counter("c").add(1, {"n": f"a{n}"})
    assert page.counts() == {"a0": 1, "a1": 1, "b0": 1, "b1": 1, "overflow": 2}


def test_a_place_that_becomes_free() -> None:
    """While nothing overflows, a series that goes away leaves its place to another, in a family of two scopes too."""
    here = ["a"]

    def observe(options: CallbackOptions) -> list[Observation]:
        return [Observation(1, {"n": n}) for n in here]

    page = Page(2)
    page.provider.get_meter("other").create_counter("c").add(1, {"n": "x"})
    page.meter.create_observable_counter("c", [observe])
    assert page.counts() == {"x": 1, "a": 1}
    here[:] = ["b"]
    assert page.counts() == {"x": 1, "b": 1}


def test_a_family_that_overflowed_stays_full() -> None:
    """When a series goes away, none leaves the overflow for its place: the overflow would fall."""
    here = ["a", "b", "c"]

    def observe(options: CallbackOptions) -> list[Observation]:
        return [Observation(1, {"n": n}) for n in here]

    page = Page(2)
    page.meter.create_observable_counter("c", [observe])
    assert page.counts() == {"a": 1, "b": 1, "overflow": 1}
    here.remove("a")
    assert page.counts() == {"b": 1, "overflow": 1}
    here.append("a")
    assert page.counts() == {"a": 1, "b": 1, "overflow": 1}


def test_a_family_with_room_gives_the_places_of_the_gone_to_others() -> None:
    """Below the cap, series that went away do not count; gauges take places that became free even after an overflow."""
    here = ["a", "b"]

    def observe(options: CallbackOptions) -> list[Observation]:
        return [Observation(1, {"n": n}) for n in here]

    page = Page(2)
    page.meter.create_observable_counter("c", [observe])
    page.meter.create_observable_gauge("g", [observe])
    for names in (["a", "b"], ["b", "c"], ["c", "d"]):
        here[:] = names
        assert page.counts() == dict.fromkeys(names, 1)
        assert page.counts("g") == dict.fromkeys(names, 1)
    here.append("e")
    assert page.counts("g") == {"c": 1, "d": 1, "overflow": 1}
    here.remove("c")
    assert page.counts("g") == {"d": 1, "e": 1}


def test_the_overflow_of_the_sdk() -> None:
    """The SDK's own overflow is shown as upstream shows it, beyond the cap and in one line with ours."""

    def build(provider: Any) -> None:
        counter = provider.get_meter("s").create_counter("c")
        counter.add(5, {"otel.metric.overflow": True})
        for n in range(3):
            counter.add(1, {"n": n})

    theirs, ours = shown_by_both(build)
    assert text(ours) == text(theirs)
    registry = CollectorRegistry()
    build(provider(PrometheusReader(registry=registry, max_series=2)))
    assert values(registry, "c_total", "n", "otel_metric_overflow") == {("0", ""): 1, ("1", ""): 1, ("", "true"): 6}
    assert_valid(registry)


def test_more_than_the_sdk_lets_through() -> None:
    """From 1.45.2 on, the SDK itself caps a stream at 2000 label sets; the sum is right with every version."""
    page = Page(5000)
    counter = page.meter.create_counter("c")
    for n in range(2500):
        counter.add(1, {"n": n})
    counts = page.counts()
    assert sum(counts.values()) == 2500
    assert len(counts) == (2500 if "overflow" not in counts else 2001)


def test_the_limits_of_the_sdk() -> None:
    """A reader takes the SDK's own limits where upstream's does, and refuses them where upstream's does."""
    limits: dict[type, int] = {Counter: 3}
    if "cardinality_limits" not in inspect.signature(PrometheusMetricReader).parameters:
        with pytest.raises(TypeError, match="cardinality_limits"):
            Page(5, cardinality_limits=limits)
        return
    page = Page(5, cardinality_limits=limits)
    for n in range(10):
        page.meter.create_counter("c").add(1, {"n": n})
        page.meter.create_up_down_counter("d").add(1, {"n": n})
    assert page.counts() == {"0": 1, "1": 1, "2": 1, "overflow": 7}
    assert len(page.counts("d")) == 6


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 9), st.integers(0, 5)), max_size=8), max_size=6),
    st.integers(1, 12),
)
def test_nothing_falls_and_nothing_is_lost(batches: list[list[tuple[str, int, int]]], max_series: int) -> None:
    """While label sets of several scopes arrive between scrapes, no series falls or goes, and the sum is right."""
    page = Page(max_series)
    before: dict[Any, float] = {}
    total = 0
    for batch in batches:
        for scope, n, amount in batch:
            total += amount
            page.provider.get_meter(scope).create_counter("c").add(amount, {"n": n})
            page.provider.get_meter(scope).create_histogram("h").record(amount, {"n": n})
        counted = values(page.registry, "c_total", "otel_scope_name", "n", "otel_metric_overflow")
        assert sum(counted.values()) == total
        assert sum(values(page.registry, "h_sum", "otel_scope_name", "n", "otel_metric_overflow").values()) == total
        assert all(counted[key] >= value for key, value in before.items())
        assert len([key for key in counted if not key[2]]) <= max_series
        before = counted


def test_a_cap_that_is_none() -> None:
    """A cap below one is refused, by name."""
    with pytest.raises(ValueError, match="max_series=0"):
        PrometheusReader(registry=CollectorRegistry(), max_series=0)
