"""The Anthropic formats: messages, the counting of their tokens, their batches, and the completions of old.

Source: the wire formats as anthropic-sdk-python 0.25 to 2.12 declares them; attribute mapping of the GenAI semantic
conventions, "Inference" and "Anthropic": input tokens are all of them, those of the cache included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire import anthropic_content as content
from otel_llm.wire.failure import read_error
from otel_llm.wire.fields import count, field, fields, integer, strings, text, total
from otel_llm.wire.format import Format
from otel_llm.wire.images import has_image
from otel_llm.wire.openai_endpoints import AGENT_MADE
from otel_llm.wire.parameters import SAMPLING, Parameters, read_parameters, reader_of
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import FinishReason, Operation, OutputType

_SAMPLING: Parameters = {
    **SAMPLING,
    "stop_sequences": (names.GEN_AI_REQUEST_STOP_SEQUENCES, strings),
    "service_tier": (names.ANTHROPIC_REQUEST_SERVICE_TIER, text),
}
_MESSAGES: Parameters = {**_SAMPLING, "max_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer)}
_COMPLETE: Parameters = {**_SAMPLING, "max_tokens_to_sample": (names.GEN_AI_REQUEST_MAX_TOKENS, integer)}

FINISH_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALL,
    "refusal": FinishReason.CONTENT_FILTER,
}
"""Reasons by Anthropic's; others, such as ``pause_turn``, have no other name."""
_TEXT_DELTAS = frozenset({"text_delta"})


# requests


def _read_messages_request(call: Call, body: Mapping[str, Any]) -> None:
    read_parameters(call, body, _MESSAGES)
    if has_image(body.get("messages")):
        call.image = True
    output = body.get("output_config")
    if output is not None:
        effort = text(field(output, "effort"))
        if effort:
            call.attributes[names.GEN_AI_REQUEST_REASONING_LEVEL] = effort
    # The deprecated place of the format is still read by the server.
    format = field(output, "format") or body.get("output_format")
    if format is not None and field(format, "type") == "json_schema":
        call.attributes[names.GEN_AI_OUTPUT_TYPE] = OutputType.JSON


def _read_no_inference(call: Call, body: Mapping[str, Any]) -> None:
    call.runs_model = False
    read_parameters(call, body, {})


# answers


def _read_identity(call: Call, message: Mapping[str, Any]) -> None:
    call.response_id = text(message.get("id")) or call.response_id
    call.response_model = text(message.get("model")) or call.response_model
    request_id = text(message.get("_request_id"))  # where the client puts what the header says
    if request_id:
        call.attributes[names.OTEL_LLM_REQUEST_ID] = request_id


class _Usage:
    """The counts of a ``usage`` object, and of those that follow it in a stream: what a later one leaves out stays."""

    uncached: int | None = None
    written: int | None = None
    read: int | None = None

    def add(self, call: Call, usage: object, *, final: bool = True) -> None:
        """Read the next object into the call; before the *final* one the output is only a placeholder."""
        own = fields(usage)
        for name, key in (
            ("uncached", "input_tokens"),
            ("written", "cache_creation_input_tokens"),
            ("read", "cache_read_input_tokens"),
        ):
            tokens = count(own.get(key))
            if tokens is not None:
                setattr(self, name, tokens)
        if self.uncached is not None:
            call.input_tokens = total(self.uncached, self.written, self.read)
        call.cache_write_tokens, call.cache_read_tokens = self.written, self.read
        tier = text(own.get("service_tier"))
        if tier:
            call.attributes[names.ANTHROPIC_RESPONSE_SERVICE_TIER] = tier
        if final:
            call.output_tokens = count(own.get("output_tokens"))
            details = own.get("output_tokens_details")
            if details is not None:
                call.reasoning_tokens = count(field(details, "thinking_tokens"))


def _read_stop(call: Call, reason: object) -> None:
    word = text(reason)
    call.finish_reasons = (FINISH_REASONS.get(word, word) if word else FinishReason.ERROR,)


def _read_message(call: Call, answer: object) -> None:
    own = fields(answer)
    if own.get("type") == "error":
        _read_failure(call, own)
        return
    _read_identity(call, own)
    usage = own.get("usage")
    if usage is not None:
        _Usage().add(call, usage)
    _read_stop(call, own.get("stop_reason"))


def _read_failure(call: Call, event: Mapping[str, Any]) -> None:
    read_error(call, event.get("error"), "type")


def _read_message_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Read the first event, which has the message and what it cost to read, and the last ones, which have the rest."""
    used = _Usage()
    if chunks:
        call.finish_reasons = (FinishReason.ERROR,)
    for chunk in chunks:
        own = fields(chunk)
        kind = own.get("type")
        if kind == "message_start":
            message = fields(own.get("message"))
            _read_identity(call, message)
            used.add(call, message.get("usage"), final=False)
        elif kind == "message_delta":
            used.add(call, own.get("usage"))
            _read_stop(call, field(own.get("delta"), "stop_reason"))
        elif kind == "error":
            _read_failure(call, own)


def _message_text(chunk: object) -> bool:
    return field(field(chunk, "delta"), "type") in _TEXT_DELTAS


def _read_completion(call: Call, answer: object) -> None:
    own = fields(answer)
    _read_identity(call, own)
    _read_stop(call, own.get("stop_reason"))


def _read_completion_chunks(call: Call, chunks: Sequence[object]) -> None:
    for chunk in chunks:
        own = fields(chunk)
        if own.get("type") == "error":
            _read_failure(call, own)
        elif own.get("type") != "ping":
            _read_completion(call, own)


def _completion_text(chunk: object) -> bool:
    return bool(field(chunk, "completion"))


def _read_id(call: Call, answer: object) -> None:
    _read_identity(call, fields(answer))


def _is_last(event: object) -> bool:
    return bool(field(event, "type") == "message_stop")


MESSAGES = Format(
    Operation.CHAT,
    _read_messages_request,
    _read_message,
    _read_message_chunks,
    _message_text,
    content.read_messages_request,
    content.read_message,
    content.read_message_chunks,
    is_last=_is_last,
)
COMPLETE = Format(
    Operation.TEXT_COMPLETION,
    reader_of(_COMPLETE),
    _read_completion,
    _read_completion_chunks,
    _completion_text,
    content.read_complete_request,
    content.read_completion,
    content.read_completion_chunks,
)
COUNT_TOKENS = Format(Operation.COUNT_TOKENS, _read_no_inference, _read_id)

FORMATS: dict[str, Format] = {
    "/v1/messages": MESSAGES,
    "/v1/messages?beta=true": MESSAGES,
    "/v1/complete": COMPLETE,
    "/v1/messages/count_tokens": COUNT_TOKENS,
    "/v1/messages/count_tokens?beta=true": COUNT_TOKENS,
}
"""The formats by the path that the client posts to."""
ENDPOINTS: dict[str, Format] = {
    "POST /messages": MESSAGES,
    "POST /complete": COMPLETE,
    "POST /messages/count_tokens": COUNT_TOKENS,
    "POST /agents": AGENT_MADE,
}
"""The formats of the known endpoints by method and template; any other is recorded by its path, batches too: what they
ask for is not done yet."""
