"""The Cohere formats: chat of both versions, generate, embed and rerank.

Tokens are those that are billed where both are told, as the conventions want it.

Source: Cohere API reference, "Chat API (v2)", "Chat with streaming (v2)", "Chat API (v1)", "Generate (v1)",
"Embed API", "Rerank API"; GenAI semantic conventions, token metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire import cohere_content as content
from otel_llm.wire.fields import count, field, fields, integer, items, number, strings, text
from otel_llm.wire.format import Format
from otel_llm.wire.images import has_image
from otel_llm.wire.openai import read_output_type
from otel_llm.wire.openai_content import read_completion_request
from otel_llm.wire.parameters import SAMPLING, Parameters, read_parameters, reader_of
from otel_llm_semconv import attributes as names
from otel_llm_semconv.errors import ErrorType
from otel_llm_semconv.values import FinishReason, Operation

_CHAT: Parameters = {
    **SAMPLING,
    "p": (names.GEN_AI_REQUEST_TOP_P, number),
    "k": (names.GEN_AI_REQUEST_TOP_K, integer),
    "max_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "stop_sequences": (names.GEN_AI_REQUEST_STOP_SEQUENCES, strings),
    "reasoning_effort": (names.GEN_AI_REQUEST_REASONING_LEVEL, text),
    "conversation_id": (names.GEN_AI_CONVERSATION_ID, text),
}
_EMBED: Parameters = {
    "output_dimension": (names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT, integer),
    "embedding_types": (names.GEN_AI_REQUEST_ENCODING_FORMATS, strings),
}
_RERANK: Parameters = {"top_n": (names.GEN_AI_RETRIEVAL_TOP_K, integer)}
_FINISH_REASONS = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "ERROR_LIMIT": FinishReason.LENGTH,
    "TOOL_CALL": FinishReason.TOOL_CALL,
    "ERROR_TOXIC": FinishReason.CONTENT_FILTER,
    "ERROR": FinishReason.ERROR,
    "TIMEOUT": FinishReason.ERROR,
}
"""Reasons by Cohere's; others are kept in small letters."""


# requests


def _read_chat_request(call: Call, body: Mapping[str, Any]) -> None:
    read_parameters(call, body, _CHAT)
    if "response_format" in body:
        read_output_type(call, body["response_format"])
    if has_image(body.get("messages")):
        call.image = True


# answers


def _read_usage(call: Call, usage: object) -> None:
    """Read ``usage`` or ``meta``: the tokens that are billed, else those that were used."""
    own = fields(usage)
    used, billed = fields(own.get("tokens")), fields(own.get("billed_units"))
    tokens = count(billed.get("input_tokens"))
    tokens = count(used.get("input_tokens")) if tokens is None else tokens
    if tokens is not None:
        call.input_tokens = tokens
    tokens = count(billed.get("output_tokens"))
    tokens = count(used.get("output_tokens")) if tokens is None else tokens
    if tokens is not None:
        call.output_tokens = tokens
    cached = count(own.get("cached_tokens"))
    if cached is not None:
        call.cache_read_tokens = cached


def _finish_reason(reason: object) -> str:
    word = text(reason)
    return _FINISH_REASONS.get(word.upper(), word.lower()) if word else FinishReason.ERROR


def _read_chat(call: Call, answer: object) -> None:
    """Read an answer of either version."""
    own = fields(answer)
    call.response_id = text(own.get("id")) or text(own.get("response_id")) or call.response_id
    usage = own.get("usage") or own.get("meta")
    if usage is not None:
        _read_usage(call, usage)
    call.finish_reasons = (_finish_reason(own.get("finish_reason")),)


def _read_chat_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Read the end of a stream, which of the first version holds a whole answer."""
    if chunks:
        call.finish_reasons = (FinishReason.ERROR,)
    for chunk in chunks:
        own = fields(chunk)
        kind = own.get("type") or own.get("event_type")
        if kind == "message-start":
            call.response_id = text(own.get("id"))
        elif kind == "message-end":
            delta = fields(own.get("delta"))
            _read_usage(call, delta.get("usage"))
            call.finish_reasons = (_finish_reason(delta.get("finish_reason")),)
            error = text(delta.get("error"))
            if error:
                call.error_type, call.error_message = ErrorType.OTHER, error
        elif kind == "stream-end":
            _read_chat(call, {"finish_reason": own.get("finish_reason"), **fields(own.get("response"))})


def _chat_text(chunk: object) -> bool:
    own = fields(chunk)
    if own.get("event_type") == "text-generation":
        return bool(own.get("text"))
    if own.get("type") != "content-delta":
        return False
    return bool(field(field(field(own.get("delta"), "message"), "content"), "text"))


def _is_last(chunk: object) -> bool:
    own = fields(chunk)
    return own.get("type") == "message-end" or own.get("event_type") == "stream-end"


def _read_generated(call: Call, answer: object) -> None:
    own = fields(answer)
    call.response_id = text(own.get("id"))
    _read_usage(call, own.get("meta"))
    made = items(own.get("generations"))
    call.finish_reasons = tuple([_finish_reason(field(each, "finish_reason")) for each in made])


def _read_generated_chunks(call: Call, chunks: Sequence[object]) -> None:
    for chunk in chunks:
        if field(chunk, "is_finished"):
            _read_generated(call, field(chunk, "response"))


def _generated_text(chunk: object) -> bool:
    return bool(field(chunk, "text"))


def _is_finished(chunk: object) -> bool:
    return field(chunk, "is_finished") is True


def _read_embedded(call: Call, answer: object) -> None:
    own = fields(answer)
    call.response_id = text(own.get("id"))
    _read_usage(call, own.get("meta"))


CHAT = Format(
    Operation.CHAT,
    _read_chat_request,
    _read_chat,
    _read_chat_chunks,
    _chat_text,
    content.read_chat_request,
    content.read_chat_answer,
    content.read_chat_chunks,
    _is_last,
)
GENERATE = Format(
    Operation.TEXT_COMPLETION,
    _read_chat_request,
    _read_generated,
    _read_generated_chunks,
    _generated_text,
    read_completion_request,
    content.read_generated,
    content.read_generated_chunks,
    is_last=_is_finished,
)
EMBED = Format(Operation.EMBEDDINGS, reader_of(_EMBED), _read_embedded)
RERANK = Format(Operation.RERANK, reader_of(_RERANK), _read_embedded)
