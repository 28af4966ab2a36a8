"""The Ollama formats: chat, generate, embeddings and decisions; every other endpoint is known by method and path.

Source: Ollama's API documentation, "Generate a chat completion", "Generate a completion", "Generate embeddings"; the
client's ``systemone``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from otel_llm.call import Call
from otel_llm.wire import ollama_content as content
from otel_llm.wire.fields import count, field, fields, integer, text
from otel_llm.wire.format import Format
from otel_llm.wire.images import any_of, has_images
from otel_llm.wire.openai_endpoints import endpoint as any_endpoint
from otel_llm.wire.openai_endpoints import read_answer
from otel_llm.wire.openai_paths import ID
from otel_llm.wire.parameters import SAMPLING, Parameters, mark_stream, read_parameters, reader_of
from otel_llm_semconv import attributes as names
from otel_llm_semconv.errors import ErrorType
from otel_llm_semconv.values import FinishReason, Operation, OutputType

_OPTIONS: Parameters = {
    **SAMPLING,
    "num_predict": (names.GEN_AI_REQUEST_MAX_TOKENS, count),  # where it is negative there is no limit
}
_IMAGE_PARAMETERS = ("width", "height", "steps")
"""Parameters of models that generate images."""


# requests


def _read_model(call: Call, body: Mapping[str, Any]) -> None:
    """Read the model and the options that have a name in the conventions."""
    read_parameters(call, body, _OPTIONS, fields(body.get("options")))


def _read_request(call: Call, body: Mapping[str, Any]) -> None:
    _read_model(call, body)
    attributes = call.attributes
    if body.get("stream") is not False:  # a server streams unless it is told not to
        mark_stream(call)
    if body.get("format"):
        attributes[names.GEN_AI_OUTPUT_TYPE] = OutputType.JSON
    level = text(body.get("think"))
    if level:
        attributes[names.GEN_AI_REQUEST_REASONING_LEVEL] = level


def _read_chat_request(call: Call, body: Mapping[str, Any]) -> None:
    _read_request(call, body)
    if has_images(body.get("messages")):
        call.image = True


def _read_generate_request(call: Call, body: Mapping[str, Any]) -> None:
    _read_request(call, body)
    if any_of(body.get("images")):
        call.image = True
    if any(body.get(name) for name in _IMAGE_PARAMETERS):
        call.attributes[names.GEN_AI_OUTPUT_TYPE] = OutputType.IMAGE


def _read_embed_request(call: Call, body: Mapping[str, Any]) -> None:
    _read_model(call, body)
    dimensions = integer(body.get("dimensions"))
    if dimensions is not None:
        call.attributes[names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT] = dimensions


# answers


def _seconds(nanoseconds: object) -> float | None:
    whole = count(nanoseconds)
    return None if whole is None else whole / 1e9


def _read_numbers(call: Call, answer: Mapping[str, Any]) -> None:
    """Read counts and durations; a server that has the prompt in its cache leaves out how long it is."""
    call.response_model = text(answer.get("model")) or call.response_model
    call.input_tokens = count(answer.get("prompt_eval_count"))
    call.output_tokens = count(answer.get("eval_count"))
    call.load_seconds = _seconds(answer.get("load_duration"))
    call.prompt_seconds = _seconds(answer.get("prompt_eval_duration"))
    call.generation_seconds = _seconds(answer.get("eval_duration"))


def _read_answer(call: Call, answer: object) -> None:
    own = fields(answer)
    _read_numbers(call, own)
    reason = text(own.get("done_reason"))
    if reason:
        call.finish_reasons = (reason,)
    elif not own.get("done"):  # old servers tell no reason
        call.finish_reasons = (FinishReason.ERROR,)
    if "error" in own:
        call.error_type = ErrorType.OTHER
        call.error_message = text(own["error"])


def _read_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Read the last object of a stream, which is a whole answer but for the text; or an error."""
    if chunks:
        call.response_model = text(field(chunks[0], "model"))
        _read_answer(call, chunks[-1])


def _read_embed_answer(call: Call, answer: object) -> None:
    _read_numbers(call, fields(answer))


def _has_text(chunk: object) -> bool:
    own = fields(chunk)
    return bool(own.get("response") or field(own.get("message"), "content"))


def _is_last(chunk: object) -> bool:
    return field(chunk, "done") is True


CHAT = Format(
    Operation.CHAT,
    _read_chat_request,
    _read_answer,
    _read_chunks,
    _has_text,
    content.read_chat_request,
    content.read_chat_answer,
    content.read_chat_chunks,
    _is_last,
)
GENERATE = Format(
    Operation.TEXT_COMPLETION,
    _read_generate_request,
    _read_answer,
    _read_chunks,
    _has_text,
    content.read_generate_request,
    content.read_generate_answer,
    content.read_generate_chunks,
    _is_last,
)
EMBED = Format(Operation.EMBEDDINGS, _read_embed_request, _read_embed_answer)
DECISION = Format(Operation.DECISION, reader_of({}), read_answer)

FORMATS: dict[str, Format] = {
    "/api/chat": CHAT,
    "/api/generate": GENERATE,
    "/api/embed": EMBED,
    "/api/embeddings": EMBED,
    "/v1/systemone": DECISION,
}
"""The formats by the path that is posted to."""

_LONGEST_WORD = 32
_MOST_SEGMENTS = 6


def template_of(url: str) -> str:
    """Return the path of a path or of an absolute URL; what names one single thing is taken out."""
    segments = [segment for segment in urlsplit(url).path.split("/") if segment]
    return "/" + "/".join([segment if _is_word(segment) else ID for segment in segments[:_MOST_SEGMENTS]])


def endpoint(method: str, url: str) -> Format:
    """Return the format of any request, a path or an absolute URL."""
    path = template_of(url)
    if method == "POST" and path in FORMATS:
        return FORMATS[path]
    return any_endpoint(method, path, {})[0]


def _is_word(segment: str) -> bool:
    return len(segment) <= _LONGEST_WORD and segment.replace("_", "").isalnum() and segment.islower()
