"""The way of a call: begun once, ended exactly once, handed to every sink."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry import context as context_api
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, Context
from opentelemetry.trace import ProxyTracerProvider

from otel_llm import faults, forked, overdue
from otel_llm.audience import is_proxy, no_points, no_spans, nothing_set
from otel_llm.call import Call
from otel_llm.config import CallHook, Capture, Content, Settings
from otel_llm.context import ATTRIBUTES_KEY, BLOCK_KEY, current_context, labels_of
from otel_llm.errors import error_message, error_type
from otel_llm.ledger import Ledger
from otel_llm.sinks.metrics import Metrics
from otel_llm.sinks.spans import Spans

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_llm.sinks.events import Events

_forks = 0
"""How many forks lie behind this process: a call that its parent began is its parent's to end."""


def forks() -> int:
    """Return how many forks lie behind this process."""
    return _forks


def _forked() -> None:
    global _forks
    _forks += 1
    overdue.ends.clear()


forked.in_child(renew=_forked)

_Sink = Callable[[Call], None]


class Telemetry:
    """Everything that `instrument()` decided, as two functions on the hot path: `begin` and `end`."""

    def __init__(
        self,
        settings: Settings,
        spans: Spans,
        metrics: Metrics,
        ledger: Ledger,
        events: Events | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        served: bool = False,
    ) -> None:
        self.settings = settings
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.ledger = ledger
        self._hooked = settings.content_hook is not None or settings.call_hook is not None
        watched = self._hooked or events is not None or served
        self.asleep = not watched and no_spans(tracer_provider) and no_points(meter_provider)
        """Whether nobody listened so far; ask `wakes` before a call."""
        self._by_proxy = is_proxy(meter_provider) and isinstance(tracer_provider, ProxyTracerProvider)
        self.only_spans = not watched and no_points(meter_provider)
        """Whether only a span could show a call, so far."""
        self.injects_usage = settings.inject_usage
        self.captures_content = settings.capture is not Capture.NO_CONTENT
        self.spans = spans
        self.metrics = metrics
        self._begin_span = spans.begin if settings.http_spans else spans.begin_quietly
        # The span comes last, so that the others still see it open.
        sinks: list[tuple[str, _Sink]] = [("ledger", ledger.end), ("metrics", metrics.end)]
        if events is not None:
            sinks.append(("events", events.end))
        self._sinks = (*sinks, ("spans", spans.end))

    def wakes(self) -> bool:
        """Whether somebody listens by now."""
        if self._by_proxy and nothing_set():
            return False
        if no_spans(self.tracer_provider) and no_points(self.meter_provider):
            return False
        self.asleep = False
        return True

    def begin(self, call: Call) -> None:
        """Take the time, count the call as in flight and start its span; never raises.

        Everything that the request tells must be on the call already, or the model alone where there are `only_spans`.
        A call that is sampled out there has ended by then.
        """
        if overdue.ends:
            overdue.settle()
        call.forks = _forks
        call.started_at_ns = time.time_ns()
        call.started_at = time.perf_counter()
        try:
            context = call.context
            if context is None:
                context = current_context.get()
            if context:
                labels = labels_of(context)
                if labels is not None:
                    call.labels = labels
                attributes: Any = context.get(ATTRIBUTES_KEY)
                if attributes:
                    call.attributes.update(attributes)
                block: Any = context.get(BLOCK_KEY)
                if block is not None and call.runs_model:
                    block.take(call)
            if self.only_spans and not call.covered.span:
                self._begin_for_its_span(call)
                return
            self.ledger.begin(call)
            if not call.covered.span:
                self._begin_span(call)
        except Exception:
            faults.fault("begin")

    def begin_by_hand(self, call: Call, block: object) -> Context:
        """Begin the call of a block, of which only the end shows whether it is one, and return the context inside.

        Unlike the others it may raise.
        """
        call.forks = _forks
        call.started_at_ns = time.time_ns()
        call.started_at = time.perf_counter()
        context = call.context
        if context:
            call.labels = labels_of(context)
            attributes: Any = context.get(ATTRIBUTES_KEY)
            if attributes:
                call.attributes.update(attributes)
        self.ledger.begin(call)
        inside = self.spans.begin_around(call, block)
        return inside if self.settings.http_spans else Context({**inside, _SUPPRESS_HTTP_INSTRUMENTATION_KEY: True})

    def _begin_for_its_span(self, call: Call) -> None:
        """Begin a call that ends at once if it is sampled out, unless there are metrics by now."""
        self.ledger.place(call)
        try:
            self._begin_span(call)
        finally:
            self.only_spans = no_points(self.meter_provider)
            if self.only_spans and call.span is not None and not call.span.is_recording():
                call.ends.clear()
            else:
                self.ledger.begin(call)

    def end(self, call: Call, error: BaseException | None = None, at: float | None = None) -> None:
        """End the call and hand it to every sink; only the first of several ends counts. Never raises.

        Args:
            call: a call that has begun.
            error: what ended it, or None for success.
            at: when it ended, in seconds of ``time.perf_counter``; now, if not given.
        """
        if call.forks != _forks:
            return
        try:
            # One step of the interpreter, so that of two threads that end the same call only one gets through.
            call.ends.pop()
        except IndexError:
            return
        call.ended_at = time.perf_counter() if at is None else at
        if error is not None:
            call.error = error
            call.error_type = error_type(error)
            call.error_message = error_message(error)
        call.series = (
            call.operation,
            call.provider,
            call.request_model,
            call.response_model,
            call.server_address,
            call.server_port,
        )
        if self._hooked:
            self._call_hooks(call)
            if call.dropped:
                self.ledger.leave(call)
                return
        for place, sink in self._sinks:
            try:
                sink(call)
            except Exception:
                faults.fault(place)
        # Its traceback holds the frames that hold the call: a circle that only the collector would break.
        call.error = None

    def _call_hooks(self, call: Call) -> None:
        if self.captures_content and self.settings.content_hook is not None:
            self._redact(call)
        if self.settings.call_hook is not None:
            _let_look(call, self.settings.call_hook)

    def _redact(self, call: Call) -> None:
        """Let the user's hook change the content; where it fails, nothing of the content is kept."""
        kept: Content | None = None
        if self.settings.content_hook is not None:
            content = Content(
                call.input_messages, call.output_messages, call.system_instructions, call.tool_definitions
            )
            try:
                kept = self.settings.content_hook(content)
                if kept is not None and not isinstance(kept, Content):
                    kept = None
                    raise TypeError("content_hook must return a Content or None")
            except Exception:
                faults.fault("content_hook")
        call.input_messages, call.output_messages, call.system_instructions, call.tool_definitions = kept or Content()


_SHARED = ("labels", "modality_tokens", "server_times")
"""Mappings of a call that others may have, too."""
_CONTENT = ("input_messages", "output_messages", "system_instructions", "tool_definitions")


def _let_look(call: Call, hook: CallHook) -> None:
    """Have the user's hook look at a call; what it writes is undone, but for span attributes, content and a drop."""
    before = dict(call.__dict__)
    for name in _SHARED:
        if before.get(name):
            setattr(call, name, dict(before[name]))
    try:
        hook(call)
    except Exception:
        faults.fault("call_hook")
    after = dict(call.__dict__)
    call.__dict__.clear()
    call.__dict__.update(before)
    if isinstance(after.get("attributes"), dict):
        call.attributes = after["attributes"]
    for name in _CONTENT:
        if after.get(name) is None or isinstance(after[name], list):
            setattr(call, name, after.get(name))
    call.dropped = after.get("dropped") is True


def suppressed(context: Context) -> bool:
    """Whether the user asked for no instrumentation here, by ``suppress_instrumentation()``."""
    return bool(context.get(context_api._SUPPRESS_INSTRUMENTATION_KEY) or context.get("suppress_instrumentation"))
