"""A dialect in a registry of `prometheus_client`, beside the metrics that the application has of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric

from otel_llm import serving
from otel_llm.prometheus.dialects import load
from otel_llm.prometheus.dialects.bridge import translate
from otel_llm.prometheus.dialects.grammar import Dialect
from otel_llm.prometheus.families import Family, open_name, to_metric

if TYPE_CHECKING:
    from otel_llm.state import State


class DialectCollector:
    """Show the families of a dialect in a registry of `prometheus_client`.

    The samples are those of the dialect's own page. Two types are not: a counter without ``_total``, and one whose name
    without it is another family's, are ``unknown``, which `prometheus_client` writes as ``untyped``; it would spell the
    first one otherwise, and no registry can have the second one beside it. Prometheus makes nothing of types.

    Args:
        dialect: the name of one that comes with us, the path of a file, or a dialect that is loaded already.
        state: returns what the ledger counted; that of `instrument()` if it is None, which then counts for the dialect.

    Raises:
        ValueError: there is no such dialect, or its file is wrong; the message names file, family and key.
        TypeError: *dialect* is none of these.
    """

    def __init__(self, dialect: str | Path | Dialect, state: Callable[[], State] | None = None) -> None:
        self.dialect = dialect if isinstance(dialect, Dialect) else load(dialect)
        self._state = state
        if state is None:
            serving.include(self.dialect)

    @property
    def of_process(self) -> bool:
        """Whether it shows what the pages of this process show."""
        return self._state is None

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples, so that the registry can tell who has a name already."""
        families = [
            Family(name, family.help, family.kind) for family in self.dialect.families for name in family.spellings
        ]
        return self._metrics(families)

    def collect(self) -> Iterable[Metric]:
        """Return the families with what was counted until now."""
        return self._metrics(translate(self.dialect, (self._state or _state_of_process)()))

    def _metrics(self, families: list[Family]) -> list[Metric]:
        names = {family.name for family in families}
        return [
            to_metric(family._replace(kind="unknown") if _is_shadowed(family, names) else family) for family in families
        ]


def dialects_in(registry: CollectorRegistry) -> list[Dialect]:
    """Return the dialects that a registry shows of this process."""
    with registry._lock:
        collectors = list(registry._collector_to_names)
    return [each.dialect for each in collectors if isinstance(each, DialectCollector) and each.of_process]


def _is_shadowed(family: Family, names: set[str]) -> bool:
    """Whether the registry would give the family a name that is another's."""
    opened, _ = open_name(family)
    return opened != family.name and opened in names


def _state_of_process() -> State:
    from otel_llm.prometheus import pages

    return pages.state()
