"""The events of OpenAI's websockets: the Realtime API, and responses over a websocket.

Source: the event types as openai-python 1.66 to 3.52 declares them; attribute mapping of the GenAI semantic
conventions, "Inference".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import count, field, fields, integer, items, number, text
from otel_llm.wire.format import Format
from otel_llm.wire.openai import RESPONSES, read_usage
from otel_llm_semconv import attributes as names
from otel_llm_semconv.errors import ErrorType
from otel_llm_semconv.values import FinishReason, Operation, OutputType

CREATE = "response.create"
"""What the caller sends for a response."""
CREATED = "response.created"
"""The first event of a response, which tells its id."""
ENDS = frozenset({"response.done", "response.completed", "response.failed", "response.incomplete"})
"""The last event of a response: the first of them in the Realtime API, the others in the Responses API."""

_TEXT_EVENTS = frozenset(
    {
        "response.output_text.delta",
        "response.output_audio_transcript.delta",
        "response.text.delta",
        "response.audio_transcript.delta",
    }
)
"""The second two are the beta's names for the first two."""

_OUTPUT_TYPES = {"text": OutputType.TEXT, "audio": OutputType.SPEECH}

_INCOMPLETE = {"max_output_tokens": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}

_CACHED = {
    "text_tokens": names.GEN_AI_USAGE_TEXT_CACHE_READ_INPUT_TOKENS,
    "image_tokens": names.GEN_AI_USAGE_IMAGE_CACHE_READ_INPUT_TOKENS,
    "audio_tokens": names.GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS,
}


def _read_realtime_request(call: Call, event: Mapping[str, Any]) -> None:
    response = fields(event.get("response"))
    attributes = call.attributes
    # The beta calls them otherwise, and takes a temperature.
    limit = integer(response.get("max_output_tokens", response.get("max_response_output_tokens")))
    if limit is not None:
        attributes[names.GEN_AI_REQUEST_MAX_TOKENS] = limit
    temperature = number(response.get("temperature"))
    if temperature is not None:
        attributes[names.GEN_AI_REQUEST_TEMPERATURE] = temperature
    modalities = items(response.get("output_modalities") or response.get("modalities"))
    output = "audio" if "audio" in modalities else text(modalities[0]) if modalities else None
    if output in _OUTPUT_TYPES:
        attributes[names.GEN_AI_OUTPUT_TYPE] = _OUTPUT_TYPES[output]


def _read_realtime_answer(call: Call, response: object) -> None:
    own = fields(response)
    call.response_id = text(own.get("id")) or call.response_id
    conversation = text(own.get("conversation_id"))
    if conversation:
        call.attributes[names.GEN_AI_CONVERSATION_ID] = conversation
    usage = own.get("usage")
    if usage is not None:
        _read_realtime_usage(call, fields(usage))
    status, details = own.get("status"), fields(own.get("status_details"))
    reason = text(details.get("reason"))
    if status == "completed":
        call.finish_reasons = (FinishReason.STOP,)
    elif status == "incomplete":
        call.finish_reasons = (_INCOMPLETE.get(reason or "", reason or FinishReason.ERROR),)
    elif status == "cancelled":
        call.finish_reasons = (reason or FinishReason.ERROR,)
    elif status == "failed":
        call.finish_reasons = (FinishReason.ERROR,)
        _read_failure(call, details.get("error"))


def _read_realtime_usage(call: Call, usage: Mapping[str, Any]) -> None:
    details = usage.get("input_token_details")
    read_usage(
        call,
        {**usage, "input_tokens_details": details, "output_tokens_details": usage.get("output_token_details")},
    )
    cached = fields(field(details, "cached_tokens_details"))
    for key, name in _CACHED.items():
        tokens = count(cached.get(key))
        if tokens:
            call.modality_tokens = {**(call.modality_tokens or {}), name: tokens}


def _read_realtime_events(call: Call, events: Sequence[object]) -> None:
    for event in events:
        own = fields(event)
        response = own.get("response")
        if response is not None:
            _read_realtime_answer(call, response)
        elif own.get("type") == "error":
            _read_failure(call, own.get("error"))
    if not call.finish_reasons:
        call.finish_reasons = (FinishReason.ERROR,)


def _read_responses_events(call: Call, events: Sequence[object]) -> None:
    RESPONSES.read_chunks(call, events)
    error = field(events[-1], "error") if events else None
    if error is not None:
        # On a websocket, unlike in a stream of events, what went wrong is one level down.
        _read_failure(call, error)


def _read_failure(call: Call, error: object) -> None:
    call.error_type = text(field(error, "code")) or text(field(error, "type")) or ErrorType.OTHER
    call.error_message = text(field(error, "message"))


def _realtime_text(event: object) -> bool:
    return text(field(event, "type")) in _TEXT_EVENTS


REALTIME = Format(
    Operation.GENERATE_CONTENT,
    _read_realtime_request,
    _read_realtime_answer,
    _read_realtime_events,
    _realtime_text,
)
RESPONSES_EVENTS = RESPONSES._replace(read_chunks=_read_responses_events)
