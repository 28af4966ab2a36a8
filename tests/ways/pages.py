"""Read a Prometheus page as Prometheus does."""

from __future__ import annotations

from typing import Any

from prometheus_client import parser

from tests.backends.servers import address, answers, fetch, wait_until

CALLS = "gen_ai_client_operation_duration_seconds_count"
TOKENS = "otel_llm_client_tokens_total"


def free_port() -> str:
    """Return a free loopback port."""
    return address().rpartition(":")[2]


def page_at(port: str) -> dict[str, str]:
    """Return the variables that have the page served on a port of the loopback."""
    return {"OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1", "OTEL_EXPORTER_PROMETHEUS_PORT": port}


def scrape(port: str) -> str:
    """Return the page, as soon as it is served."""
    url = f"http://127.0.0.1:{port}/metrics"
    wait_until(lambda: answers(url), what=url)
    text: str = fetch(url)
    return text


def served(port: str) -> bool:
    """Whether anything is served on a port."""
    return answers(f"http://127.0.0.1:{port}/metrics")


def total(page: str, name: str, **labels: str) -> float:
    """Return the sum of the samples of a name, of those that have the labels."""
    values: list[float] = [
        sample.value
        for family in _families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(values)


def names(page: str) -> set[str]:
    """Return the names of all families."""
    return {family.name for family in _families(page)}


def _families(page: str) -> list[Any]:
    parse: Any = parser.text_string_to_metric_families  # pyright: ignore[reportUnknownMemberType]
    return list(parse(page))
