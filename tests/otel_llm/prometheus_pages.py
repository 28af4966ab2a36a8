"""Pages of our reader and of upstream's for the same provider, and what makes a page valid."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]

from otel_llm.prometheus import PrometheusReader
from tests.backends.servers import Missing, find

RESOURCE = Resource({"service.name": "shop", "service.version": "1.2", "host.cpu.count": 8, "tags": ["a", "b"]})

Build = Callable[[MeterProvider], None]


def provider(*readers: MetricReader, views: Sequence[View] = (), resource: Resource = RESOURCE) -> MeterProvider:
    """Return a provider with these readers."""
    return MeterProvider(readers, resource, shutdown_on_exit=False, views=views)


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


def float_le(lines: Sequence[str]) -> list[str]:
    """Spell ``le`` as a float: the only thing in which our page differs from a right one of upstream's."""
    return [re.sub(r'(?<=[{,])le="([^"]*)"', lambda match: f'le="{_spelled(match[1])}"', line) for line in lines]


def _spelled(bound: str) -> str:
    return str(floatToGoString(float(bound)))


def parsed(lines: Sequence[str]) -> dict[str, Metric]:
    """Return the families of an OpenMetrics page, by name, as the strict parser reads them.

    Raises:
        ValueError: the page is not valid.
    """
    read: Any = parser.text_string_to_metric_families  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    families: list[Metric] = list(read("\n".join(lines) + "\n"))
    return {family.name: family for family in families}


def series(lines: Sequence[str]) -> list[tuple[str, frozenset[tuple[str, str]]]]:
    """Return the series of a page as Prometheus tells them apart: an empty label is no label."""
    return [
        (sample.name, frozenset(item for item in sample.labels.items() if item[1]))
        for family in parsed(lines).values()
        for sample in family.samples
    ]


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
    doubled = [one for one, times in Counter(series(lines)).items() if times > 1]
    assert not doubled
    for page in (lines, text(registry)):
        declared = Counter(line.rsplit(" ", 1)[0] if "TYPE" in line else line for line in page if line[:1] == "#")
        assert set(declared.values()) <= {1}
        names = Counter(line.split(" ", 3)[2] for line in page if line.startswith("# TYPE "))
        assert set(names.values()) <= {1}


def promtool(registry: CollectorRegistry) -> str:
    """Return what ``promtool check metrics`` says against the text page: nothing is good.

    Raises:
        Missing: promtool is not installed.
    """
    page = generate_latest(registry)
    run = subprocess.run([find("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    return (run.stdout + run.stderr).decode()


__all__ = [
    "RESOURCE",
    "Build",
    "Missing",
    "assert_valid",
    "float_le",
    "openmetrics",
    "parsed",
    "promtool",
    "provider",
    "series",
    "shown",
    "shown_by_both",
    "text",
    "values",
]
