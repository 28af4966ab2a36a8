"""Answer requests as an Anthropic server would: pure functions from the JSON of a request to the JSON of its answer."""

import json
from typing import Any

from otel_llm.testing.answers import JSON, WORDS, Answer, Events, Request, count_tokens, fill, split

CACHED = 3
"""Tokens of every prompt that come from the cache, and as many that are written to it."""


def answer(method: str, path: str, request: Request, number: int, words: str = WORDS) -> Answer:
    """Answer one request: a JSON object, a list of stream events, or None for an unknown path.

    A model named ``tools`` asks for the first tool; a request with ``thinking`` is thought about.

    Args:
        method: the HTTP method.
        path: the path of the URL.
        request: the JSON object sent by the client.
        number: the number of this request, from which the ids in the answer are made.
        words: the text to answer with.
    """
    if method != "POST":
        return None
    if path.endswith("/v1/messages"):
        return _messages(request, number, words)
    if path.endswith("/v1/messages/count_tokens"):
        return {"input_tokens": _prompt(request)}
    if path.endswith("/v1/complete"):
        return _complete(request, number, words)
    return None


def _prompt(request: Request) -> int:
    return count_tokens(request.get("system")) + count_tokens(request.get("messages"))


def _messages(request: Request, number: int, words: str) -> Answer:
    blocks: list[JSON] = []
    reasoning = 0
    thinking: Any = request.get("thinking") or {}
    if thinking.get("type") not in (None, "disabled"):
        blocks.append({"type": "thinking", "thinking": "It is well known.", "signature": "c2ln"})
        reasoning = 4
    tools: list[JSON] = request.get("tools") or []
    pieces = split(words)
    limit = int(request["max_tokens"])
    stop = "max_tokens" if len(pieces) > limit else "end_turn"
    last: Any = request["messages"][-1]
    if request["model"] == "tools" and tools and isinstance(last.get("content"), str):
        schema: JSON = tools[0].get("input_schema") or {}
        blocks.append({"type": "tool_use", "id": f"toolu_{number:08}", "name": tools[0]["name"], "input": fill(schema)})
        stop, output = "tool_use", 2
    else:
        blocks.append({"type": "text", "text": "".join(pieces[:limit]), "citations": None})
        output = len(pieces[:limit])
    read: JSON = {
        "input_tokens": _prompt(request),
        "cache_creation_input_tokens": CACHED,
        "cache_read_input_tokens": CACHED,
        "cache_creation": {"ephemeral_5m_input_tokens": CACHED, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }
    written = {"output_tokens": output + reasoning, "output_tokens_details": {"thinking_tokens": reasoning}}
    message: JSON = {"id": f"msg_{number:08}", "type": "message", "role": "assistant", "model": request["model"]}
    ended: JSON = {"stop_reason": stop, "stop_sequence": None}
    if not request.get("stream"):
        return message | ended | {"content": blocks, "usage": read | written}
    begun: JSON = message | {"content": [], "stop_reason": None, "stop_sequence": None}
    events: Events = [{"type": "message_start", "message": begun | {"usage": read | {"output_tokens": 1}}}]
    for index, block in enumerate(blocks):
        events += _block_events(index, block, pieces[:limit])
    events.append({"type": "message_delta", "delta": ended, "usage": written})
    return [*events, {"type": "message_stop"}]


def _block_events(index: int, block: JSON, pieces: list[str]) -> Events:
    """Send one block: its empty beginning, a `ping` as real servers send it, its pieces, its end."""
    empty: JSON
    match block["type"]:
        case "thinking":
            empty = block | {"thinking": "", "signature": ""}
            deltas: list[JSON] = [{"type": "thinking_delta", "thinking": piece} for piece in split(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "tool_use":
            empty = block | {"input": {}}
            written = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", written[:7], written[7:])]
        case _:
            empty = block | {"text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    start: JSON = {"type": "content_block_start", "index": index, "content_block": empty}
    between: list[JSON] = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [start, {"type": "ping"}, *between, {"type": "content_block_stop", "index": index}]


def _complete(request: Request, number: int, words: str) -> Answer:
    whole: JSON = {"type": "completion", "id": f"compl_{number:08}", "model": request["model"], "stop": None}
    if not request.get("stream"):
        return whole | {"completion": words, "stop_reason": "stop_sequence"}
    pieces = [whole | {"completion": piece, "stop_reason": None} for piece in split(words)]
    return [*pieces, whole | {"completion": "", "stop_reason": "stop_sequence"}]
