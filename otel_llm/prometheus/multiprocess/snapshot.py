"""What one process of several knows, as plain data: how it is written and read, and what is counted is added up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from otel_llm.errors import Failure
from otel_llm.prometheus.families import Exemplar, Family, Histogram, Series
from otel_llm.state import Facts, State, Totals

VERSION = 1
"""Of the format; files of another one are not read."""

T = TypeVar("T")
Row = tuple[str, str]
"""Name of a family and labels of a series."""


class Families(NamedTuple):
    """The canonical families of a process."""

    families: list[Family]
    times: Mapping[Row, float] = {}
    """When a series that shows its last value got it, in seconds of ``time.monotonic``."""


class Snapshot:
    """One process at one time, or what is left of those that are gone.

    Args:
        state: what pages of dialects are made of.
        families: what the canonical page is made of.
        merged: processes that are in it, and when they were added, in seconds of ``time.monotonic``.
        gone: whether the process is there no more: then its gauges, its infos and its calls in flight do not count.
    """

    def __init__(
        self,
        state: State | bytes,
        families: Families | bytes,
        merged: Mapping[str, float] | None = None,
        *,
        gone: bool = False,
    ) -> None:
        self._state = state
        self._families = families
        self.merged: Mapping[str, float] = merged or {}
        self._gone = gone

    @property
    def state(self) -> State:
        """What pages of dialects are made of; most scrapes ask for one half only, so each is decoded when needed."""
        if isinstance(self._state, bytes):
            self._state = _read(_decode_state, self._state)
        return self._state._replace(active=[]) if self._gone else self._state

    @property
    def families(self) -> Families:
        """What the canonical page is made of."""
        if isinstance(self._families, bytes):
            self._families = _read(_decode_families, self._families)
        if not self._gone:
            return self._families
        return Families([family for family in self._families.families if family.kind not in ("gauge", "info")])

    def remains(self) -> Snapshot:
        """Return what goes on counting when the process is gone."""
        return Snapshot(self._state, self._families, self.merged, gone=True)


def encode(snapshot: Snapshot) -> bytes:
    """Return a snapshot as three lines of JSON."""
    return join(encode_state(snapshot.state), encode_families(snapshot.families), snapshot.merged)


def join(state: bytes, families: bytes, merged: Mapping[str, float] | None = None) -> bytes:
    """Return a snapshot of halves that are encoded already."""
    return b"\n".join([_line([VERSION, dict(merged or {})]), state, families])


def encode_state(state: State) -> bytes:
    """Return one half as a line of JSON."""
    return _line([dict(state.bounds), state.active, state.cells, dict(state.labels), state.service_name])


def encode_families(families: Families) -> bytes:
    """Return the other half as a line of JSON."""
    table: dict[tuple[float, ...], int] = {}
    written = [
        [family.name, family.help, family.kind, family.unit, family.last, _encode_series(family.series, table)]
        for family in families.families
    ]
    return _line([list(table), written, [[*row, at] for row, at in families.times.items()]])


def _line(value: list[Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), check_circular=False).encode()


def _encode_series(series: Sequence[Series], table: dict[tuple[float, ...], int]) -> list[tuple[str, Any]]:
    """Return labels and values, and of histograms the number that their bounds have in a table."""
    encoded: list[tuple[str, Any]] = []
    for labels, value in series:
        if isinstance(value, Histogram):
            bounds = table.setdefault(value.bounds, len(table))
            encoded.append((labels, (bounds, list(value.counts), value.sum, dict(value.exemplars))))
        else:
            encoded.append((labels, value))
    return encoded


def decode(data: bytes) -> Snapshot:
    """Return the snapshot that was written; what is wrong with a half of it is told when that is looked at.

    Raises:
        ValueError: it is none, or one of another version.
    """
    head, state, families = data.split(b"\n")
    version, merged = json.loads(head)
    if version != VERSION:
        raise ValueError(f"version {version} of the format")
    return Snapshot(state, families, merged)


def _read(decoded: Callable[..., T], data: bytes) -> T:
    try:
        return decoded(*json.loads(data))
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"no snapshot: {error}") from error


def _decode_state(bounds: Any, active: Any, cells: Any, labels: Any, service_name: str) -> State:
    return State(
        {name: tuple(upper) for name, upper in bounds.items()},
        [(_facts(facts), number) for facts, number in active],
        [(_facts(facts), _totals(totals)) for facts, totals in cells],
        labels,
        service_name,
    )


def _facts(values: list[Any]) -> Facts:
    facts = Facts._make(values)
    if facts.labels or facts.failure:
        failure = facts.failure
        labels = tuple([(name, value) for name, value in facts.labels])
        return facts._replace(labels=labels, failure=failure and Failure._make(failure))
    return facts._replace(labels=())


def _totals(values: list[Any]) -> Totals:
    if values[-1]:
        values[-1] = {name: (counts, total) for name, (counts, total) in values[-1].items()}
    return Totals._make(values)


def _decode_families(table: Any, written: Any, times: Any) -> Families:
    bounds = [tuple(upper) for upper in table]
    families = [
        Family(name, text, kind, unit, [_series(labels, value, bounds) for labels, value in series], last=last)
        for name, text, kind, unit, last, series in written
    ]
    return Families(families, {(name, labels): at for name, labels, at in times})


def _series(labels: str, value: Any, table: list[tuple[float, ...]]) -> Series:
    if type(value) in (int, float):
        return Series(labels, value)
    bounds, counts, total, exemplars = value
    kept = {float(bound): Exemplar._make(exemplar) for bound, exemplar in exemplars.items()} if exemplars else {}
    return Series(labels, Histogram(table[bounds], counts, total, kept))
