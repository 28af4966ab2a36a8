"""What one process of several knows, as plain data: how it is written and read, and what is counted is added up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, NoReturn, TypeVar, cast

from otel_llm.errors import Failure
from otel_llm.prometheus.families import NO_EXEMPLARS, Exemplar, Family, Histogram, Series
from otel_llm.state import COMPUTED, GROWING, NEWEST, PRESENT, Facts, State, Told, Totals

VERSION = 3
"""Of the format; files of another one are not read."""

T = TypeVar("T")
K = TypeVar("K")
_MOST = 1 << 1000
"""What is beyond is no count; sums of what is below can be shown as a float."""
_NONE = type(None)
_TEXT: AbstractSet[type] = frozenset({str})
_TEXT_OR_NONE: AbstractSet[type] = frozenset({str, _NONE})
_COUNT: AbstractSet[type] = frozenset({int})
_COUNT_OR_NONE: AbstractSet[type] = frozenset({int, _NONE})
_NUMBER: AbstractSet[type] = frozenset({int, float})
_NUMBER_OR_NONE: AbstractSet[type] = frozenset({int, float, _NONE})
_BOOL: AbstractSet[type] = frozenset({bool})
_LIST: AbstractSet[type] = frozenset({list})
_DICT: AbstractSet[type] = frozenset({dict})
_LIST_OR_NONE: AbstractSet[type] = frozenset({list, _NONE})
_FACTS = (*[_TEXT] * 2, *[_TEXT_OR_NONE] * 3, _COUNT_OR_NONE, *[_TEXT_OR_NONE] * 2, _BOOL, _LIST, _LIST_OR_NONE, _BOOL)
_TOTALS = (_COUNT, _NUMBER, _LIST, *[_COUNT_OR_NONE] * 5, *[_NUMBER_OR_NONE] * 2, *[_NUMBER] * 2, _DICT)
_TOLD = (_NUMBER, _LIST_OR_NONE, _NUMBER, _TEXT, _NUMBER, _NUMBER, _TEXT)
_TOLD_KINDS = frozenset({GROWING, PRESENT, NEWEST, COMPUTED})
_HISTOGRAM = (_COUNT, _LIST, _NUMBER_OR_NONE, _DICT)
_EXEMPLAR = (_TEXT, _NUMBER, _NUMBER)
"""Types of the columns of each."""
_KINDS = frozenset({"counter", "gauge", "histogram", "info", "unknown"})
_NAME = re.compile(r"[^\s{}\"\\#]+")
_LABELS = re.compile(r'(?:[^="{},\s]+="(?:[^"\\\n]|\\.)*"(?:,(?!$)|$))*')
_OURS = re.compile(r"(?:^|_)(?:gen_ai|otel_llm|http_client)_")
"""Names of families that are made here; a reader may put a prefix before them."""
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
        gone: whether the process is there no more: then what was under way in it does not count.
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
        self.path = "a snapshot"
        """Where it was read."""

    @property
    def state(self) -> State:
        """What pages of dialects are made of; most scrapes ask for one half only, so each is decoded when needed."""
        if isinstance(self._state, bytes):
            self._state = _read(_decode_state, self._state)
        return _left(self._state) if self._gone else self._state

    @property
    def families(self) -> Families:
        """What the canonical page is made of."""
        if isinstance(self._families, bytes):
            self._families = _read(_decode_families, self._families)
        if not self._gone:
            return self._families
        return self._families._replace(families=[family for family in self._families.families if _stays(family)])

    def remains(self) -> Snapshot:
        """Return what goes on counting when the process is gone."""
        left = Snapshot(self._state, self._families, self.merged, gone=True)
        left.path = self.path
        return left


def _left(state: State) -> State:
    """Return what goes on counting of a process that is gone."""

    def stays(told: Mapping[str, Sequence[tuple[K, Told]]]) -> dict[str, list[tuple[K, Told]]]:
        return {name: [row for row in rows if row[1].kind not in (PRESENT, COMPUTED)] for name, rows in told.items()}

    return state._replace(
        active=[], measures=stays(state.measures), by_hand=stays(state.by_hand), uncounted=frozenset[str]()
    )


def is_ours(name: str) -> bool:
    """Whether a family is made here, by its name."""
    return _OURS.search(name) is not None


def _stays(family: Family) -> bool:
    """Whether a family goes on counting; of somebody else's gauge one cannot know what it says of a process."""
    if family.kind == "gauge":
        return family.last and is_ours(family.name)
    return family.kind != "info"


def plain(series: list[Series]) -> list[Series]:
    """Return series as they can be read again: in metrics of somebody else's, a value is of any type that adds up."""
    histograms = [value for _, value in series if isinstance(value, Histogram)]
    exemplars = chain.from_iterable([value.exemplars.values() for value in histograms if value.exemplars])
    numbers = [value.sum for value in histograms if value.sum is not None] if histograms else [one[1] for one in series]
    try:
        _expect(_NUMBER, [*numbers, *(exemplar.value for exemplar in exemplars)])
    except ValueError:
        return [one._replace(value=_plain(one.value)) for one in series]
    return series


def _plain(value: float | Histogram) -> float | Histogram:
    if not isinstance(value, Histogram):
        return float(value)
    exemplars = {bound: each._replace(value=float(each.value)) for bound, each in value.exemplars.items()}
    return value._replace(sum=None if value.sum is None else float(value.sum), exemplars=exemplars)


def encode(snapshot: Snapshot) -> bytes:
    """Return a snapshot as three lines of JSON."""
    return join(encode_state(snapshot.state), encode_families(snapshot.families), snapshot.merged)


def join(state: bytes, families: bytes, merged: Mapping[str, float] | None = None) -> bytes:
    """Return a snapshot of halves that are encoded already."""
    return b"\n".join([_line([VERSION, dict(merged or {})]), state, families])


def encode_state(state: State) -> bytes:
    """Return one half as a line of JSON."""
    told = dict(state.measures), dict(state.by_hand), sorted(state.uncounted)
    return _line([dict(state.bounds), state.active, state.cells, dict(state.labels), state.service_name, *told])


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
    return Snapshot(state, families, _read(_decode_head, head))


def _decode_head(version: Any, merged: Any) -> Mapping[str, float]:
    if version != VERSION:
        raise ValueError(f"version {version} of the format")
    _expect(_TEXT, merged)
    _expect(_NUMBER, merged.values())
    return cast("Mapping[str, float]", merged)


def _read(decoded: Callable[..., T], data: bytes) -> T:
    """Decode one line; whatever is in it, this is all that can go wrong: what is returned can be added and shown."""
    try:
        return decoded(*json.loads(data))
    except (TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"no snapshot: {error}") from error


def _wrong(what: str, value: object) -> NoReturn:
    raise ValueError(f"no snapshot: {what} {value!r:.60}")


def _expect(types: AbstractSet[type], values: Iterable[Any]) -> None:
    """See that values have no other types than these, and that no number is beyond what counts."""
    seen = list(values)
    found = set(map(type, seen))
    if not found <= types:
        _wrong("types", sorted(each.__name__ for each in found - types))
    if int in found:
        numbers = seen if len(found) == 1 else [value for value in seen if type(value) is int]
        if max(numbers) >= _MOST or min(numbers) <= -_MOST:
            _wrong("number", "too large")


def _expect_rows(types: Sequence[AbstractSet[type]], rows: Iterable[Sequence[Any]]) -> None:
    """See that rows have these types; by column, which takes a tenth of the time."""
    for allowed, column in zip(types, zip(*rows, strict=True), strict=False):
        _expect(allowed, column)


def _rising(bounds: list[Any]) -> tuple[float, ...]:
    _expect(_NUMBER, bounds)
    if sorted(set(bounds)) != bounds:
        _wrong("bounds", bounds)
    return tuple(bounds)


def _decode_state(
    bounds: Any,
    active: Any,
    cells: Any,
    labels: Any,
    service_name: Any,
    measures: Any,
    by_hand: Any,
    uncounted: Any,
) -> State:
    upper = {name: _rising(values) for name, values in bounds.items()}
    _expect(_TEXT, [service_name, *labels, *labels.values(), *uncounted])
    _expect(_COUNT, [number for _, number in active])
    _expect_rows(_FACTS, [facts for facts, _ in [*active, *cells]])
    columns = [totals for _, totals in cells]
    _expect_rows(_TOTALS, columns)
    _expect_counts([totals[2] for totals in columns], len(upper["duration"]) + 1)
    for totals in columns:
        for name, (counts, total) in totals[-1].items():
            _expect_counts([counts], len(upper[name]) + 1)
            _expect(_NUMBER, (total,))
    for column, rows in measures.items():
        _expect_rows(_FACTS, [facts for facts, _ in rows])
        _expect_told([told for _, told in rows], len(upper[column]) + 1 if column in upper else None)
    for rows in by_hand.values():
        _expect_told([told for _, told in rows], None)
    return State(
        upper,
        [(_facts(facts), number) for facts, number in active],
        [(_facts(facts), _totals(totals)) for facts, totals in cells],
        labels,
        service_name,
        {column: [(_facts(facts), Told._make(told)) for facts, told in rows] for column, rows in measures.items()},
        {place: [(_spelled(labels), Told._make(told)) for labels, told in rows] for place, rows in by_hand.items()},
        frozenset(uncounted),
    )


def _expect_told(told: Sequence[Any], length: int | None) -> None:
    _expect_rows(_TOLD, told)
    unknown = {each[3] for each in told} - _TOLD_KINDS
    if unknown:
        _wrong("kinds", sorted(unknown))
    for _, counts, *_ in told:
        if counts is not None:
            _expect_counts([counts], len(counts) if length is None else length)


def _expect_counts(rows: Sequence[Any], length: int) -> None:
    _expect(_LIST, rows)
    if not set(map(len, rows)) <= {length}:
        _wrong("counts", "of another length than bounds")
    _expect(_COUNT, chain.from_iterable(rows))


def _facts(values: list[Any]) -> Facts:
    facts = Facts._make(values)
    if facts.labels or facts.failure:
        failure = None if facts.failure is None else Failure._make(facts.failure)
        labels = tuple([(name, value) for name, value in facts.labels])
        _expect(_TEXT, [*(failure or ()), *chain.from_iterable(labels)])
        return facts._replace(labels=labels, failure=failure)
    return facts._replace(labels=())


def _totals(values: list[Any]) -> Totals:
    if values[-1]:
        values[-1] = {name: (counts, total) for name, (counts, total) in values[-1].items()}
    return Totals._make(values)


def _decode_families(table: Any, written: Any, times: Any) -> Families:
    bounds = [_rising(upper) for upper in table]
    families: list[Family] = []
    for name, text, kind, unit, last, series in written:
        _expect(_TEXT, (name, text, kind, unit))
        _expect(_BOOL, (last,))
        if not _NAME.fullmatch(name) or kind not in _KINDS:
            _wrong("family", name)
        rows = _histograms(series, bounds) if kind == "histogram" else _numbers(series)
        families.append(Family(name, text, kind, unit, rows, last=last))
    _expect(_NUMBER, [at for _, _, at in times])
    return Families(families, {(name, labels): at for name, labels, at in times})


@lru_cache(maxsize=10_000)
def _spelled(labels: str) -> str:
    return labels if _LABELS.fullmatch(labels) else _wrong("labels", labels)


def _numbers(series: Any) -> list[Series]:
    _expect(_NUMBER, [value for _, value in series])
    return [Series(_spelled(labels), value) for labels, value in series]


def _histograms(series: Any, table: list[tuple[float, ...]]) -> list[Series]:
    _expect_rows(_HISTOGRAM, [value for _, value in series])
    _expect(_COUNT, chain.from_iterable([value[1] for _, value in series]))
    exemplars = chain.from_iterable([value[3].values() for _, value in series if value[3]])
    _expect_rows(_EXEMPLAR, exemplars)
    decoded: list[Series] = []
    for labels, (number, counts, total, exemplars) in series:
        bounds = table[cast("int", number)]
        if len(bounds) != len(counts):
            _wrong("counts", "of another length than bounds")
        kept = {float(bound): _exemplar(each) for bound, each in exemplars.items()} if exemplars else NO_EXEMPLARS
        decoded.append(Series(_spelled(labels), Histogram(bounds, counts, total, kept)))
    return decoded


def _exemplar(values: list[Any]) -> Exemplar:
    labels, value, timestamp = values
    return Exemplar(_spelled(labels), value, timestamp)
