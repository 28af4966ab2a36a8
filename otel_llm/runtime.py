"""Turn it on, turn it off: `instrument()`, `uninstrument()` and the one handle that a process has."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib.metadata import entry_points, version
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from otel_llm import config, sdk
from otel_llm.config import CallHook, Capture, ContentHook, Settings
from otel_llm.ledger import Ledger
from otel_llm.sinks.metrics import Metrics, observe
from otel_llm.sinks.spans import Spans
from otel_llm.telemetry import Telemetry
from otel_llm_semconv import SCHEMA_URL
from otel_llm_semconv import environment as variables

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_llm.prometheus.server import Page

logger = logging.getLogger("otel_llm")

SCOPE = "otel_llm"
"""Name of the one instrumentation scope that everything comes from."""
INSTRUMENTORS = "otel_llm_instrumentor"
"""Entry point group of the instrumentors."""

_lock = RLock()
_handle: Handle | None = None
_page: Page | None = None
_ledgers: WeakKeyDictionary[Any, tuple[Ledger, set[str]]] = WeakKeyDictionary()


class Handle:
    """What `instrument()` turned on. As a context manager it turns it off at the end of the block."""

    def __init__(
        self,
        telemetry: Telemetry | None,
        providers: tuple[object, ...] = (),
        asked: Mapping[str, object] | None = None,
    ) -> None:
        self.telemetry = telemetry
        self._providers = providers
        self._asked = dict(asked or {})

    @property
    def url(self) -> str | None:
        """Where the Prometheus page is served, or None."""
        return _page.url if _page is not None else None

    def flush(self, timeout_millis: int = 10_000) -> None:
        """End what is overdue and send out what waits to be sent."""
        if self.telemetry is not None:
            self.telemetry.settle()
        for provider in self._providers:
            force_flush = getattr(provider, "force_flush", None)
            if force_flush is not None:
                force_flush(timeout_millis)

    def uninstrument(self) -> None:
        """Turn everything off and give every original object back."""
        uninstrument()

    def differs(self, asked: Mapping[str, object]) -> list[str]:
        """Return the settings that a later call asks for and did not get."""
        return [name for name, value in asked.items() if value is not None and value != self._asked.get(name)]

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.uninstrument()


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    serve: bool | str | None = None,
    semconv: str | None = None,
    max_series: int | None = None,
    labels: Mapping[str, str] | None = None,
    content_hook: ContentHook | None = None,
    call_hook: CallHook | None = None,
) -> Handle:
    """Observe every call of the LLM clients of this process, whether they are imported already or not.

    A second call changes nothing: it returns the first handle, and warns if it asks for something else.

    Args:
        tracer_provider: used as given; else the global one if the application set it; else one is built from the
            standard ``OTEL_*`` variables and made global. The same goes for the other two providers.
        meter_provider: see above.
        logger_provider: see above; used only where ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` asks for events.
        serve: whether to serve the Prometheus page, or ``"host:port"``. None serves it where the meter provider is
            built here and the environment does not ask for other exporters only, on
            ``OTEL_EXPORTER_PROMETHEUS_HOST``/``PORT`` (localhost:9464).
        semconv: metric vocabulary: ``released`` (default), ``latest`` or ``both``; ``OTEL_LLM_SEMCONV``.
        max_series: most label sets of one metric, 2000 by default; ``OTEL_LLM_MAX_SERIES``.
        labels: labels of every call; ``OTEL_LLM_LABELS``.
        content_hook: sees captured content before it is recorded, and returns what may be kept of it.
        call_hook: sees each finished `Call`; may add span attributes to it, or drop it.

    Raises:
        ValueError: a setting is not accepted; the message names it and the accepted values.
        TypeError: a setting is of the wrong type.
        OSError: the address given by *serve* cannot be bound.
    """
    global _handle
    asked: dict[str, object] = {
        "tracer_provider": tracer_provider,
        "meter_provider": meter_provider,
        "logger_provider": logger_provider,
        "serve": serve,
        "semconv": semconv,
        "max_series": max_series,
        "labels": labels,
        "content_hook": content_hook,
        "call_hook": call_hook,
    }
    with _lock:
        if _handle is not None:
            differing = _handle.differs(asked)
            if differing:
                logger.warning("otel_llm: already instrumented; ignored: %s", ", ".join(differing))
            return _handle
        settings = config.resolve(
            semconv=semconv, max_series=max_series, labels=labels, content_hook=content_hook, call_hook=call_hook
        )
        bind = _address(serve)
        if sdk.disabled():
            _handle = Handle(None, asked=asked)
            return _handle
        built = meter_provider is None and sdk.global_meter_provider() is None
        if built:
            sdk.default_to_stable_http()
        telemetry, providers = _start(
            settings, tracer_provider, meter_provider, logger_provider, build=True, page=bool(serve) or None
        )
        meter_provider = _meter_provider_of(providers)
        if bind is not None and (serve or built):
            _serve(meter_provider, bind, settings, explicit=bool(serve))
        _handle = Handle(telemetry, providers, asked)
        for instrumentor in _instrumentors():
            instrumentor.instrument(telemetry=telemetry, skip_dep_check=True)
        return _handle


def uninstrument() -> None:
    """Turn everything off and give every original object back; does nothing where nothing is on."""
    global _handle, _page
    with _lock:
        if _handle is None:
            return
        for instrumentor in _instrumentors():
            if instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.uninstrument()
        _handle.flush()
        if _page is not None:
            _page.close()
        _page = _handle = None


def instrumented() -> bool:
    """Whether this process is instrumented."""
    return _handle is not None


def join(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
) -> Telemetry | None:
    """Return the telemetry of this process for an instrumentor that somebody else turns on; None where it is disabled.

    Bad settings are one clear error in the log here, and the default is used: nobody is there to catch them.
    """
    global _handle
    with _lock:
        if _handle is None:
            if sdk.disabled():
                return None
            telemetry, providers = _start(
                config.resolve_or_default(), tracer_provider, meter_provider, logger_provider, build=False, page=None
            )
            _handle = Handle(telemetry, providers)
        return _handle.telemetry


def generate_latest(dialect: str | None = None) -> bytes:
    """Return the Prometheus page, in text format 0.0.4.

    Args:
        dialect: None for the canonical page; no other is there yet.

    Raises:
        RuntimeError: no meter provider of this process has a Prometheus reader.
        ValueError: the dialect is not known.
    """
    if dialect is not None:
        raise ValueError(f"dialect={dialect!r}: expected None, the canonical page")
    from prometheus_client import exposition

    from otel_llm.prometheus.reader import shown_registry

    registry = shown_registry()
    if registry is None:
        raise RuntimeError(
            "no Prometheus reader: call otel_llm.instrument() without a meter_provider of your own, pass serve=True, "
            "or add otel_llm.prometheus.PrometheusReader() to your MeterProvider"
        )
    if _handle is not None and _handle.telemetry is not None:
        _handle.telemetry.settle()
    return exposition.generate_latest(registry)


def shown(page: Page) -> None:
    """Take note of the page that a reader started by itself."""
    global _page
    _page = page


def _start(
    settings: Settings,
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
    logger_provider: LoggerProvider | None,
    *,
    build: bool,
    page: bool | None,
) -> tuple[Telemetry, tuple[object, ...]]:
    """Find or build the providers and put the sinks on them."""
    from opentelemetry import metrics, trace

    release = version("otel-llm")
    tracer_provider = (
        tracer_provider
        or sdk.global_tracer_provider()
        or (sdk.build_tracer_provider() if build else trace.get_tracer_provider())
    )
    meter_provider = (
        meter_provider
        or sdk.global_meter_provider()
        or (
            sdk.build_meter_provider(page=page, max_series=settings.max_series)
            if build
            else metrics.get_meter_provider()
        )
    )
    for reader in sdk.prometheus_readers(meter_provider):
        from otel_llm.prometheus.reader import adopt

        adopt(reader, settings.max_series)
    providers: tuple[object, ...] = (tracer_provider, meter_provider)
    meter = meter_provider.get_meter(SCOPE, release, SCHEMA_URL)
    ledger, observed = _ledgers.get(meter_provider, (None, set[str]()))
    if ledger is None:
        ledger = Ledger(settings.max_series)
        _ledgers[meter_provider] = (ledger, observed)
    observe(meter, ledger, settings, observed)
    events = None
    if settings.capture & Capture.EVENT_ONLY:
        from opentelemetry import _logs

        from otel_llm.sinks.events import Events

        logger_provider = (
            logger_provider
            or sdk.global_logger_provider()
            or (sdk.build_logger_provider() if build else _logs.get_logger_provider())
        )
        providers = (*providers, logger_provider)
        events = Events(logger_provider.get_logger(SCOPE, release, SCHEMA_URL), settings)
    tracer = tracer_provider.get_tracer(SCOPE, release, SCHEMA_URL)
    telemetry = Telemetry(
        settings,
        Spans(tracer, settings),
        Metrics(meter, ledger, settings),
        ledger,
        events,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
    )
    return telemetry, providers


def _meter_provider_of(providers: tuple[object, ...]) -> Any:
    return providers[1]


def _address(serve: bool | str | None) -> tuple[str, int] | None:
    if serve is False:
        return None
    from otel_llm.prometheus import server

    if serve is None or serve is True:
        return server.address(None)
    if not isinstance(serve, str):
        raise TypeError(f'serve must be True, False, None or "host:port", not {type(serve).__name__}')
    return server.address(serve)


def _serve(meter_provider: Any, bind: tuple[str, int], settings: Settings, *, explicit: bool) -> None:
    """Serve the page of the provider's reader; a port that is taken raises only where the caller asked for it."""
    global _page
    readers = sdk.prometheus_readers(meter_provider)
    if not readers and explicit and hasattr(meter_provider, "add_metric_reader"):
        from otel_llm.prometheus.reader import PrometheusReader

        readers = [PrometheusReader(max_series=settings.max_series)]
        meter_provider.add_metric_reader(readers[0])
    if not readers or _page is not None:
        return
    from otel_llm.prometheus.server import start

    _page = start(bind, readers[0]._registry, explicit=explicit)


def _instrumentors() -> list[Any]:
    """Load the installed instrumentors, less those that ``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`` names."""
    written = os.environ.get(variables.OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, "")
    off = {name.strip() for name in written.split(",")}
    if "*" in off:
        return []
    return [entry.load()() for entry in entry_points(group=INSTRUMENTORS) if entry.name not in off]
