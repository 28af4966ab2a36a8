"""Answer requests as an Ollama server would: pure functions from the JSON of a request to the JSON of its answer."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from otel_llm.testing import answers

JSON: TypeAlias = dict[str, Any]
Request: TypeAlias = Mapping[str, Any]

CREATED: Final = "2026-10-01T12:00:00.000000Z"
DIGEST: Final = "sha256:" + "0" * 64
THOUGHT: Final = "France, then. Its capital."
TIMES: Final = {
    "total_duration": 912_345_678,
    "load_duration": 12_345_678,
    "prompt_eval_duration": 201_234_567,
    "eval_duration": 690_123_456,
}
"""Nanoseconds: every answer took as long."""
BLOBS: Final = "/api/blobs/"
"""Where files are sent, which are no JSON."""
WIDTH: Final = 8
"""Numbers of an embedding."""


class Lines(list[JSON]):
    """A stream: one JSON object a line."""


Answer: TypeAlias = JSON | Lines | None


def answer(method: str, path: str, request: Request, number: int = 1, words: str = answers.WORDS) -> Answer:
    """Answer one request: a JSON object, the lines of a stream, or None for a path that is none of Ollama's own.

    Args:
        method: the HTTP method.
        path: the path of the URL.
        request: the JSON object sent by the client.
        number: the number of this request, which Ollama has no use for.
        words: the text to answer with.
    """
    if path.startswith(BLOBS):
        return {}
    route = _ROUTES.get(f"{method} {path}")
    return route(request, words) if route else None


def _model(request: Request) -> str:
    return str(request.get("model"))


def _numbers(tokens: int, output: int, reason: str = "stop") -> JSON:
    return {"done_reason": reason, **TIMES, "prompt_eval_count": tokens, "eval_count": output}


def _spoken(request: Request, key: str, words: str) -> Answer:
    """Answer in one piece, or in one for each word; *key* is where the API puts the text."""
    common = {"model": _model(request), "created_at": CREATED}

    def part(text: str, *, done: bool = False, thinking: str = "", **more: Any) -> JSON:
        said = {"response": text} if key == "response" else {"role": "assistant", "content": text}
        said |= {"thinking": thinking} if thinking else {}
        said |= {name: more.pop(name) for name in ("tool_calls",) if name in more}
        return {**common, **(said if key == "response" else {"message": said}), "done": done, **more}

    asked: Any = request.get("messages") or [str(request.get("prompt") or "")]
    if not any(asked):
        unloads = request.get("keep_alive") == 0
        return part("", done=True, done_reason="unload" if unloads else "load")
    answered = "messages" in request and asked[-1].get("role") == "tool"
    tools: list[JSON] = [] if answered else request.get("tools") or []
    wanted: Request | str | None = request.get("format")
    text = words if not wanted or isinstance(wanted, str) else json.dumps(answers.fill(wanted))
    pieces = [] if tools else answers.split(text)
    options: Request = request.get("options") or {}
    limit = int(options.get("num_predict", -1))
    reason = "length" if 0 <= limit < len(pieces) else "stop"
    pieces = pieces[:limit] if limit >= 0 else pieces
    thought = answers.split(THOUGHT) if request.get("think") else []
    calls: list[JSON] = [_tool_call(tool["function"]) for tool in tools]
    numbers = _numbers(answers.count_tokens(asked), len(pieces) + len(thought) + len(calls), reason)
    more: JSON = {"tool_calls": calls} if calls else {}
    if request.get("stream") is False:
        return part("".join(pieces), done=True, thinking="".join(thought), **more, **numbers)
    return Lines(
        [
            *(part("", thinking=piece) for piece in thought),
            *([part("", **more)] if calls else []),
            *(part(piece) for piece in pieces),
            part("", done=True, **numbers),
        ]
    )


def _tool_call(function: Request) -> JSON:
    return {"function": {"name": function["name"], "arguments": answers.fill(function.get("parameters") or {})}}


def _embed(request: Request, words: str) -> JSON:
    inputs: Any = request.get("input")
    texts: list[Any] = [inputs] if isinstance(inputs, str) else inputs
    width = int(request.get("dimensions") or WIDTH)
    numbers = {"prompt_eval_count": answers.count_tokens(texts), "load_duration": TIMES["load_duration"]}
    vectors = [[0.5] * width for _ in texts]
    return {"model": _model(request), "embeddings": vectors, "total_duration": TIMES["total_duration"], **numbers}


def _decide(request: Request, words: str) -> JSON:
    made: JSON = {}
    for name, question in request["questions"].items():
        kind = question["type"]
        chosen = next(iter(question["criteria"])) if kind == "choice" else 0.5
        even: JSON = {"probabilities": {}, "confidence": 0.5} if kind != "noul" else {}
        made[name] = {"type": kind, kind: chosen, **even, **({"legend": {}} if kind == "score" else {})}
    tokens = answers.count_tokens(str(request["state"]))
    return {"model": _model(request), "answers": made, "usage": {"input_tokens": tokens, "output_tokens": len(made)}}


def _progress(request: Request, words: str) -> Answer:
    layer = {"status": f"pulling {DIGEST[7:19]}", "digest": DIGEST, "total": 2048}
    lines = Lines([{"status": "pulling manifest"}, layer, {**layer, "completed": 2048}, {"status": "success"}])
    return lines[-1] if request.get("stream") is False else lines


def _show(request: Request, words: str) -> JSON:
    return {"modelfile": "", "parameters": "", "template": "", "details": {"family": "llama"}, "model_info": {}}


def _list(request: Request, words: str) -> JSON:
    return {"models": [{"name": "tiny:latest", "model": "tiny:latest", "size": 2048, "digest": DIGEST[7:]}]}


_ROUTES: Final[dict[str, Callable[[Request, str], Answer]]] = {
    "POST /api/chat": lambda request, words: _spoken(request, "message", words),
    "POST /api/generate": lambda request, words: _spoken(request, "response", words),
    "POST /api/embed": _embed,
    "POST /api/embeddings": lambda request, words: {"embedding": [0.5] * WIDTH},
    "POST /v1/systemone": _decide,
    "POST /api/pull": _progress,
    "POST /api/push": _progress,
    "POST /api/create": _progress,
    "POST /api/show": _show,
    "POST /api/copy": lambda request, words: {},
    "DELETE /api/delete": lambda request, words: {},
    "GET /api/tags": _list,
    "GET /api/ps": _list,
    "GET /api/version": lambda request, words: {"version": "0.12.0"},
    "POST /api/web_search": lambda request, words: {"results": [{"title": "Paris", "url": "", "content": words}]},
    "POST /api/web_fetch": lambda request, words: {"title": "Paris", "content": words, "links": []},
}
