"""The Gemini formats, of the Gemini API and of Vertex AI: generateContent, embedContent and countTokens.

Source: Gemini API reference, "Generating content" (GenerateContentResponse, UsageMetadata), "Embeddings" and "Counting
tokens"; Vertex AI, "GenerateContentResponse".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire import gemini_content as content
from otel_llm.wire.fields import count, field, fields, integer, items, number, strings, text
from otel_llm.wire.format import Format
from otel_llm.wire.openai import Parameters, no_text, read_nothing
from otel_llm_semconv import attributes as names
from otel_llm_semconv.errors import ErrorType
from otel_llm_semconv.values import FinishReason, Operation, OutputType

_CONFIG: Parameters = {
    "temperature": (names.GEN_AI_REQUEST_TEMPERATURE, number),
    "topP": (names.GEN_AI_REQUEST_TOP_P, number),
    "topK": (names.GEN_AI_REQUEST_TOP_K, integer),
    "maxOutputTokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "stopSequences": (names.GEN_AI_REQUEST_STOP_SEQUENCES, strings),
    "seed": (names.GEN_AI_REQUEST_SEED, integer),
    "presencePenalty": (names.GEN_AI_REQUEST_PRESENCE_PENALTY, number),
    "frequencyPenalty": (names.GEN_AI_REQUEST_FREQUENCY_PENALTY, number),
}
_OUTPUT_TYPES = {
    "application/json": OutputType.JSON,
    "text/x.enum": OutputType.TEXT,
    "text/plain": OutputType.TEXT,
}
_OUTPUT_MODALITIES = {"IMAGE": OutputType.IMAGE, "AUDIO": OutputType.SPEECH}
_FINISH_REASONS = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "SAFETY": FinishReason.CONTENT_FILTER,
    "RECITATION": FinishReason.CONTENT_FILTER,
    "BLOCKLIST": FinishReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "SPII": FinishReason.CONTENT_FILTER,
    "MODEL_ARMOR": FinishReason.CONTENT_FILTER,
    "IMAGE_SAFETY": FinishReason.CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": FinishReason.CONTENT_FILTER,
    "IMAGE_RECITATION": FinishReason.CONTENT_FILTER,
    "MALFORMED_FUNCTION_CALL": FinishReason.ERROR,
    "UNEXPECTED_TOOL_CALL": FinishReason.ERROR,
    "FINISH_REASON_UNSPECIFIED": FinishReason.ERROR,
}
"""Reasons by Gemini's; others are kept in small letters."""
_INPUT_MODALITIES = {
    "TEXT": names.GEN_AI_USAGE_TEXT_INPUT_TOKENS,
    "IMAGE": names.GEN_AI_USAGE_IMAGE_INPUT_TOKENS,
    "AUDIO": names.GEN_AI_USAGE_AUDIO_INPUT_TOKENS,
}
_TOLD_MODALITIES = {
    "TEXT": names.GEN_AI_USAGE_TEXT_OUTPUT_TOKENS,
    "IMAGE": names.GEN_AI_USAGE_IMAGE_OUTPUT_TOKENS,
    "AUDIO": names.GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS,
}
_CACHED_MODALITIES = {
    "TEXT": names.GEN_AI_USAGE_TEXT_CACHE_READ_INPUT_TOKENS,
    "IMAGE": names.GEN_AI_USAGE_IMAGE_CACHE_READ_INPUT_TOKENS,
    "AUDIO": names.GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS,
}


# requests


def _read_model(call: Call, body: Mapping[str, Any]) -> None:
    model = text(body.get("model"))
    call.request_model = model.removeprefix("models/") if model else None
    if body.get("stream") is True:
        call.streaming = True
        call.attributes[names.GEN_AI_REQUEST_STREAM] = True


def _read_generate_request(call: Call, body: Mapping[str, Any]) -> None:
    _read_model(call, body)
    attributes = call.attributes
    config = content.either(body, "generationConfig")
    for key, (name, convert) in _CONFIG.items():
        value = convert(content.either(config, key))
        if value is not None:
            attributes[name] = value
    choices = integer(content.either(config, "candidateCount"))
    if choices is not None and choices != 1:
        call.choice_count = choices
        attributes[names.GEN_AI_REQUEST_CHOICE_COUNT] = choices
    output = _OUTPUT_TYPES.get(text(content.either(config, "responseMimeType")) or "")
    for modality in strings(content.either(config, "responseModalities")) or []:
        output = output or _OUTPUT_MODALITIES.get(modality.upper())
    if output:
        attributes[names.GEN_AI_OUTPUT_TYPE] = output
    level = text(content.either(content.either(config, "thinkingConfig"), "thinkingLevel"))
    if level:
        attributes[names.GEN_AI_REQUEST_REASONING_LEVEL] = level


def _read_embed_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read one text or a batch of them, each a request of its own."""
    _read_model(call, body)
    asked = (body, *items(body.get("requests"))[:1])
    if call.request_model is None:
        _read_model(call, fields(asked[-1]))
    dimensions = integer(content.either(asked[-1], "outputDimensionality"))
    if dimensions is not None:
        call.attributes[names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT] = dimensions


def _read_count_request(call: Call, body: Mapping[str, Any]) -> None:
    call.runs_model = False
    _read_model(call, body)


# answers


def _read_modalities(call: Call, details: object, known: Mapping[str, str]) -> None:
    for detail in items(details):
        name = known.get(text(field(detail, "modality")) or "")
        tokens = count(field(detail, "tokenCount"))
        if name is not None and tokens:
            call.modality_tokens = {**(call.modality_tokens or {}), name: tokens}


def _read_usage(call: Call, usage: object) -> None:
    """Read ``usageMetadata``: what tools brought in and what was thought stand beside the other tokens, not in them."""
    own = fields(usage)
    prompt = count(own.get("promptTokenCount"))
    if prompt is not None:
        call.input_tokens = prompt + (count(own.get("toolUsePromptTokenCount")) or 0)
    thoughts = count(own.get("thoughtsTokenCount"))
    told = count(own.get("candidatesTokenCount"))
    if told is not None or thoughts is not None:
        call.output_tokens = (told or 0) + (thoughts or 0)
    if thoughts is not None:
        call.reasoning_tokens = thoughts
    cached = count(own.get("cachedContentTokenCount"))
    if cached is not None:
        call.cache_read_tokens = cached
    _read_modalities(call, own.get("promptTokensDetails"), _INPUT_MODALITIES)
    _read_modalities(call, own.get("candidatesTokensDetails"), _TOLD_MODALITIES)
    _read_modalities(call, own.get("cacheTokensDetails"), _CACHED_MODALITIES)


def _read_common(call: Call, answer: Mapping[str, Any]) -> None:
    """Read what an answer and every chunk tells."""
    call.response_id = text(answer.get("responseId")) or call.response_id
    call.response_model = text(answer.get("modelVersion")) or call.response_model
    usage = answer.get("usageMetadata")
    if usage is not None:
        _read_usage(call, usage)
    error = answer.get("error")
    if error is not None:
        call.error_type = text(field(error, "status")) or ErrorType.OTHER
        call.error_message = text(field(error, "message"))


def _finish_reason(reason: object) -> str | None:
    word = text(reason)
    return _FINISH_REASONS.get(word, word.lower()) if word else None


def _blocks(answer: Mapping[str, Any]) -> bool:
    """Whether the prompt was refused, so that there are no candidates."""
    return text(field(answer.get("promptFeedback"), "blockReason")) is not None


def _read_generated(call: Call, answer: object) -> None:
    _read_generated_chunks(call, [answer])


def _read_generated_chunks(call: Call, chunks: Sequence[object]) -> None:
    reasons: dict[int, str | None] = {}
    for chunk in chunks:
        own = fields(chunk)
        _read_common(call, own)
        for position, candidate in enumerate(items(own.get("candidates"))):
            made = fields(candidate)
            index = integer(made.get("index"))
            index = position if index is None else index
            reasons[index] = _finish_reason(made.get("finishReason")) or reasons.get(index)
        if not reasons and _blocks(own):
            reasons[0] = FinishReason.CONTENT_FILTER
    call.finish_reasons = tuple([reasons[index] or FinishReason.ERROR for index in sorted(reasons)])


def _has_text(chunk: object) -> bool:
    for candidate in items(field(chunk, "candidates")):
        for part in items(field(field(candidate, "content"), "parts")):
            if field(part, "text") and not field(part, "thought"):
                return True
    return False


def _is_last(chunk: object) -> bool:
    candidates = items(field(chunk, "candidates"))
    return bool(candidates) and all(field(candidate, "finishReason") for candidate in candidates)


def _read_counted(call: Call, answer: object) -> None:
    """Read nothing: the tokens that were counted are not tokens that were used."""


def _read_embedded(call: Call, answer: object) -> None:
    _read_common(call, fields(answer))


GENERATE_CONTENT = Format(
    Operation.GENERATE_CONTENT,
    _read_generate_request,
    _read_generated,
    _read_generated_chunks,
    _has_text,
    content.read_request,
    content.read_answer,
    content.read_chunks,
    _is_last,
)
EMBED_CONTENT = Format(Operation.EMBEDDINGS, _read_embed_request, _read_embedded, read_nothing, no_text)
COUNT_TOKENS = Format(Operation.COUNT_TOKENS, _read_count_request, _read_counted, read_nothing, no_text)

FORMATS: dict[str, Format] = {
    "generateContent": GENERATE_CONTENT,
    "streamGenerateContent": GENERATE_CONTENT,
    "embedContent": EMBED_CONTENT,
    "batchEmbedContents": EMBED_CONTENT,
    "countTokens": COUNT_TOKENS,
}
"""The formats by the method behind the colon of the path; that of a stream sets ``stream`` in the body."""
