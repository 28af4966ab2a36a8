"""What applications tell by hand of other things than calls: running totals and present values, read at collection."""

from __future__ import annotations

import time
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from threading import RLock

from otel_llm import forked
from otel_llm.state import GROWING, NEWEST, PRESENT, Facts, Told, beyond, rebucketed
from otel_llm_semconv import attributes as names
from otel_llm_semconv.measures import LABELS, MEASURES, TOKENS

Bounds = Mapping[str, tuple[float, ...]]
"""Upper bounds of buckets by measure."""

_KINDS = {"counter": GROWING, "histogram": GROWING, "updowncounter": PRESENT, "gauge": NEWEST}
_KIND_OF = {name: _KINDS[metric.kind] for name, metric in MEASURES.items()} | dict.fromkeys(TOKENS, GROWING)
_BUCKETED = frozenset([name for name, metric in MEASURES.items() if metric.kind == "histogram"])

_FACTS: Mapping[str, Callable[[Facts], object]] = {
    names.GEN_AI_OPERATION_NAME: lambda facts: facts.operation or None,
    names.GEN_AI_PROVIDER_NAME: lambda facts: facts.provider or None,
    names.GEN_AI_REQUEST_MODEL: lambda facts: facts.request_model,
    names.GEN_AI_RESPONSE_MODEL: lambda facts: facts.response_model,
    names.SERVER_ADDRESS: lambda facts: facts.server_address,
    names.SERVER_PORT: lambda facts: facts.server_port,
    names.OTEL_LLM_MODEL_BASE_URL: lambda facts: facts.base_url,
    names.ERROR_TYPE: lambda facts: None if facts.failure is None else facts.failure.type,
}
"""How attributes are made that calls have, too; the others are labels."""


class _Row:
    """The running total of what shares its facts."""

    __slots__ = ("at", "counts", "last", "of", "value")

    def __init__(self, buckets: int) -> None:
        self.value: float = 0
        self.counts = [0] * buckets
        self.at = 0.0
        self.last = 0.0
        self.of = ""


class Measures:
    """Running totals by measure and facts, at most *max_series* of each measure and one for all beyond."""

    def __init__(self, max_series: int, bounds: Bounds) -> None:
        self._max_series = max_series
        self._bounds: Bounds = bounds
        self._rows: dict[str, dict[Facts, _Row]] = {name: {} for name in _KIND_OF}
        self._replaced: dict[tuple[str, Facts], Facts] = {}
        # One thread can come here twice: a signal handler may tell something in the middle of something else.
        self._lock = RLock()
        self.folded = 0
        """How many measurements are in a row of those beyond."""
        _all.add(self)

    def keep(self, bounds: Bounds) -> None:
        """Count in these buckets from now on; finer ones hold what was counted at their upper end."""
        with self._lock:
            for name, rows in self._rows.items():
                old, new = self._bounds.get(name, ()), bounds.get(name, ())
                if old != new and name in _BUCKETED:
                    for row in rows.values():
                        row.counts = rebucketed(row.counts, old, new)
            self._bounds = bounds

    def add(self, name: str, facts: Facts, amount: float = 1) -> None:
        """Add to a counter."""
        with self._lock:
            row = self._row(name, facts)
            row.value += amount
            row.at = time.perf_counter()

    def put(self, name: str, facts: Facts, value: float, *, of: Facts | None = None) -> None:
        """Set what is so at present; of that which *of* describes, it takes the place of what was told before."""
        with self._lock:
            if of is not None:
                before = self._replaced.get((name, of), facts)
                if before != facts:
                    self._rows[name].pop(before, None)
                if before != facts or len(self._replaced) < self._max_series:
                    self._replaced[name, of] = facts
            row = self._row(name, facts)
            row.value = value
            row.at = time.perf_counter()
            # What is beyond the cap is of many things.
            row.of = "" if of is None or row is not self._rows[name].get(facts) else repr(of)

    def distribute(self, name: str, facts: Facts, value: float) -> None:
        """Count a value in its bucket."""
        with self._lock:
            row = self._row(name, facts)
            row.value += value
            row.counts[bisect_left(self._bounds.get(name, ()), value)] += 1
            row.last = value
            row.at = time.perf_counter()

    def _row(self, name: str, facts: Facts) -> _Row:
        rows = self._rows[name]
        row = rows.get(facts)
        if row is None:
            if len(rows) >= self._max_series:
                self.folded += 1
                facts = beyond(facts.failure, facts.labels)
                row = rows.get(facts)
            if row is None:
                # A signal handler may have told the same meanwhile.
                row = rows.setdefault(facts, _Row(len(self._bounds.get(name, ())) + 1 if name in _BUCKETED else 0))
        return row

    def told(self) -> dict[str, list[tuple[Facts, Told]]]:
        """Return a copy of everything that was told."""
        with self._lock:
            return {
                name: [(facts, _told(row, name)) for facts, row in rows.items()]
                for name, rows in self._rows.items()
                if rows
            }

    def points(self, name: str, attributes: tuple[str, ...]) -> Iterator[tuple[tuple[object, ...], float]]:
        """Return the values of a measure by those of the attributes, of gauges the newest last."""
        with self._lock:
            rows = [(facts, row.value, row.at) for facts, row in self._rows[name].items()]
        if _KIND_OF[name] == NEWEST:
            rows.sort(key=lambda each: each[2])
        for facts, value, _ in rows:
            yield key_of(facts, attributes), value


def key_of(facts: Facts, attributes: tuple[str, ...]) -> tuple[object, ...]:
    """Return the values of attributes, None where they are not known."""
    if facts.overflow:
        return ()
    labels = dict(facts.labels)
    return tuple([_FACTS[name](facts) if name in _FACTS else labels.get(LABELS[name]) for name in attributes])


def _told(row: _Row, name: str) -> Told:
    counts = row.counts.copy() if name in _BUCKETED else None
    return Told(row.value, counts, row.at, _KIND_OF[name], row.last, of=row.of)


_all: weakref.WeakSet[Measures] = weakref.WeakSet()


def _begin_anew() -> None:
    """A lock that another thread held at the fork would stay locked in the child, and its present is the parent's."""
    for measures in _all:
        measures._lock = RLock()
        for name, rows in measures._rows.items():
            if _KIND_OF[name] == PRESENT:
                rows.clear()


forked.in_child(renew=_begin_anew)
