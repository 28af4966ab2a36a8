"""A span for each call.

Source: GenAI semantic conventions, "Inference", "Embeddings" and "Recording errors".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from otel_llm.call import Call
from otel_llm.config import Capture, Settings
from otel_llm.context import BLOCK_KEY, SPAN_KEY
from otel_llm.errors import error_message, error_type
from otel_llm.ledger import OVERFLOW
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import SPAN_NAMED_BY, Work


class Spans:
    """Begin a span when a call begins and end it when the call ends."""

    def __init__(self, tracer: Tracer, settings: Settings) -> None:
        self._start_span = tracer.start_span
        self._labels = prefixed(settings.labels)
        self._content = bool(settings.capture & Capture.SPAN_ONLY)

    def begin(self, call: Call) -> None:
        """Start the span with what samplers may want to see."""
        name, attributes = self._known(call)
        if call.labels:
            attributes = {**attributes, **prefixed(call.labels)}
        call.span = self._start_span(name, call.context, SpanKind.CLIENT, attributes, start_time=call.started_at_ns)
        call.context = Context({**(call.context or {}), SPAN_KEY: call.span})

    def begin_quietly(self, call: Call) -> None:
        """Start the span, with no spans of the HTTP requests below it, whoever makes them."""
        self.begin(call)
        call.context = Context({**(call.context or {}), _SUPPRESS_HTTP_INSTRUMENTATION_KEY: True})

    def begin_inside(
        self, name: str, context: Context, attributes: Mapping[str, AttributeValue], started_at_ns: int
    ) -> Span:
        """Start the span of what is no call: what the application does itself."""
        return self._start_span(
            name, context, SpanKind.INTERNAL, {**self._labels, **attributes}, start_time=started_at_ns
        )

    def begin_around(self, call: Call, block: object) -> Context:
        """Start the span of a block that may turn out to be around other calls, and no call itself."""
        name, _ = self._known(call)
        attributes = {**self._labels, **prefixed(call.labels)} if call.labels else self._labels
        call.span = self._start_span(name, call.context, SpanKind.CLIENT, attributes, start_time=call.started_at_ns)
        outer = call.context
        inside = {SPAN_KEY: call.span, BLOCK_KEY: block}
        call.context = Context({**outer, **inside} if outer else inside)
        return call.context

    def own_up(self, call: Call) -> None:
        """Have the span say what a call's says from the start, now that the block is one."""
        call.attributes = {**self._known(call)[1], **call.attributes}

    def end_around(self, call: Call, error: BaseException | None) -> None:
        """End the span of a block around other calls, which is not to be taken for one of them."""
        span = call.span
        if span is None:
            return
        span.update_name(f"{Work.INFERENCE} {call.request_model}")
        if error is not None:
            span.set_attribute(names.ERROR_TYPE, error_type(error))
            span.set_status(Status(StatusCode.ERROR, error_message(error)))
        span.end(call.started_at_ns + int((call.ended_at - call.started_at) * 1e9))

    def _known(self, call: Call) -> tuple[str, Mapping[str, AttributeValue]]:
        """Return the name of the call's span and its first attributes, which the calls of a lane share."""
        lane = None if call.track is None else call.track.lane
        if lane is not None and lane.span is not None:
            return lane.span
        found = self._first(call)
        if lane is not None and lane.key != OVERFLOW and call.operation not in SPAN_NAMED_BY:
            lane.span = found
        return found

    def _first(self, call: Call) -> tuple[str, Mapping[str, AttributeValue]]:
        """Return the name of the call's span and the attributes it has from the start."""
        attributes: dict[str, AttributeValue] = {
            names.GEN_AI_OPERATION_NAME: call.operation,
            names.GEN_AI_PROVIDER_NAME: call.provider,
        }
        subject: AttributeValue | None = call.request_model
        if subject is not None:
            attributes[names.GEN_AI_REQUEST_MODEL] = subject
        named_by = SPAN_NAMED_BY.get(call.operation)
        if named_by is not None:
            subject = call.attributes.get(named_by)
            if subject is not None:
                attributes[named_by] = subject
        if call.server_address is not None:
            attributes[names.SERVER_ADDRESS] = call.server_address
            if call.server_port is not None:
                attributes[names.SERVER_PORT] = call.server_port
        name = call.operation if subject is None else f"{call.operation} {subject}"
        return name, attributes | self._labels

    def end(self, call: Call) -> None:
        """End the span with everything that is known of the call."""
        span = call.span
        if span is None:
            return
        try:
            if span.is_recording():
                span.set_attributes(span_attributes(call))
                if call.error_type is not None:
                    span.set_status(Status(StatusCode.ERROR, call.error_message))
                if self._content:
                    span.set_attributes(_content_attributes(call))
        finally:
            span.end(call.started_at_ns + int((call.ended_at - call.started_at) * 1e9))


def span_attributes(call: Call) -> dict[str, AttributeValue]:
    """Return what is known at the end of a call; what was never sent is absent."""
    attributes = call.attributes
    if call.response_model is not None:
        attributes[names.GEN_AI_RESPONSE_MODEL] = call.response_model
    if call.response_id is not None:
        attributes[names.GEN_AI_RESPONSE_ID] = call.response_id
    if call.finish_reasons:
        attributes[names.GEN_AI_RESPONSE_FINISH_REASONS] = call.finish_reasons
    if call.input_tokens is not None:
        attributes[names.GEN_AI_USAGE_INPUT_TOKENS] = call.input_tokens
    if call.output_tokens is not None:
        attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS] = call.output_tokens
    if call.cache_read_tokens is not None:
        attributes[names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] = call.cache_read_tokens
    if call.cache_write_tokens is not None:
        attributes[names.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS] = call.cache_write_tokens
    if call.reasoning_tokens is not None:
        attributes[names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS] = call.reasoning_tokens
    if call.modality_tokens:
        attributes.update(call.modality_tokens)
    if call.stream_outcome is not None:
        attributes[names.OTEL_LLM_STREAM_OUTCOME] = call.stream_outcome
    if call.streamed:
        attributes[names.OTEL_LLM_STREAM_CHUNKS] = call.chunks
        first_chunk = call.time_to_first_chunk
        if first_chunk is not None:
            attributes[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = first_chunk
        first_text = call.time_to_first_text
        if first_text is not None:
            attributes[names.OTEL_LLM_TIME_TO_FIRST_TEXT] = first_text
    if call.server_times is not None:
        attributes.update(call.server_times)
        rate = call.server_output_rate
        if rate is not None:
            attributes[names.OTEL_LLM_SERVER_OUTPUT_RATE] = rate
    if call.retry_reasons:
        attributes[names.OTEL_LLM_RETRIES] = len(call.retry_reasons)
    if call.error_type is not None:
        attributes[names.ERROR_TYPE] = call.error_type
    return attributes


def content_of(call: Call) -> dict[str, list[dict[str, Any]]]:
    """Return the captured messages by attribute."""
    content = {
        names.GEN_AI_SYSTEM_INSTRUCTIONS: call.system_instructions,
        names.GEN_AI_INPUT_MESSAGES: call.input_messages,
        names.GEN_AI_OUTPUT_MESSAGES: call.output_messages,
        names.GEN_AI_TOOL_DEFINITIONS: call.tool_definitions,
    }
    return {name: value for name, value in content.items() if value}


def _content_attributes(call: Call) -> dict[str, AttributeValue]:
    """Spans carry content as JSON: what most backends expect of a span attribute."""
    return {
        name: json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
        for name, value in content_of(call).items()
    }


def prefixed(labels: Mapping[str, str]) -> dict[str, AttributeValue]:
    """Return labels as span attributes."""
    return {names.OTEL_LLM_LABEL_PREFIX + key: value for key, value in labels.items()}
