"""The Gemini formats, of the Gemini API and of Vertex AI: generateContent, embeddings and countTokens.

Source: Gemini API reference, "Generating content" (GenerateContentResponse, UsageMetadata), "Embeddings" and "Counting
tokens"; Vertex AI, "GenerateContentResponse" and "Text embeddings API".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire import gemini_content as content
from otel_llm.wire.failure import read_error
from otel_llm.wire.fields import count, field, fields, integer, items, number, strings, text, total
from otel_llm.wire.format import Format
from otel_llm.wire.images import has_image
from otel_llm.wire.modalities import CACHED, INPUT, OUTPUT, read_modalities
from otel_llm.wire.parameters import Parameters, read_choice_count, read_parameters
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import FinishReason, Operation, OutputType


def _by_either(table: Parameters) -> Parameters:
    """Return the table with both names of each parameter: the server takes both."""
    return {**table, **{content.with_underscores(name): known for name, known in table.items()}}


_CONFIG = _by_either(
    {
        "temperature": (names.GEN_AI_REQUEST_TEMPERATURE, number),
        "topP": (names.GEN_AI_REQUEST_TOP_P, number),
        "topK": (names.GEN_AI_REQUEST_TOP_K, integer),
        "maxOutputTokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
        "stopSequences": (names.GEN_AI_REQUEST_STOP_SEQUENCES, strings),
        "seed": (names.GEN_AI_REQUEST_SEED, integer),
        "presencePenalty": (names.GEN_AI_REQUEST_PRESENCE_PENALTY, number),
        "frequencyPenalty": (names.GEN_AI_REQUEST_FREQUENCY_PENALTY, number),
    }
)
_EMBED = _by_either({"outputDimensionality": (names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT, integer)})
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


# requests


def _read_request(call: Call, body: Mapping[str, Any], table: Parameters, options: object) -> None:
    read_parameters(call, body, table, fields(options))
    if call.request_model:
        call.request_model = call.request_model.removeprefix("models/")


def _read_generate_request(call: Call, body: Mapping[str, Any]) -> None:
    config = content.either(body, "generationConfig")
    _read_request(call, body, _CONFIG, config)
    read_choice_count(call, content.either(config, "candidateCount"))
    contents: Any = body.get("contents")
    if has_image(contents if type(contents) is list else [contents]):
        call.image = True
    output = _OUTPUT_TYPES.get(text(content.either(config, "responseMimeType")) or "")
    for modality in strings(content.either(config, "responseModalities")) or []:
        output = output or _OUTPUT_MODALITIES.get(modality.upper())
    if output:
        call.attributes[names.GEN_AI_OUTPUT_TYPE] = output
    level = text(content.either(content.either(config, "thinkingConfig"), "thinkingLevel"))
    if level:
        call.attributes[names.GEN_AI_REQUEST_REASONING_LEVEL] = level


def _read_embed_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read one text or a batch of them, each a request of its own."""
    asked = fields(next(iter(items(body.get("requests"))), body))
    _read_request(call, body if body.get("model") else asked, _EMBED, asked)


def _read_predict_request(call: Call, body: Mapping[str, Any]) -> None:
    _read_request(call, body, _EMBED, body.get("parameters"))


# answers


def _read_usage(call: Call, usage: object) -> None:
    """Read ``usageMetadata``: what tools brought in and what was thought stand beside the other tokens, not in them."""
    own = fields(usage)
    prompt = count(own.get("promptTokenCount"))
    if prompt is not None:
        call.input_tokens = total(prompt, count(own.get("toolUsePromptTokenCount")))
    thoughts = count(own.get("thoughtsTokenCount"))
    told = count(own.get("candidatesTokenCount"))
    if told is not None or thoughts is not None:
        call.output_tokens = total(told, thoughts)
    if thoughts is not None:
        call.reasoning_tokens = thoughts
    cached = count(own.get("cachedContentTokenCount"))
    if cached is not None:
        call.cache_read_tokens = cached
    read_modalities(call, _by_modality(own.get("promptTokensDetails")), INPUT)
    read_modalities(call, _by_modality(own.get("candidatesTokensDetails")), OUTPUT)
    read_modalities(call, _by_modality(own.get("cacheTokensDetails")), CACHED)


def _by_modality(details: object) -> dict[str, Any]:
    return {
        f"{(text(field(detail, 'modality')) or '').lower()}_tokens": field(detail, "tokenCount")
        for detail in items(details)
    }


def _read_common(call: Call, answer: Mapping[str, Any]) -> None:
    """Read what an answer and every chunk tells."""
    call.response_id = text(answer.get("responseId")) or call.response_id
    call.response_model = text(answer.get("modelVersion")) or call.response_model
    usage = answer.get("usageMetadata")
    if usage is not None:
        _read_usage(call, usage)
    error = answer.get("error")
    if error is not None:
        read_error(call, error, "status")


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


def _read_embedded(call: Call, answer: object) -> None:
    _read_common(call, fields(answer))


def _read_predicted(call: Call, answer: object) -> None:
    """Read how many tokens each text had."""
    embeddings = [field(each, "embeddings") for each in items(field(answer, "predictions"))]
    tokens = [count(field(field(each, "statistics"), "token_count")) for each in embeddings]
    if any(each is not None for each in tokens):
        call.input_tokens = total(*tokens)


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
PREDICT = Format(Operation.EMBEDDINGS, _read_predict_request, _read_predicted)
"""Of Vertex AI, which embeds texts by what it has for models of any kind."""
EMBED_CONTENT = Format(Operation.EMBEDDINGS, _read_embed_request, _read_embedded)
