"""The OpenAI formats of all other endpoints: those that are known, and any that is not.

Here the body of a request is all that it says: its JSON, its query, and the ids in its path, each under the segment
before it with a slash, such as ``/threads``.

Source: the wire formats as openai-python 1.26 to 3.52 declares them; GenAI semantic conventions, "Inference",
"Retrieval", "Fetch response", "Create agent" and "Invoke agent".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire import openai_content as content
from otel_llm.wire.failure import read_error
from otel_llm.wire.fields import field, fields, integer, items, text
from otel_llm.wire.format import Format, read_nothing
from otel_llm.wire.openai import (
    FORMATS,
    read_finish,
    read_identity,
    read_output_type,
    read_tier,
    read_usage,
)
from otel_llm.wire.parameters import SAMPLING, Parameters, read_choice_count, read_parameters
from otel_llm_semconv import attributes as names
from otel_llm_semconv.providers import OPENAI_FLAVOURED
from otel_llm_semconv.values import HTTP_METHODS, OTHER_HTTP_METHOD, OpenAIApiType, Operation, OutputType

_AGENT: Parameters = {
    "name": (names.GEN_AI_AGENT_NAME, text),
    "description": (names.GEN_AI_AGENT_DESCRIPTION, text),
}
_RUN: Parameters = {
    **SAMPLING,
    "assistant_id": (names.GEN_AI_AGENT_ID, text),
    "max_completion_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "/threads": (names.GEN_AI_CONVERSATION_ID, text),
}
_SEARCH: Parameters = {
    "max_num_results": (names.GEN_AI_RETRIEVAL_TOP_K, integer),
    "/vector_stores": (names.GEN_AI_DATA_SOURCE_ID, text),
}
_FETCH: Parameters = {
    "starting_after": (names.GEN_AI_REQUEST_STREAM_CURSOR, lambda cursor: text(str(cursor))),
}
_TEXT_EVENTS = frozenset({"transcript.text.delta"})


# requests


def _asks(
    parameters: Parameters, *, runs_model: bool = True, output: str | None = None, api: str | None = None
) -> Callable[[Call, Mapping[str, Any]], None]:
    """Return the reader of a request; an *output* type is the endpoint's own, an *api* type is OpenAI's."""

    def read(call: Call, body: Mapping[str, Any]) -> None:
        call.runs_model = runs_model
        if output is not None:
            call.attributes[names.GEN_AI_OUTPUT_TYPE] = output
        if api is not None and call.provider in OPENAI_FLAVOURED:
            call.attributes[names.OPENAI_API_TYPE] = api
            if "service_tier" in body:
                read_tier(call, body["service_tier"])
        read_parameters(call, body, parameters)
        if "n" in body:
            read_choice_count(call, body["n"])
        if "response_format" in body and output is None:
            read_output_type(call, body["response_format"])
        if "/responses" in body:
            call.response_id = text(body["/responses"])

    return read


# answers


def read_answer(call: Call, answer: object) -> None:
    """Read what an answer tells that has nothing of its own: its identity and its usage."""
    own = fields(answer)
    read_identity(call, own)
    usage = own.get("usage")
    if usage is not None:
        read_usage(call, usage)


def _read_last_usage(call: Call, chunks: Sequence[object]) -> None:
    """Read the event that ends a stream of images or of speech: the one that tells the usage."""
    for chunk in chunks:
        usage = field(chunk, "usage")
        if usage is not None:
            read_usage(call, usage)


def _read_transcription(call: Call, answer: object) -> None:
    """Read the usage, if it is told in tokens; an answer that is plain text tells none."""
    usage = field(answer, "usage")
    if usage is not None:
        own = fields(usage)
        read_usage(call, {**own, "input_tokens_details": own.get("input_token_details")})


def _read_transcription_chunks(call: Call, chunks: Sequence[object]) -> None:
    for chunk in chunks:
        _read_transcription(call, chunk)


def _transcription_text(chunk: object) -> bool:
    return text(field(chunk, "type")) in _TEXT_EVENTS and bool(field(chunk, "delta"))


def _read_id(call: Call, answer: object) -> None:
    call.response_id = text(field(answer, "id")) or call.response_id


def _read_agent(call: Call, answer: object) -> None:
    agent = text(field(answer, "id"))
    if agent:
        call.attributes[names.GEN_AI_AGENT_ID] = agent
    call.response_model = text(field(answer, "model"))


def _read_fetched(call: Call, answer: object) -> None:
    """Read a response that was made by an earlier call: its tokens and its failure are that call's."""
    own = fields(answer)
    read_identity(call, own)
    read_finish(call, own)
    status = text(own.get("status"))
    if status:
        call.attributes[names.GEN_AI_RESPONSE_STATUS] = status


def _read_fetched_chunks(call: Call, chunks: Sequence[object]) -> None:
    for chunk in chunks:
        response = field(chunk, "response")
        if response is not None:
            _read_fetched(call, response)


def _fetched_text(chunk: object) -> bool:
    return bool(field(chunk, "type") == "response.output_text.delta")


def _read_run(call: Call, run: object) -> None:
    """Read a run of a thread; it tells its usage when it is over."""
    own = fields(run)
    read_answer(call, own)
    read_finish(call, own)
    for key, name in (("assistant_id", names.GEN_AI_AGENT_ID), ("thread_id", names.GEN_AI_CONVERSATION_ID)):
        value = text(own.get(key))
        if value:
            call.attributes[name] = value
    if own.get("status") == "failed":
        read_error(call, own.get("last_error"), "code")


def _read_run_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Read each state of the run; the client puts an event around what the server sends."""
    for chunk in chunks:
        data = field(chunk, "data") or chunk
        if field(data, "object") == "thread.run":
            _read_run(call, data)


def _run_text(chunk: object) -> bool:
    data = field(chunk, "data") or chunk
    return field(data, "object") == "thread.message.delta" and bool(items(field(field(data, "delta"), "content")))


# endpoints


_images = _asks({}, output=OutputType.IMAGE)
_IMAGE = Format(Operation.GENERATE_CONTENT, _images, read_answer, _read_last_usage)
_SPEECH = Format(Operation.GENERATE_CONTENT, _asks({}, output=OutputType.SPEECH), read_answer, _read_last_usage)
_TRANSCRIPTION = Format(
    Operation.GENERATE_CONTENT,
    _asks(SAMPLING, output=OutputType.TEXT),
    _read_transcription,
    _read_transcription_chunks,
    _transcription_text,
)
_MODERATION = Format(Operation.MODERATION, _asks({}), read_answer)
_DECISION = Format(Operation.DECISION, _asks({}), read_answer)
_COMPACTION = Format(Operation.COMPACT_RESPONSE, _asks({}, api=OpenAIApiType.RESPONSES), read_answer)
_FETCHED = Format(
    Operation.FETCH_RESPONSE,
    _asks(_FETCH, runs_model=False, api=OpenAIApiType.RESPONSES),
    _read_fetched,
    _read_fetched_chunks,
    _fetched_text,
    None,
    content.read_responses_answer,
    content.read_responses_chunks,
)
_CANCELLED = Format(
    Operation.CANCEL_RESPONSE,
    _asks({}, runs_model=False, api=OpenAIApiType.RESPONSES),
    _read_fetched,
)
_COUNTED = Format(
    Operation.COUNT_TOKENS,
    _asks({}, runs_model=False, api=OpenAIApiType.RESPONSES),
    _read_id,
)
_RUN_MADE = Format(Operation.INVOKE_AGENT, _asks(_RUN), _read_run, _read_run_chunks, _run_text)
AGENT_MADE = Format(Operation.CREATE_AGENT, _asks(_AGENT, runs_model=False), _read_agent)
_SEARCHED = Format(Operation.RETRIEVAL, _asks(_SEARCH, runs_model=False), _read_id)
_VIDEO = Format(Operation.CREATE_VIDEO, _asks({}, runs_model=False), read_answer)

ENDPOINTS: dict[str, Format] = {
    **{f"POST {path}": format for path, format in FORMATS.items()},
    "POST /images/generations": _IMAGE,
    "POST /images/edits": _IMAGE,
    "POST /images/variations": _IMAGE,
    "POST /audio/speech": _SPEECH,
    "POST /audio/transcriptions": _TRANSCRIPTION,
    "POST /audio/translations": _TRANSCRIPTION,
    "POST /moderations": _MODERATION,
    "POST /decisions": _DECISION,
    "POST /responses/compact": _COMPACTION,
    "POST /responses/input_tokens": _COUNTED,
    "POST /responses/{id}/cancel": _CANCELLED,
    "GET /responses/{id}": _FETCHED,
    "POST /threads/runs": _RUN_MADE,
    "POST /threads/{id}/runs": _RUN_MADE,
    "POST /threads/{id}/runs/{id}/submit_tool_outputs": _RUN_MADE,
    "POST /assistants": AGENT_MADE,
    "POST /agents": AGENT_MADE,
    "POST /vector_stores/{id}/search": _SEARCHED,
    "POST /videos": _VIDEO,
    "POST /videos/edits": _VIDEO,
    "POST /videos/extensions": _VIDEO,
    "POST /videos/{id}/remix": _VIDEO,
}
"""The formats of the known endpoints by method and template."""

_MOST_OTHERS = 1024
_others: dict[str, Format] = {}


def endpoint(method: str, template: str, endpoints: Mapping[str, Format] = ENDPOINTS) -> tuple[Format, bool]:
    """Return the format of an endpoint and whether it is one of the known *endpoints*."""
    method = method.upper()
    method = method if method in HTTP_METHODS else OTHER_HTTP_METHOD
    operation = f"{method} {template}"
    known = endpoints.get(operation)
    if known is not None:
        return known, True
    other = _others.get(operation)
    if other is None:
        other = _other(operation, method, template)
        if len(_others) < _MOST_OTHERS:
            _others[operation] = other
    return other, False


def _other(operation: str, method: str, template: str) -> Format:
    """Make the format of an endpoint that nothing is known of but its method and its path."""

    def read_request(call: Call, body: Mapping[str, Any]) -> None:
        call.runs_model = False
        call.attributes[names.HTTP_REQUEST_METHOD] = method
        call.attributes[names.URL_TEMPLATE] = template
        read_parameters(call, body, {})

    # What a file holds is the user's own, whatever it looks like.
    reader = read_nothing if template.endswith("/content") else _read_id
    return Format(operation, read_request, reader)
