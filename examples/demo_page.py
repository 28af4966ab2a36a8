"""Read the metrics page back: the numbers of each model, and the lines most worth looking at."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

Labels: TypeAlias = dict[str, str]

DURATION: Final = "gen_ai_client_operation_duration_seconds"
FIRST_CHUNK: Final = "gen_ai_client_operation_time_to_first_chunk_seconds"
FIRST_TEXT: Final = "otel_llm_client_time_to_first_text_seconds"
RETRIES: Final = "otel_llm_client_retries_total"
TOKENS: Final = "otel_llm_client_tokens_total"
REQUESTS_LEFT: Final = "otel_llm_client_ratelimit_requests_remaining"

FEW: Final = 4
"""Calls from which on buckets tell more than the mean."""

WORTH_SHOWING: Final = (DURATION, FIRST_TEXT, RETRIES, TOKENS, REQUESTS_LEFT)
TELLING: Final = (
    ("error_type",),
    ("otel_llm_retry_reason",),
    ("otel_llm_token_kind",),
    ("gen_ai_request_model", "gen_ai_operation_name"),
)
"""Labels that tell one line from the next, the best first; of each group one."""


@dataclass
class Measured:
    """All samples of one operation with one model."""

    operation: str
    model: str
    samples: list[tuple[str, Labels, float]] = field(default_factory=list[tuple[str, Labels, float]])

    def total(self, name: str, wanted: Callable[[Labels], bool] = lambda _: True) -> float | None:
        """Add up the samples of a name; None where there are none."""
        found = [value for sample, labels, value in self.samples if sample == name and wanted(labels)]
        return sum(found) if found else None

    def count(self, name: str, **labels: str) -> str:
        """Add up the samples that have these labels, as a whole number."""
        total = self.total(name, lambda found: labels.items() <= found.items())
        return "" if total is None else f"{total:.0f}"

    @property
    def failed(self) -> str:
        """How many calls failed."""
        return f"{self.total(f'{DURATION}_count', lambda labels: bool(labels.get('error_type'))) or 0:.0f}"

    def mean(self, name: str) -> float | None:
        """Return the mean of a histogram."""
        total, count = self.total(f"{name}_sum"), self.total(f"{name}_count")
        return total / count if total is not None and count else None

    def buckets(self, name: str) -> list[tuple[float, float]]:
        """Return upper bounds and cumulative counts of a histogram, over all its series."""
        counts: dict[float, float] = {}
        for sample, labels, value in self.samples:
            if sample == f"{name}_bucket":
                counts[float(labels["le"])] = counts.get(float(labels["le"]), 0) + value
        return sorted(counts.items())

    def median(self, name: str) -> float | None:
        """Estimate the median as Prometheus does: along a straight line within its bucket."""
        buckets = self.buckets(name)
        rank = buckets[-1][1] / 2 if buckets and buckets[-1][1] >= FEW else 0
        below, before = 0.0, 0.0
        for bound, count in buckets:
            if rank and count >= rank:
                return below + (bound - below) * (rank - before) / (count - before)
            below, before = bound, count
        return None

    def bound(self, name: str) -> float | None:
        """Return the upper bound of the last bucket that holds anything."""
        buckets = self.buckets(name)
        return next((bound for bound, count in buckets if count >= FEW and count == buckets[-1][1]), None)


def measured(page: str) -> list[Measured]:
    """Sort the samples of a page by operation and model."""
    groups: dict[tuple[str, str], Measured] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            operation = sample.labels.get("gen_ai_operation_name")
            if operation:
                model = sample.labels.get("gen_ai_request_model", "")
                group = groups.setdefault((operation, model), Measured(operation, model))
                group.samples.append((sample.name, sample.labels, sample.value))
    return sorted(groups.values(), key=lambda group: group.operation)


def excerpt(page: str, width: int, ellipsis: str) -> list[str]:
    """Return the lines most worth showing, of histograms the counts only, with as many labels as there is room for."""
    families = {family.name: family for family in text_string_to_metric_families(page)}
    lines: list[str] = []
    for name in WORTH_SHOWING:
        family = families.get(name) or families.get(name.removesuffix("_total"))
        if family is not None:
            lines.append(f"# TYPE {name} {family.type}")
            lines += [
                _line(f"{sample.name}{{", sample.labels, f"{ellipsis}}} {sample.value:g}", width)
                for sample in family.samples
                if not sample.name.endswith(("_bucket", "_sum"))
            ]
    return lines


def _line(start: str, labels: Labels, end: str, width: int) -> str:
    for group in TELLING:
        pairs = (f'{label}="{labels[label]}",' for label in group if labels.get(label))
        start += next((pair for pair in pairs if len(start + pair + end) <= width), "")
    return start + end
