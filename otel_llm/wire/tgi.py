"""The formats of Text Generation Inference that are its own: generate, plain and streamed.

Source: Text Generation Inference, docs/openapi.json (GenerateRequest, GenerateResponse, StreamResponse), and the
headers of its router.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import count, field, fields, integer, items, strings, text
from otel_llm.wire.format import Format
from otel_llm.wire.headers import told_count
from otel_llm.wire.messages import text_message
from otel_llm.wire.parameters import SAMPLING, Parameters, read_parameters
from otel_llm_semconv import attributes as names
from otel_llm_semconv.errors import ErrorType
from otel_llm_semconv.values import FinishReason, Operation, OutputType

_PARAMETERS: Parameters = {
    **SAMPLING,
    "max_new_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
}
_FINISH_REASONS = {
    "length": FinishReason.LENGTH,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
}


def _read_request(call: Call, body: Mapping[str, Any]) -> None:
    options = fields(body.get("parameters"))
    read_parameters(call, body, _PARAMETERS, options)
    if text(field(options.get("grammar"), "type")) in ("json", "json_object", "json_schema"):
        call.attributes[names.GEN_AI_OUTPUT_TYPE] = OutputType.JSON


def _read_details(call: Call, own: Mapping[str, Any]) -> None:
    details = fields(own.get("details"))
    reason = text(details.get("finish_reason"))
    if reason:
        call.finish_reasons = (_FINISH_REASONS.get(reason, reason),)
    generated = count(details.get("generated_tokens"))
    if generated is not None:
        call.output_tokens = generated
    asked = count(details.get("input_length"))
    if asked is None and details.get("prefill"):
        asked = len(items(details["prefill"]))
    if asked is not None:
        call.input_tokens = asked
    error = text(own.get("error"))
    if error:
        call.error_type = text(own.get("error_type")) or ErrorType.OTHER
        call.error_message = error


def _read_answer(call: Call, answer: object) -> None:
    """Read an answer, or the list of one that the path ``/`` gives; the counts are in the headers too."""
    own = fields(next(iter(items(answer)), answer))
    call.input_tokens = told_count(call, "x-prompt-tokens")
    call.output_tokens = told_count(call, "x-generated-tokens")
    _read_details(call, own)


def _read_chunks(call: Call, chunks: Sequence[object]) -> None:
    if chunks:
        call.finish_reasons = (FinishReason.ERROR,)
    for chunk in chunks:
        _read_details(call, fields(chunk))


def _has_text(chunk: object) -> bool:
    token = field(chunk, "token")
    return bool(field(token, "text")) and not field(token, "special")


def _is_last(chunk: object) -> bool:
    return field(chunk, "generated_text") is not None


# content


def _read_request_content(call: Call, body: Mapping[str, Any]) -> None:
    call.input_messages = [text_message("user", given) for given in strings(body.get("inputs")) or []]


def _read_answer_content(call: Call, answer: object) -> None:
    answer = next(iter(items(answer)), answer)
    call.output_messages = [text_message("assistant", text(field(answer, "generated_text")) or "")]


def _read_chunks_content(call: Call, chunks: Sequence[object]) -> None:
    pieces: list[str] = []
    for chunk in chunks:
        if _is_last(chunk):
            _read_answer_content(call, chunk)
            return
        pieces.append(text(field(field(chunk, "token"), "text")) or "")
    call.output_messages = [text_message("assistant", "".join(pieces))]


GENERATE = Format(
    Operation.TEXT_COMPLETION,
    _read_request,
    _read_answer,
    _read_chunks,
    _has_text,
    _read_request_content,
    _read_answer_content,
    _read_chunks_content,
    _is_last,
)
