"""What a page of a dialect is made of: facts of calls, and the totals of those that share them.

Plain values, so that the workers of one application can send each other what they counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from operator import add
from typing import NamedTuple, TypeVar

from otel_llm.errors import Failure

T = TypeVar("T")

LONGEST = 1024
"""Characters of a value that tells series apart; what is longer tells nobody anything, and would swell pages."""
OVERFLOW_VALUE = "_overflow"
"""What every label says of what is beyond the cap."""


class Facts(NamedTuple):
    """What a label can be made of: of calls that are counted together."""

    operation: str
    provider: str
    request_model: str | None = None
    response_model: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    base_url: str | None = None
    endpoint: str | None = None
    image: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    """Labels of the context that a dialect uses, sorted by name."""
    failure: Failure | None = None
    overflow: bool = False
    """Whether these calls are beyond the cap: every label says so, and only the class of the failure is true."""


class Totals(NamedTuple):
    """Numbers of the calls that share their facts; None is what no server ever told."""

    calls: int
    seconds: float
    """Sum of the durations."""
    counts: Sequence[int]
    """Calls by bucket of the duration, and one more for those beyond the last bound; not cumulative."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    output_rate: float | None = None
    """Tokens per second of the last call that told them."""
    load_duration: float | None = None
    """Seconds in which the server loaded the model, of the last call that told them."""
    at: float = 0.0
    """When that rate was, in seconds of ``time.perf_counter``."""
    load_at: float = 0.0
    """When that load was told, in seconds of ``time.perf_counter``."""
    distributions: Mapping[str, tuple[Sequence[int], float]] = {}
    """Of other columns: counts by bucket, and the sum."""


GROWING = "growing"
"""Added up, and stays when the process is gone."""
PRESENT = "present"
"""Added up, and gone with the process."""
NEWEST = "newest"
"""The newest counts, and stays when the process is gone."""
COMPUTED = "computed"
"""The newest counts, and is gone with the process that works it out."""


class Told(NamedTuple):
    """A number that was told by hand, or many of them added up."""

    value: float
    """The sum, where there are buckets."""
    counts: Sequence[int] | None = None
    """How many by bucket, and one more for those beyond the last bound; not cumulative."""
    at: float = 0.0
    """When it was told, in seconds of ``time.perf_counter``."""
    kind: str = GROWING
    """How several come to one."""
    last: float = 0.0
    """The newest of the values that are in buckets."""
    inherited: float = 0.0
    """What of something at present is the parent's, too, of which this process is a fork."""
    of: str = ""
    """The thing that it tells of, if what is newest takes the place of all that was told of it before."""

    def plus(self, other: Told) -> Told:
        """Return what the two come to."""
        newest = self if self.at > other.at else other
        if self.kind in (NEWEST, COMPUTED):
            return newest
        counts = self.counts
        if counts is not None and other.counts is not None and len(counts) == len(other.counts):
            counts = list(map(add, counts, other.counts))
        inherited = self.inherited + other.inherited
        return Told(self.value + other.value, counts, newest.at, self.kind, newest.last, inherited)


def newest(told: Mapping[T, Told]) -> list[tuple[T, Told]]:
    """Return the rows without those whose thing has a newer one."""
    times: dict[str, float] = {}
    for each in told.values():
        if each.of:
            times[each.of] = max(each.at, times.get(each.of, each.at))
    return [(key, each) for key, each in told.items() if not each.of or each.at >= times[each.of]]


class State(NamedTuple):
    """A copy of everything for one scrape."""

    bounds: Mapping[str, tuple[float, ...]]
    """Upper bounds of the buckets by column, without the infinite one."""
    active: list[tuple[Facts, int]]
    """Calls in flight."""
    cells: list[tuple[Facts, Totals]]
    """Totals, in the order in which they came."""
    labels: Mapping[str, str]
    """Labels of every call, beneath those of the context."""
    service_name: str
    measures: Mapping[str, Sequence[tuple[Facts, Told]]] = {}
    """What was told of other things than calls, by column."""
    by_hand: Mapping[str, Sequence[tuple[str, Told]]] = {}
    """What families of dialects were fed directly, by `place` and labels as printed."""
    uncounted: frozenset[str] = frozenset()
    """Families, by `place`, that calls do not feed: they are left to functions of a drop-in module."""


def place(dialect: str, family: str) -> str:
    """Return the key of a family of a dialect."""
    return f"{dialect}/{family}"


class Columns(NamedTuple):
    """What the dialects want to be kept beside the canonical series."""

    bounds: Mapping[str, tuple[float, ...]] = {"duration": ()}
    """Upper bounds by column; ``duration`` is always kept."""
    labels: frozenset[str] = frozenset()
    """Names of the context's labels that tell calls apart."""
    failure_labels: frozenset[str] = frozenset()
    """Names of those that tell only failed calls apart."""
    told_labels: Mapping[str, frozenset[str]] = {}
    """By measure, names of those that tell apart what applications tell by hand."""

    def united(self, other: Columns) -> Columns:
        """Return what both want: what is kept once stays, so that no counter falls."""
        bounds = {
            name: tuple(sorted({*self.bounds.get(name, ()), *other.bounds.get(name, ())}))
            for name in {**self.bounds, **other.bounds}
        }
        labels = self.labels | other.labels
        failure_labels = (self.failure_labels | other.failure_labels) - labels
        told_labels = {
            name: self.told_labels.get(name, frozenset()) | other.told_labels.get(name, frozenset())
            for name in {**self.told_labels, **other.told_labels}
        }
        return Columns(bounds, labels, failure_labels, told_labels)


def short(value: T) -> T:
    """Return a value as series have it: a text at most `LONGEST` characters long."""
    return value[:LONGEST] if isinstance(value, str) and len(value) > LONGEST else value  # type: ignore[return-value]


def beyond(failed: Failure | None, extra: tuple[tuple[str, str], ...]) -> Facts:
    """Return the facts of what is beyond the cap: nothing but how it failed, and which labels that has."""
    labels = tuple([(name, OVERFLOW_VALUE) for name, _ in extra])
    if failed is not None:
        failed = Failure(OVERFLOW_VALUE, OVERFLOW_VALUE, failed.error_class)
    return Facts(OVERFLOW_VALUE, OVERFLOW_VALUE, labels=labels, failure=failed, overflow=True)


def rebucketed(counts: list[int], old: tuple[float, ...], new: tuple[float, ...]) -> list[int]:
    """Put counts on other bounds, each at the upper end of the bucket it was in."""
    moved = [0] * (len(new) + 1)
    for bound, number in zip((*old, float("inf")), counts, strict=True):
        moved[bisect_left(new, bound)] += number
    return moved
