"""Where upstream's page is wrong, ours is right; most tests show both."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Counter

from otel_llm.prometheus import PrometheusReader

from .prometheus_pages import (
    RESOURCE,
    assert_accepted,
    close_all,
    only,
    openmetrics,
    parsed,
    provider,
    series,
    shown,
    shown_by_both,
    text,
    values,
    warnings,
)

VERSION = 'otel_scope_schema_url="",otel_scope_version=""'


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Leave no page behind."""
    yield
    close_all()


def is_valid(registry: CollectorRegistry) -> bool:
    """Whether the strict parser takes the page."""
    try:
        parsed(openmetrics(registry))
    except ValueError:
        return False
    return True


def doubled(registry: CollectorRegistry) -> list[str]:
    """Return the sample names of series that are there more than once."""
    return [name for (name, _), times in Count(series(openmetrics(registry))).items() if times > 1]


def test_scopes_with_one_name_and_other_attributes() -> None:
    """Labels stay with their values when two scopes feed one name with attributes of their own."""

    def build(provider: MeterProvider) -> None:
        provider.get_meter("s1").create_counter("llm.requests").add(1, {"provider": "P", "model": "M", "task": "T"})
        provider.get_meter("s2").create_counter("llm.requests").add(2, {"backend": "B", "model": "N", "status": "ok"})

    theirs, ours = shown_by_both(build, disable_target_info=True)
    assert values(ours, "llm_requests_total", "otel_scope_name", "provider", "backend", "model", "task", "status") == {
        ("s1", "P", "", "M", "T", ""): 1,
        ("s2", "", "B", "N", "", "ok"): 2,
    }
    assert ("s2", "N") not in values(theirs, "llm_requests_total", "otel_scope_name", "model")
    assert_accepted(ours)


def test_one_name_described_in_two_ways(caplog: pytest.LogCaptureFixture) -> None:
    """One family has one HELP, the first, whichever descriptions its instruments have, and a warning says so once."""

    def build(provider: MeterProvider) -> None:
        for scope in ("one", "two"):
            provider.get_meter(scope).create_counter("calls", description=f"from {scope}").add(1)

    theirs, ours = shown_by_both(build)
    assert not is_valid(theirs)
    assert [line for line in text(ours) if line.startswith("# HELP calls")] == ["# HELP calls_total from one"]
    assert values(ours, "calls_total", "otel_scope_name") == {"one": 1, "two": 1}
    assert_accepted(ours)
    assert warnings(caplog) == ["otel_llm: calls: it is described in two ways; the first is shown"]


@pytest.mark.parametrize(("kind", "total"), [("counter", 3), ("up_down_counter", 3), ("gauge", 2)])
def test_views_give_two_instruments_one_name(kind: str, total: float, caplog: pytest.LogCaptureFixture) -> None:
    """Two instruments in one series are one line, their sum if they can be added, and one warning."""

    def build(provider: MeterProvider) -> None:
        for value, name in enumerate(("old.name", "older.name"), 1):
            instrument: Any = getattr(provider.get_meter("s"), f"create_{kind}")(name)
            (instrument.set if kind == "gauge" else instrument.add)(value, {"model": "m"})

    views = [View(instrument_name=name, name="name") for name in ("old.name", "older.name")]
    theirs, ours = shown_by_both(build, views=views)
    name = "name_total" if kind == "counter" else "name"
    assert doubled(theirs) == [name]
    for _ in range(2):
        assert values(ours, name, "model") == {"m": total}
    assert_accepted(ours)
    (warning,) = warnings(caplog)
    assert warning.startswith("otel_llm: name: two instruments feed one series; ")


def test_histograms_in_one_series() -> None:
    """Histograms in one series are added, at the bounds of both."""

    def build(provider: MeterProvider) -> None:
        for scope, bounds, amount in (("one", [1, 10], 5), ("two", [1, 100], 50), ("three", [1, 10], 0.5)):
            meter = provider.get_meter(scope)
            meter.create_histogram("h", explicit_bucket_boundaries_advisory=bounds).record(amount)

    ours = shown(build, scope_info_enabled=False)
    assert values(ours, "h_bucket", "le") == {"1.0": 1, "10.0": 2, "100.0": 3, "+Inf": 3}
    assert values(ours, "h_sum") == {(): 55.5}
    assert_accepted(ours)


def test_scopes_without_scope_labels() -> None:
    """Two scopes that only their labels told apart are added up when these are left out."""

    def build(provider: MeterProvider) -> None:
        for scope in ("one", "two"):
            provider.get_meter(scope).create_counter("calls").add(2, {"model": "m"})

    theirs, ours = shown_by_both(build, scope_info_enabled=False)
    assert doubled(theirs) == ["calls_total"]
    assert values(ours, "calls_total", "model") == {"m": 4}
    assert_accepted(ours)


@pytest.mark.parametrize("other", ["histogram", "gauge"])
def test_counter_and_another_type_under_one_name(other: str, caplog: pytest.LogCaptureFixture) -> None:
    """A counter that has the name of another family is shown too, but without its type."""

    def build(provider: MeterProvider) -> None:
        provider.get_meter("one").create_counter("same", "s").add(1)
        instrument: Any = getattr(provider.get_meter("two"), f"create_{other}")("same", "s")
        (instrument.set if other == "gauge" else instrument.record)(5)

    theirs, ours = shown_by_both(build, disable_target_info=True)
    assert not is_valid(theirs)
    assert_accepted(ours)
    lines = text(ours)
    assert lines[1] == "# TYPE same_seconds_total untyped"
    assert f"# TYPE same_seconds {other}" in lines
    assert values(ours, "same_seconds_total", "otel_scope_name") == {"one": 1}
    assert values(ours, "same_seconds" if other == "gauge" else "same_seconds_sum", "otel_scope_name") == {"two": 5}
    assert warnings(caplog) == ["otel_llm: same_seconds: its names are taken; this counter is shown without its type"]


def test_types_that_cannot_share_a_name(caplog: pytest.LogCaptureFixture) -> None:
    """Of a gauge and a histogram with one name, the first is shown: one name has one type."""

    def build(provider: MeterProvider) -> None:
        provider.get_meter("one").create_gauge("same").set(1)
        provider.get_meter("two").create_histogram("same").record(2)

    theirs, ours = shown_by_both(build)
    assert not is_valid(theirs)
    assert values(ours, "same") == {(): 1}
    assert not values(ours, "same_count")
    assert_accepted(ours)
    assert warnings(caplog) == ["otel_llm: same: its names are taken; this histogram is not shown"]


def test_names_that_another_family_owns() -> None:
    """Counters keep their lines when one is called what OpenMetrics derives from another's name."""

    def build(provider: MeterProvider) -> None:
        meter = provider.get_meter("s")
        meter.create_counter("jobs").add(1)
        meter.create_counter("jobs.created").add(2)
        meter.create_histogram("waits").record(3)
        meter.create_counter("waits.count").add(4)
        meter.create_gauge("target").set(5)

    theirs, ours = shown_by_both(build)
    assert not is_valid(theirs)
    assert_accepted(ours)
    for name in ("jobs_total", "jobs_created_total", "waits_sum", "waits_count_total", "target"):
        assert values(ours, name) == values(theirs, name)
        assert values(ours, name)
    assert text(ours)[:2] == ["# HELP target_info Target metadata", "# TYPE target_info gauge"]


def test_a_name_that_another_family_shows() -> None:
    """Of two instruments that would show one sample name, the one whose name it is is shown."""

    def build(provider: MeterProvider) -> None:
        meter = provider.get_meter("s")
        meter.create_counter("jobs").add(1)
        meter.create_gauge("jobs_total").set(2)

    theirs, ours = shown_by_both(build)
    assert doubled(theirs) == ["jobs_total"]
    assert values(ours, "jobs_total") == {(): 2}
    assert_accepted(ours)


def test_native_metrics_on_the_same_page(caplog: pytest.LogCaptureFixture) -> None:
    """A name that a native metric of the registry has is not declared again, and a warning says so."""
    theirs, ours = CollectorRegistry(), CollectorRegistry(target_info={"env": "test"})
    for registry in (theirs, ours):
        Counter("calls", "native", registry=registry).inc(7)
    meter = provider(PrometheusMetricReader(registry=theirs), PrometheusReader(registry=ours)).get_meter("s")
    meter.create_counter("calls").add(1)
    meter.create_counter("others").add(1)
    assert not is_valid(theirs)
    assert values(ours, "calls_total") == {(): 7}
    assert values(ours, "others_total") == {(): 1}
    assert values(ours, "target_info", "env") == {"test": 1}
    assert_accepted(ours)
    assert warnings(caplog) == ["otel_llm: calls: its names are taken; this counter is not shown"]


@pytest.mark.parametrize("where", ["attribute", "description", "scope", "resource"])
def test_lone_surrogates(where: str) -> None:
    """What UTF-8 cannot carry becomes a question mark, instead of costing the whole page."""
    odd = "a\udc80b"
    text_at: dict[str, str] = {where: odd}

    def build(provider: MeterProvider) -> None:
        meter = provider.get_meter(text_at.get("scope", "s"))
        counter = meter.create_counter("c", description=text_at.get("description", "d"))
        counter.add(1, {"a": text_at.get("attribute", "x")})

    resource = Resource({"service.name": text_at.get("resource", "shop")})
    theirs, ours = shown_by_both(build, resource=resource)
    with pytest.raises(UnicodeEncodeError):
        text(theirs)
    assert "a?b" in "\n".join(text(ours))
    assert_accepted(ours)


def test_odd_label_values_come_back_as_they_went_in() -> None:
    """Quotes, backslashes, newlines, NUL and what looks like the format itself are read back as they were."""
    odd = ['"', "\\", "\n", "\\n", '\\"', "\0", "\r\n", "a\tb", '} 1 # {le="1"} 2', "é\u2028\U0001f600", " ", "# EOF"]

    def build(provider: MeterProvider) -> None:
        counter = provider.get_meter("s").create_counter("c")
        for value in odd:
            counter.add(1, {"a": value})

    ours = shown(build)
    assert_accepted(ours)
    assert [sample.labels["a"] for sample in parsed(openmetrics(ours))["c"].samples] == odd


def test_keys_that_become_one_label() -> None:
    """Values of keys that become one label are joined by a semicolon, in the order of the keys."""

    def build(provider: MeterProvider) -> None:
        counter = provider.get_meter("s").create_counter("c")
        counter.add(1, {"a_b": "third", "a-b": "first", "a.b": 2, "other": "x"})

    theirs, ours = shown_by_both(build)
    assert values(theirs, "c_total", "a_b") == {"2": 1}
    assert values(ours, "c_total", "a_b", "other") == {("first;2;third", "x"): 1}
    assert_accepted(ours)


def test_keys_that_become_one_label_in_resource_and_scope() -> None:
    """The same holds for the attributes of the resource and of the scope."""

    def build(provider: MeterProvider) -> None:
        provider.get_meter("s", attributes={"t.eam": "a", "t_eam": "b"}).create_counter("c").add(1)

    resource = Resource({"x.y": "1", "x_y": "2"})
    _, ours = shown_by_both(build, resource=resource, resource_attribute_filter=only("x.y", "x_y"))
    assert values(ours, "target_info", "x_y") == {"1;2": 1}
    assert values(ours, "c_total", "x_y", "otel_scope_t_eam") == {("1;2", "a;b"): 1}


def test_scope_labels_cannot_be_overwritten() -> None:
    """An attribute named like a scope label does not take its place, nor does one of the resource."""

    def build(provider: MeterProvider) -> None:
        meter = provider.get_meter("good", attributes={"team": "a"})
        meter.create_counter("c").add(1, {"otel_scope_name": "evil", "otel.scope.version": "6", "otel_scope_team": "b"})

    resource = Resource({"otel.scope.name": "evil"})
    theirs, ours = shown_by_both(build, resource=resource, resource_attribute_filter=only("otel.scope.name"))
    assert values(theirs, "c_total", "otel_scope_name") == {"evil": 1}
    assert values(ours, "c_total", "otel_scope_name", "otel_scope_version", "otel_scope_team") == {("good", "", "a"): 1}


def test_an_attribute_named_le() -> None:
    """A histogram's attribute that is called like the bucket label is named as Prometheus names a label it needs."""

    def build(provider: MeterProvider) -> None:
        meter = provider.get_meter("s")
        histogram = meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1])
        for value in ("a", "b"):
            histogram.record(0.5, {"le": value})
        meter.create_counter("c").add(1, {"le": "kept"})

    theirs, ours = shown_by_both(build)
    assert "h_bucket" in doubled(theirs)
    assert values(ours, "h_bucket", "exported_le", "le") == {
        ("a", "1.0"): 1,
        ("a", "+Inf"): 1,
        ("b", "1.0"): 1,
        ("b", "+Inf"): 1,
    }
    assert values(ours, "h_count", "exported_le", "le") == {("a", ""): 1, ("b", ""): 1}
    assert values(ours, "c_total", "le") == {"kept": 1}
    assert_accepted(ours)


@pytest.mark.parametrize(("one", "other"), [({"a": 1}, {"a": "1"}), ({}, {"a": ""}), ({"a": None}, {"a": "null"})])
def test_attributes_that_become_the_same_labels(
    one: dict[str, Any], other: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Attributes that differ only in what labels cannot say are one series, added up; of a gauge, the last is shown."""

    def build(provider: MeterProvider) -> None:
        meter = provider.get_meter("s")
        for attributes in (one, other):
            meter.create_counter("c").add(2, attributes)
            meter.create_histogram("h").record(3, attributes)
        meter.create_gauge("g").set(4, one)
        meter.create_gauge("g").set(5, other)

    theirs, ours = shown_by_both(build)
    assert {"c_total", "g", "h_count", "h_sum", "h_bucket"} == set(doubled(theirs))
    for _ in range(2):
        assert list(values(ours, "c_total").values()) == [4]
        assert list(values(ours, "h_count").values()) == [2]
        assert list(values(ours, "h_sum").values()) == [6]
        assert list(values(ours, "g").values()) == [5]
    assert_accepted(ours)
    assert not warnings(caplog)


def test_an_observable_counter_below_zero(caplog: pytest.LogCaptureFixture) -> None:
    """A counter below zero is left out: no page can say it."""

    def build(provider: MeterProvider) -> None:
        observations = [Observation(-5, {"a": "bad"}), Observation(5, {"a": "good"})]
        provider.get_meter("s").create_observable_counter("c", [lambda options: observations])

    theirs, ours = shown_by_both(build)
    assert not is_valid(theirs)
    assert values(ours, "c_total", "a") == {"good": 5}
    assert_accepted(ours)
    assert warnings(caplog) == ["otel_llm: c: a counter below zero is not shown"]


def test_a_histogram_with_values_below_zero() -> None:
    """A histogram that saw a value below zero has neither sum nor count, as its sum could fall."""

    def build(provider: MeterProvider) -> None:
        counter = provider.get_meter("s").create_up_down_counter("h")
        counter.add(2)
        counter.add(-3)

    view = View(instrument_name="h", aggregation=ExplicitBucketHistogramAggregation((0, 1, 5)))
    theirs, ours = shown_by_both(build, views=[view])
    assert not is_valid(theirs)
    assert values(ours, "h_bucket", "le") == {"0.0": 1, "1.0": 1, "5.0": 2, "+Inf": 2}
    assert not values(ours, "h_sum")
    assert not values(ours, "h_count")
    assert_accepted(ours)


def test_an_attribute_that_is_a_string_enum() -> None:
    """A string enum is shown by its value, as every other exporter sends it."""

    class Colour(str, Enum):  # noqa: UP042  this is how people write it
        RED = "red"

    def build(provider: MeterProvider) -> None:
        provider.get_meter("s").create_counter("c").add(1, {"colour": Colour.RED, "x.y": Colour.RED, "x_y": "z"})

    ours = shown(build)
    assert values(ours, "c_total", "colour", "x_y") == {("red", "red;z"): 1}


def test_a_view_that_names_a_counter_total() -> None:
    """A name that is nothing but what the page adds is kept; it broke upstream's page."""

    def build(provider: MeterProvider) -> None:
        provider.get_meter("s").create_counter("c").add(1)

    theirs, ours = shown_by_both(build, views=[View(instrument_name="c", name="_total")])
    with pytest.raises(ValueError, match="empty"):
        text(theirs)
    assert values(ours, "_total_total") == {(): 1}
    assert_accepted(ours)


def test_the_resource_changes() -> None:
    """A resource that changes, as it does in a forked process, is shown as it is now, in all labels."""
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    options: dict[str, Any] = {"resource_attribute_filter": only("service.version")}
    own = provider(PrometheusMetricReader(registry=theirs, **options), PrometheusReader(registry=ours, **options))
    own.get_meter("s").create_counter("c").add(1)
    for registry in (theirs, ours):
        assert values(registry, "target_info", "service_version") == {"1.2": 1}
    own._update_resource(Resource({"service.version": "2.0"}))
    assert values(theirs, "target_info", "service_version") == {"1.2": 1}
    assert values(ours, "target_info", "service_version", "service_name") == {("2.0", "shop"): 1}
    assert values(ours, "c_total", "service_version") == {"2.0": 1}


def use(own: MeterProvider, scope: str = "s") -> None:
    """Count and record something."""
    meter = own.get_meter(scope)
    meter.create_counter("c").add(1, {"a": "x"})
    meter.create_histogram("h").record(1, {"a": "x"})


def test_two_readers_of_one_provider_in_one_registry(caplog: pytest.LogCaptureFixture) -> None:
    """Two readers that show the same measurements in one registry show them once; upstream's show them twice."""
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    use(provider(PrometheusMetricReader(registry=theirs), PrometheusMetricReader(registry=theirs)))
    use(provider(PrometheusReader(registry=ours), PrometheusReader(registry=ours)))
    assert {"target_info", "c_total"} <= set(doubled(theirs))
    assert values(ours, "c_total") == {(): 1}
    assert values(ours, "h_count") == {(): 1}
    assert_accepted(ours)
    assert sorted(warnings(caplog)) == [
        "otel_llm: c: two readers feed one series; the first is shown",
        "otel_llm: h: two readers feed one series; the first is shown",
    ]


def test_two_readers_beyond_the_cap() -> None:
    """Two readers of one provider do not count twice what is beyond the cap."""
    registry = CollectorRegistry()
    own = provider(*(PrometheusReader(registry=registry, max_series=2) for _ in range(2)))
    counter = own.get_meter("s").create_counter("c")
    for number in range(5):
        counter.add(1, {"n": number})
    assert values(registry, "c_total", "n", "otel_metric_overflow") == {("0", ""): 1, ("1", ""): 1, ("", "true"): 3}


def test_two_providers_in_one_registry() -> None:
    """Two providers in one registry share a page: one family per name, a target_info for each resource."""
    registry = CollectorRegistry()
    other = Resource({"service.name": "other", "extra": "x"})
    use(provider(PrometheusReader(registry=registry)), "one")
    use(provider(PrometheusReader(registry=registry), resource=other), "two")
    assert values(registry, "target_info", "service_name") == {"shop": 1, "other": 1}
    assert values(registry, "c_total", "otel_scope_name") == {"one": 1, "two": 1}
    assert_accepted(registry)


def test_two_providers_with_one_resource() -> None:
    """Two providers with equal resources have one target_info."""
    registry = CollectorRegistry()
    use(provider(PrometheusReader(registry=registry)), "one")
    use(provider(PrometheusReader(registry=registry), resource=Resource(RESOURCE.attributes)), "two")
    assert len([line for line in text(registry) if line.startswith("target_info")]) == 1
    assert_accepted(registry)


def test_readers_of_one_registry_keep_their_options() -> None:
    """Each reader of a registry names and labels its own metrics as it was told to."""
    registry = CollectorRegistry()
    use(provider(PrometheusReader(registry=registry, prefix="one", scope_info_enabled=False)))
    use(provider(PrometheusReader(registry=registry, prefix="two", disable_target_info=True)))
    assert text(registry)[2].startswith("target_info")
    assert 'one_c_total{a="x"} 1.0' in text(registry)
    assert f'two_c_total{{a="x",otel_scope_name="s",{VERSION}}} 1.0' in text(registry)
    assert_accepted(registry)
