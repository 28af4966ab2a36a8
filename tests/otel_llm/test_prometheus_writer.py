"""Our own writer: byte by byte what `prometheus_client` writes of the same families, but for what is said otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    Metric,
    PlatformCollector,
    Summary,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeHistogramMetricFamily, UnknownMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import exposition
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]

from otel_llm.prometheus import PrometheusReader, families, writer
from otel_llm.prometheus.families import Exemplar, Family, Series, restrict, spelled, to_metric
from otel_llm.prometheus.reader import page

from .prometheus_pages import Build, close_all, provider, shown
from .test_prometheus_equal import BUILDS, OPTIONS, VIEWS

write_open: Any = exposition.generate_latest  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
spell: Any = floatToGoString  # pyright: ignore[reportUnknownVariableType]

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
ACCEPTS = [
    "",
    "*/*",
    PROMETHEUS_2,
    PROMETHEUS_3,
    "text/plain; version=0.0.4",
    "text/plain; version=1.0.0; escaping=underscores",
    "text/plain; version=1.0.0; escaping=values",
    "application/openmetrics-text",
    "application/openmetrics-text; version=0.0.1",
    "application/openmetrics-text; version=1.0.0; escaping=dots",
    "application/openmetrics-text; version=1.0.0; escaping=values",
    "application/openmetrics-text; version=2.0.0",
    "application/openmetrics-text; version=9.9.9",
    "text/html, application/openmetrics-text; version=1.0.0",
]


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Leave no page behind."""
    yield
    close_all()


class Collected:
    """A registry of what was collected already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self.metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        """Return it."""
        return self.metrics


def metrics(shown: Iterable[Family | Metric]) -> Collected:
    """Return families as `prometheus_client` takes them."""
    return Collected([to_metric(one) if isinstance(one, Family) else one for one in shown])


def assert_equal(registry: CollectorRegistry) -> None:
    """Check that both pages are what `prometheus_client` writes of the registry."""
    expected = generate_latest(registry).splitlines()
    assert expected == writer.text(page(registry)).splitlines()
    expected = write_open(registry).splitlines()
    assert expected == writer.openmetrics(page(registry)).splitlines()
    assert writer.openmetrics(page(registry)).endswith(b"# EOF\n")


def exemplars(own: MeterProvider) -> None:
    """Histograms in spans, with an attribute that sorts before `le` and one that sorts after."""
    histogram = own.get_meter("s").create_histogram("h", "s", 'A\\B\n"C"', explicit_bucket_boundaries_advisory=[1, 5])
    for number, value in enumerate((0.5, 3, 2_000_000, 5)):
        with TracerProvider().get_tracer("t").start_as_current_span("call"):
            histogram.record(value, {"a": f'\\ \n " {number % 2}', "z": '",le="'})


def large(own: MeterProvider) -> None:
    """Values at which Go goes over to exponents, and no labels at all."""
    meter = own.get_meter("s")
    for value in (999_999, 1_000_000, 1e6 - 0.5, 123456789.125, 1e21, 1e-7, 1 << 60, math.inf):
        meter.create_counter("c").add(value, {"value": str(value)})
        meter.create_gauge("g").set(-value, {"value": str(value)})
        meter.create_gauge("nan").set(math.nan)
    meter.create_histogram("empty").record(1)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("build", [*(build for build in BUILDS if build.__name__ != "views"), exemplars, large])
def test_pages_of_our_reader(build: Build, options: dict[str, Any]) -> None:
    """What our reader shows is written as `prometheus_client` writes it, in both formats, the second time too."""
    registry = shown(build, views=VIEWS, **options)
    for _ in range(2):
        assert_equal(registry)


def test_a_colon_stays_a_colon() -> None:
    """A name with a colon, which only a view can give, is the same in both formats, unlike in prometheus_client."""
    registry = shown(BUILDS[5], views=VIEWS, scope_info_enabled=False)
    assert generate_latest(registry) == writer.text(page(registry))
    assert b"\n# UNIT Mixed:Case_Name_seconds seconds\nMixed:Case_Name_seconds 1.0\n" in writer.openmetrics(
        page(registry)
    )


class Odd:
    """A collector that hands out what no metric class makes."""

    def collect(self) -> Iterable[Metric]:
        """Return metrics with timestamps, with exemplars, of odd types, with names that are not legal."""
        counter = CounterMetricFamily("odd", "o", labels=["a"])
        counter.add_metric(["1"], 2, timestamp=1.5)
        yield counter
        gauge_histogram = GaugeHistogramMetricFamily("odd_gauge", "o", buckets=[("1.0", 1), ("+Inf", 2)], gsum_value=3)
        yield gauge_histogram
        yield UnknownMetricFamily("odd_unknown", "o", value=4)
        yield Metric("nothing", "no samples", "gauge")
        yield UnknownMetricFamily("with.dots", "o", value=4)


def native(registry: CollectorRegistry) -> None:
    """Put metrics of all types into the registry."""
    counter = Counter("n_calls", 'a "b" \\', ["a"], registry=registry)
    counter.labels("x\n").inc(2, {"trace_id": "abc"})
    Gauge("n_gauge", "g", registry=registry, unit="seconds").set(-1.5)
    Summary("n_summary", "s", registry=registry).observe(1)
    Histogram("n_time", "h", ["le_a"], registry=registry).labels("x").observe(2, {"trace_id": "abc"})
    Info("n_build", "i", registry=registry).info({"version": "1"})
    Enum("n_state", "e", registry=registry, states=["on", "off"]).state("off")
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(Odd())  # pyright: ignore[reportArgumentType]


def without_times(page: bytes) -> list[bytes]:
    """Return the lines of a page without those that are new at every scrape."""
    return [line for line in page.splitlines() if b"gc" not in line]


def test_a_version_that_is_none() -> None:
    """Who accepts a version that is no number gets the text format."""
    assert writer.TEXT.content_type == writer.choose("application/openmetrics-text;version=x").content_type


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("target_info", [None, {"of": "the registry"}])
def test_native_metrics_on_the_same_page(accept: str, target_info: dict[str, str] | None) -> None:
    """Metrics of others are on the page as `prometheus_client` shows them, whatever the scraper asks for."""
    registry = CollectorRegistry(target_info=target_info)
    native(registry)
    for build in (BUILDS[2], exemplars):
        build(provider(PrometheusReader(registry=registry)))
    Counter("n_later", "l", registry=registry)
    encode, content_type = choose_encoder(accept)
    chosen = writer.choose(accept)
    assert content_type == chosen.content_type
    assert without_times(encode(registry)) == without_times(chosen.write(page(registry)))


def test_what_prometheus_asks_for() -> None:
    """Prometheus 2.42 and 3.5 get OpenMetrics, whoever asks for nothing the text format."""
    assert writer.choose(PROMETHEUS_2).is_openmetrics
    assert writer.choose(PROMETHEUS_3).is_openmetrics
    assert not writer.choose("").is_openmetrics
    assert writer.choose("").content_type == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    "names",
    [
        ["h_seconds_bucket"],
        ["h_seconds_count", "h_seconds_sum", "target_info"],
        ["n_calls_total", "n_time_sum", "python_info", "h_seconds_sum"],
        ["h_seconds", "n_calls", "nothing", "no_such"],
        [],
    ],
)
def test_samples_of_some_names(names: list[str]) -> None:
    """Samples are picked by their full name, of ours and of others; a family without any is not there."""
    registry = CollectorRegistry()
    native(registry)
    exemplars(provider(PrometheusReader(registry=registry)))
    expected: list[Metric] = []
    for metric in registry.collect():
        samples = [sample for sample in metric.samples if sample.name in names]
        if samples:
            metric.samples = samples
            expected.append(metric)
    assert generate_latest(Collected(expected)) == writer.text(page(registry, names))  # pyright: ignore[reportArgumentType]
    assert write_open(Collected(expected)) == writer.openmetrics(page(registry, names))
    assert generate_latest(metrics(page(registry, names))) == writer.text(page(registry, names))  # pyright: ignore[reportArgumentType]


def test_samples_that_are_not_there() -> None:
    """A histogram without a sum has no sample of that name to pick."""
    family = Family("h", "", "histogram", "", [Series("", families.Histogram((-1.0, math.inf), (1, 1), None))])
    assert restrict([family], ["h_sum", "h_count"]) == []
    assert writer.text(restrict([family], ["h_bucket"])) == writer.text([family])


def test_a_collector_that_fails() -> None:
    """A collector of somebody else that fails makes the page fail, as it does in `prometheus_client`."""

    class Failing:
        def collect(self) -> Iterable[Metric]:
            raise LookupError("no")

    registry = CollectorRegistry()
    registry.register(Failing())  # pyright: ignore[reportArgumentType]
    with pytest.raises(LookupError):
        page(registry)


def test_a_counter_without_its_suffix() -> None:
    """A counter may be called as an old system called it; OpenMetrics has no type for it then."""
    family = Family("llm_cost_usd", "Cost.", "counter", "usd", [Series('m="a"', 1.5)])
    assert writer.text([family]).decode().splitlines() == [
        "# HELP llm_cost_usd Cost.",
        "# TYPE llm_cost_usd counter",
        'llm_cost_usd{m="a"} 1.5',
    ]
    assert writer.openmetrics([family]).decode().splitlines() == [
        "# HELP llm_cost_usd Cost.",
        "# TYPE llm_cost_usd unknown",
        'llm_cost_usd{m="a"} 1.5',
        "# EOF",
    ]
    assert writer.openmetrics([family]) == write_open(metrics([family]))


@pytest.mark.parametrize(("name", "kind"), [("build", "info"), ("wait", "gauge"), ("_total", "counter")])
def test_a_name_that_openmetrics_has_no_type_for(name: str, kind: str) -> None:
    """What lacks the suffix of its type or of its unit is shown without, under its own name."""
    family = Family(name, "", kind, "seconds", [Series("", 1)])
    shown = {"counter": "unknown", "info": "gauge"}.get(kind, kind)
    assert [f"# HELP {name} ", f"# TYPE {name} {shown}", f"{name} 1.0", "# EOF"] == writer.openmetrics(
        [family]
    ).decode().splitlines()
    assert write_open(metrics([family])) == writer.openmetrics([family])


def test_many_series() -> None:
    """As many series as there are come to the page, in their order."""
    family = Family("g", "", "gauge", "", [Series(f'n="{number}"', number) for number in range(2_500)])
    lines = writer.text([family]).decode().splitlines()[2:]
    assert [f'g{{n="{number}"}} {number}.0' for number in range(2_500)] == lines


def test_labels_are_spelled_once() -> None:
    """What a page says of a series is kept for the next page, of two instruments with one name too."""
    registry = CollectorRegistry()
    views = [View(instrument_name="renamed", name="h")]
    own = provider(PrometheusReader(registry=registry, scope_info_enabled=False), views=views)
    for scope in ("one", "two"):
        meter = own.get_meter(scope)
        for number in range(3):
            meter.create_counter("c").add(1, {f"key{number}": f"of {scope}"})
            meter.create_histogram("h").record(1, {"n": number})
            meter.create_histogram("renamed", "s").record(1, {"n": number})

    def labels() -> list[str]:
        ours = [family for family in page(registry) if isinstance(family, Family) and family.name != "target_info"]
        return [series.labels for family in ours for series in family.series]

    before, now = labels(), labels()
    assert before == now
    assert len(now) == 6 + 3 + 3
    assert [True] * len(now) == [one is other for one, other in zip(before, now, strict=True)]


def test_a_family_that_nothing_feeds() -> None:
    """A family without series has its description on the page all the same."""
    family = Family("x_total", "X.", "counter")
    assert writer.text([family]) == b"# HELP x_total X.\n# TYPE x_total counter\n"
    assert writer.openmetrics([family]) == b"# HELP x X.\n# TYPE x counter\n# EOF\n"


def test_a_lone_surrogate_costs_one_letter() -> None:
    """What UTF-8 cannot carry is replaced, and the page goes on."""
    family = Family("x", "\ud800", "gauge", "", [Series(spelled({"a": "\udfff"}), 1)])
    assert writer.text([family]) == b'# HELP x ?\n# TYPE x gauge\nx{a="?"} 1.0\n'


names = st.from_regex(r"_?[a-zA-Z][a-zA-Z0-9_]{0,4}|l[e-f]?[a-z]?", fullmatch=True)
label_sets = st.dictionaries(
    names.filter(lambda name: name != "le"), st.text('",\\\n=}{ aé\ud7ff', max_size=6), max_size=4
)
numbers = st.one_of(st.integers(-(10**17), 10**17), st.floats(), st.booleans())
exemplar = st.builds(
    Exemplar,
    st.just('span_id="1",trace_id="2"'),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 2e9),
)


@st.composite
def histograms(draw: st.DrawFn) -> families.Histogram:
    """Draw any histogram."""
    bounds = (*sorted(draw(st.sets(st.floats(-1e9, 1e9, width=32), max_size=4))), math.inf)
    counts = sorted(draw(st.lists(st.integers(0, 10**8), min_size=len(bounds), max_size=len(bounds))))
    found = draw(st.dictionaries(st.sampled_from(bounds), exemplar, max_size=2))
    return families.Histogram(bounds, counts, draw(st.none() | st.floats()), found)


@st.composite
def any_families(draw: st.DrawFn) -> list[Family]:
    """Draw families of all types."""
    drawn: list[Family] = []
    for number in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(("counter", "gauge", "histogram", "info", "unknown")))
        unit = draw(st.sampled_from(("", "seconds")))
        name = f"f{number}" + ("" if kind == "unknown" else f"_{unit}" if unit else "")
        name += {"counter": "_total", "info": "_info"}.get(kind, "")
        value: Any = histograms() if kind == "histogram" else numbers
        series = draw(st.lists(st.builds(Series, label_sets.map(spelled), value), max_size=3))
        drawn.append(Family(name, draw(st.text('a"\\\n', max_size=5)), kind, unit if kind != "info" else "", series))
    return drawn


@settings(deadline=None, max_examples=300)
@given(
    any_families(), st.none() | st.sets(st.sampled_from(("f0", "f0_bucket", "f1_total", "f1_seconds_sum", "f0_sum")))
)
def test_any_families(drawn: list[Family], names: set[str] | None) -> None:
    """Any families are written as `prometheus_client` writes them, all of them or some samples only."""
    shown: list[Any] = drawn if names is None else restrict(drawn, names)
    expected: Any = metrics(shown)
    assert names is None or all(metric.samples for metric in expected.metrics)
    assert generate_latest(expected) == writer.text(shown)
    assert write_open(expected) == writer.openmetrics(shown)


@given(numbers)
def test_numbers(value: float) -> None:
    """A number is spelled as Go spells it."""
    assert spell(value) == writer.number(value)


@given(label_sets)
def test_labels_are_read_back(labels: dict[str, str]) -> None:
    """Spelled labels can be read back, and `le` is put where it sorts."""
    text = spelled(labels)
    assert labels == families.parsed(text)
    at = writer.le_position(text)
    before = {name: value for name, value in labels.items() if name < "le"}
    assert before == families.parsed(text[:at])


def vanishing(here: set[str]) -> Any:
    """Return a callback that observes what is here."""

    def observe(options: CallbackOptions) -> list[Observation]:
        return [Observation(len(key), {key: "", "of": key}) for key in sorted(here)]

    return observe


steps = st.lists(
    st.tuples(
        st.sampled_from(("count", "record", "appear", "vanish")),
        st.sampled_from(("one", "two")),
        st.dictionaries(st.sampled_from(("a", "b", "le", "z")), st.sampled_from(("", "x", 1, True)), max_size=3),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=100)
@given(steps, st.booleans())
def test_a_page_that_was_scraped_before(drawn: list[Any], scopes: bool) -> None:
    """Whatever a page remembers from one scrape to the next, it is the page of one that is asked for the first time."""
    often, once = CollectorRegistry(), CollectorRegistry()
    own = provider(*(PrometheusReader(registry=registry, scope_info_enabled=scopes) for registry in (often, once)))
    here: set[str] = {"k"}
    for scope in ("one", "two"):
        own.get_meter(scope).create_observable_gauge("g", [vanishing(here)])
    for step, scope, attributes in drawn:
        meter = own.get_meter(scope)
        if step == "count":
            meter.create_counter("c").add(1, attributes)
        elif step == "record":
            meter.create_histogram("h").record(1, attributes)
        elif step == "appear":
            here.update(attributes)
        else:
            here.difference_update(attributes)
        writer.text(page(often))
    # The order in which the SDK hands out streams depends on who asks when.
    assert sorted(writer.text(page(once)).splitlines()) == sorted(writer.text(page(often)).splitlines())
