"""The Ollama formats: chat, generate and embed, as whole answers.

Source: Ollama's API documentation, "Generate a chat completion", "Generate a completion", "Generate embeddings".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import count, field, integer, number, strings, text
from otel_llm.wire.format import Format
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import FinishReason, Operation, OutputType

_OPTIONS = {
    "temperature": (names.GEN_AI_REQUEST_TEMPERATURE, number),
    "top_p": (names.GEN_AI_REQUEST_TOP_P, number),
    "top_k": (names.GEN_AI_REQUEST_TOP_K, integer),
    "num_predict": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "frequency_penalty": (names.GEN_AI_REQUEST_FREQUENCY_PENALTY, number),
    "presence_penalty": (names.GEN_AI_REQUEST_PRESENCE_PENALTY, number),
    "seed": (names.GEN_AI_REQUEST_SEED, integer),
    "stop": (names.GEN_AI_REQUEST_STOP_SEQUENCES, strings),
}


def _read_request(call: Call, body: Mapping[str, Any]) -> None:
    call.request_model = text(body.get("model"))
    options = body.get("options")
    for key, (name, convert) in _OPTIONS.items():
        value = convert(field(options, key))
        if value is not None:
            call.attributes[name] = value
    if body.get("format"):
        call.attributes[names.GEN_AI_OUTPUT_TYPE] = OutputType.JSON


def _read_answer(call: Call, answer: object) -> None:
    call.response_model = text(field(answer, "model"))
    call.input_tokens = count(field(answer, "prompt_eval_count"))
    call.output_tokens = count(field(answer, "eval_count"))
    if call.operation != Operation.EMBEDDINGS:
        call.finish_reasons = (text(field(answer, "done_reason")) or FinishReason.ERROR,)


def _read_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Read the last object of a stream, which is a whole answer but for the text."""
    if chunks:
        _read_answer(call, chunks[-1])


def _has_text(chunk: object) -> bool:
    return bool(field(chunk, "response") or field(field(chunk, "message"), "content"))


FORMATS: dict[str, Format] = {
    "/api/chat": Format(Operation.CHAT, _read_request, _read_answer, _read_chunks, _has_text),
    "/api/generate": Format(Operation.TEXT_COMPLETION, _read_request, _read_answer, _read_chunks, _has_text),
    "/api/embed": Format(Operation.EMBEDDINGS, _read_request, _read_answer, _read_chunks, _has_text),
}
"""The formats by path."""
