"""The events of OpenAI's websockets: the Realtime API, and responses over a websocket.

Source: the event types as openai-python 1.66 to 3.52 declares them; attribute mapping of the GenAI semantic
conventions, "Inference".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from otel_llm.call import Call
from otel_llm.wire import openai_content as content
from otel_llm.wire.failure import read_error
from otel_llm.wire.fields import field, fields, integer, items, number, text
from otel_llm.wire.format import Format
from otel_llm.wire.images import has_image
from otel_llm.wire.modalities import CACHED, read_modalities
from otel_llm.wire.openai import INCOMPLETE, RESPONSES, read_usage
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import FinishReason, Operation, OutputType

CREATE = "response.create"
"""What the caller sends for a response."""
CREATED = "response.created"
"""The first event of a response, which tells its id."""
ENDS = frozenset({"response.done", "response.completed", "response.failed", "response.incomplete"})
"""The last event of a response: the first of them in the Realtime API, the others in the Responses API."""

HEARD = "conversation.item.input_audio_transcription.completed"
"""Tells what the user said, before or while it is answered."""

_TEXT_EVENTS = frozenset(
    {
        "response.output_text.delta",
        "response.output_audio_transcript.delta",
        "response.text.delta",
        "response.audio_transcript.delta",
    }
)
"""The second two are the beta's names for the first two."""

AUDIO_EVENTS = frozenset({"response.output_audio.delta", "response.audio.delta"})
"""Events that carry sound, which nobody reads here."""

_MOST = 128
"""Items kept of a conversation in which no response is made, such as a transcription."""

_OUTPUT_TYPES = {"text": OutputType.TEXT, "audio": OutputType.SPEECH}


def _read_realtime_request(call: Call, event: Mapping[str, Any]) -> None:
    response = fields(event.get("response"))
    if has_image(response.get("input")):
        call.image = True
    attributes = call.attributes
    # The beta calls them otherwise, and takes a temperature.
    limit = integer(response.get("max_output_tokens", response.get("max_response_output_tokens")))
    if limit is not None:
        attributes[names.GEN_AI_REQUEST_MAX_TOKENS] = limit
    temperature = number(response.get("temperature"))
    if temperature is not None:
        attributes[names.GEN_AI_REQUEST_TEMPERATURE] = temperature
    modalities = items(response.get("output_modalities") or response.get("modalities"))
    output = "audio" if "audio" in modalities else text(modalities[0]) if modalities else None
    if output in _OUTPUT_TYPES:
        attributes[names.GEN_AI_OUTPUT_TYPE] = _OUTPUT_TYPES[output]


def _read_realtime_answer(call: Call, response: object) -> None:
    own = fields(response)
    call.response_id = text(own.get("id")) or call.response_id
    conversation = text(own.get("conversation_id"))
    if conversation:
        call.attributes[names.GEN_AI_CONVERSATION_ID] = conversation
    usage = own.get("usage")
    if usage is not None:
        _read_realtime_usage(call, fields(usage))
    status, details = own.get("status"), fields(own.get("status_details"))
    reason = text(details.get("reason"))
    if status == "completed":
        call.finish_reasons = (FinishReason.STOP,)
    elif status == "incomplete":
        call.finish_reasons = (INCOMPLETE.get(reason or "", reason or FinishReason.ERROR),)
    elif status == "cancelled":
        call.finish_reasons = (reason or FinishReason.ERROR,)
    elif status == "failed":
        call.finish_reasons = (FinishReason.ERROR,)
        read_error(call, details.get("error"), "code", "type")


def _read_realtime_usage(call: Call, usage: Mapping[str, Any]) -> None:
    details = usage.get("input_token_details")
    read_usage(
        call,
        {**usage, "input_tokens_details": details, "output_tokens_details": usage.get("output_token_details")},
    )
    read_modalities(call, fields(field(details, "cached_tokens_details")), CACHED)


def _read_realtime_events(call: Call, events: Sequence[object]) -> None:
    for event in events:
        own = fields(event)
        response = own.get("response")
        if response is not None:
            _read_realtime_answer(call, response)
        elif own.get("type") == "error":
            read_error(call, own.get("error"), "code", "type")
    if not call.finish_reasons:
        call.finish_reasons = (FinishReason.ERROR,)


def _read_responses_events(call: Call, events: Sequence[object]) -> None:
    RESPONSES.read_chunks(call, events)
    error = field(events[-1], "error") if events else None
    if error is not None:
        # On a websocket, unlike in a stream of events, what went wrong is one level down.
        read_error(call, error, "code", "type")


def _realtime_text(event: object) -> bool:
    return text(field(event, "type")) in _TEXT_EVENTS


# content


Items: TypeAlias = dict[str, dict[str, Any]]
"""Items of a conversation by their ids, in the form of the Responses API."""


def _item(item: object) -> dict[str, Any]:
    """Return an item with what was said in place of its sound."""
    parts: list[object] = []
    for part in items(field(item, "content")):
        own = fields(part)
        said = text(own.get("text")) or text(own.get("transcript"))
        if said:
            parts.append({"type": "text", "text": said})
        else:
            parts.append({"type": "audio"} if "audio" in str(own.get("type")) else part)
    return {**fields(item), "content": parts}


class Conversation:
    """What the model was told since its last response, where content is captured: it stands in many events."""

    def __init__(self) -> None:
        self._session: Mapping[str, Any] = {}
        self.items: Items = {}
        """Items that no response has answered yet."""

    def saw(self, kind: str, event: Mapping[str, Any]) -> None:
        """Take note of an event that is about the session or an item."""
        if kind in ("session.created", "session.updated"):
            self._session = fields(event.get("session"))
        elif kind in ("conversation.item.created", "conversation.item.added", "conversation.item.done"):
            item = fields(event.get("item"))
            identifier = text(item.get("id"))
            # What the model said itself comes as an item, too; the last event of an item repeats the first.
            answers = item.get("role") == "assistant" or ("role" not in item and item.get("type") != _RESULT)
            if identifier and not answers and kind != "conversation.item.done":
                self.items[identifier] = _item(item)
                if len(self.items) > _MOST:
                    del self.items[next(iter(self.items))]
        elif kind == "conversation.item.deleted":
            self.items.pop(text(event.get("item_id")) or "", None)

    def take(self, response: Mapping[str, Any]) -> Items:
        """Return the items that a response answers, unless its request brings its own."""
        if response.get("input") is not None:
            return {}
        taken, self.items = self.items, {}
        return taken

    def read(self, call: Call, response: Mapping[str, Any], said: Items) -> None:
        """Read what the model was told for one response; the session's settings hold where the request has none."""
        given: object = response.get("input")
        told = [*said.values()] if given is None else [_item(item) for item in items(given)]
        own = {key: response.get(key) or self._session.get(key) for key in ("instructions", "tools")}
        content.read_responses_request(call, {**own, "input": told})


_RESULT = "function_call_output"


def hear(said: Items, event: Mapping[str, Any]) -> bool:
    """Put a transcript of what the user said in its place, and say whether its item is there."""
    item = said.get(text(event.get("item_id")) or "")
    index = integer(event.get("content_index")) or 0
    if item is None or not 0 <= index < len(item["content"]):
        return False
    item["content"][index] = {"type": "text", "text": text(event.get("transcript")) or ""}
    return True


def _read_realtime_answer_content(call: Call, response: object) -> None:
    content.read_responses_answer(call, {"output": [_item(item) for item in items(field(response, "output"))]})


def _read_realtime_events_content(call: Call, events: Sequence[object]) -> None:
    """Read the output from the last event, or what was said so far where that is missing."""
    pieces: list[str] = []
    for event in events:
        kind = text(field(event, "type"))
        if kind == "response.done":
            _read_realtime_answer_content(call, field(event, "response"))
            return
        if kind in _TEXT_EVENTS:
            pieces.append(text(field(event, "delta")) or "")
    said = {"content": [{"type": "text", "text": "".join(pieces)}]}
    content.read_responses_answer(call, {"output": [said] if pieces else []})


REALTIME = Format(
    Operation.GENERATE_CONTENT,
    _read_realtime_request,
    _read_realtime_answer,
    _read_realtime_events,
    _realtime_text,
    None,
    _read_realtime_answer_content,
    _read_realtime_events_content,
)
"""What the request asks is read by `Conversation`, since it stands in other events as well."""
RESPONSES_EVENTS = RESPONSES._replace(read_chunks=_read_responses_events)
