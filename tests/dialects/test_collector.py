"""A dialect beside the application's own metrics in a registry of `prometheus_client`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, generate_latest
from prometheus_client.openmetrics import parser
from prometheus_client.registry import DuplicateTimeseries

import otel_llm
from otel_llm import runtime
from otel_llm.call import Call
from otel_llm.prometheus import pages
from otel_llm.prometheus.collector import DialectCollector
from otel_llm.prometheus.dialects import bounds, load, shipped
from otel_llm.prometheus.writer import OPENMETRICS
from otel_llm.state import Facts, State, Totals
from otel_llm.testing import capture
from otel_llm_semconv.values import Operation

BOUNDS = bounds(map(load, shipped()))


def _state() -> State:
    counts = [0] * (len(BOUNDS["duration"]) + 1)
    counts[3] = 2
    facts = Facts(Operation.CHAT, "ollama", 'a "model"', labels=(("graph", "g"),))
    told = Totals(2, 0.5, counts, input_tokens=3, output_tokens=4, output_rate=2.5, load_duration=0.25)
    return State(BOUNDS, [(facts, 1)], [(facts, told)], {}, "shop")


@pytest.fixture
def registry() -> CollectorRegistry:
    """An empty registry."""
    return CollectorRegistry()


def _strictly_parsed(page: bytes) -> list[Metric]:
    untyped: Any = parser
    return list(untyped.text_string_to_metric_families(page.decode()))


def _samples(page: bytes) -> list[str]:
    return sorted(line for line in page.decode().splitlines() if not line.startswith("#"))


@pytest.mark.parametrize("name", shipped())
def test_beside_other_metrics(name: str, registry: CollectorRegistry) -> None:
    """A dialect can be registered, scraped in both formats and unregistered, beside metrics of the application."""
    Counter("orders", "Orders", registry=registry).inc(3)
    collector = DialectCollector(name, _state)
    registry.register(collector)

    page = generate_latest(registry)
    families = _strictly_parsed(OPENMETRICS.encode(registry))

    assert b"orders_total 3.0" in page
    assert len({family.name for family in families}) == len(families)
    shown = {sample.name for family in families for sample in family.samples}
    assert {line.partition("{")[0].partition(" ")[0] for line in _samples(page)} == shown
    registry.unregister(collector)
    assert b"orders" in generate_latest(registry)
    registry.register(collector)


def test_names_that_are_taken(registry: CollectorRegistry) -> None:
    """A name that the application has already, or takes later, is an error of the registry, in every spelling."""
    Gauge("llm_cost_usd_total", "Mine", registry=registry)
    with pytest.raises(DuplicateTimeseries, match="llm_cost_usd_total"):
        registry.register(DialectCollector("aegis", _state))

    other = CollectorRegistry()
    other.register(DialectCollector("aegis", _state))
    for name in ("llm_tokens_used", "llm_latency_seconds_bucket", "monthly_spend_usd"):
        with pytest.raises(DuplicateTimeseries, match=name):
            Gauge(name, "Mine", registry=other)
    with pytest.raises(DuplicateTimeseries, match="llm_requests_total"):
        other.register(DialectCollector("llmbackend", _state))


def test_names_are_told_before_there_is_a_state() -> None:
    """Registering asks for names only: the state is first read when somebody scrapes."""
    asked: list[int] = []

    def state() -> State:
        asked.append(1)
        return _state()

    registry = CollectorRegistry()
    registry.register(DialectCollector("tinyllm", state))
    assert [] == asked

    generate_latest(registry)

    assert [1] == asked


def test_counters_without_total_are_unknown(registry: CollectorRegistry) -> None:
    """A counter that is spelled without `_total` keeps its name, and only its type is not told."""
    registry.register(DialectCollector("aegis", _state))

    page = generate_latest(registry).decode()

    for name in ("llm_tokens_used", "llm_tokens_used_total"):
        assert f"# TYPE {name} untyped\n" in page
        assert f'{name}{{provider="local_ollama",token_type="total"}} 7.0\n' in page
    assert "# TYPE llm_requests_total counter\n" in page


def test_restricted(registry: CollectorRegistry) -> None:
    """Samples can be picked by name, as `?name[]=` does."""
    registry.register(DialectCollector("local_llm", _state))

    page = generate_latest(registry.restricted_registry(["llm_tokens_total"]))

    assert [
        'llm_tokens_total{model="a \\"model\\"",type="completion"} 4.0',
        'llm_tokens_total{model="a \\"model\\"",type="prompt"} 3.0',
    ] == _samples(page)


def test_the_state_of_the_process(monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry) -> None:
    """Unless told otherwise, it shows what the pages show."""
    monkeypatch.setattr(pages, "state", _state)
    registry.register(DialectCollector("tinyllm"))

    assert b'tinyllm_requests_total{graph="g",model="a \\"model\\"",request_type="generate"} 2.0' in generate_latest(
        registry
    )


def test_own_files(tmp_path: Path, registry: CollectorRegistry) -> None:
    """It takes the path of a file, a dialect that is loaded, and nothing else."""
    file = tmp_path / "mine.toml"
    file.write_text('[[family]]\nname = "asked"\ntype = "counter"\nhelp = "Calls"\nvalue = "calls"\n', "utf-8")
    registry.register(DialectCollector(file, _state))

    assert b"# HELP asked Calls\n# TYPE asked untyped\nasked 2.0\n" == generate_latest(registry)
    assert "mine" == DialectCollector(load(file), _state).dialect.name
    with pytest.raises(ValueError, match=r"^dialect 'aegsi': expected one of"):
        DialectCollector("aegsi")
    with pytest.raises(TypeError, match=r"^a dialect must be a name or a path, not int$"):
        DialectCollector(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_dialect_that_no_page_shows(tmp_path: Path) -> None:
    """A file that is given to the collector alone has its labels and buckets counted, from then on."""
    (tmp_path / "alone.toml").write_text(
        '[[family]]\nname = "seconds"\ntype = "histogram"\nhelp = ""\nvalue = "duration"\nbuckets = [0.123, 77]\n'
        'labels = { team = "label.team" }\n',
        "utf-8",
    )
    with capture():
        collector = DialectCollector(tmp_path / "alone.toml")
        telemetry = runtime.join()
        assert telemetry is not None
        call = Call()
        call.operation, call.provider = "chat", "openai"
        with otel_llm.labels(team="search"):
            telemetry.begin(call)
        telemetry.end(call)
        (family,) = collector.collect()

    assert {("search", "0.123"), ("search", "77.0"), ("search", "+Inf")} == {
        (sample.labels["team"], sample.labels["le"]) for sample in family.samples if "le" in sample.labels
    }
    assert [1.0] * 3 == [sample.value for sample in family.samples if "le" in sample.labels]
