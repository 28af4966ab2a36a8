"""Which page shows what.

    /metrics             the canonical families, and those of the dialects that `instrument()` was asked for or that are
                         in the registry it shows, or in the default one if it shows none
    /metrics/genai       the canonical families
    /metrics/<dialect>   the families of a dialect that comes with us, or of one that `instrument()` was given

A page with families of a dialect is always in text format 0.0.4, which is what the systems wrote that had them first; a
page without negotiates OpenMetrics.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Metric

from otel_llm import sdk, serving
from otel_llm.config import Settings
from otel_llm.ledger import Ledger
from otel_llm.prometheus import by_hand, multiprocess
from otel_llm.prometheus.collector import dialects_in
from otel_llm.prometheus.dialects import bridge, load, shipped
from otel_llm.prometheus.dialects.grammar import Dialect
from otel_llm.prometheus.families import Family, restrict
from otel_llm.prometheus.foreign.adapter import ForeignReader
from otel_llm.prometheus.reader import families_of, natives_of, page, shown_registry
from otel_llm.prometheus.web.answer import MAIN
from otel_llm.prometheus.writer import TEXT, choose
from otel_llm.state import State

logger = logging.getLogger("otel_llm")

Families = list[Family | Metric]

_foreign: WeakKeyDictionary[Any, ForeignReader] = WeakKeyDictionary()
"""What reads the points of other instrumentations, by meter provider."""
_told: set[str] = set()


class Rendered(NamedTuple):
    """A page."""

    content_type: str
    body: Iterable[bytes]
    """In parts."""


def names() -> tuple[str, ...]:
    """Return the paths of all pages."""
    return (MAIN, *(f"{MAIN}/{name}" for name in _dialects()))


def render(path: str, accept: str, names: Sequence[str]) -> Rendered | None:
    """Return the page at a path, or None where there is none.

    Args:
        path: from the root; ``/`` shows the main page, too.
        accept: the ``Accept`` header.
        names: the only samples to be shown, if there are any.
    """
    name = "" if path == "/" else path.removeprefix(MAIN).strip("/")
    if not (path.startswith(f"{MAIN}/") or path in (MAIN, "/")) or (name and name not in _dialects()):
        return None
    format = choose(accept) if _negotiates(name) else TEXT
    found = families(name or None)
    return Rendered(format.content_type, format.blocks(restrict(found, names) if names else found))


def latest(dialect: str | None) -> bytes:
    """Return a page in text format 0.0.4; see `otel_llm.generate_latest`.

    Raises:
        ValueError: there is no such dialect.
    """
    if dialect is not None and dialect not in _dialects():
        raise ValueError(f"dialect={dialect!r}: expected None or one of {', '.join(_dialects())}")
    return TEXT.write(families(dialect))


def families(dialect: str | None) -> Families:
    """Return what a page shows: that of a dialect, or the main one."""
    if dialect is not None and dialect != serving.CANONICAL:
        return [*bridge.translate(_dialects()[dialect], state())]
    found = canonical()
    beside = _beside() if dialect is None else ()
    if beside:
        taken = {name for family in found for name in _names_of(family)}
        now = state()
        for each in beside:
            own = [family for family in bridge.translate(each, now) if _is_free(family, taken)]
            found += own
            taken.update(*map(_names_of, own))
    return found


def canonical() -> Families:
    """Return the canonical families: what the reader shows, else what the ledger tells of calls.

    Of several workers, only our own metrics are shown: native ones are of one process.
    """
    registry = _registry()
    if registry is not None:
        shared = multiprocess.shared()
        if shared is None:
            return page(registry)
        _tell_of_natives(registry)
        return [*shared.families()]
    provider = None if serving.shown is None else serving.shown.meter_provider
    if serving.switched_off or (provider is not None and sdk.built_here(provider)):
        return []
    return [*bridge.translate(load(serving.CANONICAL), state())]


def _tell_of_natives(registry: CollectorRegistry) -> None:
    """Tell, once for all workers, what is left out; who has a page of their metrics together knows of it."""
    if "" in _told or os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return
    names = natives_of(registry)
    if names:
        _told.add("")
        if multiprocess.first("native"):
            told = "metrics of prometheus_client are of one process, and left out of the page of several workers: %s"
            logger.warning(f"otel_llm: {told}", ", ".join(names))


def own_families() -> list[Family]:
    """Return what the readers of this process show of our own metrics, which is what workers share."""
    registry = _registry()
    if registry is None:
        return []
    if multiprocess.shared() is not None:
        _tell_of_natives(registry)
    return families_of(registry)


def state() -> State:
    """Return what the pages of dialects are made of: the calls of this process, or of all workers."""
    shared = multiprocess.shared()
    return own_state() if shared is None else shared.state()


def own_state() -> State:
    """Return what the pages of dialects are made of: the calls of this process, and what others tell of theirs."""
    shown = serving.shown
    if shown is None:
        own = Ledger(1, serving.columns(Settings(), None)).state({}, sdk.service_name(None))
    else:
        own = shown.ledger.state(shown.settings.labels, shown.service_name)
        foreign = foreign_reader(shown)
        if foreign is not None:
            own = own._replace(cells=own.cells + foreign.cells())
    return own._replace(by_hand=by_hand.told(), uncounted=by_hand.uncounted())


def foreign_reader(shown: serving.Shown) -> ForeignReader | None:
    """Return what reads the points of other instrumentations; before it is asked for, none are seen."""
    provider = shown.meter_provider
    if provider is None:
        return None
    reader = _foreign.get(provider)
    if reader is None:
        reader = _foreign[provider] = ForeignReader(shown.ledger)
    reader.attach(provider)
    return reader


def _registry() -> CollectorRegistry | None:
    """Return where the readers of the meter provider show its metrics, or those of any other."""
    in_force = serving.shown if serving.on else None
    readers = [] if in_force is None else sdk.prometheus_readers(in_force.meter_provider)
    return shown_registry([reader._registry for reader in readers])


def _asked() -> tuple[Dialect, ...]:
    asked = () if serving.shown is None else serving.shown.settings.dialects
    return tuple([dialect for dialect in asked if dialect.name != serving.CANONICAL])


def _beside() -> tuple[Dialect, ...]:
    """Return the dialects of the main page: those in the registry that it shows, and those that were asked for.

    Where it shows none, those in the default one: a drop-in module is there without `instrument()`, too.
    """
    there = dialects_in(_registry() or REGISTRY)
    return tuple({dialect.name: dialect for dialect in (*there, *_asked())}.values())


def _dialects() -> dict[str, Dialect]:
    return {dialect.name: dialect for dialect in (*map(load, shipped()), *_asked())}


def _negotiates(name: str) -> bool:
    return name == serving.CANONICAL or not (name or _beside())


_SUFFIXES = {
    "counter": ("_total",),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
    "summary": ("", "_count", "_sum"),
}


def _names_of(family: Family | Metric) -> set[str]:
    """Return the names of a family's samples; what others hand out lacks the suffix of its type."""
    if isinstance(family, Metric):
        return {family.name, *(family.name + suffix for suffix in _SUFFIXES.get(family.type, ()))} - (
            {family.name} if family.type in ("counter", "info") else set()
        )
    return {family.name, *(family.name + suffix for suffix in _SUFFIXES["histogram"] if family.kind == "histogram")}


def _is_free(family: Family, taken: set[str]) -> bool:
    """Whether no other family of the page has the name; tell the first time that one has."""
    if taken.isdisjoint(_names_of(family)):
        return True
    if family.name not in _told:
        _told.add(family.name)
        logger.warning("otel_llm: %s is the name of another metric too; only that one is shown", family.name)
    return False
