"""The pages of this process: what they show, and where they are served.

Nothing of Prometheus is imported before somebody asks for a page.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any
from weakref import ref

from otel_llm import sdk
from otel_llm.config import Settings
from otel_llm.ledger import Ledger
from otel_llm.state import Columns, State
from otel_llm_semconv import environment as variables

if TYPE_CHECKING:
    from otel_llm.prometheus.dialects.grammar import Dialect
    from otel_llm.prometheus.web.server import Page


CANONICAL = "genai"
"""Name of the dialect that is the canonical page."""


class Shown:
    """What the pages are made of; a meter provider that everybody else has let go is not kept for them."""

    def __init__(self, ledger: Ledger, settings: Settings, meter_provider: Any) -> None:
        self.ledger = ledger
        self.settings = settings
        self.service_name = sdk.service_name(meter_provider)
        self._meter_provider = ref(meter_provider)

    @property
    def meter_provider(self) -> Any:
        """The provider of `instrument()`, or None."""
        return self._meter_provider()


shown: Shown | None = None
"""What `instrument()` decided last; pages stay as they were when everything is turned off."""
on = False
"""Whether `instrument()` is in force."""
switched_off = False
"""Whether the environment switched OpenTelemetry off, so that there is nothing to show."""
_included: dict[Dialect, None] = {}
"""Dialects that are shown elsewhere than on a page."""
_asked_for = False
"""Whether somebody has asked for a page, or made what shows one."""
_page: Page | None = None
"""The page that `instrument()` serves; closed by `uninstrument()`."""


def columns(settings: Settings, meter_provider: Any) -> Columns:
    """Return what the ledger keeps: for the dialects that come with us at all times, and for those that were asked for.

    The canonical page is made of the ledger only where no reader makes it.
    """
    from otel_llm.prometheus import dialects

    readers = [] if meter_provider is None else sdk.prometheus_readers(meter_provider)
    names = [name for name in dialects.shipped() if name != CANONICAL or not readers]
    chosen = (*map(dialects.load, names), *settings.dialects, *_included)
    labels = dialects.label_names(chosen)
    return Columns({"duration": (), **dialects.bounds(chosen)}, labels.always, labels.on_failure, labels.told)


def expect(settings: Settings) -> None:
    """Get ready to be one of several workers, of which one serves the page."""
    from otel_llm.prometheus import multiprocess

    multiprocess.expect(settings.multiproc_dir)


def include(dialect: Dialect) -> None:
    """Have the ledger count for a dialect that no page shows, from now on."""
    _included[dialect] = None
    ask()
    if shown is not None:
        shown.ledger.keep(columns(shown.settings, shown.meter_provider))


def begin(ledger: Ledger, settings: Settings, meter_provider: Any) -> None:
    """Have the pages show what this ledger counts."""
    global shown, on
    from otel_llm.prometheus import multiprocess

    on = True
    shown = Shown(ledger, settings, meter_provider)
    multiprocess.start(settings.multiproc_dir, state=_state, families=_families, max_series=settings.max_series)
    if _asked_for or settings.dialects or sdk.prometheus_readers(meter_provider):
        ask()


def ask() -> None:
    """See what other instrumentations record from now on, since somebody wants a page of it."""
    global _asked_for
    _asked_for = True
    if shown is not None:
        from otel_llm.prometheus import pages

        pages.foreign_reader(shown)


def _state() -> State:
    from otel_llm.prometheus import pages

    return pages.own_state()


def _families() -> Any:
    from otel_llm.prometheus import pages

    return pages.own_families()


def address(serve: bool | str | None) -> tuple[str, int] | None:
    """Return where the caller wants the page; None where that is left to us, or is nowhere.

    What the environment says of it is checked here too, while nothing is built.

    Raises:
        ValueError: there is no such port.
        TypeError: *serve* is none of these.
    """
    if serve is False or (serve is None and not os.environ.get(variables.OTEL_EXPORTER_PROMETHEUS_PORT)):
        return None
    if serve is not None and serve is not True and not isinstance(serve, str):
        raise TypeError(f'serve must be True, False, None or "host:port", not {type(serve).__name__}')
    from otel_llm.prometheus.web import server

    where = server.address(serve if isinstance(serve, str) else None)
    return None if serve is None else where


def open_page(meter_provider: Any, bind: tuple[str, int], settings: Settings) -> None:
    """Serve the page where the caller wants it, and give the provider a reader for it, if it has none.

    Raises:
        OSError: the address cannot be bound.
        ValueError, ImportError: the web config file is not accepted.
    """
    global _page
    from otel_llm.prometheus.web.server import start

    if sdk.prometheus_readers(meter_provider) or not hasattr(meter_provider, "add_metric_reader"):
        _page = start(bind, explicit=True)
        return
    from otel_llm.prometheus.reader import PrometheusReader

    reader = PrometheusReader(max_series=settings.max_series)
    try:
        _page = start(bind, explicit=True)
    except (OSError, ValueError, ImportError):
        reader.shutdown()
        raise
    sdk.add_reader(meter_provider, reader)


def open_default_page(meter_provider: Any) -> None:
    """Serve the page of a provider that we built, if it has one; an address that is taken is told in the log."""
    global _page
    if sdk.prometheus_readers(meter_provider):
        from otel_llm.prometheus.web.server import address, start

        _page = start(address(None), explicit=False)


def close_page() -> None:
    """Close the page that `instrument()` serves, if it does; others go on showing what there is."""
    global _page, on
    on = False
    page, _page = _page, None
    if page is not None:
        page.close()


def url(meter_provider: Any) -> str | None:
    """Return where the page is: ours, that of a reader from the environment, or that of upstream's reader."""
    server = sys.modules.get("otel_llm.prometheus.web.server")
    for page in (_page, None if server is None else server.environment_page):
        # A page is closed by a fork, and by the shutdown of the reader that opened it.
        if page is not None and page.served:
            return page.url
    return None if meter_provider is None else sdk.upstream_page(meter_provider)


def generate_latest(dialect: str | None = None) -> bytes:
    """Return a page in text format 0.0.4.

    Args:
        dialect: a dialect that comes with us, ``genai`` among them, or the name of one that `instrument()` was given;
            None for the page at ``/metrics``: the canonical families, and the dialects that were asked for.

    Raises:
        ValueError: there is no such dialect.
    """
    from otel_llm.prometheus import pages

    return pages.latest(dialect)
