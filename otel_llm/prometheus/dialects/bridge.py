"""The bridge: from the calls that the ledger counted to the families of a dialect.

What a dialect shows of some calls depends on their facts alone, and facts hardly change from scrape to scrape: so
labels and groups are worked out once, and a scrape only adds up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import accumulate
from operator import add, itemgetter
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

from otel_llm.prometheus.dialects.grammar import LAST, PRESENT, PROCESS, SEEN, Dialect, FamilySpec
from otel_llm.prometheus.dialects.labels import SUCCESS, Label, Process, constant, known
from otel_llm.prometheus.families import INFINITY, Family, Histogram, Series, escaped
from otel_llm.state import COMPUTED, NEWEST, Facts, State, Told, Totals, place, short

logger = logging.getLogger("otel_llm")

_NOBODY = Facts("", "")
"""Stands for a call where a family tells of the process."""

_POSITIONS = {name: position for position, name in enumerate(Totals._fields)} | {
    "duration": Totals._fields.index("seconds")
}

Counted: TypeAlias = "tuple[Sequence[int], float]"
"""Calls by bucket, not cumulative, and the sum of what was measured."""
_Row: TypeAlias = "tuple[str, float | Histogram, str, float]"
"""What was told by hand: labels as printed, value, how values come to one, and when it was told."""


class View(NamedTuple):
    """Which calls are counted, and which labels they have."""

    labels: tuple[int, ...]
    """Positions in the bridge's list, sorted by name."""
    outcome: str
    where: Mapping[str, frozenset[str]]

    def text(self, facts: Facts, process: Process, printed: Sequence[str | None]) -> str | None:
        """Return the labels as a page prints them, or None if these calls are not counted.

        Args:
            facts: what is known of the calls.
            process: what is known of all calls.
            printed: every label of the bridge, None where calls are not counted for want of it.
        """
        if self.outcome != "all" and (facts.failure is None) != (self.outcome == SUCCESS):
            return None
        for dimension, wanted in self.where.items():
            if known(dimension, facts, process) not in wanted:
                return None
        texts = [text for position in self.labels if (text := printed[position]) is not None]
        return ",".join(texts) if len(texts) == len(self.labels) else None


class Group(NamedTuple):
    """What is counted in one series."""

    labels: str
    row: int
    """Which row of its family it is."""
    members: list[int]
    """The calls, by where they stand in the ledger's list."""


class Plan(NamedTuple):
    """Who is in which series, for one list of facts."""

    process: Process
    facts: list[Facts]
    texts: list[tuple[str | None, ...]]
    """Labels by view, of each."""
    groups: list[list[Group]]
    """By family; nothing of families that are not about calls."""


class Bridge:
    """A dialect, and what was worked out at the last scrape; scrapes may come from several threads."""

    def __init__(self, dialect: Dialect) -> None:
        self.families = dialect.families
        self._places = [place(dialect.name, family.name) for family in dialect.families]
        self._labels: list[tuple[str, Label]] = []
        self._views: list[View] = []
        self._rows = [[self._view(family, row.value) for row in family.rows] for family in self.families]
        counting = [rows for family, rows in zip(self.families, self._rows, strict=True) if _columns_of(family)]
        self._of_calls = frozenset[int]().union(*counting)
        """Which views calls are seen in; the others are of what is told by hand."""
        self._all = range(len(self._views))
        self._ended: Plan | None = None
        self._active: Plan | None = None
        self._told: dict[Facts, tuple[str | None, ...]] = {}
        self._told_of: Process | None = None

    def _view(self, family: FamilySpec, value: str | None) -> int:
        """Return the position of the view that a row needs; many rows need the same, and many views the same labels."""
        labels = [(name, label) for name, label in family.labels.items() if label is not None]
        if family.row_label is not None and value is not None:
            labels.append((family.row_label, constant(value)))
        labels.sort(key=itemgetter(0))
        return _place(
            self._views, View(tuple([_place(self._labels, each) for each in labels]), family.outcome, family.where)
        )

    def translate(self, state: State) -> list[Family]:
        """Return the families of the dialect in the order of its file; see `translate`."""
        process = Process(state.labels, state.service_name)
        ended = self._ended = self._plan(self._ended, process, [facts for facts, _ in state.cells], active=False)
        active = self._active = self._plan(self._active, process, [facts for facts, _ in state.active], active=True)
        totals = [totals for _, totals in state.cells]
        in_flight = [number for _, number in state.active]
        families: list[Family] = []
        for position, family in enumerate(self.families):
            counted = self._places[position] not in state.uncounted
            columns = _columns_of(family)
            if not columns or not counted:
                series: list[Series] = []
            elif family.kind == "histogram":
                series = _histograms(family, ended.groups[position], totals, state.bounds)
            else:
                (column, *_) = columns
                if column == PRESENT:
                    series = _sums(active.groups[position], [in_flight])
                elif column == PROCESS:
                    text = self._texts(_NOBODY, process, self._of_calls)[self._rows[position][0]]
                    series = [] if text is None else [Series(text, 1)]
                elif column == SEEN:
                    series = _seen(ended.groups[position], ended.facts, _models_told(family, state))
                elif column in LAST:
                    series = _newest(ended.groups[position], totals, column)
                else:
                    added = [_added_up(row.columns, totals) for row in family.rows]
                    if family.complete:
                        added = [_completed(values, totals) for values in added]
                    series = _sums(ended.groups[position], added)
            told = self._measured(position, process, state) if counted else []
            told += [
                (text, _value(family, each, family.buckets), each.kind, each.at)
                for text, each in state.by_hand.get(self._places[position], ())
            ]
            if told:
                series = _with(series, told)
            if not series and not family.label_names and family.kind != "info":
                series = [Series("", _nothing(family))]
            families += [Family(name, family.help, family.kind, series=series) for name in family.spellings]
        return families

    def _measured(self, position: int, process: Process, state: State) -> list[_Row]:
        """Return what was told of the columns of a family."""
        family = self.families[position]
        if not any(name in state.measures for row in family.rows for name in row.measures):
            return []
        if self._told_of != process or len(self._told) > _MOST_TOLD:
            self._told, self._told_of = {}, process
        rows: dict[str, Told] = {}
        bounds: dict[str, tuple[float, ...]] = {}
        for row, view in zip(family.rows, self._rows[position], strict=True):
            for name in row.measures:
                for facts, told in state.measures.get(name, ()):
                    texts = self._told.get(facts)
                    if texts is None:
                        texts = self._told[facts] = self._texts(facts, process, self._all)
                    text = texts[view]
                    if text is not None:
                        if family.kind == "counter" and told.counts is not None:
                            told = told._replace(value=sum(told.counts), counts=None)
                        rows[text] = rows[text].plus(told) if text in rows else told
                        bounds[text] = state.bounds.get(name, ())
        return [(text, _value(family, told, bounds[text]), _kind(family, told), told.at) for text, told in rows.items()]

    def _plan(self, last: Plan | None, process: Process, facts: list[Facts], *, active: bool) -> Plan:
        known_texts: dict[Facts, tuple[str | None, ...]] = {}
        if last is not None and last.process == process:
            if last.facts == facts:
                return last
            known_texts = dict(zip(last.facts, last.texts, strict=True))
        texts = [known_texts.get(each) or self._texts(each, process, self._of_calls) for each in facts]
        groups: list[list[Group]] = []
        for family, rows in zip(self.families, self._rows, strict=True):
            found: dict[str, Group] = {}
            columns = _columns_of(family)
            if columns and columns != (PROCESS,) and active == (columns == (PRESENT,)):
                for member, each in enumerate(texts):
                    for row, view in enumerate(rows):
                        text = each[view]
                        if text is None:
                            continue
                        if text in found:
                            found[text].members.append(member)
                        else:
                            found[text] = Group(text, row, [member])
            groups.append(list(found.values()))
        return Plan(process, facts, texts, groups)

    def _texts(self, facts: Facts, process: Process, views: Container[int]) -> tuple[str | None, ...]:
        """Return the labels of some calls by view, None for other *views*."""
        values = [(name, label.of(facts, process)) for name, label in self._labels]
        texts = [None if value is None else printed(name, value) for name, value in values]
        return tuple(
            [
                view.text(facts, process, texts) if position in views else None
                for position, view in enumerate(self._views)
            ]
        )


T = TypeVar("T")


def _columns_of(family: FamilySpec) -> tuple[str, ...]:
    """Return the columns of calls that a family shows; none where calls do not feed it."""
    return family.rows[0].columns if family.rows else ()


def _place(each: list[T], item: T) -> int:
    """Return where an item is in a list, at whose end it is put if it is not there yet."""
    if item not in each:
        each.append(item)
    return each.index(item)


_MOST_TOLD = 10_000
"""Facts whose labels are kept from one scrape to the next."""


def printed(name: str, value: str) -> str:
    """Return a label as pages of dialects print it, whatever its value is."""
    value = short(value)
    try:
        value.encode()
    except UnicodeEncodeError:  # one lone surrogate would cost the whole page
        value = value.encode("utf-8", "replace").decode()
    return f'{name}="{escaped(value)}"'


def _warn_once(name: str) -> None:
    if name not in _told:
        _told.add(name)
        logger.warning("otel_llm: %s is empty: its buckets are not counted; name its dialect to instrument()", name)


_told: set[str] = set()
_bridges: WeakKeyDictionary[Dialect, Bridge] = WeakKeyDictionary()


def translate(dialect: Dialect, state: State) -> list[Family]:
    """Return what a dialect shows of the ledger's state.

    Calls that fall on the same labels are added up in the order of the state; of last values the newest is shown. The
    families are in the order of the dialect's file, the series of each in the order in which their calls came.

    A histogram by whose buckets nobody has counted has no series, which is told in the log once: such are only those of
    a dialect that `instrument()` was not given.
    """
    bridge = _bridges.get(dialect)
    if bridge is None:
        bridge = _bridges.setdefault(dialect, Bridge(dialect))
    return bridge.translate(state)


def _added_up(columns: tuple[str, ...], totals: Sequence[Totals]) -> list[float | None]:
    """Return the sum of some columns for each cell, None where none of them is known."""
    each = [list(map(_getter(column), totals)) for column in columns]
    if len(each) == 1:
        return each[0]
    return [_plus([value for value in values if value is not None]) for values in zip(*each, strict=True)]


def _completed(values: Sequence[float | None], totals: Sequence[Totals]) -> list[float | None]:
    """Return 0 in place of tokens that were not told where others were."""
    return [
        0 if value is None and not (each.input_tokens is None and each.output_tokens is None) else value
        for value, each in zip(values, totals, strict=True)
    ]


def _getter(column: str) -> Callable[[Totals], Any]:
    return itemgetter(_POSITIONS[column])


def _plus(values: Sequence[float]) -> float | None:
    return sum(values) if values else None


def _sums(groups: Sequence[Group], columns: Sequence[Sequence[float | None]]) -> list[Series]:
    series: list[Series] = []
    for labels, row, members in groups:
        values = columns[row]
        if len(members) == 1:
            value = values[members[0]]
        else:
            value = _plus([each for member in members if (each := values[member]) is not None])
        if value is not None:
            series.append(Series(labels, value))
    return series


def _newest(groups: Sequence[Group], totals: Sequence[Totals], column: str) -> list[Series]:
    values = list(map(_getter(column), totals))
    times = list(map(_getter(LAST[column]), totals))
    series: list[Series] = []
    for labels, _, members in groups:
        told = [member for member in members if values[member] is not None]
        if told:
            # Of two that are as new, the one that came later in the list.
            series.append(Series(labels, values[max(reversed(told), key=times.__getitem__)]))
    return series


def _histograms(
    family: FamilySpec, groups: Sequence[Group], totals: Sequence[Totals], bounds: Mapping[str, tuple[float, ...]]
) -> list[Series]:
    """Pick the family's buckets from those of the ledger, which has the buckets of all dialects."""
    upper = (*family.buckets, INFINITY)
    picks: list[Callable[[Sequence[int]], tuple[int, ...]]] = []
    counted: list[Sequence[Counted | None]] = []
    if not groups:
        return []
    for (column, *_), _, _ in family.rows:
        known_bounds = bounds.get(column, ())
        if not set(family.buckets) <= set(known_bounds):
            _warn_once(family.name)
            return []
        positions = [known_bounds.index(bound) for bound in family.buckets]
        picks.append(cast("Callable[[Sequence[int]], tuple[int, ...]]", itemgetter(*positions, len(known_bounds))))
        if column == "duration":
            counted.append([(each.counts, each.seconds) for each in totals])
        else:
            counted.append([each.distributions.get(column) for each in totals])
    series: list[Series] = []
    for labels, row, members in groups:
        pick, cells = picks[row], counted[row]
        cell = cells[members[0]]
        if len(members) > 1:
            told = [each for member in members if (each := cells[member]) is not None]
            if not told:
                continue
            counts, total = told[0]
            for more, seconds in told[1:]:
                counts = list(map(add, counts, more))
                total += seconds
        elif cell is None:
            continue
        else:
            counts, total = cell
        series.append(Series(labels, Histogram(upper, pick(list(accumulate(counts))), total)))
    return series


def _value(family: FamilySpec, told: Told, bounds: Sequence[float]) -> float | Histogram:
    """Return a value as the family shows it, from counts on bounds that have its own among them."""
    if told.counts is None:
        return told.value
    if family.kind == "gauge":
        return told.last
    if len(told.counts) != len(bounds) + 1 or not set(family.buckets) <= set(bounds):
        return _nothing(family)
    counts = list(accumulate(told.counts))
    picked = [counts[bounds.index(bound)] for bound in family.buckets]
    return Histogram((*family.buckets, INFINITY), [*picked, counts[-1]], told.value)


def _models_told(family: FamilySpec, state: State) -> set[str | None]:
    """Return the models of which something is told by hand that the family shows."""
    return {facts.request_model for name in family.rows[0].measures for facts, _ in state.measures.get(name, ())}


def _seen(groups: Sequence[Group], facts: Sequence[Facts], told: set[str | None]) -> list[Series]:
    """Return who was seen in calls, but for models of which the application tells it by hand."""
    return [
        Series(group.labels, 1)
        for group in groups
        if not told.issuperset([facts[member].request_model for member in group.members])
    ]


def _kind(family: FamilySpec, told: Told) -> str:
    """Return how values come to one; of durations a gauge shows the last one."""
    return NEWEST if family.kind == "gauge" and told.counts else told.kind


def _with(series: Sequence[Series], told: Sequence[_Row]) -> list[Series]:
    """Return what calls feed, and what was told on top of it; of last values the one that was told last."""
    rows: dict[str, float | Histogram] = dict(series)
    times: dict[str, float] = {}
    for text, value, kind, at in told:
        known = rows.get(text)
        if known is None or kind in (NEWEST, COMPUTED):
            if at >= times.get(text, 0.0):
                rows[text], times[text] = value, at
        elif isinstance(known, Histogram) and isinstance(value, Histogram):
            rows[text] = known.plus(value)
        elif not isinstance(known, Histogram) and not isinstance(value, Histogram):
            rows[text] = known + value
    return [Series(text, value) for text, value in rows.items()]


def _nothing(family: FamilySpec) -> float | Histogram:
    """Return the value that a family without labels has from the start."""
    if family.kind != "histogram":
        return 0
    return Histogram((*family.buckets, INFINITY), [0] * (len(family.buckets) + 1), 0)
