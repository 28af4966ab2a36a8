"""Turn it on, turn it off: `instrument()`, `uninstrument()` and the one handle that a process has."""

from __future__ import annotations

import atexit
import gc
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from importlib.metadata import EntryPoint, entry_points, version
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from otel_llm import config, context, exporters, forked, sdk, sdk_locks, serving, threads
from otel_llm.audience import is_proxy
from otel_llm.config import CallHook, Capture, ContentHook, Settings
from otel_llm.faults import guarded
from otel_llm.ledger import Ledger
from otel_llm.overdue import settle
from otel_llm.sdk import Providers
from otel_llm.sinks.metrics import Metrics, observe
from otel_llm.sinks.spans import Spans
from otel_llm.streams import end_open
from otel_llm.telemetry import Telemetry
from otel_llm_semconv import SCHEMA_URL

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_llm.http_rules import HttpRules

logger = logging.getLogger("otel_llm")

SCOPE = "otel_llm"
"""Name of the one instrumentation scope that everything comes from."""
INSTRUMENTORS = "otel_llm_instrumentor"
"""Entry point group of the instrumentors."""

_lock = RLock()
_handle: Handle | None = None
was_on = False
"""Whether this process was ever instrumented."""
_ledgers: WeakKeyDictionary[Any, tuple[Ledger, set[str]]] = WeakKeyDictionary()
"""For each meter provider its ledger, and the names of what is observed from it: they go on when we come back."""


class Handle:
    """What `instrument()` turned on. As a context manager it turns it off at the end of the block."""

    def __init__(
        self, telemetry: Telemetry | None, providers: Providers | None = None, asked: Mapping[str, object] | None = None
    ) -> None:
        global was_on
        was_on = True
        self.telemetry = telemetry
        """What instrumentors, for whom this is, tell of calls; None where OpenTelemetry is switched off."""
        self._providers = providers
        self._asked = dict(asked or {})
        self._by_instrumentor = asked is None
        """Whether this is the doing of an instrumentor, which somebody switched on by itself."""

    @property
    def url(self) -> str | None:
        """Where the Prometheus page is served, or None."""
        return serving.url(None if self._providers is None else self._providers.meter)

    def flush(self, timeout_millis: int = 10_000) -> None:
        """End what is overdue and send out what waits to be sent; what cannot be sent is told in the log."""
        settle()
        for provider in self._providers or ():
            force_flush = getattr(provider, "force_flush", None)
            if force_flush is not None:
                try:
                    force_flush(timeout_millis)
                except Exception as error:
                    logger.warning("otel_llm: not everything could be flushed: %s", error)

    def uninstrument(self) -> None:
        """Turn everything off and give every original object back."""
        uninstrument()

    def _differs(self, asked: Mapping[str, object]) -> list[str]:
        """Return the settings that a later call asks for and does not have."""
        has: dict[str, object] = dict(self._asked)
        if self.telemetry is not None:
            has |= self.telemetry.settings._asdict()
        if self._providers is not None:
            has |= {f"{signal}_provider": provider for signal, provider in self._providers._asdict().items()}
        asked = {name: value for name, value in asked.items() if value is not None}
        if asked.get("serve") is (self.url is not None):
            del asked["serve"]
        return [name for name, value in asked.items() if value != has.get(name)]

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
    inject_usage: bool | None = None,
    http_rules: HttpRules | None = None,
    http_spans: bool | None = None,
    dialects: Iterable[str] | None = None,
    baggage_labels: Iterable[str] | None = None,
    multiproc_dir: str | os.PathLike[str] | None = None,
    compat: str | None = None,
    content_hook: ContentHook | None = None,
    call_hook: CallHook | None = None,
) -> Handle:
    """Observe every call of the LLM clients of this process, whether they are imported already or not.

    A second call changes nothing: it returns the first handle, and warns if it asks for something else.

    Args:
        tracer_provider: used as given; else the global one if the application set it; else one is built from the
            standard ``OTEL_*`` variables and made global. The same goes for the other two providers.
        meter_provider: see above.
        logger_provider: see above; used only where ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` asks for
            events.
        serve: whether to serve the Prometheus page, or ``"host:port"``. None serves it where the meter provider is
            built here and the environment does not ask for other exporters only, on
            ``OTEL_EXPORTER_PROMETHEUS_HOST``/``PORT`` (localhost:9464).
        semconv: metric vocabulary: ``released`` (default), ``latest`` or ``both``; ``OTEL_LLM_SEMCONV``.
        max_series: most label sets of one metric, 2000 by default; ``OTEL_LLM_MAX_SERIES``.
        labels: labels of every call, beneath those of `otel_llm.labels`; ``OTEL_LLM_LABELS``.
        inject_usage: whether to ask OpenAI's servers for the token counts of streams, and to hide the chunk that brings
            them from the caller; ``OTEL_LLM_OPENAI_INJECT_USAGE``.
        http_rules: which requests of `httpx` and `httpx2` are LLM calls, besides those that are recognised: the path
            of a TOML file, or its rules as a list of mappings; ``OTEL_LLM_HTTP_RULES``.
        http_spans: whether the HTTP requests inside LLM calls have spans and metrics of their own, as by default;
            ``OTEL_LLM_HTTP_SPANS``.
        dialects: what the page shows beside the canonical families: names of dialects that come with us, and paths of
            TOML files; ``OTEL_LLM_DIALECTS``.
        baggage_labels: names of labels that travel as OpenTelemetry baggage, out of this process and into it;
            ``OTEL_LLM_BAGGAGE_LABELS``.
        multiproc_dir: directory in which the workers of one application share their metrics, so that the page of each
            shows the sum; found by itself under gunicorn and uvicorn; ``OTEL_LLM_MULTIPROC_DIR``.
        compat: ``calls`` has instrumented calls feed what they can of a system whose drop-in module is imported, and
            its functions only the rest; else its functions feed all they did; ``OTEL_LLM_COMPAT``.
        content_hook: sees captured content before it is recorded, and returns what may be kept of it.
        call_hook: sees each finished `Call`; may add span attributes to it, or drop it.

    Raises:
        ValueError: a setting is not accepted; the message names it and the accepted values.
        TypeError: a setting is of the wrong type.
        OSError: the address given by *serve* cannot be bound.
        ImportError: the page there has a web config file, which needs the extra ``serve``.
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
        "inject_usage": inject_usage,
        "http_spans": http_spans,
        "content_hook": content_hook,
        "call_hook": call_hook,
    }
    with _lock:
        settings = config.resolve(
            semconv=semconv,
            max_series=max_series,
            labels=labels,
            inject_usage=inject_usage,
            http_rules=http_rules,
            http_spans=http_spans,
            dialects=dialects,
            baggage_labels=baggage_labels,
            multiproc_dir=multiproc_dir,
            compat=compat,
            content_hook=content_hook,
            call_hook=call_hook,
        )
        asked["http_rules"] = None if http_rules is None else settings.http_rules
        asked["dialects"] = None if dialects is None else settings.dialects
        asked["multiproc_dir"] = None if multiproc_dir is None else settings.multiproc_dir
        asked["compat"] = None if compat is None else settings.compat
        asked["baggage_labels"] = None if baggage_labels is None else settings.baggage_labels
        config.check_providers(
            tracer_provider=tracer_provider, meter_provider=meter_provider, logger_provider=logger_provider
        )
        bind = serving.address(serve)
        if _handle is not None:
            return _again(_handle, asked)
        serving.switched_off = config.disabled()
        if serving.switched_off:
            _handle = Handle(None, None, asked)
            return _handle
        serving.expect(settings)
        providers = sdk.find_or_build(
            tracer_provider,
            meter_provider,
            logger_provider,
            events=_wants_events(settings),
            page=bool(serve),
            max_series=settings.max_series,
        )
        built = sdk.built_here(providers.meter)
        if isinstance(serve, str) or serving.url(providers.meter) is None:
            if bind is not None:
                serving.open_page(providers.meter, bind, settings)
            elif serve is None and built:
                serving.open_default_page(providers.meter)
        telemetry = _start(settings, providers)
        _handle = Handle(telemetry, providers, asked)
        with sdk.stable_http_names() if built else nullcontext():
            _switch_on(telemetry)
        return _handle


def uninstrument() -> None:
    """Turn everything off and give every original object back; does nothing where nothing is on."""
    global _handle
    with _lock:
        handle, _handle = _handle, None
        if handle is None:
            return
        for instrumentor in _load(entry_points(group=INSTRUMENTORS)):
            if instrumentor.is_instrumented_by_opentelemetry:
                _switch_off(instrumentor)
        handle.flush()
        if handle._providers is not None:
            sdk.release_readers(handle._providers.meter)
        context.carry(frozenset())
        threads.leave()
        serving.close_page()


def instrumented() -> bool:
    """Whether this process is instrumented."""
    return _handle is not None


def telemetry() -> Telemetry | None:
    """Return the telemetry in force, or None."""
    handle = _handle  # another thread may turn everything off meanwhile
    return None if handle is None else handle.telemetry


def join(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
) -> Telemetry | None:
    """Return the telemetry of this process for an instrumentor that somebody else turns on; None where it is disabled.

    Nothing is built here: somebody else did that, or will. A wrong setting is one clear error in the log, and the
    default is used: nobody is there to catch it.
    """
    global _handle
    with _lock:
        if _handle is not None:
            return _handle.telemetry
        if config.disabled():
            return None
        settings = config.resolve_or_default()
        providers = sdk.find(tracer_provider, meter_provider, logger_provider, events=_wants_events(settings))
        if (
            sdk.built_by_zero_code(providers)
            and not sdk.prometheus_readers(providers.meter)
            and not exporters.chosen_by_hand("metrics")
        ):
            # Another distro's configurator ran, and has nothing but defaults: then the page is there as ours has it.
            from otel_llm.prometheus.reader import AutoPrometheusReader

            sdk.add_reader(providers.meter, AutoPrometheusReader())
        telemetry = _start(settings, providers)
        _handle = Handle(telemetry, providers)
        return telemetry


def _again(handle: Handle, asked: Mapping[str, object]) -> Handle:
    """Return the handle that is there already, and tell what it does not have of what is asked."""
    differing = handle._differs(asked)
    if differing:
        logger.warning("otel_llm: already instrumented; ignored: %s", ", ".join(differing))
    if handle._by_instrumentor and handle.telemetry is not None:
        _switch_on(handle.telemetry)
    return handle


def _wants_events(settings: Settings) -> bool:
    return bool(settings.capture & Capture.EVENT_ONLY)


def _start(settings: Settings, providers: Providers) -> Telemetry:
    """Put the sinks on the providers."""
    sdk_locks.renew_for(providers)
    sdk.adopt_readers(providers.meter, settings.max_series)
    release = version("otel-llm")
    meter = providers.meter.get_meter(SCOPE, release, SCHEMA_URL)
    if config.disabled_instrumentations().isdisjoint((threads.NAME, "*")):
        threads.carry()
    ledger, observed = _ledger_of(providers.meter, settings)
    context.carry(settings.baggage_labels)
    serving.begin(ledger, settings, providers.meter)
    ledger.forget_spans()
    observe(meter, ledger, settings, observed)
    events = None
    if providers.logger is not None and _wants_events(settings):
        from otel_llm.sinks.events import Events

        events = Events(providers.logger.get_logger(SCOPE, release, SCHEMA_URL), settings)
    # The last to register is the first to run, and the providers have registered.
    atexit.unregister(_at_exit)
    atexit.register(_at_exit)
    return Telemetry(
        settings,
        Spans(providers.tracer.get_tracer(SCOPE, release, SCHEMA_URL), settings),
        Metrics(meter, ledger, settings),
        ledger,
        events,
        tracer_provider=providers.tracer,
        meter_provider=providers.meter,
        served=bool(settings.dialects) or serving.url(providers.meter) is not None,
    )


def _ledger_of(meter_provider: MeterProvider, settings: Settings) -> tuple[Ledger, set[str]]:
    """Return the ledger of a meter provider, and the names of the metrics that are observed from it already."""
    known = _ledgers.get(meter_provider)
    if known is None and meter_provider is sdk.global_meter_provider():
        # What was observed by way of the proxy goes on behind it.
        known = next((known for proxy, known in _ledgers.items() if is_proxy(proxy)), None)
    columns = serving.columns(settings, meter_provider)
    if known is None:
        known = Ledger(settings.max_series, columns), set[str]()
    elif known[0].columns != columns:
        known[0].keep(columns)
    _ledgers[meter_provider] = known
    return known


def _switch_on(telemetry: Telemetry) -> None:
    """Switch on the instrumentors that are not on yet, less those that the environment disables."""
    off = config.disabled_instrumentations()
    wanted = [entry for entry in entry_points(group=INSTRUMENTORS) if off.isdisjoint((entry.name, "*"))]
    for instrumentor in _load(wanted):
        if not instrumentor.is_instrumented_by_opentelemetry:
            _switch_on_one(instrumentor, telemetry)


@guarded
def _switch_on_one(instrumentor: Any, telemetry: Telemetry) -> None:
    instrumentor.instrument(telemetry=telemetry, skip_dep_check=True)


@guarded
def _switch_off(instrumentor: Any) -> None:
    instrumentor.uninstrument()


def _load(entries: Iterable[EntryPoint]) -> Iterator[Any]:
    """Return the instrumentors; one that is broken does not cost the others."""
    for entry in entries:
        try:
            yield entry.load()()
        except Exception:
            logger.exception("otel_llm: the instrumentor %s cannot be loaded", entry.name)


@guarded
def _at_exit() -> None:
    """End what is overdue while the providers can still send it: streams that were dropped, and those left open."""
    telemetry = _handle.telemetry if _handle is not None else None
    if telemetry is not None and any(lane.active for lane in list(telemetry.ledger.lanes.values())):
        gc.collect()
    end_open()
    settle()


def _renew_lock() -> None:
    """Forget who held the lock: in a forked child, that thread is not there to let go of it."""
    global _lock
    _lock = RLock()


forked.in_child(renew=_renew_lock)
