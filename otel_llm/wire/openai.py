"""The OpenAI formats of most calls: chat completions, completions, responses and embeddings.

The others are in `otel_llm.wire.openai_endpoints`.

Source: the wire formats as openai-python 1.26 to 3.52 declares them; attribute mapping of the GenAI semantic
conventions, "Inference", "Embeddings" and "OpenAI".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire import openai_content as content
from otel_llm.wire.failure import read_error
from otel_llm.wire.fields import LARGEST, clean, count, field, fields, integer, items, strings, text
from otel_llm.wire.format import Format
from otel_llm.wire.images import has_image
from otel_llm.wire.modalities import INPUT, OUTPUT, read_modalities
from otel_llm.wire.parameters import SAMPLING, Parameters, read_choice_count, read_parameters, reader_of
from otel_llm.wire.times import read_timings
from otel_llm_semconv import attributes as names
from otel_llm_semconv.providers import OLLAMA_FINGERPRINT, OPENAI_FLAVOURED, Provider
from otel_llm_semconv.values import FinishReason, OpenAIApiType, Operation, OutputType

_CHAT: Parameters = {
    **SAMPLING,
    "max_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "max_completion_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "reasoning_effort": (names.GEN_AI_REQUEST_REASONING_LEVEL, text),
}

_RESPONSES: Parameters = {
    **SAMPLING,
    "max_output_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "previous_response_id": (names.GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID, text),
}

_EMBEDDINGS: Parameters = {
    "dimensions": (names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT, integer),
    "encoding_format": (names.GEN_AI_REQUEST_ENCODING_FORMATS, strings),
}

_OUTPUT_TYPES = {
    "text": OutputType.TEXT,
    "json_object": OutputType.JSON,
    "json_schema": OutputType.JSON,
}

INCOMPLETE = {
    "max_output_tokens": FinishReason.LENGTH,
    "max_completion_tokens": FinishReason.LENGTH,
    "max_prompt_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}

_UNFINISHED = frozenset({"failed", "cancelled", "expired"})
TERMINAL_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_TEXT_EVENTS = frozenset({"response.output_text.delta", "response.refusal.delta"})


# requests


def read_output_type(call: Call, format: object) -> None:
    """Read the type of a ``response_format``."""
    output = _OUTPUT_TYPES.get(text(field(format, "type")) or "")
    if output:
        call.attributes[names.GEN_AI_OUTPUT_TYPE] = output


def read_tier(call: Call, asked: object) -> None:
    """Read the ``service_tier`` that is asked for, unless that is left to the server."""
    tier = text(asked)
    if tier and tier != "auto":
        call.attributes[names.OPENAI_REQUEST_SERVICE_TIER] = tier


def _read_chat_request(call: Call, body: Mapping[str, Any]) -> None:
    read_parameters(call, body, _CHAT)
    if "max_completion_tokens" in body:
        # It replaced max_tokens, whichever comes first in the body.
        limit = integer(body["max_completion_tokens"])
        if limit is not None:
            call.attributes[names.GEN_AI_REQUEST_MAX_TOKENS] = limit
    if "n" in body:
        read_choice_count(call, body["n"])
    if "response_format" in body:
        read_output_type(call, body["response_format"])
    if has_image(body.get("messages")):
        call.image = True
    if call.provider in OPENAI_FLAVOURED:
        call.attributes[names.OPENAI_API_TYPE] = OpenAIApiType.CHAT_COMPLETIONS
        if "service_tier" in body:
            read_tier(call, body["service_tier"])


def _read_completion_request(call: Call, body: Mapping[str, Any]) -> None:
    read_parameters(call, body, _CHAT)
    if "n" in body:
        read_choice_count(call, body["n"])


def _read_responses_request(call: Call, body: Mapping[str, Any]) -> None:
    read_parameters(call, body, _RESPONSES)
    if "reasoning" in body:
        effort = text(field(body["reasoning"], "effort"))
        if effort:
            call.attributes[names.GEN_AI_REQUEST_REASONING_LEVEL] = effort
    if "text" in body:
        read_output_type(call, field(body["text"], "format"))
    _read_conversation(call, body.get("conversation"))
    if has_image(body.get("input")):
        call.image = True
    if call.provider in OPENAI_FLAVOURED:
        call.attributes[names.OPENAI_API_TYPE] = OpenAIApiType.RESPONSES
        if "service_tier" in body:
            read_tier(call, body["service_tier"])


def _read_conversation(call: Call, conversation: object) -> None:
    if conversation is None:
        return
    identifier = text(conversation) or text(field(conversation, "id"))
    if identifier:
        call.attributes[names.GEN_AI_CONVERSATION_ID] = identifier


# answers


# These run for every answer, so they ask for types themselves where the helpers would do it in calls.


def read_identity(call: Call, answer: Mapping[str, Any]) -> None:
    """Read what every answer and every chunk repeats; later values win, missing ones change nothing."""
    value = answer.get("id")
    if type(value) is str and value:
        call.response_id = value if value.isascii() else clean(value)
    value = answer.get("_request_id")  # where the client puts what the header says
    if type(value) is str:
        call.attributes[names.OTEL_LLM_REQUEST_ID] = value
    value = answer.get("model")
    if type(value) is str and value:
        call.response_model = value if value.isascii() else clean(value)
    value = answer.get("service_tier")
    if type(value) is str and value.isascii() and value and call.provider in OPENAI_FLAVOURED:
        call.attributes[names.OPENAI_RESPONSE_SERVICE_TIER] = value
    value = answer.get("system_fingerprint")
    if type(value) is str and value.isascii() and value and call.provider in OPENAI_FLAVOURED:
        if value == OLLAMA_FINGERPRINT:
            _is_ollama(call)
        else:
            call.attributes[names.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = value


def _is_ollama(call: Call) -> None:
    """Correct what the server's address did not tell."""
    attributes = call.attributes
    for name in (names.OPENAI_API_TYPE, names.OPENAI_REQUEST_SERVICE_TIER, names.OPENAI_RESPONSE_SERVICE_TIER):
        attributes.pop(name, None)
    call.provider = attributes[names.GEN_AI_PROVIDER_NAME] = Provider.OLLAMA


def read_usage(call: Call, usage: object) -> None:
    """Read a ``usage`` object of either spelling (``prompt_tokens``, ``input_tokens``); what is absent stays absent."""
    own = fields(usage)
    chat = "prompt_tokens" in own
    tokens = own.get("prompt_tokens" if chat else "input_tokens")
    if type(tokens) is not int or not 0 <= tokens <= LARGEST:
        tokens = count(tokens)
    if tokens is not None:
        call.input_tokens = tokens
    tokens = own.get("completion_tokens" if chat or "completion_tokens" in own else "output_tokens")
    if type(tokens) is not int or not 0 <= tokens <= LARGEST:
        tokens = count(tokens)
    if tokens is not None:
        call.output_tokens = tokens
    details = own.get("prompt_tokens_details" if chat else "input_tokens_details")
    if details is not None:
        details = fields(details)
        tokens = details.get("cached_tokens")
        if type(tokens) is int and 0 <= tokens <= LARGEST:
            call.cache_read_tokens = tokens
        tokens = details.get("cache_write_tokens")
        if type(tokens) is int and 0 <= tokens <= LARGEST:
            call.cache_write_tokens = tokens
        if details.get("audio_tokens") or details.get("image_tokens") or details.get("text_tokens"):
            read_modalities(call, details, INPUT)
    details = own.get("completion_tokens_details" if chat else "output_tokens_details")
    if details is not None:
        details = fields(details)
        tokens = details.get("reasoning_tokens")
        if type(tokens) is int and 0 <= tokens <= LARGEST:
            call.reasoning_tokens = tokens
        if details.get("audio_tokens") or details.get("image_tokens") or details.get("text_tokens"):
            read_modalities(call, details, OUTPUT)


def _read_choices_answer(call: Call, answer: object) -> None:
    own = fields(answer)
    read_identity(call, own)
    usage = own.get("usage")
    if usage is not None:
        read_usage(call, usage)
    timings = own.get("timings")  # of llama.cpp
    if timings is not None:
        read_timings(call, timings)
    reasons: list[str] = []
    for choice in items(own.get("choices")):
        reason = fields(choice).get("finish_reason")
        reasons.append(text(reason) or FinishReason.ERROR)
    call.finish_reasons = tuple(reasons)


def _read_choices_chunks(call: Call, chunks: Sequence[object]) -> None:
    reasons: dict[int, str] = {}
    for chunk in chunks:
        own = fields(chunk)
        read_identity(call, own)
        choices = items(own.get("choices"))
        usage = own.get("usage")
        # Ollama puts zeros into every chunk but the last; they are no count of anything.
        if usage is not None and not (choices and field(usage, "total_tokens") == 0):
            read_usage(call, usage)
        timings = own.get("timings")
        if timings is not None:
            read_timings(call, timings)
        for choice in choices:
            made = fields(choice)
            index = integer(made.get("index")) or 0
            reason = text(made.get("finish_reason"))
            if reason:
                reasons[index] = reason
            else:
                reasons.setdefault(index, FinishReason.ERROR)
    call.finish_reasons = tuple([reasons[index] for index in sorted(reasons)])


def read_responses_answer(call: Call, answer: object) -> None:
    """Read a response, with the failure that it may tell."""
    own = fields(answer)
    read_identity(call, own)
    usage = own.get("usage")
    if usage is not None:
        read_usage(call, usage)
    _read_conversation(call, own.get("conversation"))
    read_finish(call, own)
    if own.get("status") == "failed":
        read_error(call, own.get("error"), "code")


def read_finish(call: Call, answer: Mapping[str, Any]) -> None:
    """Read the finish reason of a response or a run from its status; none while it is not finished."""
    status = text(answer.get("status"))
    if status == "completed":
        call.finish_reasons = (FinishReason.STOP,)
    elif status == "incomplete":
        reason = text(field(answer.get("incomplete_details"), "reason"))
        call.finish_reasons = (INCOMPLETE.get(reason or "", reason or FinishReason.ERROR),)
    elif status in _UNFINISHED:
        call.finish_reasons = (FinishReason.ERROR,)


def _read_responses_chunks(call: Call, chunks: Sequence[object]) -> None:
    for chunk in chunks:
        kind = text(field(chunk, "type"))
        response = field(chunk, "response")
        if response is not None:
            if kind in TERMINAL_EVENTS:
                read_responses_answer(call, response)
            else:
                read_identity(call, fields(response))
        elif kind == "error":
            read_error(call, chunk, "code")
    if chunks and not call.finish_reasons:
        call.finish_reasons = (FinishReason.ERROR,)


def _read_embeddings_answer(call: Call, answer: object) -> None:
    call.response_model = text(field(answer, "model")) or call.response_model
    usage = field(answer, "usage")
    call.input_tokens = count(field(usage, "prompt_tokens"))


# first text


def _chat_text(chunk: object) -> bool:
    choices = items(field(chunk, "choices"))
    return bool(choices) and bool(field(field(choices[0], "delta"), "content"))


def _completion_text(chunk: object) -> bool:
    choices = items(field(chunk, "choices"))
    return bool(choices) and bool(field(choices[0], "text"))


def _responses_text(chunk: object) -> bool:
    return text(field(chunk, "type")) in _TEXT_EVENTS


def _is_terminal(event: object) -> bool:
    return field(event, "type") in TERMINAL_EVENTS


CHAT = Format(
    Operation.CHAT,
    _read_chat_request,
    _read_choices_answer,
    _read_choices_chunks,
    _chat_text,
    content.read_chat_request,
    content.read_chat_answer,
    content.read_chat_chunks,
)
COMPLETIONS = Format(
    Operation.TEXT_COMPLETION,
    _read_completion_request,
    _read_choices_answer,
    _read_choices_chunks,
    _completion_text,
    content.read_completion_request,
    content.read_completion_answer,
    content.read_completion_chunks,
)
RESPONSES = Format(
    Operation.CHAT,
    _read_responses_request,
    read_responses_answer,
    _read_responses_chunks,
    _responses_text,
    content.read_responses_request,
    content.read_responses_answer,
    content.read_responses_chunks,
    is_last=_is_terminal,
)
EMBEDDINGS = Format(Operation.EMBEDDINGS, reader_of(_EMBEDDINGS), _read_embeddings_answer)

FORMATS: dict[str, Format] = {
    "/chat/completions": CHAT,
    "/completions": COMPLETIONS,
    "/responses": RESPONSES,
    "/embeddings": EMBEDDINGS,
}
"""The formats by the path that the client posts to, without host, prefix or query."""
