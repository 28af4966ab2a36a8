"""Exponential histograms are shown with bounds at powers of two; upstream's page fails for one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from prometheus_client import CollectorRegistry

from otel_llm.prometheus import PrometheusReader

from .prometheus_pages import assert_valid, close_all, provider, shown_by_both, text, values


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Leave no page behind."""
    yield
    close_all()


class Recorder:
    """A page with one exponential histogram, into which values of any sign can be recorded."""

    def __init__(self, max_size: int = 160, max_scale: int = 20) -> None:
        aggregation = ExponentialBucketHistogramAggregation(max_size, max_scale)
        self.registry = CollectorRegistry()
        reader = PrometheusReader(registry=self.registry)
        own = provider(reader, views=[View(instrument_name="e", aggregation=aggregation)])
        # An up-down counter takes negative values, a histogram does not.
        self._instrument = own.get_meter("s").create_up_down_counter("e")

    def record(self, *amounts: float) -> Recorder:
        """Record values."""
        for amount in amounts:
            self._instrument.add(amount)
        return self

    def counts(self) -> dict[float, float]:
        """Return the cumulative counts by upper bound, after a check of the page."""
        assert_valid(self.registry)
        return {float(le): count for le, count in values(self.registry, "e_bucket", "le").items()}


def assert_counts(counts: dict[float, float], amounts: Sequence[float]) -> None:
    """Check that each bound counts the values up to it; below zero the bound itself belongs to the bucket above."""
    assert counts[float("inf")] == len(amounts)
    for bound, count in counts.items():
        assert sum(amount < bound for amount in amounts) <= count <= sum(amount <= bound for amount in amounts)
        if bound >= 0:
            assert count == sum(amount <= bound for amount in amounts)


def test_upstream_fails_for_it() -> None:
    """One exponential histogram fails upstream's whole page; ours shows it and everything else."""

    def build(provider: MeterProvider) -> None:
        meter = provider.get_meter("s")
        meter.create_counter("c").add(1)
        histogram = meter.create_histogram("e", "s", "how long")
        for value in (0, 0.3, 1, 1.5, 3, 4, 5):
            histogram.record(value, {"model": "m"})

    view = View(instrument_name="e", aggregation=ExponentialBucketHistogramAggregation())
    theirs, ours = shown_by_both(build, views=[view], scope_info_enabled=False, disable_target_info=True)
    with pytest.raises(AttributeError):
        text(theirs)
    assert text(ours) == [
        "# HELP c_total ",
        "# TYPE c_total counter",
        "c_total 1.0",
        "# HELP e_seconds how long",
        "# TYPE e_seconds histogram",
        'e_seconds_bucket{le="0.0",model="m"} 1.0',
        'e_seconds_bucket{le="0.5",model="m"} 2.0',
        'e_seconds_bucket{le="1.0",model="m"} 3.0',
        'e_seconds_bucket{le="2.0",model="m"} 4.0',
        'e_seconds_bucket{le="4.0",model="m"} 6.0',
        'e_seconds_bucket{le="8.0",model="m"} 7.0',
        'e_seconds_bucket{le="+Inf",model="m"} 7.0',
        'e_seconds_count{model="m"} 7.0',
        'e_seconds_sum{model="m"} 14.8',
    ]
    assert_valid(ours)


def test_values_below_zero() -> None:
    """Values below zero have bounds below zero, and then there is neither sum nor count."""
    recorder = Recorder().record(-5, -3, -0.3, 0, 0.3, 3)
    assert recorder.counts() == {
        -4.0: 1,
        -2.0: 2,
        -1.0: 2,
        -0.5: 2,
        -0.25: 3,
        0.0: 4,
        0.5: 5,
        1.0: 5,
        2.0: 5,
        4.0: 6,
        float("inf"): 6,
    }
    assert not values(recorder.registry, "e_sum")
    assert not values(recorder.registry, "e_count")


def test_nothing_but_zero() -> None:
    """Zeros alone are counted up to zero."""
    assert Recorder().record(0, 0).counts() == {0.0: 2, float("inf"): 2}


@pytest.mark.parametrize(
    "amount", [5e-324, 2.0**-1022, 2.0**-1074, 1e-300, 1e300, 2.0**1023, 1.7e308, -1.7e308, -5e-324]
)
@pytest.mark.parametrize("max_scale", [20, 0, -1, -4, -10])
def test_the_ends_of_the_range(amount: float, max_scale: int) -> None:
    """The smallest and the largest numbers are counted, once each, on the right side of zero."""
    counts = Recorder(max_scale=max_scale).record(amount, 0).counts()
    assert counts[float("inf")] == 2
    assert counts[0.0] == (1 if amount > 0 else 2)


@pytest.mark.parametrize("max_size", [160, 10])
def test_bounds_stay_where_they_are(max_size: int) -> None:
    """When values spread and the scale falls, bounds are added, none goes, and no count falls."""
    recorder = Recorder(max_size)
    before: dict[float, float] = {}
    amounts: list[float] = []
    for amount in (1.1, 1.2, 1.5, 0.9, 3, 7, 0.4, 20, 100):
        amounts.append(amount)
        counts = recorder.record(amount).counts()
        assert_counts(counts, amounts)
        assert before.keys() <= counts.keys()
        assert all(counts[bound] >= count for bound, count in before.items())
        before = counts


def test_a_scale_below_zero() -> None:
    """Where few buckets must reach far, the bounds are further apart than powers of two."""
    amounts = [1e-3, 1.0, 1e3, 1e6, 1e9]
    counts = Recorder(max_size=2).record(*amounts).counts()
    assert_counts(counts, amounts)
    assert len(counts) <= 5


sizes = st.sampled_from((160, 20, 4, 2))
scales = st.sampled_from((20, 3, 0, -1))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(st.floats(0, 1e12), max_size=6), min_size=1, max_size=3), sizes, scales)
def test_counts_add_up(batches: list[list[float]], max_size: int, max_scale: int) -> None:
    """Whatever is recorded between scrapes, each bound counts the values up to it."""
    recorder = Recorder(max_size, max_scale).record(1)
    amounts = [1.0]
    for batch in batches:
        amounts += batch
        assert_counts(recorder.record(*batch).counts(), amounts)


# In one scrape: the SDK of 1.45.1 can fail to merge values of a sign that earlier scrapes had none of.
@settings(deadline=None, max_examples=150)
@given(st.lists(st.floats(-1e12, 1e12, allow_subnormal=False), min_size=1, max_size=12), sizes, scales)
def test_counts_add_up_on_both_sides_of_zero(amounts: list[float], max_size: int, max_scale: int) -> None:
    """Values of both signs are counted up to each bound."""
    assert_counts(Recorder(max_size, max_scale).record(*amounts).counts(), amounts)
