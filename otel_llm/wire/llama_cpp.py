"""The formats of llama.cpp's server that are its own: completion, infill and embedding.

Source: llama.cpp, tools/server/README.md, "POST /completion", "POST /infill", "POST /embedding".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.failure import read_error
from otel_llm.wire.fields import count, field, fields, integer, items, text, total
from otel_llm.wire.format import Format
from otel_llm.wire.images import any_of
from otel_llm.wire.messages import text_message
from otel_llm.wire.openai_content import read_completion_request
from otel_llm.wire.parameters import SAMPLING, Parameters, read_parameters, reader_of
from otel_llm.wire.times import read_timings
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import FinishReason, Operation, OutputType

_COMPLETION: Parameters = {
    **SAMPLING,
    "n_predict": (names.GEN_AI_REQUEST_MAX_TOKENS, count),  # where it is negative there is no limit
}
_STOPS = {"eos": FinishReason.STOP, "word": FinishReason.STOP, "limit": FinishReason.LENGTH}
"""Finish reasons by ``stop_type``, or in older servers by the flag ``stopped_`` and the same word."""


def _read_request(call: Call, body: Mapping[str, Any]) -> None:
    read_parameters(call, body, _COMPLETION)
    if any_of(body.get("image_data")):
        call.image = True
    if body.get("json_schema"):
        call.attributes[names.GEN_AI_OUTPUT_TYPE] = OutputType.JSON


def _finish_reason(own: Mapping[str, Any]) -> str:
    stop = _STOPS.get(text(own.get("stop_type")) or "")
    return stop or next((reason for word, reason in _STOPS.items() if own.get(f"stopped_{word}")), FinishReason.ERROR)


def _read_answer(call: Call, answer: object) -> None:
    """Read an answer; where several prompts were given there is a list of them."""
    _read_all(call, items(answer) or [answer])


def _read_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Read the last chunk of each prompt, which tells the counts."""
    ends = [chunk for chunk in chunks if field(chunk, "stop") or field(chunk, "error")]
    _read_all(call, ends)
    if chunks and not call.finish_reasons:
        call.finish_reasons = (FinishReason.ERROR,)


def _read_all(call: Call, answers: Sequence[object]) -> None:
    evaluated: list[int] = []
    predicted: list[int] = []
    reasons: list[str] = []
    for answer in answers:
        own = fields(answer)
        call.response_model = text(own.get("model")) or call.response_model
        error = own.get("error")
        if error is not None:
            read_error(call, error, "type")
            continue
        reasons.append(_finish_reason(own))
        for counts, key in ((evaluated, "tokens_evaluated"), (predicted, "tokens_predicted")):
            tokens = count(own.get(key))
            if tokens is not None:
                counts.append(tokens)
        read_timings(call, own.get("timings"))
    call.input_tokens = total(*evaluated) if evaluated else None
    call.output_tokens = total(*predicted) if predicted else None
    call.finish_reasons = tuple(reasons)


def _has_text(chunk: object) -> bool:
    return bool(field(chunk, "content"))


def _is_last(chunk: object) -> bool:
    return field(chunk, "stop") is True


def _read_embedding(call: Call, answer: object) -> None:
    call.input_tokens = count(field(answer, "tokens_evaluated"))


# content


def _read_answer_content(call: Call, answer: object) -> None:
    call.output_messages = [
        text_message("assistant", text(field(each, "content")) or "") for each in items(answer) or [answer]
    ]


def _read_chunks_content(call: Call, chunks: Sequence[object]) -> None:
    texts: dict[int, str] = {}
    for chunk in chunks:
        index = integer(field(chunk, "index")) or 0
        texts[index] = texts.get(index, "") + (text(field(chunk, "content")) or "")
    call.output_messages = [text_message("assistant", said) for _, said in sorted(texts.items())]


COMPLETION = Format(
    Operation.TEXT_COMPLETION,
    _read_request,
    _read_answer,
    _read_chunks,
    _has_text,
    read_completion_request,
    _read_answer_content,
    _read_chunks_content,
    _is_last,
)
INFILL = COMPLETION
EMBEDDING = Format(Operation.EMBEDDINGS, reader_of({}), _read_embedding)
