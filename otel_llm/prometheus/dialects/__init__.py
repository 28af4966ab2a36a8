"""Dialects: those that come with the package, those of users, and what several of them need together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import otel_llm_semconv
from otel_llm.prometheus.dialects.grammar import PROCESS, Dialect, FamilySpec, read
from otel_llm.prometheus.dialects.labels import CONTEXT

FOLDER = Path(otel_llm_semconv.__file__).parent / "dialects"
"""Where the dialects are that come with the package."""


RESERVED = ("gen_ai_", "otel_llm_", "target_info")
"""How names begin that the canonical page has, or may come to have."""


class LabelNames(NamedTuple):
    """The labels of the context that dialects ask for."""

    always: frozenset[str]
    on_failure: frozenset[str]
    """Those that matter for calls that failed, and for no others."""
    told: Mapping[str, frozenset[str]]
    """Those that matter for what applications tell by hand, by measure."""


class Collision(NamedTuple):
    """A name that families of several dialects have."""

    name: str
    families: tuple[tuple[str, str], ...]
    """Each as its dialect and its own name."""


@cache
def shipped() -> tuple[str, ...]:
    """Return the names of the dialects that come with the package, sorted."""
    return tuple(sorted([file.stem for file in FOLDER.glob("*.toml")]))


def is_path(name_or_path: str) -> bool:
    """Whether this is the path of a file, and not a name."""
    return bool(re.search(r"[/\\]|\.toml$", name_or_path))


def load(name_or_path: str | Path) -> Dialect:
    """Return a dialect that comes with the package, by its name, or one of the user's, by the path of its file.

    Raises:
        ValueError: there is none, or the file is wrong; the message names file, family and key.
        TypeError: *name_or_path* is neither a text nor a path.
    """
    if not isinstance(name_or_path, (str, Path)):
        raise TypeError(f"a dialect must be a name or a path, not {type(name_or_path).__name__}")
    if isinstance(name_or_path, str) and not is_path(name_or_path):
        if name_or_path not in shipped():
            names = ", ".join(shipped())
            raise ValueError(f"dialect {name_or_path!r}: expected one of {names}, or the path of a TOML file")
        return _shipped(name_or_path)
    path = Path(name_or_path)
    if path.stem in shipped():
        raise ValueError(f"{path}: {path.stem} is the name of a dialect that comes with the package; rename the file")
    dialect = read(path)
    for family in dialect.families:
        for name in family.spellings:
            if name.startswith(RESERVED):
                raise ValueError(f"{path}: family {family.name}: name: {name} is a name of the canonical page")
    return dialect


@cache
def _shipped(name: str) -> Dialect:
    return read(FOLDER / f"{name}.toml")


def bounds(dialects: Iterable[Dialect]) -> Mapping[str, tuple[float, ...]]:
    """Return the upper bounds that the dialects need, by column, rising, without the infinite one."""
    wanted: dict[str, set[float]] = {}
    for family in _families(dialects):
        if family.kind == "histogram":
            for row in family.rows:
                for column in (*row.columns, *row.measures):
                    wanted.setdefault(column, set()).update(family.buckets)
    return {column: tuple(sorted(wanted[column])) for column in sorted(wanted)}


def label_names(dialects: Iterable[Dialect]) -> LabelNames:
    """Return which labels of the context tell calls apart in any family."""
    always: set[str] = set()
    on_failure: set[str] = set()
    told: dict[str, set[str]] = {}
    for family in _families(dialects):
        if not family.rows:
            continue
        dimensions = [*family.where]
        for label in family.labels.values():
            dimensions += label.dimensions if label else ()
        names = [name[len(CONTEXT) :] for name in dimensions if name.startswith(CONTEXT)]
        for row in family.rows:
            for measure in row.measures:
                told.setdefault(measure, set()).update(names)
        if family.rows[0].columns not in ((), (PROCESS,)):
            (on_failure if family.failures_only else always).update(names)
    by_measure = {measure: frozenset(names) for measure, names in told.items()}
    return LabelNames(frozenset(always), frozenset(on_failure - always), by_measure)


def collisions(dialects: Iterable[Dialect]) -> list[Collision]:
    """Return the names that families of more than one of the dialects have: they cannot be on one page."""
    owners: dict[str, list[tuple[str, str]]] = {}
    for dialect in dict.fromkeys(dialects):
        for family in dialect.families:
            for name in family.sample_names:
                owners.setdefault(name, []).append((dialect.name, family.name))
    shared: dict[tuple[tuple[str, str], ...], str] = {}
    for name in sorted(owners, key=lambda name: (len(name), name)):
        if len(owners[name]) > 1:
            shared.setdefault(tuple(owners[name]), name)
    return [Collision(name, families) for families, name in sorted(shared.items(), key=lambda item: item[1])]


def refuse_collisions(dialects: Iterable[Dialect]) -> None:
    """Check that each of the dialects can have a page of its own, and all of them one together.

    Raises:
        ValueError: they cannot; the message names the families.
    """
    different = list(dict.fromkeys(dialects))
    names = [dialect.name for dialect in different]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two dialects are called {name}, as their files are; rename one of them")
    found = collisions(different)
    if found:
        each = "; ".join([f"{name} ({_owners(name, families)})" for name, families in found])
        raise ValueError(f"dialects that cannot be on one page: they share {each}")


def _owners(name: str, families: Iterable[tuple[str, str]]) -> str:
    return ", ".join([dialect if family == name else f"{family} of {dialect}" for dialect, family in families])


def _families(dialects: Iterable[Dialect]) -> list[FamilySpec]:
    return [family for dialect in dialects for family in dialect.families]
