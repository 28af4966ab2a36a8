"""Events of a call: its details with structured content, and the exception that ended it. Off unless asked for.

Source: GenAI semantic conventions, "Events".
"""

from __future__ import annotations

import time
import traceback

from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.util.types import AnyValue

from otel_llm.call import Call
from otel_llm.config import Settings
from otel_llm.errors import error_type
from otel_llm.sinks.spans import content_of, prefixed, span_attributes
from otel_llm_semconv import attributes as names
from otel_llm_semconv import events
from otel_llm_semconv.events import Event


class Events:
    """Emit the events of each finished call."""

    def __init__(self, logger: Logger, settings: Settings) -> None:
        self._logger = logger
        self._labels = prefixed(settings.labels)

    def end(self, call: Call) -> None:
        """Emit what is known of a call of a model, and the exception of any; not where somebody else does."""
        if call.covered.span:
            return
        if call.runs_model:
            self._emit_details(call)
        if call.error is not None:
            self._emit(
                events.GEN_AI_CLIENT_OPERATION_EXCEPTION,
                call,
                {
                    names.EXCEPTION_TYPE: error_type(call.error),
                    names.EXCEPTION_MESSAGE: call.error_message or "",
                    names.EXCEPTION_STACKTRACE: "".join(traceback.format_exception(call.error)),
                },
            )

    def _emit_details(self, call: Call) -> None:
        details: dict[str, AnyValue] = {
            names.GEN_AI_OPERATION_NAME: call.operation,
            names.GEN_AI_PROVIDER_NAME: call.provider,
            **self._labels,
            **prefixed(call.labels or {}),
            **span_attributes(call),
            **content_of(call),
        }
        if call.request_model is not None:
            details[names.GEN_AI_REQUEST_MODEL] = call.request_model
        if call.server_address is not None:
            details[names.SERVER_ADDRESS] = call.server_address
            if call.server_port is not None:
                details[names.SERVER_PORT] = call.server_port
        self._emit(events.GEN_AI_CLIENT_INFERENCE_OPERATION_DETAILS, call, details)

    def _emit(self, event: Event, call: Call, attributes: dict[str, AnyValue]) -> None:
        self._logger.emit(
            timestamp=time.time_ns(),
            context=call.context,
            severity_number=SeverityNumber(event.severity_number or 0),
            severity_text=event.severity_text,
            event_name=event.name,
            attributes=attributes,
        )
