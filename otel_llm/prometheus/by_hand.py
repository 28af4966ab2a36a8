"""Families of dialects that applications feed directly, by hand or by the functions of drop-in modules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from otel_llm import forked, serving
from otel_llm.prometheus import verbs
from otel_llm.prometheus.dialects import is_path, load, shipped
from otel_llm.prometheus.dialects.bridge import printed
from otel_llm.prometheus.dialects.grammar import PRESENT as ACTIVE
from otel_llm.prometheus.dialects.grammar import Dialect, FamilySpec
from otel_llm.prometheus.verbs import Counter, Fed, Gauge, Histogram, Info, Values, calls_first
from otel_llm.state import GROWING, PRESENT, Told, place
from otel_llm_semconv.measures import MEASURES

_given: dict[str, Fed] = {}
"""What `family` returned, by place."""
_of_functions: dict[str, Fed] = {}
"""What functions of drop-in modules feed, by place."""

_files: dict[Path, Dialect] = {}
"""Dialects by their paths."""

_SUMMED = {ACTIVE, *(name for name, metric in MEASURES.items() if metric.kind == "updowncounter")}
"""Columns whose present values are added up over processes."""

_MADE: Mapping[str, Callable[[FamilySpec, Values], Fed]] = {
    "counter": lambda spec, labels: Counter(spec.name, spec.help, labels, registry=None),
    "gauge": lambda spec, labels: Gauge(spec.name, spec.help, labels, registry=None),
    "histogram": lambda spec, labels: Histogram(spec.name, spec.help, labels, registry=None, buckets=spec.buckets),
    "info": lambda spec, labels: Info(spec.name, labels),
}


def family(name: str, *, dialect: str | Path | None = None) -> Any:
    """Return a family of a dialect, to be fed by hand: what is told is added to what calls feed.

    It has the verbs of `prometheus_client`, their arguments and their errors: ``labels()``, and ``inc()`` of a counter;
    ``inc()``, ``dec()``, ``set()`` of a gauge; ``observe()`` of a histogram; ``info()`` of an info, which keeps one row
    for each set of labels. Labels by position are in the order of the dialect's file, the one of ``rows`` last. Beyond
    ``max_series`` label sets there is one row whose labels are all ``_overflow``. Several workers are added up; of
    gauges and infos the newest value counts, but what is active or in a queue is added up, too.

    Args:
        name: of the family, in any spelling.
        dialect: the name of one that comes with us or that `instrument()` was given, or the path of a file; None where
            only one of those that are known by name has the family.

    Returns:
        The same object each time.

    Raises:
        ValueError: there is no such family or dialect, or several dialects have the family; the message names them.
        TypeError: *name* is no string, or *dialect* neither a string nor a path.
    """
    found, spec = _find(name, dialect)
    with verbs.lock:
        return _kept(_given, found, spec)


def fed_by_functions(name: str, dialect: str) -> Any:
    """Return a family for functions of a drop-in module: calls feed it no more, or where they shall, the functions.

    Args:
        name: of the family, in any spelling.
        dialect: one that comes with us.

    Returns:
        The same object each time, and not that of `family`.
    """
    found, spec = _find(name, dialect)
    with verbs.lock:
        fed = _kept(_of_functions, found, spec)
        fed.of_functions = True
        fed.fed_by_calls = any(row.columns for row in spec.rows)
        return fed


def told() -> dict[str, list[tuple[str, Told]]]:
    """Return what was told by hand, by place and labels as pages print them."""
    found: dict[str, dict[str, Told]] = {}
    for each in (_given, _of_functions):
        for key, fed in list(each.items()):
            rows = found.setdefault(key, {})
            stands_back = fed.stands_back()
            names = _names_of(fed)
            for values, told in fed.rows():
                # Before calls fed it, functions may have.
                if stands_back and (told.kind != GROWING or not told.at):
                    continue
                # Values that are too long, or no text, may be the same when printed.
                labels = _spelled(names, values)
                known = rows.get(labels)
                rows[labels] = told if known is None else known.plus(told)
    return {key: list(rows.items()) for key, rows in found.items() if rows}


def uncounted() -> frozenset[str]:
    """Return the families, by place, that calls do not feed in this process."""
    return frozenset() if not _of_functions or calls_first() else frozenset(_of_functions)


def _find(name: str, dialect: str | Path | None) -> tuple[Dialect, FamilySpec]:
    if not isinstance(name, str):
        raise TypeError(f"otel_llm.family: name must be a string, not {type(name).__name__}")
    known = {known: load(known) for known in shipped() if known != serving.CANONICAL}
    if serving.shown is not None:
        known.update({each.name: each for each in serving.shown.settings.dialects if each.name != serving.CANONICAL})
    if dialect is None:
        having = [each for each in known.values() if _of(each, name)]
        if not having:
            raise ValueError(f"otel_llm.family: name={name!r}: {_expected(name, known.values())}")
        if len(having) > 1:
            several = ", ".join([each.name for each in having])
            raise ValueError(f"otel_llm.family: name={name!r}: expected dialect= one of {several}")
        found = having[0]
    elif isinstance(dialect, str) and not is_path(dialect):
        if dialect not in known:
            names = ", ".join(known)
            raise ValueError(f"otel_llm.family: dialect={dialect!r}: expected one of {names}, or the path of a file")
        found = known[dialect]
    else:
        found = _in_file(dialect)
    spec = _of(found, name)
    if spec is None:
        raise ValueError(f"otel_llm.family: name={name!r}: {_expected(name, [found])}")
    return found, spec


def _in_file(path: str | Path) -> Dialect:
    """Return the dialect of a file, which is read once."""
    if not isinstance(path, (str, Path)):
        kind = type(path).__name__
        raise TypeError(f"otel_llm.family: dialect must be the name of a dialect, or the path of a file, not {kind}")
    file = Path(path).absolute()
    known = _files.get(file)
    if known is None:
        known = _files[file] = load(path)
    return known


def _of(dialect: Dialect, name: str) -> FamilySpec | None:
    """Return the family of that name; of a counter, with and without the ``_total`` that `prometheus_client` adds."""
    exact = (each for each in dialect.families if name in each.spellings)
    counters = (each for each in dialect.families if each.kind == "counter")
    short = name.removesuffix("_total")
    return next(exact, None) or next((each for each in counters if short == each.name.removesuffix("_total")), None)


def _expected(name: str, dialects: Collection[Dialect]) -> str:
    """Say which families there are, those first that are nearly called so."""
    names = {family.name: each.name for each in dialects for family in each.families}
    near = get_close_matches(name, names)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    if len(dialects) == 1:
        return f"{meant}expected one of {', '.join(names)}"
    known = ", ".join([each.name for each in dialects])
    return f"{meant}expected a family of {known}; of another dialect, dialect= is the path of its file"


def _kept(kept: dict[str, Fed], dialect: Dialect, spec: FamilySpec) -> Fed:
    key = place(dialect.name, spec.name)
    known = kept.get(key)
    labels = (*spec.labels, *filter(None, [spec.row_label]))
    if known is not None:
        if (known.spec.kind, _names_of(known), known.spec.buckets) != (spec.kind, labels, spec.buckets):
            raise ValueError(
                f"otel_llm.family: {spec.name} of {dialect.name}: another file of that name has it otherwise"
            )
        return known
    made = _MADE[spec.kind](spec, labels)
    made.spec = spec
    columns = {column for row in spec.rows for column in (*row.columns, *row.measures)}
    if isinstance(made, Gauge) and columns & _SUMMED:
        made.kind, made.in_flight = PRESENT, ACTIVE in columns
    if not isinstance(made, Info):
        made.share_lock()
    kept[key] = made
    return made


def _names_of(fed: Fed) -> Values:
    names: Values = fed._names if isinstance(fed, Info) else fed._labelnames
    return names


@lru_cache(maxsize=10_000)
def _spelled(names: Values, values: Values) -> str:
    return ",".join([printed(name, value) for name, value in sorted(zip(names, values, strict=True))])


def _after_in_child() -> None:
    verbs.renew_lock()
    for fed in (*_given.values(), *_of_functions.values()):
        fed.leave_to_parent()


forked.in_child(renew=_after_in_child)
