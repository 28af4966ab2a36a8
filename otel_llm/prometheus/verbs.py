"""Metrics with the verbs of `prometheus_client`, for families of dialects that applications feed directly.

Counter, gauge and histogram are its own, in no registry and with values of ours: these are never in files, and know
when they changed last.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import RLock
from typing import Any, TypeAlias, TypeVar

import prometheus_client as client
from prometheus_client.metrics import MetricWrapperBase

from otel_llm import config, faults, serving
from otel_llm.prometheus.dialects.grammar import FamilySpec
from otel_llm.prometheus.families import spelled
from otel_llm.state import COMPUTED, GROWING, NEWEST, OVERFLOW_VALUE, PRESENT, Told
from otel_llm_semconv import environment as variables

logger = logging.getLogger("otel_llm")

M = TypeVar("M", bound="_Metric")

Values: TypeAlias = tuple[str, ...]
"""The values of a family's labels, in its order."""

# One thread can come here twice: a signal handler may feed a family in the middle of another.
lock = RLock()


class Value:
    """A number as `prometheus_client` keeps it in its metrics, and when it changed."""

    __slots__ = ("_number", "_owner", "at", "inherited", "of")

    def __init__(self, owner: Fed) -> None:
        self._owner = owner
        self._number = 0.0
        self.at = 0.0
        """In seconds of ``time.perf_counter``; 0 where it never changed."""
        self.inherited = 0.0
        """What of it the parent has, too."""
        self.of = ""
        """Of an info, the thing that it tells of."""

    def inc(self, amount: float) -> None:
        """Add."""
        amount = float(0.0 + amount)
        if not self._owner.refuses():
            with lock:
                # In one step of the interpreter: a signal handler may add to the same.
                self._number += amount
                self.at = time.perf_counter()

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Set."""
        if not self._owner.refuses():
            with lock:
                self._number = float(value)
                self.inherited = 0.0
                self.at = time.perf_counter()

    def get(self) -> float:
        """Return the number."""
        return self._number

    def leave_to_parent(self, *, in_flight: bool) -> None:
        """Take note, in a forked child, that the parent has it too, or alone what is in flight."""
        if in_flight:
            self._number = 0.0
        self.inherited = self._number

    def set_exemplar(self, exemplar: object) -> None:
        """Keep none: no page of a dialect shows any."""

    def get_exemplar(self) -> None:
        """Return none."""


class _Computed(Value):
    """A number that a function returns whenever it is asked for."""

    __slots__ = ("_function",)

    def __init__(self, owner: Fed, function: Callable[[], float]) -> None:
        super().__init__(owner)
        self._function = function
        self.at = time.perf_counter()

    def inc(self, amount: float) -> None:
        """Do nothing, as in `prometheus_client`."""

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Do nothing, as in `prometheus_client`."""

    def get(self) -> float:
        """Call the function; whatever it raises must not cost the whole page."""
        try:
            return float(self._function())
        except Exception:
            faults.fault("set_function")
            return math.nan

    def leave_to_parent(self, *, in_flight: bool) -> None:
        """Call the function for this process, too."""
        self.at = time.perf_counter()


class _Capped:
    """What all families by hand have."""

    spec: FamilySpec
    """What its dialect says of it."""
    kind = GROWING
    """How values of several processes come to one."""
    in_flight = False
    """Whether it says what is under way, which a forked child has no part in."""
    max_rows: int | None = None
    """Most label sets, if less than ``max_series``."""
    folded = 0
    """How often something was told that is beyond the cap."""
    of_functions = False
    """Whether functions of a drop-in module feed it."""
    fed_by_calls = False
    """Whether instrumented calls can feed it."""

    def beyond(self, values: Values) -> Values:
        """Return the label values of what is beyond the cap."""
        return (OVERFLOW_VALUE,) * len(values)

    def most(self) -> int:
        """Return the most label sets."""
        cap = _settings(variables.OTEL_LLM_MAX_SERIES).max_series
        return cap if self.max_rows is None else min(cap, self.max_rows)

    def stands_back(self) -> bool:
        """Whether instrumented calls feed the family in place of the functions."""
        return self.of_functions and self.fed_by_calls and calls_first()

    def refuses(self) -> bool:
        """Whether what a function tells is left to calls; where nobody sees these, the log says so once."""
        refused = self.stands_back()
        if refused and serving.shown is None and not config.disabled():
            _warn()
        return refused

    def _fitting(self, values: Values, known: Mapping[Values, object]) -> Values:
        """Return the label values under which those are counted that are not known yet."""
        if len(known) < self.most():
            return values
        self.folded += 1
        beyond = self.beyond(values)
        # Where what is beyond has label values of its own, there may be as many of them.
        return beyond if beyond in known or len(known) < 2 * self.most() else (OVERFLOW_VALUE,) * len(values)


class _Metric(_Capped, MetricWrapperBase):
    """A metric of `prometheus_client`, in no registry."""

    _labelnames: Any
    _labelvalues: Any
    _metrics: Any
    _value: Any
    admitted = False
    """Whether it is one of the label sets that fit."""

    def labels(self: M, *labelvalues: object, **labelkwargs: object) -> M:
        """Return the child for the label values, which are given by position or by name."""
        if not self._labelnames or self._labelvalues:
            return super().labels(*labelvalues, **labelkwargs)
        with lock:
            metrics = self._metrics
            child: M = super().labels(*labelvalues, **labelkwargs)
            if child.admitted:
                return child
            values: Values = child._labelvalues
            metrics.pop(values, None)
            fitting = self._fitting(values, metrics)
            if fitting != values:
                child = super().labels(*fitting)
            metrics[fitting] = child
            child.of_functions, child.fed_by_calls, child.admitted = self.of_functions, self.fed_by_calls, True
            return child

    def rows(self) -> Iterator[tuple[Values, Told]]:
        """Yield what was told, by label values; without labels, nothing before something was told."""
        if not self._labelnames:
            told = self._told(self.kind)
            if told.at:
                yield (), told
            return
        with lock:
            metrics: list[tuple[Values, _Metric]] = list(self._metrics.items())
        for values, metric in metrics:
            yield values, metric._told(self.kind)

    def size(self) -> int:
        """Return how many label sets there are."""
        return len(self._metrics) if self._labelnames else 1

    def forget(self) -> None:
        """Go back to the start, where nothing was told."""
        with lock:
            self.folded = 0
            if self._labelnames:
                self._metrics.clear()
            else:
                init: Any = self._metric_init
                init()

    def share_lock(self) -> None:
        """Have it use the lock of all: its own would stay locked where a signal or a fork comes in between."""
        if self._labelnames:
            self._lock: Any = lock

    def leave_to_parent(self) -> None:
        """Forget, in a forked child, what is in flight in its parent, and who held the lock."""
        self.share_lock()
        if self.kind == PRESENT:
            for metric in self._metrics.values() if self._labelnames else [self]:
                metric._value.leave_to_parent(in_flight=self.in_flight)

    def _told(self, kind: str) -> Told:
        value: Value = self._value
        if kind == NEWEST and isinstance(value, _Computed):
            kind = COMPUTED
        return Told(value.get(), None, value.at, kind, inherited=value.inherited)


class Counter(_Metric, client.Counter):
    """A counter of `prometheus_client`, in no registry."""

    def _metric_init(self) -> None:
        self._value = Value(self)
        self._created = time.time()


class Gauge(_Metric, client.Gauge):
    """A gauge of `prometheus_client`, in no registry."""

    kind = NEWEST

    def _metric_init(self) -> None:
        self._value = Value(self)

    def set_function(self, f: Callable[[], float]) -> None:
        """Have the function called for the value whenever a page is asked for; the other verbs do nothing then."""
        super().set_function(f)
        self._value = _Computed(self, f)


class Histogram(_Metric, client.Histogram):
    """A histogram of `prometheus_client`, in no registry."""

    def _metric_init(self) -> None:
        self._created = time.time()
        self._sum: Any = Value(self)
        self._buckets: list[Any] = [Value(self) for _ in self._upper_bounds]

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Count a value in its bucket."""
        with lock:
            super().observe(amount, exemplar)

    def _told(self, kind: str) -> Told:
        with lock:
            return Told(self._sum.get(), [int(bucket.get()) for bucket in self._buckets], self._sum.at, kind)


class Info(_Capped):
    """What is known of things, such as models: one row for each of them.

    Args:
        name: of the family.
        labels: the names of its labels.
    """

    kind = NEWEST

    def __init__(self, name: str, labels: Iterable[str], given: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._names = tuple(labels)
        self._given = given or {}
        self._rows: dict[Values, Value] = {}

    def __repr__(self) -> str:
        return f"{type(self).__module__}.{type(self).__name__}({self._name})"

    def labels(self, *labelvalues: object, **labelkwargs: object) -> Info:
        """Return the info of the thing that has these label values: what `info` tells of it replaces what it told.

        Raises:
            ValueError: the values are more than there are labels, or of another label.
        """
        if labelvalues and labelkwargs:
            raise ValueError("Can't pass both *args and **kwargs")
        if len(labelvalues) > len(self._names):
            raise ValueError("Incorrect label count")
        named = labelkwargs or dict(zip(self._names, labelvalues, strict=False))
        if not named.keys() <= set(self._names):
            raise ValueError("Incorrect label names")
        child = Info(self._name, self._names, {name: str(value) for name, value in named.items()})
        child._rows = self._rows
        child.of_functions, child.fed_by_calls = self.of_functions, self.fed_by_calls
        return child

    def info(self, val: Mapping[str, str | None]) -> None:
        """Tell what is known of a thing: the values of all labels that were not given to `labels`.

        Raises:
            ValueError: a label is missing, is there twice, or is none of the family; or a value is None.
        """
        if not self._given.keys().isdisjoint(val):
            raise ValueError(f"Overlapping labels for Info metric, metric: {(*self._given,)} child: {dict(val)}")
        if any(value is None for value in val.values()):
            raise ValueError("Label value cannot be None")
        known = {**self._given, **val}
        if known.keys() != set(self._names):
            raise ValueError(f"{self._name}: labels {', '.join(sorted(known))}: expected {', '.join(self._names)}")
        values = tuple([str(known[name]) for name in self._names])
        with lock:
            if self._given:
                for row in [row for row in self._rows if row != values and self._is_of(row)]:
                    del self._rows[row]
            fitting = values if values in self._rows else self._fitting(values, self._rows)
            kept = self._rows.setdefault(fitting, Value(self))
            kept.of = spelled(self._given) if fitting == values else ""
            kept.set(1)

    def _is_of(self, values: Values) -> bool:
        """Whether label values are those of the thing that was given to `labels`."""
        return all(self._given.get(name, value) == value for name, value in zip(self._names, values, strict=True))

    def remove(self, *labelvalues: object) -> None:
        """Forget a thing, by the values of all its labels."""
        self._rows.pop(tuple(map(str, labelvalues)), None)

    def clear(self) -> None:
        """Forget all of them."""
        self._rows.clear()

    def rows(self) -> Iterator[tuple[Values, Told]]:
        """Yield what was told, by label values."""
        with lock:
            rows = list(self._rows.items())
        for values, value in rows:
            if value.at:
                yield values, Told(1, None, value.at, NEWEST, of=value.of)

    def size(self) -> int:
        """Return how many label sets there are."""
        return len(self._rows)

    def forget(self) -> None:
        """Go back to the start, where nothing was told."""
        with lock:
            self.folded = 0
            self._rows.clear()

    def leave_to_parent(self) -> None:
        """Forget nothing: what is known does not change in a forked child."""


Fed: TypeAlias = "Counter | Gauge | Histogram | Info"


def calls_first() -> bool:
    """Whether instrumented calls feed what they can, and functions of drop-in modules only the rest."""
    return _settings(variables.OTEL_LLM_COMPAT).compat == config.CALLS


def _settings(variable: str) -> config.Settings:
    """Return the settings that are in force, or what the environment says of one, wherever it is right."""
    if serving.shown is not None:
        return serving.shown.settings
    return _from_environment(variable, os.environ.get(variable, ""))


def _from_environment(variable: str, written: str) -> config.Settings:
    known = _read.get((variable, written))
    if known is None:
        known = _read[variable, written] = config.resolve_or_default({variable: written})
    return known


_read: dict[tuple[str, str], config.Settings] = {}


_warned = False


def _warn() -> None:
    global _warned
    if not _warned:
        _warned = True
        told = "calls are to feed the families that they can, which stay empty until otel_llm.instrument() is called"
        logger.warning("otel_llm: %s=%s: %s", variables.OTEL_LLM_COMPAT, config.CALLS, told)


def renew_lock() -> None:
    """Forget who held the lock: in a forked child, that thread is not there to let go of it."""
    global lock
    lock = RLock()
