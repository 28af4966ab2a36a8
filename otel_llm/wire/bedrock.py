"""The formats of Amazon Bedrock's runtime: converse and invoke, plain and streamed.

What a model is invoked with and what it answers is the model's own; here its shape tells whose it is. Events of a
stream are objects with one member, named after the type of the event, as `otel_llm.bodies.split.Frames` and boto3 give
them.

Source: Amazon Bedrock API reference, "Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream";
Amazon Bedrock user guide, "Inference request parameters and response fields for foundation models".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire import anthropic, openai
from otel_llm.wire import bedrock_content as content
from otel_llm.wire.fields import count, field, fields, integer, items, number, strings, text, total
from otel_llm.wire.format import Format
from otel_llm.wire.headers import told_count
from otel_llm.wire.images import has_image
from otel_llm.wire.parameters import SAMPLING, Parameters, read_parameters
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import FinishReason, Operation

_CONVERSE: Parameters = {
    "temperature": (names.GEN_AI_REQUEST_TEMPERATURE, number),
    "topP": (names.GEN_AI_REQUEST_TOP_P, number),
    "topK": (names.GEN_AI_REQUEST_TOP_K, integer),
    "maxTokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "stopSequences": (names.GEN_AI_REQUEST_STOP_SEQUENCES, strings),
}
_INVOKED: Parameters = {
    **_CONVERSE,
    **SAMPLING,
    "maxTokenCount": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "max_new_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "max_gen_len": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "max_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "max_tokens_to_sample": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "max_completion_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "p": (names.GEN_AI_REQUEST_TOP_P, number),
    "k": (names.GEN_AI_REQUEST_TOP_K, integer),
    "stop_sequences": (names.GEN_AI_REQUEST_STOP_SEQUENCES, strings),
    "dimensions": (names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT, integer),
}
_CONFIGS = ("inferenceConfig", "textGenerationConfig")
_FINISH_REASONS = {
    **anthropic.FINISH_REASONS,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
    "malformed_model_output": FinishReason.ERROR,
    "malformed_tool_use": FinishReason.ERROR,
    # of Titan
    "finish": FinishReason.STOP,
    "finished": FinishReason.STOP,
    "stop_criteria_met": FinishReason.STOP,
    # of Cohere
    "complete": FinishReason.STOP,
}
"""Reasons in small letters; others, such as ``stop`` and ``length``, have no other name."""


def _finish_reason(reason: object) -> str | None:
    word = text(reason)
    return _FINISH_REASONS.get(word.lower(), word.lower()) if word else None


# requests


def _read_common_request(call: Call, body: Mapping[str, Any], known: Parameters) -> None:
    configs = [fields(body.get(name)) for name in _CONFIGS]
    read_parameters(call, body, known, {**body, **configs[0], **configs[1]})
    call.request_model = call.request_model or text(body.get("modelId"))
    if has_image(body.get("messages")):
        call.image = True


def _read_converse_request(call: Call, body: Mapping[str, Any]) -> None:
    _read_common_request(call, body, _CONVERSE)


def _read_invoke_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read what the models' parameters have in common; which operation it is, is the model's too."""
    _read_common_request(call, body, _INVOKED)
    if "embed" in (call.request_model or ""):
        call.operation = Operation.EMBEDDINGS
    elif "prompt" in body or "inputText" in body:
        call.operation = Operation.TEXT_COMPLETION


# answers of converse, and of Nova however it is asked


def _read_usage(call: Call, usage: object) -> None:
    """Read ``usage``; what the cache gave and took stands beside the other input, not in it."""
    own = fields(usage)
    read, written = count(own.get("cacheReadInputTokens")), count(own.get("cacheWriteInputTokens"))
    read = count(own.get("cacheReadInputTokenCount")) if read is None else read
    written = count(own.get("cacheWriteInputTokenCount")) if written is None else written
    tokens = count(own.get("inputTokens"))
    if tokens is not None:
        call.input_tokens = total(tokens, read, written)
    tokens = count(own.get("outputTokens"))
    if tokens is not None:
        call.output_tokens = tokens
    if read is not None:
        call.cache_read_tokens = read
    if written is not None:
        call.cache_write_tokens = written


def _read_converse(call: Call, answer: object) -> None:
    own = fields(answer)
    _read_usage(call, own.get("usage"))
    call.finish_reasons = (_finish_reason(own.get("stopReason")) or FinishReason.ERROR,)


def _read_converse_chunks(call: Call, chunks: Sequence[object]) -> None:
    if chunks:
        call.finish_reasons = (FinishReason.ERROR,)
    for chunk in chunks:
        for kind, event in fields(chunk).items():
            if kind == "messageStop":
                call.finish_reasons = (_finish_reason(field(event, "stopReason")) or FinishReason.ERROR,)
            elif kind == "metadata":
                _read_usage(call, field(event, "usage"))
            else:
                _read_failure(call, kind, event)


def _read_failure(call: Call, kind: str, event: object) -> None:
    """Read an event that says that the stream has failed: an exception by its name, or an error by its code."""
    if kind.endswith("Exception"):
        call.error_type = kind
    elif kind == "error":
        call.error_type = text(field(event, "code")) or kind
    else:
        return
    call.error_message = text(field(event, "message"))


def _converse_text(chunk: object) -> bool:
    return bool(field(field(field(chunk, "contentBlockDelta"), "delta"), "text"))


def _is_metadata(chunk: object) -> bool:
    return field(chunk, "metadata") is not None


CONVERSE = Format(
    Operation.CHAT,
    _read_converse_request,
    _read_converse,
    _read_converse_chunks,
    _converse_text,
    content.read_converse_request,
    content.read_converse_answer,
    content.read_converse_chunks,
    _is_metadata,
)


# answers of the models that are invoked


def _read_plain(call: Call, answer: object) -> None:
    """Read an answer of Titan, Llama, Mistral, Cohere or of a model that embeds."""
    _read_plain_chunks(call, [answer])


def _read_plain_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Read chunks of such models: each has a count of its own, or the count so far."""
    reasons: list[str | None] = []
    for chunk in chunks:
        own = fields(chunk)
        results = items(own.get("results")) or items(own.get("outputs")) or items(own.get("generations"))
        for key in ("inputTextTokenCount", "prompt_token_count"):
            call.input_tokens = _or(count(own.get(key)), call.input_tokens)
        for key in ("totalOutputTextTokenCount", "generation_token_count"):
            call.output_tokens = _or(count(own.get(key)), call.output_tokens)
        told = [tokens for result in results if (tokens := count(field(result, "tokenCount"))) is not None]
        if told:
            call.output_tokens = total(*told)
        made = [_reason_of(result) for result in results or [chunk]]
        reasons = made if any(made) or len(made) > len(reasons) else reasons
    if call.operation != Operation.EMBEDDINGS:
        call.finish_reasons = tuple([reason or FinishReason.ERROR for reason in reasons])


def _or(value: int | None, other: int | None) -> int | None:
    return other if value is None else value


def _reason_of(result: object) -> str | None:
    own = fields(result)
    return _finish_reason(own.get("completionReason") or own.get("stop_reason") or own.get("finish_reason"))


def _plain_text(chunk: object) -> bool:
    own = fields(chunk)
    return bool(own.get("outputText") or own.get("generation") or own.get("text")) or any(
        field(output, "text") for output in items(own.get("outputs"))
    )


_PLAIN = Format(
    Operation.TEXT_COMPLETION,
    _read_invoke_request,
    _read_plain,
    _read_plain_chunks,
    _plain_text,
    content.read_plain_request,
    content.read_plain_answer,
    content.read_plain_chunks,
)
_CONVERSE_EVENTS = frozenset(
    {"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"}
)


def _model_format(said: object) -> Format:
    """Return whose format a request, an answer or a chunk has."""
    own = fields(said)
    if own.get("type") is not None or "anthropic_version" in own:
        return anthropic.MESSAGES
    if "choices" in own:
        return openai.CHAT
    if (
        "stopReason" in own
        or "schemaVersion" in own
        or "inferenceConfig" in own
        or not _CONVERSE_EVENTS.isdisjoint(own)
    ):
        return CONVERSE
    return openai.CHAT if "messages" in own else _PLAIN


def _inner(chunks: Sequence[object]) -> Iterator[object]:
    """Return what the model itself said in each event."""
    for chunk in chunks:
        data = field(field(chunk, "chunk"), "bytes")
        try:
            yield json.loads(base64.b64decode(data) if isinstance(data, str) else data)
        except (ValueError, TypeError, RecursionError):
            continue


def _read_invoked(call: Call, answer: object) -> None:
    """Read the model's own answer, and from the headers what it does not tell."""
    model = _PLAIN if call.operation == Operation.EMBEDDINGS else _model_format(answer)
    model.read_answer(call, answer)
    read = told_count(call, "x-amzn-bedrock-cache-read-input-token-count")
    written = told_count(call, "x-amzn-bedrock-cache-write-input-token-count")
    tokens = told_count(call, "x-amzn-bedrock-input-token-count")
    if call.input_tokens is None and tokens is not None:
        call.input_tokens = total(tokens, read, written)
        call.cache_read_tokens, call.cache_write_tokens = read, written
    if call.output_tokens is None and call.operation != Operation.EMBEDDINGS:
        call.output_tokens = told_count(call, "x-amzn-bedrock-output-token-count")


def _read_invoked_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Read the model's own chunks; Bedrock adds to the last one what it has measured itself."""
    said = list(_inner(chunks))
    if said:
        _model_format(said[0]).read_chunks(call, said)
    for chunk in said:
        measured = field(chunk, "amazon-bedrock-invocationMetrics")
        if measured is not None and call.input_tokens is None:
            _read_usage(call, {**fields(measured), "inputTokens": field(measured, "inputTokenCount")})
        if measured is not None and call.output_tokens is None:
            call.output_tokens = count(field(measured, "outputTokenCount"))
    for chunk in chunks:
        for kind, event in fields(chunk).items():
            _read_failure(call, kind, event)


def _invoked_text(chunk: object) -> bool:
    return any(_model_format(said).has_text(said) for said in _inner([chunk]))


def _is_measured(chunk: object) -> bool:
    return any(field(said, "amazon-bedrock-invocationMetrics") is not None for said in _inner([chunk]))


def _read_invoke_request_content(call: Call, body: Mapping[str, Any]) -> None:
    read = _model_format(body).read_request_content
    if read is not None and call.operation != Operation.EMBEDDINGS:
        read(call, body)


def _read_invoked_content(call: Call, answer: object) -> None:
    read = _model_format(answer).read_answer_content
    if read is not None and call.operation != Operation.EMBEDDINGS:
        read(call, answer)


def _read_invoked_chunks_content(call: Call, chunks: Sequence[object]) -> None:
    said = list(_inner(chunks))
    read = _model_format(said[0]).read_chunks_content if said else None
    if read is not None:
        read(call, said)


INVOKE = Format(
    Operation.CHAT,
    _read_invoke_request,
    _read_invoked,
    _read_invoked_chunks,
    _invoked_text,
    _read_invoke_request_content,
    _read_invoked_content,
    _read_invoked_chunks_content,
    _is_measured,
)
