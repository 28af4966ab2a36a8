"""Answer requests as an OpenAI server would: pure functions from the JSON of a request to the JSON of its answer."""

import base64
import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeGuard

JSON: TypeAlias = dict[str, Any]
Request: TypeAlias = Mapping[str, Any]
Events: TypeAlias = list[JSON | str]
Answer: TypeAlias = JSON | Events | bytes | None

WORDS: Final = "The capital of France is Paris, of course."
CREATED: Final = 1_790_812_800
"""The date of every answer, 2026-10-01: answers must not differ from run to run."""
REASONING_TOKENS: Final = 16
"""What a choice costs more when the request names a reasoning effort."""
FORMATS: Final = {"date": "2026-10-01", "date-time": "2026-10-01T12:00:00Z", "time": "12:00:00Z", "uuid": "0" * 32}
PIXEL: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
CATEGORIES: Final = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm"),
    *("self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic"),
)
ECHOED: Final = (
    *("instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "previous_response_id", "reasoning"),
    *("store", "temperature", "text", "tool_choice", "tools", "top_p", "user"),
)
"""What /responses repeats of a request."""


def answer(method: str, path: str, request: Request, number: int, words: str = WORDS) -> Answer:
    """Answer one request: a JSON object, a list of stream events, the bytes of a file, or None for an unknown path.

    Args:
        method: the HTTP method.
        path: the path of the URL; only its end counts.
        request: the JSON object or the form fields sent by the client.
        number: the number of this request, from which the ids in the answer are made.
        words: the text to answer with.
    """
    if method in ("GET", "HEAD"):
        return models(path)
    route = next((function for suffix, function in _ROUTES.items() if path.endswith(suffix)), None)
    return route(request, number, words) if route and method == "POST" else None


def count_tokens(value: Any) -> int:
    """Count a text, a list of tokens, a message, or a list of any of these: one token per word."""
    if isinstance(value, str):
        return len(value.split())
    if _is_list(value):
        return sum(map(count_tokens, value))
    if _is_dict(value):
        return count_tokens(value.get("content") or value.get("text") or value.get("output"))
    return int(isinstance(value, int))


def split(text: str) -> list[str]:
    """Split a text into the pieces a stream sends: words with the space before them."""
    return re.findall(r"\s*\S+(?:\s+$)?", text)


def fill(schema: Request, root: Request | None = None, depth: int = 0) -> Any:
    """Make a value that fits a simple JSON schema."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for key in filter(None, str(schema["$ref"]).lstrip("#").split("/")):
            target = target[key]
        return fill(target, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    deep = depth > 5  # a schema that contains itself ends here, with null or an empty array
    if options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        nulls = [option for option in options if option.get("type") == "null"]
        return fill((nulls if deep and nulls else [o for o in options if o not in nulls])[0], root, depth + 1)
    kind: Any = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if _is_list(kind) else kind:
        case "object":
            return {name: fill(value, root, depth + 1) for name, value in schema.get("properties", {}).items()}
        case "array":
            length = schema.get("minItems", 0 if deep else 1)
            return [fill(schema.get("items", {}), root, depth + 1) for _ in range(length)]
        case "integer":
            return int(schema.get("minimum", 1))
        case "number":
            return float(schema.get("minimum", 1.5))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return FORMATS.get(schema.get("format", ""), "Paris")


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_dict(value: object) -> TypeGuard[JSON]:
    return isinstance(value, dict)


def _dict(value: object) -> JSON:
    return value if _is_dict(value) else {}


def _model(request: Request) -> str:
    model = str(request.get("model", "unknown"))
    return model + "-2026-10-01" if model.startswith("gpt") and not re.search(r"-\d{4}-\d\d-\d\d$", model) else model


@dataclass(frozen=True)
class _Turn:
    """What the model says to a request, and what it costs, before one API puts it into its own words."""

    pieces: list[str]
    tool: str | None
    cut: bool
    input: int
    output: int
    reasoning: int

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def cached(self) -> int:
        return self.input // 2


def _turn(request: Request, words: str, choices: int = 1) -> _Turn:
    prompt: Any = request.get("messages") or request.get("input") or request.get("prompt")
    last = _dict(prompt[-1]) if _is_list(prompt) and prompt else {}
    answered = last.get("role") == "tool" or last.get("type") == "function_call_output"
    wanted = _dict(request.get("response_format")) or _dict(_dict(request.get("text")).get("format"))
    text, tool = words, None
    function = _function(request, answered)
    if function is not None:
        tool = str(function.get("name", "get_weather"))
        text = json.dumps(fill(function.get("parameters") or {"properties": {"city": {}}}))
    elif wanted.get("type") == "json_schema":
        text = json.dumps(fill(wanted.get("json_schema", wanted).get("schema", {})))
    elif wanted.get("type") == "json_object":
        text = json.dumps({"answer": "Paris"})
    pieces = split(text)
    limit = request.get("max_completion_tokens") or request.get("max_tokens") or request.get("max_output_tokens")
    visible = pieces[:limit]
    effort = request.get("reasoning_effort") or _dict(request.get("reasoning")).get("effort") or "none"
    reasoning = 0 if effort == "none" else choices * REASONING_TOKENS
    tokens = count_tokens(request.get("instructions")) + count_tokens(prompt)
    return _Turn(visible, tool, visible != pieces, tokens, choices * len(visible) + reasoning, reasoning)


def _function(request: Request, answered: bool) -> JSON | None:
    """Return the function to call: the one that the request names, or the first, unless one was *answered* just now."""
    tools: list[JSON] = request.get("tools") or [{}]
    functions: list[JSON] = [tool.get("function", tool) for tool in tools]
    choice = request.get("tool_choice")
    if name := _dict(_dict(choice).get("function", choice)).get("name"):
        return next((function for function in functions if function.get("name") == name), None)
    wanted = request.get("model") == "tools" or choice == "required"
    return functions[0] if wanted and not answered else None


def _usage(turn: _Turn) -> JSON:
    output_details = {"reasoning_tokens": turn.reasoning, "audio_tokens": 0}
    return {
        "prompt_tokens": turn.input,
        "completion_tokens": turn.output,
        "total_tokens": turn.input + turn.output,
        "prompt_tokens_details": {"cached_tokens": turn.cached, "cache_write_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": output_details
        | {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    }


def chat(request: Request, number: int, words: str) -> Answer:
    """Answer /chat/completions."""
    choices = range(request.get("n") or 1)
    turn = _turn(request, words, len(choices))
    finish = "tool_calls" if turn.tool else "length" if turn.cut else "stop"
    head: JSON = {"id": f"chatcmpl-{number:08}", "object": "chat.completion", "created": CREATED}
    head |= {"model": _model(request), "service_tier": "default", "system_fingerprint": "fp_scripted"}

    def call(index: int, arguments: str) -> JSON:
        function = {"name": turn.tool, "arguments": arguments}
        return {"id": f"call_{number:08}_{index}", "type": "function", "function": function}

    def whole(index: int) -> JSON:
        message: JSON = {"role": "assistant", "content": turn.text, "refusal": None, "annotations": []}
        if turn.tool:
            message |= {"content": None, "tool_calls": [call(index, turn.text)]}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}

    def deltas(index: int) -> Iterator[JSON]:
        if turn.tool:
            yield {"role": "assistant", "content": None, "tool_calls": [{"index": 0} | call(index, "")]}
            yield from ({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in turn.pieces)
        else:
            yield {"role": "assistant", "content": "", "refusal": None}
            yield from ({"content": piece} for piece in turn.pieces)
        yield {}

    if not request.get("stream"):
        return head | {"choices": [whole(index) for index in choices], "usage": _usage(turn)}
    head["object"] = "chat.completion.chunk"
    if include_usage := _dict(request.get("stream_options")).get("include_usage"):
        head["usage"] = None
    events: Events = []
    for step in zip(*map(deltas, choices), strict=True):  # the choices come interleaved
        for index, delta in enumerate(step):
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None if delta else finish}
            events.append(head | {"choices": [choice]})
    if include_usage:
        events.append(head | {"choices": [], "usage": _usage(turn)})
    return [*events, "[DONE]"]


def completions(request: Request, number: int, words: str) -> Answer:
    """Answer /completions."""
    prompt: Any = request.get("prompt")
    prompts = len(prompt) if _is_list(prompt) and prompt and not isinstance(prompt[0], int) else 1
    choices = range((request.get("n") or 1) * prompts)
    turn = _turn(request, words, len(choices))
    finish = "length" if turn.cut else "stop"
    head: JSON = {"id": f"cmpl-{number:08}", "object": "text_completion", "created": CREATED, "model": _model(request)}

    def choice(index: int, text: str, finish: str | None) -> JSON:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}

    if not request.get("stream"):
        return head | {"choices": [choice(index, turn.text, finish) for index in choices], "usage": _usage(turn)}
    events: Events = [head | {"choices": [choice(i, piece, None)]} for piece in turn.pieces for i in choices]
    events += [head | {"choices": [choice(index, "", finish)]} for index in choices]
    if _dict(request.get("stream_options")).get("include_usage"):
        events.append(head | {"choices": [], "usage": _usage(turn)})
    return [*events, "[DONE]"]


def responses(request: Request, number: int, words: str) -> Answer:
    """Answer /responses."""
    turn = _turn(request, words)
    status = "incomplete" if turn.cut else "completed"
    part: JSON = {"type": "output_text", "text": turn.text, "annotations": [], "logprobs": []}
    item: JSON = {"id": f"msg_{number:08}", "type": "message", "role": "assistant", "content": [part], "status": status}
    if turn.tool:
        item = {"id": f"fc_{number:08}", "type": "function_call", "call_id": f"call_{number:08}", "name": turn.tool}
        item |= {"arguments": turn.text, "status": status}
    started: JSON = {"id": f"resp_{number:08}", "object": "response", "created_at": CREATED, "model": _model(request)}
    started |= {"status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None}
    started |= {"background": False, "parallel_tool_calls": True, "service_tier": "default", "store": True}
    started |= {"tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0, "truncation": "disabled"}
    started |= {"instructions": None, "max_output_tokens": None, "previous_response_id": None, "user": None}
    started |= {"metadata": {}, "reasoning": {"effort": None, "summary": None}, "text": {"format": {"type": "text"}}}
    started |= {key: request[key] for key in ECHOED if request.get(key) is not None}
    usage = {
        "input_tokens": turn.input,
        "input_tokens_details": {"cached_tokens": turn.cached, "cache_write_tokens": 0},
        "output_tokens": turn.output,
        "output_tokens_details": {"reasoning_tokens": turn.reasoning},
        "total_tokens": turn.input + turn.output,
    }
    ended = started | {"status": status, "output": [item], "usage": usage}
    if turn.cut:
        ended["incomplete_details"] = {"reason": "max_output_tokens"}
    if not request.get("stream"):
        return ended

    of_item: JSON = {"item_id": item["id"], "output_index": 0}
    of_part = of_item | {"content_index": 0}
    empty: JSON = {"arguments": ""} if turn.tool else {"content": []}
    steps: list[tuple[str, JSON]] = [("created", {"response": started}), ("in_progress", {"response": started})]
    steps += [("output_item.added", {"output_index": 0, "item": item | empty | {"status": "in_progress"}})]
    if turn.tool:
        steps += [("function_call_arguments.delta", of_item | {"delta": piece}) for piece in turn.pieces]
        steps += [("function_call_arguments.done", of_item | {"name": turn.tool, "arguments": turn.text})]
    else:
        steps += [("content_part.added", of_part | {"part": part | {"text": ""}})]
        steps += [("output_text.delta", of_part | {"delta": piece, "logprobs": []}) for piece in turn.pieces]
        steps += [("output_text.done", of_part | {"text": turn.text, "logprobs": []})]
        steps += [("content_part.done", of_part | {"part": part})]
    steps += [("output_item.done", {"output_index": 0, "item": item}), (status, {"response": ended})]
    return [{"type": f"response.{name}", "sequence_number": i} | data for i, (name, data) in enumerate(steps)]


def embeddings(request: Request, number: int, words: str) -> Answer:
    """Answer /embeddings: each text has its own direction, always the same."""
    source: Any = request["input"]
    texts = source if _is_list(source) and not isinstance(source[0], int) else [source]
    size = request.get("dimensions") or 8
    base = request.get("encoding_format") == "base64"

    def vector(text: Any) -> str | list[float]:
        values = [byte - 127.5 for byte in hashlib.shake_128(repr(text).encode()).digest(size)]
        length = sum(value * value for value in values) ** 0.5
        packed = struct.pack(f"<{size}f", *(value / length for value in values))
        return base64.b64encode(packed).decode() if base else list(struct.unpack(f"<{size}f", packed))

    data = [{"object": "embedding", "index": index, "embedding": vector(text)} for index, text in enumerate(texts)]
    tokens = count_tokens(source)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": _model(request), "usage": usage}


def models(path: str) -> Answer:
    """Answer /models and /models/NAME."""
    known = ("gpt-5", "tools", "text-embedding-3-small")
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "otel-llm"} for name in known]
    _, found, name = path.partition("/models")
    return data[0] | {"id": name[1:]} if name else {"object": "list", "data": data} if found else None


def moderations(request: Request, number: int, words: str) -> Answer:
    """Answer /moderations: nothing is ever flagged."""
    source: Any = request["input"]
    kinds = {name: ["text"] for name in CATEGORIES}
    result: JSON = {"flagged": False, "category_applied_input_types": kinds}
    result |= {"categories": dict.fromkeys(CATEGORIES, False), "category_scores": dict.fromkeys(CATEGORIES, 0.001)}
    results = [result] * (len(source) if _is_list(source) else 1)
    return {"id": f"modr-{number:08}", "model": request.get("model", "omni-moderation-latest"), "results": results}


def images(request: Request, number: int, words: str) -> Answer:
    """Answer /images/generations: images of one pixel."""
    count, tokens = request.get("n") or 1, count_tokens(request["prompt"])
    usage: JSON = {"input_tokens": tokens, "output_tokens": 100 * count, "total_tokens": tokens + 100 * count}
    usage["input_tokens_details"] = {"text_tokens": tokens, "image_tokens": 0}
    return {"created": CREATED, "data": [{"b64_json": PIXEL}] * count, "usage": usage}


def speech(request: Request, number: int, words: str) -> Answer:
    """Answer /audio/speech: bytes that begin as an MP3 file does."""
    return b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(256)


def transcriptions(request: Request, number: int, words: str) -> Answer:
    """Answer /audio/transcriptions."""
    output = count_tokens(words)
    usage: JSON = {"type": "tokens", "input_tokens": 10, "output_tokens": output, "total_tokens": 10 + output}
    usage["input_token_details"] = {"audio_tokens": 10, "text_tokens": 0}
    return {"text": words, "usage": usage}


_ROUTES: Final[dict[str, Callable[[Request, int, str], Answer]]] = {
    "/chat/completions": chat,
    "/completions": completions,
    "/responses": responses,
    "/embeddings": embeddings,
    "/moderations": moderations,
    "/images/generations": images,
    "/audio/speech": speech,
    "/audio/transcriptions": transcriptions,
}
