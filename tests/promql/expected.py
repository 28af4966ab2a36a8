"""What Prometheus must answer, worked out from the calls that were made: never from our pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import NamedTuple, TypeAlias

from tests.promql.calls import HELD, LATE, LATE_TIMES, ROUND, Made

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, sorted by name."""
Increments: TypeAlias = Iterable[tuple[Mapping[str, str], float]]
Family: TypeAlias = Callable[[Made], Increments]
"""What a call adds to a family: to which of its series, and how much."""

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
OVERHEAD = 0.05
"""Seconds by which what the caller measures may be more than what we measure, beside a tenth."""


class Range(NamedTuple):
    """A value that is known to lie between two others."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value fits, but for the rounding of sums."""
        slack = 1e-6 * max(abs(self.low), abs(self.high))
        return self.low - slack <= value <= self.high + slack


Rows: TypeAlias = dict[Labels, Range]


def exactly(value: float) -> Range:
    """Return the range of one value."""
    return Range(value, value)


def key(labels: Mapping[str, str]) -> Labels:
    """Return labels as they are compared."""
    return tuple(sorted(labels.items()))


class Counted(NamedTuple):
    """A kind of call: how long each took, of those before the first scrape and of those after it."""

    made: Made
    before: Sequence[float]
    seconds: Sequence[float]


@dataclass(frozen=True)
class Scene:
    """What was done, and when it is looked at.

    Each series has begun before the first scrape, so `rate` and `increase` see every later call. They extrapolate to
    the ends of their window, all series alike: by how much is measured, once for each Prometheus.
    """

    calls: Sequence[Counted]
    stretch: float
    """By how much more Prometheus reports than was counted between its first scrape and its last."""
    server: str
    """URL of the scripted server."""

    def total(self, family: Family) -> Rows:
        """Return the values of a counter."""
        return self._sums(family, lambda each: len(each.before) + len(each.seconds))

    def increase(self, family: Family) -> Rows:
        """Return what `increase` gives for every window that has all scrapes."""
        return self._sums(family, lambda each: len(each.seconds) * self.stretch)

    def rate(self, family: Family, window: float) -> Rows:
        """Return what `rate` gives for such a window."""
        return times(self.increase(family), 1 / window)

    def mean(self, family: Family) -> Rows:
        """Return the mean duration of the later calls."""
        # A sum that was next to nothing at the first scrape is taken to have begun there, and extrapolated less.
        return {
            labels: Range(0.85 * (0.9 * sum(each) / len(each) - OVERHEAD), sum(each) / len(each))
            for labels, each in self._seconds(family).items()
        }

    def quantile(self, quantile: float, family: Family, bounds: Sequence[float], *by: str) -> Rows:
        """Return the buckets in which the quantile of the later calls' durations lies, by these labels or by all."""
        edges = [0.0, *bounds, inf]
        before = self._seconds(family, *by, later=False)
        rows: Rows = {}
        for labels, seconds in self._seconds(family, *by).items():
            rank = quantile * len(seconds)
            first = 0.9 * seconds[max(0, ceil(rank - 1e-9) - 1)] - OVERHEAD
            last = seconds[min(len(seconds) - 1, floor(rank + 1e-9))]

            def as_stretched(edge: float, labels: Labels = labels, enough: float = 0.1 * len(seconds)) -> bool:
                """Whether so many calls were in a bucket at first that it is extrapolated as those above it are."""
                return sum(second <= edge for second in before[labels]) >= enough

            low = max(edge for edge in edges if edge <= max(0, first))
            rows[labels] = Range(low, next(edge for edge in edges if edge >= last and as_stretched(edge)))
        return rows

    def within(self, bound: float, family: Family, window: float) -> Rows:
        """Return the rate of the calls that took at most so long, if none took nearly so long."""
        taken = [second for each in self._seconds(family).values() for second in each]
        assert not any(0.9 * second - OVERHEAD <= bound <= second for second in taken)
        return {(): exactly(sum(second <= bound for second in taken) * self.stretch / window)}

    def buckets(self, family: Family, bounds: Sequence[float], window: float) -> Rows:
        """Return the rate of each bucket over all calls, between what is certain and what is possible."""
        taken = [second for each in self._seconds(family).values() for second in each]
        factor = self.stretch / window

        def row(bound: float) -> Range:
            sure = sum(second <= bound for second in taken)
            possible = sum(0.9 * second - OVERHEAD <= bound for second in taken)
            # A bucket that was empty at first is taken to have begun there, and is extrapolated less.
            return Range(sure / window, possible * factor)

        rows: Rows = {(("le", str(bound)),): row(bound) for bound in bounds}
        return {**rows, (("le", "+Inf"),): row(inf)}

    def peak(self, family: Family) -> Rows:
        """Return the most calls in flight at once: those at the end, or a few more that rounds had before."""
        return {labels: Range(value.low, value.low + LATE_TIMES + 1) for labels, value in self.active(family).items()}

    def active(self, family: Family) -> Rows:
        """Return the calls in flight; what was in flight once has a row for ever."""
        rows = self._sums(family, lambda each: 0)
        for made in HELD:
            for labels, _ in family(made):
                rows[key(labels)] = exactly(rows[key(labels)].low + made.times)
        return rows

    def _sums(self, family: Family, number: Callable[[Counted], float]) -> Rows:
        sums: dict[Labels, float] = {}
        for each in self.calls:
            for labels, amount in family(each.made):
                sums[key(labels)] = sums.get(key(labels), 0) + number(each) * amount
        return {labels: exactly(value) for labels, value in sums.items()}

    def _seconds(self, family: Family, *by: str, later: bool = True) -> dict[Labels, list[float]]:
        seconds: dict[Labels, list[float]] = {}
        for each in self.calls:
            for labels, _ in family(each.made):
                row = _only(key(labels), by) if by else key(labels)
                seconds.setdefault(row, []).extend(each.seconds if later else each.before)
        return {labels: sorted(each) for labels, each in seconds.items()}


Seconds: TypeAlias = Sequence[Sequence[float]]
"""How long the calls of a round took, in a list for each entry of `ROUND`."""


def counted(before: Seconds, rounds: Sequence[Seconds], late: Sequence[float]) -> list[Counted]:
    """Return the calls of the scene: those of a round before the first scrape, and those after it."""
    assert LATE_TIMES == len(late)
    calls = [
        Counted(made, before[position], [second for one in rounds for second in one[position]])
        for position, made in enumerate(ROUND)
    ]
    return [*calls, Counted(LATE, [], late)]


def times(rows: Rows, factor: float) -> Rows:
    """Return every value times a factor."""
    return {labels: Range(low * factor, high * factor) for labels, (low, high) in rows.items()}


def summed(rows: Rows, *by: str) -> Rows:
    """Return sums by these labels, or one sum."""
    sums: Rows = {}
    for labels, value in rows.items():
        low, high = sums.get(_only(labels, by), exactly(0))
        sums[_only(labels, by)] = Range(low + value.low, high + value.high)
    return sums


def where(rows: Rows, **wanted: str) -> Rows:
    """Return the rows that have these labels."""
    return {labels: value for labels, value in rows.items() if wanted.items() <= dict(labels).items()}


def plus(some: Rows, more: Rows) -> Rows:
    """Return the sums of the rows that both have."""
    return {
        labels: Range(value.low + more[labels].low, value.high + more[labels].high)
        for labels, value in some.items()
        if labels in more
    }


def added(some: Rows, more: Rows) -> Rows:
    """Return the sums of the rows that either has."""
    return {**some, **more, **plus(some, more)}


def ratio(part: Rows, whole: Rows, factor: float = 1) -> Rows:
    """Return each part of a whole that is known exactly."""
    return {
        labels: Range(value.low / whole[labels].low * factor, value.high / whole[labels].low * factor)
        for labels, value in part.items()
    }


def top(number: int, rows: Rows) -> Rows:
    """Return the largest rows; of those that are alike, any may be chosen, which is no test: there must be none."""
    by_value = sorted(rows.items(), key=lambda row: row[1].low, reverse=True)
    return dict(by_value[:number])


def above(rows: Rows, threshold: float) -> Rows:
    """Return the rows that an alert is about; of none it may be open whether it is."""
    assert not any(value.low < threshold < value.high for value in rows.values()), rows
    return {labels: value for labels, value in rows.items() if value.high > threshold}


def _only(labels: Labels, names: Sequence[str]) -> Labels:
    return tuple([label for label in labels if label[0] in names])
