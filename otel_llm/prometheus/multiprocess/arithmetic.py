"""Adding up what processes have counted, and taking off what one had from its parent."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from operator import add, sub
from typing import Any, TypeVar

from otel_llm.prometheus.families import INFINITY, Family, Histogram, Series, parsed, spelled
from otel_llm.prometheus.multiprocess.snapshot import Families, Row
from otel_llm.state import (
    GROWING,
    OVERFLOW_VALUE,
    Facts,
    State,
    Told,
    Totals,
    beyond,
    newest,
    rebucketed,
)
from otel_llm_semconv.attributes import OTEL_METRIC_OVERFLOW_LABEL
from otel_llm_semconv.metrics import OTEL_LLM_CLIENT_ACTIVE

K = TypeVar("K")

Value = float | Histogram
Bounds = Mapping[str, tuple[float, ...]]

_TARGET = "target_info"
_IN_FLIGHT = OTEL_LLM_CLIENT_ACTIVE.name.replace(".", "_")
"""How the name of the family ends that says how many there are; it may have a prefix."""
_OVERFLOW = spelled({OTEL_METRIC_OVERFLOW_LABEL: "true"})


def add_states(
    states: Iterable[State], like: State, max_series: int | None = None, keep: Container[Facts | str] = ()
) -> State:
    """Add states up, each cell where it came first.

    Args:
        states: what is gone first, then processes by age.
        like: says on which bounds things are counted, and what every call is labelled with.
        max_series: most cells, and most rows of one thing that was told; what is beyond is one. Each process has its
            own cap, so that living ones need none: by a common one, cells of one would go when another got new ones.
        keep: what has a cell or a row of its own nevertheless.
    """
    bounds = dict(like.bounds)
    active: dict[Facts, int] = {}
    cells: dict[Facts, Totals] = {}
    measures: dict[str, dict[Facts, Told]] = {}
    by_hand: dict[str, dict[str, Told]] = {}
    # One process may have imported a drop-in module that another one imports when it needs it.
    uncounted = like.uncounted
    most = INFINITY if max_series is None else max_series
    for state in states:
        for name, upper in state.bounds.items():
            bounds.setdefault(name, upper)
        for facts, number in state.active:
            active[facts] = active.get(facts, 0) + number
        fitting = _fit(state.bounds, bounds)
        for facts, totals in state.cells:
            if fitting is not None:
                totals = fitting(totals)
            known = cells.get(facts)
            if known is None and len(cells) >= most and not facts.overflow and facts not in keep:
                facts = beyond(facts.failure, ())
                known = cells.get(facts)
            cells[facts] = totals if known is None else _plus(known, totals)
        for column, told in state.measures.items():
            fitted = _fit_told(told, state.bounds.get(column), bounds.get(column))
            _add_told(measures.setdefault(column, {}), fitted, most, keep, lambda facts: beyond(facts.failure, ()))
        uncounted |= state.uncounted
        for family, rows in state.by_hand.items():
            _add_told(by_hand.setdefault(family, {}), rows, most, keep, _overflowing)
    return like._replace(
        bounds=bounds,
        active=list(active.items()),
        cells=list(cells.items()),
        measures={column: newest(told) for column, told in measures.items()},
        by_hand={family: newest(rows) for family, rows in by_hand.items()},
        uncounted=uncounted,
    )


def _add_told(
    sums: dict[K, Told], told: Iterable[tuple[K, Told]], most: float, keep: Container[Any], fold: Callable[[K], K]
) -> None:
    for key, each in told:
        known = sums.get(key)
        if known is None and len(sums) >= most and key not in keep:
            key, each = fold(key), each._replace(of="")
            known = sums.get(key)
        sums[key] = each if known is None else exact(known.plus(each))


def exact(told: Told) -> Told:
    """Return what grows in millionths: as such sums come to the same in any order, and none falls when a worker goes.

    Up to 2**31, that is; Prometheus would take a sum that falls by its last bit for a new start. Seconds of calls are
    in binary parts, which cost less; here somebody may read an amount of money.
    """
    return told._replace(value=round(told.value, 6)) if told.kind == GROWING else told


def own(told: Told) -> Told:
    """Return what is a process' own, and not that of its parent, so that it can be added to what others have."""
    return told._replace(value=told.value - told.inherited, inherited=0.0) if told.inherited else exact(told)


def _fit_told(
    told: Iterable[tuple[Facts, Told]], own: tuple[float, ...] | None, wanted: tuple[float, ...] | None
) -> Iterable[tuple[Facts, Told]]:
    if own is None or wanted is None or own == wanted:
        return told
    return [
        (facts, each if each.counts is None else each._replace(counts=rebucketed(list(each.counts), own, wanted)))
        for facts, each in told
    ]


def _overflowing(labels: str) -> str:
    return spelled(dict.fromkeys(parsed(labels), OVERFLOW_VALUE))


def by_facts(cells: Iterable[tuple[Facts, Totals]]) -> list[tuple[Facts, Totals]]:
    """Return cells of which no two have the same facts."""
    added: dict[Facts, Totals] = {}
    for facts, totals in cells:
        known = added.get(facts)
        added[facts] = totals if known is None else _plus(known, totals)
    return list(added.items())


def add_families(parts: Iterable[Families], max_series: int | None = None, keep: Container[Row] = ()) -> Families:
    """Add families up, each series where it came first.

    What counts is added; a series that shows its last value shows that of the process in which it changed last; of what
    describes the target, the first is shown.

    Args:
        parts: what is gone first, then processes by age.
        max_series: most series of a family; what is beyond is one.
        keep: what has a series of its own nevertheless.
    """
    sums: dict[tuple[str, str], _Sum] = {}
    times: dict[Row, float] = {}
    for part in parts:
        for family in part.families:
            known = sums.get((family.name, family.kind))
            if known is None:
                known = sums[family.name, family.kind] = _Sum(family, max_series, keep, times)
            known.add(family.series, part.times)
    return Families([each.family() for each in sums.values()], times)


class _Sum:
    """A family while the series of all processes are added up."""

    def __init__(self, family: Family, max_series: int | None, keep: Container[Row], times: dict[Row, float]) -> None:
        self._family = family
        self._most = INFINITY if max_series is None else max_series
        self._keep = keep
        self._times = times
        self._rows: dict[str, Value] = {}

    def add(self, series: Sequence[Series], times: Mapping[Row, float]) -> None:
        """Add the series of one process."""
        rows = self._rows
        name = self._family.name
        if name == _TARGET or self._family.kind == "info":
            # A page has one target, whose processes may tell themselves apart in it.
            if name != _TARGET or not rows:
                rows.update(series)
            return
        for labels, value in series:
            known = rows.get(labels)
            full = known is None and len(rows) >= self._most
            if full and labels != _OVERFLOW and (name, labels) not in self._keep:
                labels = _OVERFLOW
                known = rows.get(labels)
            if self._family.last:
                at = times.get((name, labels), 0.0)
                if known is None or at >= self._times.get((name, labels), 0.0):
                    rows[labels] = value
                    self._times[name, labels] = at
            else:
                rows[labels] = value if known is None else _add(known, value)

    def family(self) -> Family:
        """Return the family."""
        return self._family._replace(series=[Series(labels, value) for labels, value in self._rows.items()])


def subtract_state(state: State, before: State) -> State:
    """Return what came after an earlier state: what a forked child has counted by itself."""
    fitting = _fit(before.bounds, state.bounds)
    counted = {facts: totals if fitting is None else fitting(totals) for facts, totals in before.cells}
    cells: list[tuple[Facts, Totals]] = []
    for facts, totals in state.cells:
        known = counted.get(facts)
        if known is not None and totals.calls >= known.calls:
            totals = _plus(totals, known, -1)
        if totals.calls:
            cells.append((facts, totals))
    return state._replace(
        cells=cells,
        measures={
            column: _later(
                told, _fit_told(before.measures.get(column, ()), before.bounds.get(column), state.bounds.get(column))
            )
            for column, told in state.measures.items()
        },
        by_hand={family: _later(rows, before.by_hand.get(family, ())) for family, rows in state.by_hand.items()},
    )


def _later(told: Iterable[tuple[K, Told]], before: Iterable[tuple[K, Told]]) -> list[tuple[K, Told]]:
    """Return what was told later than something else."""
    known = dict(before)
    later: list[tuple[K, Told]] = []
    for key, each in told:
        earlier = known.get(key)
        if earlier is None:
            later.append((key, each))
        elif each.at > earlier.at:
            # What is less than before was reset, and counts from zero.
            if each.kind == GROWING and each.value >= earlier.value:
                counts = each.counts
                if counts is not None and earlier.counts is not None and len(counts) == len(earlier.counts):
                    counts = list(map(sub, counts, earlier.counts))
                each = exact(each._replace(value=each.value - earlier.value, counts=counts))
            later.append((key, each))
    return later


def subtract_families(families: Families, before: Families) -> Families:
    """Return what came after earlier families: what a forked child has counted by itself.

    A value that is lower than before counts from zero. Nothing is taken off what shows the last value, nor off
    the calls in flight, which are the parent's: the child begins with none.
    """
    rows = {(family.name, labels): value for family in before.families for labels, value in family.series}
    left: list[Family] = []
    for family in families.families:
        if family.kind != "info" and not family.last and not family.name.endswith(_IN_FLIGHT):
            take_off = _difference if family.kind == "gauge" else _increase
            series = [
                Series(labels, take_off(value, rows.get((family.name, labels)))) for labels, value in family.series
            ]
            family = family._replace(series=series)
        left.append(family)
    return families._replace(families=left)


def _difference(value: Value, earlier: Value | None) -> Value:
    """Take off what was there before, which may be more."""
    if isinstance(value, Histogram) or isinstance(earlier, Histogram) or earlier is None:
        return value
    return value - earlier


def _increase(value: Value, earlier: Value | None) -> Value:
    """Take off what was counted before."""
    if not isinstance(value, Histogram):
        return value if earlier is None or isinstance(earlier, Histogram) or value < earlier else value - earlier
    if not isinstance(earlier, Histogram) or earlier.counts[-1] > value.counts[-1]:
        return value
    total = None if value.sum is None or earlier.sum is None else value.sum - earlier.sum
    counts = [count - earlier.up_to(bound) for bound, count in zip(value.bounds, value.counts, strict=True)]
    return Histogram(value.bounds, counts, total, value.exemplars)


def _add(one: Value, other: Value) -> Value:
    """Add two values; one process may have a histogram where another has a number: the first stays."""
    if not isinstance(one, Histogram) or not isinstance(other, Histogram):
        return one if isinstance(one, Histogram) or isinstance(other, Histogram) else one + other
    return one.plus(other)


def _plus(one: Totals, other: Totals, sign: int = 1) -> Totals:
    """Add totals, or take them off; the last values are those that came last."""
    rated = one if sign < 0 or one.at > other.at else other
    loaded = one if sign < 0 or one.load_at > other.load_at else other
    distributions = one.distributions
    if other.distributions:
        distributions = dict(distributions)
        for name, (counts, total) in other.distributions.items():
            known = distributions.get(name)
            if known is None:
                distributions[name] = counts, total
            else:
                distributions[name] = _counts(known[0], counts, sign), known[1] + sign * total
    return Totals(
        calls=one.calls + sign * other.calls,
        seconds=one.seconds + sign * other.seconds,
        counts=_counts(one.counts, other.counts, sign),
        input_tokens=_total(one.input_tokens, other.input_tokens, sign),
        output_tokens=_total(one.output_tokens, other.output_tokens, sign),
        cache_read_tokens=_total(one.cache_read_tokens, other.cache_read_tokens, sign),
        cache_write_tokens=_total(one.cache_write_tokens, other.cache_write_tokens, sign),
        reasoning_tokens=_total(one.reasoning_tokens, other.reasoning_tokens, sign),
        output_rate=rated.output_rate,
        load_duration=loaded.load_duration,
        at=rated.at,
        load_at=loaded.load_at,
        distributions=distributions,
    )


def _counts(one: Sequence[int], other: Sequence[int], sign: int) -> list[int]:
    return list(map(add if sign > 0 else sub, one, other))


def _total(one: int | None, other: int | None, sign: int) -> int | None:
    return one if other is None else (one or 0) + sign * other


def _fit(own: Bounds, wanted: Bounds) -> Callable[[Totals], Totals] | None:
    """Return what puts totals on the bounds that are wanted, each count at the upper end of its bucket.

    None where they are on them already, as in all processes of one configuration.
    """
    if all(own.get(name, upper) == upper for name, upper in wanted.items()):
        return None

    def moved(name: str, counts: Sequence[int]) -> Sequence[int]:
        return rebucketed(list(counts), own[name], wanted[name]) if name in wanted else counts

    def fitting(totals: Totals) -> Totals:
        distributions = {name: (moved(name, kept[0]), kept[1]) for name, kept in totals.distributions.items()}
        return totals._replace(counts=moved("duration", totals.counts), distributions=distributions)

    return fitting
