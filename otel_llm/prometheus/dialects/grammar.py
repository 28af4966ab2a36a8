"""The file of a dialect: which families a Prometheus page has, read from TOML and checked.

    [labels]            how each label of the file is made
    [[family]]          one name: type, help, labels, and the column of the ledger that it shows

Every error is a `ValueError` that names file, family and key, and what is accepted.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import translate
from itertools import pairwise
from pathlib import Path
from reprlib import Repr
from typing import NamedTuple, cast

from otel_llm.prometheus.dialects.labels import (
    AT_THE_END,
    CLOSED,
    DIMENSIONS,
    SUCCESS,
    Label,
    is_dimension,
    is_of_process,
)
from otel_llm_semconv import metrics
from otel_llm_semconv.measures import MEASURES, TOKENS

SUMS = (
    "calls",
    "duration",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
"""Columns that only grow."""
TOLD = ("input_tokens", "output_tokens")
"""Columns of which an answer may tell one and not the other."""
PRESENT = "active"
SEEN = "seen"
PROCESS = "process"
LAST = {"output_rate": "at", "load_duration": "load_at"}
"""Columns of which the last value is kept, and where it is told when that was."""
DISTRIBUTIONS = ("duration", "load_duration", "time_to_first_chunk", "input_tokens", "output_tokens")
"""Columns that are counted by bucket."""
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "counter": SUMS,
    "gauge": (PRESENT, *LAST, SEEN, PROCESS),
    "histogram": DISTRIBUTIONS,
    "info": (SEEN, PROCESS),
}
"""What a family of each type can show."""

_COUNTED = tuple([name for name, metric in MEASURES.items() if metric.kind in ("counter", "histogram")])
_PRESENT = tuple([name for name, metric in MEASURES.items() if metric.kind in ("gauge", "updowncounter")])
_TIMED = tuple([name for name, metric in MEASURES.items() if metric.kind == "histogram"])
TOLD_BY_HAND: Mapping[str, tuple[str, ...]] = {
    "counter": _COUNTED,
    "gauge": (*_PRESENT, *_TIMED),
    "histogram": _TIMED,
    "info": ("model_info",),
}
"""What a family of each type can show of what applications tell by hand, beside a column of calls or without one."""

OUTCOMES = ("all", "success", "failure")

_SUFFIXES: Mapping[str, tuple[str, ...]] = {"histogram": ("", "_bucket", "_count", "_sum")}
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]*", re.ASCII)

_short = Repr()
_short.maxstring = _short.maxother = 200
_short.maxlist = _short.maxdict = 20
_shown = _short.repr
"""Shows what is written, which may be long and nested deep, on a line."""

_KEYS = ("name", "type", "help", "value", "rows", "complete", "labels", "outcome", "where", "buckets", "spellings")
_LABEL_KEYS = ("from", "hosts", "values", "otherwise", "default", "needed")


class Row(NamedTuple):
    """A line of a family for each set of labels."""

    columns: tuple[str, ...]
    """What is added up of calls."""
    value: str | None = None
    """Of the label that tells the rows of a family apart, if it has several."""
    measures: tuple[str, ...] = ()
    """What is added to that, as applications tell it by hand."""


class FamilySpec(NamedTuple):
    """What a dialect says of one family."""

    name: str
    kind: str
    help: str
    labels: Mapping[str, Label | None]
    """How each label is made, by its name; None where nothing feeds the family."""
    row_label: str | None
    """The label that tells the rows apart, if there are several."""
    rows: tuple[Row, ...]
    """None where nothing feeds the family yet."""
    outcome: str
    """One of `OUTCOMES`."""
    where: Mapping[str, frozenset[str]]
    """The values of dimensions that calls must have to be counted."""
    buckets: tuple[float, ...]
    """Upper bounds of a histogram, without the infinite one."""
    spellings: tuple[str, ...]
    """All names under which the family is shown."""
    complete: bool = False
    """Whether tokens that were not told are 0 where others were."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of all labels, sorted."""
        return tuple(sorted([*self.labels, *filter(None, [self.row_label])]))

    @property
    def sample_names(self) -> frozenset[str]:
        """The names of all samples, in every spelling."""
        return frozenset([name + suffix for name in self.spellings for suffix in _SUFFIXES.get(self.kind, ("",))])

    @property
    def failures_only(self) -> bool:
        """Whether the family is only about calls that failed."""
        return self.outcome == "failure" or SUCCESS not in self.where.get("outcome", {SUCCESS})


class Dialect:
    """The families of a page, as one file has them."""

    def __init__(self, name: str, families: Sequence[FamilySpec]) -> None:
        self.name = name
        self.families = tuple(families)

    def __repr__(self) -> str:
        return f"<dialect {self.name}>"


def read(file: Path) -> Dialect:
    """Return the dialect that a file describes, named as the file.

    Raises:
        ValueError: the file cannot be read, or is wrong; the message names file, family and key.
    """
    if not _NAME.fullmatch(file.stem):
        raise ValueError(f"{file}: expected a file name of letters, digits, '_', '-' and '.', for the address")
    try:
        found = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is not UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:  # of syntax, or of a number with more digits than Python reads
        raise ValueError(f"{file}: is no TOML: {error}") from None
    except RecursionError:
        raise ValueError(f"{file}: is nested too deep") from None
    _check_keys(f"{file}", found, ("labels", "family"))
    labels = {
        name: _label(f"{file}: labels", name, written)
        for name, written in _table(f"{file}: labels", found.get("labels", {})).items()
    }
    tables = found.get("family")
    if not isinstance(tables, list) or not tables:
        raise ValueError(f"{file}: family: expected tables [[family]]")
    families = [_family(file, number, table, labels) for number, table in enumerate(cast("list[object]", tables), 1)]
    owners: dict[str, FamilySpec] = {}
    for family in families:
        for name in sorted(family.sample_names):
            other = owners.setdefault(name, family)
            if other is not family:
                raise ValueError(f"{file}: family {family.name}: name: the family {other.name} has {name}, too")
    return Dialect(file.stem, families)


def _family(file: Path, number: int, table: object, shared: Mapping[str, Label]) -> FamilySpec:
    source = f"{file}: family {number}"
    written = _table(source, table)
    name = written.get("name")
    if not isinstance(name, str) or not _METRIC.fullmatch(name):
        given = "name is missing" if name is None else f"name={_shown(name)}"
        raise ValueError(f"{source}: {given}: expected a metric name, such as llm_requests_total")
    source = f"{file}: family {name}"
    _check_keys(source, written, _KEYS)
    kind = _choice(source, "type", written.get("type"), tuple(COLUMNS))
    if kind == "info" and not name.endswith("_info"):
        raise ValueError(f"{source}: name: expected _info at the end of the name of an info")
    help = written.get("help")
    if not isinstance(help, str):
        raise ValueError(f"{source}: help{_given(help)}: expected a text")
    row_label, rows = _rows(source, kind, written)
    columns = {column for row in rows for column in row.columns}
    labels = _labels(source, written.get("labels", []), shared, fed=bool(rows))
    if row_label in labels:
        raise ValueError(f"{source}: rows: {row_label} is in labels, too")
    for key in ("outcome", "where"):
        if key in written and (not rows or PROCESS in columns):
            raise ValueError(f"{source}: {key}: expected only where a family counts calls")
    outcome = _choice(source, "outcome", written.get("outcome", "all"), OUTCOMES)
    where = {
        key: _wanted(source, key, value) for key, value in _table(f"{source}: where", written.get("where", {})).items()
    }
    if PRESENT in columns:
        used = {*where, *([] if outcome == "all" else ["outcome"])}
        # A label may well be made from what answered, where that is known, and else from something else.
        used.update(*[set(made.dimensions) - {"response_model"} for made in labels.values() if made])
        unknown_yet = sorted(AT_THE_END & used)
        if unknown_yet:
            raise ValueError(f"{source}: {unknown_yet[0]}: not known of calls under way, which {PRESENT} counts")
    if PROCESS in columns:
        for label, made in labels.items():
            for dimension in made.dimensions if made else ():
                if not is_of_process(dimension):
                    raise ValueError(
                        f"{source}: labels: {label}: expected service_name or label.<key>, found {dimension}"
                    )
    return FamilySpec(
        name,
        kind,
        help,
        labels,
        row_label,
        rows,
        outcome,
        where,
        _buckets(source, kind, written.get("buckets")),
        _spellings(source, kind, name, written.get("spellings", [name])),
        _complete(source, kind, columns, written.get("complete", False)),
    )


def _complete(source: str, kind: str, columns: set[str], written: object) -> bool:
    if not isinstance(written, bool):
        raise ValueError(f"{source}: complete={_shown(written)}: expected true or false")
    if written and (kind != "counter" or not columns or not columns <= set(TOLD)):
        raise ValueError(f"{source}: complete: expected only in a counter of {', '.join(TOLD)}")
    return written


def _rows(source: str, kind: str, written: Mapping[str, object]) -> tuple[str | None, tuple[Row, ...]]:
    if "rows" not in written:
        return None, (_row(source, "value", kind, written["value"]),) if "value" in written else ()
    if "value" in written:
        raise ValueError(f"{source}: value: expected either value or rows")
    tables = _table(f"{source}: rows", written["rows"])
    if len(tables) != 1:
        raise ValueError(f"{source}: rows: expected one label, found {', '.join(tables) or 'none'}")
    ((label, values),) = tables.items()
    _check_label_name(f"{source}: rows", label)
    if kind not in ("counter", "histogram"):
        raise ValueError(f"{source}: rows: expected only in a counter or a histogram")
    columns = _table(f"{source}: rows.{label}", values)
    if not columns:
        raise ValueError(f"{source}: rows.{label}: expected at least one value of the label")
    return label, tuple(
        [_row(source, f"rows.{label}.{value}", kind, column, value) for value, column in columns.items()]
    )


def _row(source: str, key: str, kind: str, written: object, value: str | None = None) -> Row:
    each = _texts(source, key, written)
    accepted = (*COLUMNS[kind], *TOLD_BY_HAND[kind])
    for column in each:
        if column not in accepted:
            raise ValueError(f"{source}: {key}={column!r}: expected of a {kind} one of {', '.join(accepted)}")
    columns = tuple([column for column in each if column in COLUMNS[kind]])
    measures = tuple([column for column in each if column not in columns])
    if len(set(each)) < len(each) or (kind != "counter" and max(len(columns), len(measures)) > 1):
        wanted = "one column, and one that is told by hand" if kind != "counter" else "different columns"
        raise ValueError(f"{source}: {key}: expected {wanted}")
    if kind == "counter":
        measures = (*measures, *[column for column in columns if column in TOKENS])
    return Row(columns, value, measures)


def _labels(source: str, written: object, shared: Mapping[str, Label], *, fed: bool) -> dict[str, Label | None]:
    if isinstance(written, dict):
        table = cast("dict[str, object]", written)
        return {name: _label(f"{source}: labels", name, made) for name, made in table.items()}
    names = _list(written)
    if names is None or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{source}: labels={_shown(written)}: expected names from [labels], or a table as it has them")
    labels: dict[str, Label | None] = {}
    for name in cast("list[str]", names):
        _check_label_name(f"{source}: labels", name)
        if name in labels:
            raise ValueError(f"{source}: labels: {name} is there twice")
        if fed and name not in shared:
            raise ValueError(f"{source}: labels: {name}: expected one of [labels]: {', '.join(shared) or 'none'}")
        labels[name] = shared.get(name)
    return labels


def _label(source: str, name: str, written: object) -> Label:
    _check_label_name(source, name)
    source = f"{source}: {name}"
    if isinstance(written, str):
        return Label(_dimensions(source, "", written))
    table = _table(source, written)
    _check_keys(source, table, _LABEL_KEYS)
    dimensions = _dimensions(source, "from", table.get("from"))
    hosts: list[tuple[re.Pattern[str], str]] = []
    for host, shown in _strings(f"{source}: hosts", table.get("hosts", {})).items():
        if not host or "/" in host:
            raise ValueError(f"{source}: hosts: {host!r}: expected the name of a host, with * and ? as in file names")
        hosts.append((re.compile(translate(host.lower())), shown))
    values = _strings(f"{source}: values", table.get("values", {}))
    if all(dimension in CLOSED for dimension in dimensions):
        possible = [value for dimension in dimensions for value in CLOSED[dimension]]
        for value in values:
            if value not in possible:
                raise ValueError(f"{source}: values: {value!r}: expected one of {', '.join(possible)}")
    for key in ("otherwise", "default"):
        if key in table and not isinstance(table[key], str):
            raise ValueError(f"{source}: {key}={_shown(table[key])}: expected a text")
    needed = table.get("needed", False)
    if not isinstance(needed, bool):
        raise ValueError(f"{source}: needed={_shown(needed)}: expected true or false")
    if needed and "default" in table:
        raise ValueError(f"{source}: default: expected only where the label is not needed")
    otherwise = cast("str | None", table.get("otherwise"))
    return Label(dimensions, tuple(hosts), values, otherwise, str(table.get("default", "")), needed)


def _dimensions(source: str, key: str, written: object) -> tuple[str, ...]:
    dimensions = _texts(source, key, written)
    for dimension in dimensions:
        _check_dimension(f"{source}{key and f': {key}'}", dimension)
    return dimensions


def _wanted(source: str, dimension: str, written: object) -> frozenset[str]:
    _check_dimension(f"{source}: where", dimension)
    values = _texts(source, f"where.{dimension}", written)
    for value in values:
        if value not in CLOSED.get(dimension, values):
            raise ValueError(f"{source}: where.{dimension}={value!r}: expected one of {', '.join(CLOSED[dimension])}")
    return frozenset(values)


def _buckets(source: str, kind: str, written: object) -> tuple[float, ...]:
    if kind != "histogram":
        if written is not None:
            raise ValueError(f"{source}: buckets: expected only in a histogram")
        return ()
    if isinstance(written, str):
        named = {name: metric.boundaries for name, metric in metrics.BY_NAME.items() if metric.boundaries}
        return tuple(map(float, named[_choice(source, "buckets", written, tuple(named))]))
    # As they are shown: numbers that differ may be the same there.
    bounds = [_bound(each) for each in _list(written) or []]
    if not bounds or not all(map(math.isfinite, bounds)) or any(low >= high for low, high in pairwise(bounds)):
        wanted = "finite numbers that rise, at least one, or the name of a metric of the conventions"
        raise ValueError(f"{source}: buckets{_given(written)}: expected {wanted}")
    return tuple(bounds)


def _bound(written: object) -> float:
    if not isinstance(written, int | float) or isinstance(written, bool):
        return math.nan
    try:
        return float(written)
    except OverflowError:
        return math.inf


def _spellings(source: str, kind: str, name: str, written: object) -> tuple[str, ...]:
    spellings = _texts(source, "spellings", written)
    for spelling in spellings:
        if not _METRIC.fullmatch(spelling) or (kind == "info" and not spelling.endswith("_info")):
            wanted = "a metric name that ends in _info" if kind == "info" else "a metric name"
            raise ValueError(f"{source}: spellings: {spelling!r}: expected {wanted}")
    if name not in spellings:
        raise ValueError(f"{source}: spellings: expected {name} among them")
    if len(set(spellings)) < len(spellings):
        raise ValueError(f"{source}: spellings: expected each of them once")
    return spellings


# What is checked in many places


def _given(value: object) -> str:
    return " is missing" if value is None else f"={_shown(value)}"


def _check_keys(source: str, table: Mapping[str, object], keys: Sequence[str]) -> None:
    for key in table:
        if key not in keys:
            raise ValueError(f"{source}: {key}: expected one of {', '.join(keys)}")


def _check_dimension(source: str, name: str) -> None:
    if not is_dimension(name):
        raise ValueError(f"{source}: {name!r}: expected one of {', '.join(DIMENSIONS)}")


def _check_label_name(source: str, name: str) -> None:
    if name == "le" or not _LABEL.fullmatch(name):
        raise ValueError(f"{source}: {name!r}: expected the name of a label, not le, and without __ at its beginning")


def _choice(source: str, key: str, value: object, accepted: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(f"{source}: {key}{_given(value)}: expected one of {', '.join(accepted)}")
    return value


def _table(source: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{source}: expected a table, found {_shown(value)}")
    return cast("dict[str, object]", value)


def _list(value: object) -> list[object] | None:
    return cast("list[object]", value) if isinstance(value, list) else None


def _strings(source: str, value: object) -> Mapping[str, str]:
    table = _table(source, value)
    for key, text in table.items():
        if not isinstance(text, str):
            raise ValueError(f"{source}: {key}={_shown(text)}: expected a text")
    return cast("Mapping[str, str]", table)


def _texts(source: str, key: str, value: object) -> tuple[str, ...]:
    """Return a text or a list of them."""
    each = _list(value)
    each = [value] if each is None else each
    if not each or not all(isinstance(text, str) and text for text in each):
        what = f": {key}{_given(value)}" if key else f"{_given(value)}"
        raise ValueError(f"{source}{what}: expected a text that is not empty, or a list of them")
    return tuple(cast("list[str]", each))
