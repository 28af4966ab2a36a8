"""Our page is upstream's, line by line, wherever upstream's is right."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.prometheus._mapping import sanitize_attribute
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from .prometheus_pages import (
    RESOURCE,
    Build,
    Missing,
    assert_valid,
    close_all,
    float_le,
    only,
    openmetrics,
    promtool,
    series,
    shown,
    shown_by_both,
    text,
)

VIEWS = [
    View(instrument_name="viewed.digit", name="9lives.left"),
    View(instrument_name="viewed.case", name="Mixed:Case/Name"),
    View(instrument_name="viewed.keys", attribute_keys={"kept"}),
    View(instrument_name="viewed.bounds", aggregation=ExplicitBucketHistogramAggregation((0.005, 1, 2.5, 10, 1e6))),
    View(instrument_name="viewed.none", aggregation=ExplicitBucketHistogramAggregation(())),
]


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Leave no page behind."""
    yield
    close_all()


def counters(provider: MeterProvider) -> None:
    """Counters, with units of every sort and names that already say what the page adds."""
    meter = provider.get_meter("shop", "1.0", "https://example.com/schema")
    units = ("s", "ms", "By", "%", "1", "{token}", "By/s", "{token}/s", "USD", "widgets", "KiBy", "", "x y", "a/b/c")
    for number, unit in enumerate(units):
        meter.create_counter(f"u{number}", unit, f"in {unit}").add(2, {"model": "m"})
    for name in ("requests", "requests.sent_total", "dashes-and.dots", "wait.seconds", "a/b", "trailing_", "two__"):
        meter.create_counter(name, "s", 'with "quotes", a \\ and\na line').add(1.5, {"model": "m"})


def gauges(provider: MeterProvider) -> None:
    """Up-down counters and gauges, sync and observable, above and below zero."""

    def observe(options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(3, {"pool": "a"})
        yield Observation(-4.25, {"pool": "b"})

    meter = provider.get_meter("shop")
    updown = meter.create_up_down_counter("queue.length", "{job}")
    updown.add(5, {"pool": "a"})
    updown.add(-7, {"pool": "a"})
    gauge = meter.create_gauge("temperature", "Cel")
    gauge.set(20)
    gauge.set(-3.5)
    meter.create_gauge("gauge_total", "s").set(1)
    meter.create_observable_gauge("observed.gauge", [observe], "%")
    meter.create_observable_counter("observed.counter", [observe_counts], "By")
    meter.create_observable_up_down_counter("observed.updown", [observe])


def observe_counts(options: CallbackOptions) -> Iterable[Observation]:
    """Observe two totals."""
    yield Observation(10, {"pool": "a"})
    yield Observation(11, {"pool": "b", "shard": 2})


def histograms(provider: MeterProvider) -> None:
    """Histograms with the default bounds, with advised ones, with whole and huge ones, with none."""
    meter = provider.get_meter("shop")
    for name in ("plain", "viewed.bounds", "viewed.none"):
        histogram = meter.create_histogram(name, "s", "how long")
        for value in (0, 0.001, 1, 3, 700, 1e7):
            histogram.record(value, {"model": "m"})
            histogram.record(value * 2, {"model": "n", "extra": "x"})
    meter.create_histogram("advised", "ms", explicit_bucket_boundaries_advisory=[1, 5, 10.5]).record(5)


def attributes(provider: MeterProvider) -> None:
    """Attributes of every type, missing on some points, with odd keys and odd values."""
    counter = provider.get_meter("shop").create_counter("odd")
    odd: list[dict[str, Any]] = [
        {},
        {"bool": True, "int": 7, "float": 0.5, "list": ["a", "b"], "numbers": [1, 2.5], "empty": []},
        {"none": None, "map": {"deep": [1]}, "bytes": b"\x00\xff", "big": 10**30, "exponent": 1e300},
        {"http.request.method": "GET", "with-dash": "1", "1digit": "x", "__reserved": "y", "ünïcode": "z"},
        {"text": 'quote " backslash \\ newline \n tab \t return \r null \0 end'},
        {"text": "日本語 \u2028 \U0001f600 { } , = # "},
    ]
    for number, one in enumerate(odd, 1):
        counter.add(number, one)


def scopes(provider: MeterProvider) -> None:
    """Scopes with and without version, schema and attributes."""
    drawn: list[tuple[str, str | None, str | None, Any]] = [
        ("one", "1.0", "https://example.com/1", {"team.name": "a", "level": 3, "name": "not this"}),
        ("two", None, None, None),
        ("three", "3", None, {"flag": True}),
    ]
    for name, version, schema, own in drawn:
        meter = provider.get_meter(name, version, schema, own)
        meter.create_counter(f"{name}.calls", "1", "calls").add(1, {"model": "m"})
        meter.create_histogram(f"{name}.time", "s", "time").record(2, {"model": "m"})


def views(provider: MeterProvider) -> None:
    """Names from views, which the SDK does not check, and attributes dropped by a view."""
    meter = provider.get_meter("shop")
    meter.create_counter("viewed.digit").add(9)
    meter.create_up_down_counter("viewed.case", "s").add(1)
    meter.create_counter("viewed.keys").add(1, {"kept": "yes", "dropped": "no"})
    meter.create_counter("viewed.keys").add(1, {"kept": "yes", "dropped": "maybe"})


def nothing(provider: MeterProvider) -> None:
    """No instrument was used."""
    provider.get_meter("shop").create_counter("unused")


BUILDS: list[Build] = [counters, gauges, histograms, attributes, scopes, views, nothing]
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "prefix": {"prefix": "my.app"},
    "prefix of digits": {"prefix": "1st"},
    "no target_info": {"disable_target_info": True},
    "no scope labels": {"scope_info_enabled": False},
    "resource labels": {"resource_attribute_filter": only("service.name", "host.cpu.count", "tags")},
    "all at once": {
        "disable_target_info": True,
        "prefix": "p",
        "scope_info_enabled": False,
        "resource_attribute_filter": only(*RESOURCE.attributes),
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("build", BUILDS)
def test_equal_to_upstream(build: Build, options: dict[str, Any]) -> None:
    """Both formats of the page are upstream's, line by line, but for the spelling of `le`; again at a second scrape."""
    theirs, ours = shown_by_both(build, views=VIEWS, **options)
    for _ in range(2):
        assert text(ours) == float_le(text(theirs))
        assert openmetrics(ours) == float_le(openmetrics(theirs))
    assert_valid(ours)


def test_equal_to_upstream_with_an_empty_resource() -> None:
    """A resource without attributes is shown as upstream shows it."""
    theirs, ours = shown_by_both(counters, resource=Resource({}))
    assert text(ours) == float_le(text(theirs))
    assert_valid(ours)


def test_equal_to_upstream_where_two_scopes_share_a_name() -> None:
    """Two scopes that feed one name are shown as upstream shows them, if their attributes have the same keys."""

    def build(provider: MeterProvider) -> None:
        for name in ("one", "two"):
            provider.get_meter(name).create_counter("shared", description="both").add(1, {"model": "m"})
            provider.get_meter(name).create_histogram("time", "s").record(1, {"model": "m"})

    theirs, ours = shown_by_both(build)
    assert text(ours) == float_le(text(theirs))
    assert_valid(ours)


@pytest.mark.parametrize("build", BUILDS)
def test_promtool_accepts_the_page(build: Build) -> None:
    """Prometheus' own tool has nothing against a page, other than the style of the names in this test."""
    try:
        said = promtool(shown(build, views=VIEWS))
    except Missing as reason:
        pytest.skip(str(reason))
    assert said == []


def test_promtool_rejects_a_wrong_page() -> None:
    """The same check finds what is wrong with a page of upstream's, so it would find it in ours."""

    def build(provider: MeterProvider) -> None:
        for scope in ("one", "two"):
            provider.get_meter(scope).create_counter("calls", description=scope).add(1)

    theirs, ours = shown_by_both(build)
    try:
        said = promtool(theirs)
    except Missing as reason:
        pytest.skip(str(reason))
    assert "second HELP line" in said[0]
    assert promtool(ours) == []


keys = st.text("ab._-1ü", min_size=1, max_size=6)
labels = st.one_of(
    st.text(max_size=8),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.lists(st.text(max_size=3), max_size=3),
    st.none(),
)
attribute_sets = st.lists(st.tuples(keys, labels), max_size=4, unique_by=lambda item: sanitize_attribute(item[0]))
amounts = st.one_of(st.integers(0, 10**9), st.floats(0, 1e9))
instruments = st.tuples(
    st.sampled_from(("counter", "up_down_counter", "gauge", "histogram")),
    st.text("aB.-_/9", max_size=5).map(lambda tail: tail + "x") | st.sampled_from(("_total", ".seconds", "")),
    st.sampled_from(("", "s", "ms", "By", "%", "1", "{token}", "By/s", "USD", "m/{x}", "x y")),
    st.text(max_size=10),
    st.lists(st.tuples(attribute_sets, amounts), min_size=1, max_size=4),
)
scope_names = st.tuples(st.text(min_size=1, max_size=4), st.none() | st.text(max_size=3))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(scope_names, st.lists(instruments, max_size=3)), max_size=3))
def test_equal_to_upstream_whatever_the_instruments(drawn: list[Any]) -> None:
    """Where no two instruments share a name and no two sets of attributes a set of labels, the pages are equal."""

    def build(provider: MeterProvider) -> None:
        number = 0
        for (name, version), own in drawn:
            meter: Any = provider.get_meter(name, version)
            for kind, tail, unit, description, points in own:
                number += 1
                instrument = getattr(meter, f"create_{kind}")(f"i{number}{tail}", unit, description)
                act = {"histogram": "record", "gauge": "set"}.get(kind, "add")
                for attributes, amount in points:
                    getattr(instrument, act)(amount, dict(attributes))

    theirs, ours = shown_by_both(build)
    assume(set(Count(series(openmetrics(theirs))).values()) <= {1})
    assert openmetrics(ours) == float_le(openmetrics(theirs))
    assert text(ours) == float_le(text(theirs))
    assert_valid(ours)
