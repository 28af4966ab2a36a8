"""Pages of our reader and of upstream's for the same provider, and what makes a page valid."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]

from otel_llm.prometheus import PrometheusReader, translator
from tests.backends.servers import Missing, find

RESOURCE = Resource({"service.name": "shop", "service.version": "1.2", "host.cpu.count": 8, "tags": ["a", "b"]})

LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
LINE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({LABEL.pattern}(?:,{LABEL.pattern})*)\}})? [^ ]+(?: # \{{.*)?$")

Build = Callable[[MeterProvider], None]


_opened: list[MeterProvider] = []


def provider(*readers: MetricReader, views: Sequence[View] = (), resource: Resource = RESOURCE) -> MeterProvider:
    """Return a provider with these readers, which `close_all` shuts down."""
    own = MeterProvider(readers, resource, shutdown_on_exit=False, views=views)
    _opened.append(own)
    return own


def close_all() -> None:
    """Shut down every provider of a test, and have it warn anew of what a process is warned of once."""
    while _opened:
        own = _opened.pop()
        if not own._shutdown:
            own.shutdown()
    translator._warned.clear()


def only(*keys: str) -> Callable[[str], bool]:
    """Return a filter that lets these resource attributes through."""
    return lambda key: key in keys


def shown(build: Build, *, views: Sequence[View] = (), **options: Any) -> CollectorRegistry:
    """Return the registry with our page of what was built."""
    registry = CollectorRegistry()
    build(provider(PrometheusReader(registry=registry, **options), views=views))
    return registry


def shown_by_both(
    build: Build, *, views: Sequence[View] = (), resource: Resource = RESOURCE, **options: Any
) -> tuple[CollectorRegistry, CollectorRegistry]:
    """Return the registries with upstream's page and with ours of one provider."""
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    readers = PrometheusMetricReader(registry=theirs, **options), PrometheusReader(registry=ours, **options)
    build(provider(*readers, views=views, resource=resource))
    return theirs, ours


def text(registry: CollectorRegistry) -> list[str]:
    """Return the lines of the page in text format 0.0.4."""
    return generate_latest(registry).decode().split("\n")[:-1]


def openmetrics(registry: CollectorRegistry) -> list[str]:
    """Return the lines of the page in OpenMetrics 1.0."""
    write: Any = exposition.generate_latest  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    page: str = write(registry).decode()
    return page.split("\n")[:-1]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what we said in the log."""
    return [record.getMessage() for record in caplog.records if record.name == "otel_llm"]


def float_le(lines: Sequence[str]) -> list[str]:
    """Spell ``le`` as a float: the only thing in which our page differs from a right one of upstream's."""
    return [re.sub(r'(?<=[{,])le="([^"]*)"', lambda match: f'le="{_spelled(match[1])}"', line) for line in lines]


def _spelled(bound: str) -> str:
    spell: Any = floatToGoString  # pyright: ignore[reportUnknownVariableType]
    return str(spell(float(bound)))


def parsed(lines: Sequence[str]) -> dict[str, Metric]:
    """Return the families of an OpenMetrics page, by name, as the strict parser reads them.

    Raises:
        ValueError: the page is not valid.
    """
    read: Any = parser.text_string_to_metric_families  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    families: list[Metric] = list(read("\n".join(lines) + "\n"))
    return {family.name: family for family in families}


def series(lines: Sequence[str]) -> list[tuple[str, frozenset[tuple[str, str]]]]:
    """Return the series of a page as Prometheus tells them apart: an empty label is no label.

    The lines are read here, since the strict parser passes over a line that is there twice.
    """
    found: list[tuple[str, frozenset[tuple[str, str]]]] = []
    for line in lines:
        if line[:1] != "#":
            match = LINE.match(line)
            assert match, line
            found.append((match[1], frozenset(label for label in LABEL.findall(match[2] or "") if label[1])))
    return found


def values(registry: CollectorRegistry, name: str, *labels: str) -> dict[Any, float]:
    """Return the values of one sample name, by the values of some labels: a string for one, else a tuple."""
    found: dict[Any, float] = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == name:
                key = tuple(sample.labels.get(label, "") for label in labels)
                found[key[0] if len(labels) == 1 else key] = sample.value
    return found


def assert_valid(registry: CollectorRegistry) -> None:
    """Check that both formats are valid, that each name is declared once and each series shown once."""
    lines = openmetrics(registry)
    parsed(lines)
    doubled = [one for one, times in Counter(series(lines)).items() if times > 1]
    assert not doubled
    for page in (lines, text(registry)):
        declared = Counter(line.rsplit(" ", 1)[0] if "TYPE" in line else line for line in page if line[:1] == "#")
        assert set(declared.values()) <= {1}
        names = Counter(line.split(" ", 3)[2] for line in page if line.startswith("# TYPE "))
        assert set(names.values()) <= {1}


def promtool(registry: CollectorRegistry) -> list[str]:
    """Return what ``promtool check metrics`` has against the text page, less matters of style.

    Raises:
        Missing: promtool is not installed.
    """
    page = generate_latest(registry)
    run = subprocess.run([find("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    assert run.returncode in (0, 1, 3)
    said = (run.stdout + run.stderr).decode().splitlines()
    return [line for line in said if "error while linting" in line or line.endswith("not unique")]


def assert_accepted(registry: CollectorRegistry) -> None:
    """Check that the page is valid, by ``promtool`` too where it is installed."""
    assert_valid(registry)
    try:
        said = promtool(registry)
    except Missing:
        return
    assert said == []


__all__ = [
    "RESOURCE",
    "Build",
    "Missing",
    "assert_accepted",
    "assert_valid",
    "close_all",
    "float_le",
    "only",
    "openmetrics",
    "parsed",
    "promtool",
    "provider",
    "series",
    "shown",
    "shown_by_both",
    "text",
    "values",
    "warnings",
]
