"""Answers as the servers write them, each with what must be recorded of it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from otel_llm.wire import cohere, gemini, llama_cpp, mistral, openai, rerank, tgi
from otel_llm.wire.format import Format
from otel_llm_semconv import attributes as names
from tests.wire.writing import array, lines, sse

SSE = "text/event-stream; charset=utf-8"
NDJSON = "application/x-ndjson"
JSON = "application/json"
FRAMES = "application/vnd.amazon.eventstream"


class Recorded(NamedTuple):
    """One call."""

    format: Format
    request: dict[str, Any]
    type: str
    wire: bytes
    told: dict[str, Any]
    """Fields of the record by name."""
    chunks: int = 0
    headers: dict[str, str] = {}


def _gemini(said: str, **more: Any) -> dict[str, Any]:
    part = {"candidates": [{"content": {"parts": [{"text": said}], "role": "model"}, "index": 0}], **more}
    return {"modelVersion": "gemini-2.5-flash", "responseId": "rsp_1", **part}


_GEMINI_USAGE = {
    "promptTokenCount": 11,
    "candidatesTokenCount": 5,
    "totalTokenCount": 43,
    "cachedContentTokenCount": 8,
    "toolUsePromptTokenCount": 7,
    "thoughtsTokenCount": 20,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 6}, {"modality": "IMAGE", "tokenCount": 5}],
    "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 5}],
    "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 8}],
}
_GEMINI_ASKED: dict[str, Any] = {
    "model": "gemini-2.5-flash",
    "contents": [{"role": "user", "parts": [{"text": "Wie teuer?"}]}],
    "generationConfig": {"temperature": 0.5, "topP": 0.9, "topK": 40, "maxOutputTokens": 64, "stopSequences": ["X"]},
}
_GEMINI_TOLD: dict[str, Any] = {
    "request_model": "gemini-2.5-flash",
    "response_model": "gemini-2.5-flash",
    "response_id": "rsp_1",
    "input_tokens": 18,
    "output_tokens": 25,
    "reasoning_tokens": 20,
    "cache_read_tokens": 8,
    "finish_reasons": ("stop",),
    "modality_tokens": {
        names.GEN_AI_USAGE_TEXT_INPUT_TOKENS: 6,
        names.GEN_AI_USAGE_IMAGE_INPUT_TOKENS: 5,
        names.GEN_AI_USAGE_TEXT_OUTPUT_TOKENS: 5,
        names.GEN_AI_USAGE_TEXT_CACHE_READ_INPUT_TOKENS: 8,
    },
}
_GEMINI_LAST = _gemini(" 5 € 🗼", usageMetadata=_GEMINI_USAGE)
_GEMINI_LAST["candidates"][0]["finishReason"] = "STOP"
_GEMINI_CHUNKS = (_gemini("In Zürich"), _gemini(" kostet es"), _GEMINI_LAST)

_LLAMA_LAST: dict[str, Any] = {
    "index": 0,
    "content": "",
    "model": "tiny.gguf",
    "stop": True,
    "stop_type": "limit",
    "tokens_predicted": 3,
    "tokens_evaluated": 7,
    "tokens_cached": 9,
    "timings": {"cache_n": 2, "prompt_n": 5, "prompt_ms": 12.5, "predicted_n": 3, "predicted_ms": 250.0},
}
_LLAMA_TOLD: dict[str, Any] = {
    "response_model": "tiny.gguf",
    "input_tokens": 7,
    "output_tokens": 3,
    "cache_read_tokens": 2,
    "prompt_seconds": 0.0125,
    "generation_seconds": 0.25,
    "finish_reasons": ("length",),
}

_TGI_DETAILS = {"finish_reason": "eos_token", "generated_tokens": 3, "input_length": 6, "seed": None}


def _tgi(text: str, **more: Any) -> dict[str, Any]:
    token = {"id": 7, "text": text, "logprob": -0.1, "special": text == "</s>"}
    return {"index": 1, "token": token, "generated_text": None, "details": None, **more}


_COHERE_USAGE = {
    "billed_units": {"input_tokens": 5, "output_tokens": 9},
    "tokens": {"input_tokens": 71, "output_tokens": 12},
    "cached_tokens": 64,
}
_COHERE_TOLD = {
    "request_model": "command-a-03-2025",
    "response_id": "c14c80c3",
    "input_tokens": 5,
    "output_tokens": 9,
    "cache_read_tokens": 64,
    "finish_reasons": ("stop",),
}
_COHERE_ASKED: dict[str, Any] = {"model": "command-a-03-2025", "messages": [{"role": "user", "content": "Hi"}]}
_COHERE_V1_ANSWER: dict[str, Any] = {
    "response_id": "r1",
    "text": "Hello you",
    "generation_id": "g1",
    "finish_reason": "MAX_TOKENS",
    "meta": {
        "api_version": {"version": "1"},
        "billed_units": {"input_tokens": 2, "output_tokens": 3},
        "tokens": {"input_tokens": 66, "output_tokens": 3},
    },
}
_COHERE_V1_TOLD = {
    "response_id": "r1",
    "input_tokens": 2,
    "output_tokens": 3,
    "finish_reasons": ("length",),
}


def _chunk(said: str | None, **more: Any) -> dict[str, Any]:
    delta = {} if said is None else {"content": said}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop" if said is None else None}
    return {"id": "cmpl_1", "object": "chat.completion.chunk", "model": "codestral-2508", "choices": [choice], **more}


_FIM_ASKED: dict[str, Any] = {"model": "codestral-latest", "prompt": "def f(", "suffix": "return a", "random_seed": 3}
_FIM_USAGE = {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}
_FIM_TOLD = {
    "request_model": "codestral-latest",
    "response_model": "codestral-2508",
    "response_id": "cmpl_1",
    "input_tokens": 8,
    "output_tokens": 5,
    "finish_reasons": ("stop",),
}
_STREAM = {"stream": True}

PLAIN: dict[str, Recorded] = {
    "gemini": Recorded(gemini.GENERATE_CONTENT, _GEMINI_ASKED, JSON, json.dumps(_GEMINI_LAST).encode(), _GEMINI_TOLD),
    "gemini embed": Recorded(
        gemini.EMBED_CONTENT,
        {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 3},
        JSON,
        b'{"embedding": {"values": [0.1, 0.2, 0.3]}, "usageMetadata": {"promptTokenCount": 4}}',
        {"operation": "embeddings", "request_model": "gemini-embedding-001", "input_tokens": 4, "finish_reasons": ()},
    ),
    "gemini batch embed": Recorded(
        gemini.EMBED_CONTENT,
        {"requests": [{"model": "models/gemini-embedding-001", "content": {}, "output_dimensionality": 3}]},
        JSON,
        b'{"embeddings": [{"values": [0.1, 0.2, 0.3]}]}',
        {"request_model": "gemini-embedding-001", "input_tokens": None},
    ),
    "vertex predict": Recorded(
        gemini.PREDICT,
        {
            "model": "text-embedding-005",
            "instances": [{"content": "a", "task_type": "RETRIEVAL_DOCUMENT"}, {"content": "b"}, {"content": "c"}],
            "parameters": {"outputDimensionality": 3, "autoTruncate": True},
        },
        JSON,
        b'{"predictions": [{"embeddings": {"statistics": {"truncated": false, "token_count": 4}, "values": [0.1]}}, '
        b'{"embeddings": {"statistics": {"token_count": 5.0}}}, {"embeddings": {}}], "metadata": {}}',
        {"operation": "embeddings", "request_model": "text-embedding-005", "input_tokens": 9, "finish_reasons": ()},
    ),
    "llama.cpp": Recorded(
        llama_cpp.COMPLETION,
        {"prompt": "Hi", "n_predict": 3, "top_k": 40},
        JSON,
        json.dumps({**_LLAMA_LAST, "content": "Hello you all"}).encode(),
        _LLAMA_TOLD,
    ),
    "llama.cpp, several": Recorded(
        llama_cpp.COMPLETION,
        {"prompt": ["a", "b"]},
        JSON,
        json.dumps([_LLAMA_LAST, {**_LLAMA_LAST, "index": 1, "stop_type": "eos"}]).encode(),
        {"input_tokens": 14, "output_tokens": 6, "finish_reasons": ("length", "stop")},
    ),
    "llama.cpp embedding": Recorded(
        llama_cpp.EMBEDDING, {"content": "a"}, JSON, b'[{"index": 0, "embedding": [[0.1]]}]', {"input_tokens": None}
    ),
    "tgi": Recorded(
        tgi.GENERATE,
        {"inputs": "Hi", "parameters": {"max_new_tokens": 3, "seed": 5}},
        JSON,
        json.dumps({"generated_text": "Hello", "details": {**_TGI_DETAILS, "input_length": None}}).encode(),
        {"input_tokens": 6, "output_tokens": 3, "finish_reasons": ("stop",)},
        headers={"x-prompt-tokens": "6", "x-generated-tokens": "3"},
    ),
    "tgi, root": Recorded(
        tgi.GENERATE,
        {"inputs": "Hi"},
        JSON,
        b'[{"generated_text": "Hello"}]',
        {"input_tokens": None, "output_tokens": None, "finish_reasons": ()},
    ),
    "cohere": Recorded(
        cohere.CHAT,
        {**_COHERE_ASKED, "p": 0.75, "k": 9},
        JSON,
        json.dumps(
            {
                "id": "c14c80c3",
                "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello yöu"}]},
                "finish_reason": "COMPLETE",
                "usage": _COHERE_USAGE,
            }
        ).encode(),
        _COHERE_TOLD,
    ),
    "cohere, version 1": Recorded(
        cohere.CHAT, {"message": "Hi"}, JSON, json.dumps(_COHERE_V1_ANSWER).encode(), _COHERE_V1_TOLD
    ),
    "cohere generate": Recorded(
        cohere.GENERATE,
        {"prompt": "Hi"},
        JSON,
        json.dumps(
            {
                "id": "g1",
                "generations": [{"id": "x", "text": "Hello", "finish_reason": "COMPLETE"}],
                "meta": {"billed_units": {"input_tokens": 2, "output_tokens": 3}},
            }
        ).encode(),
        {"response_id": "g1", "input_tokens": 2, "output_tokens": 3, "finish_reasons": ("stop",)},
    ),
    "cohere embed": Recorded(
        cohere.EMBED,
        {"model": "embed-v4.0", "texts": ["a"], "input_type": "search_query", "embedding_types": ["float"]},
        JSON,
        b'{"id": "e1", "embeddings": {"float": [[0.1]]}, "meta": {"billed_units": {"input_tokens": 2}}}',
        {"response_id": "e1", "input_tokens": 2, "output_tokens": None},
    ),
    "cohere rerank": Recorded(
        cohere.RERANK,
        {"model": "rerank-v3.5", "query": "q", "documents": ["a", "b"], "top_n": 1},
        JSON,
        b'{"results": [{"index": 1}], "id": "r1", "meta": {"billed_units": {"search_units": 1}}}',
        {"operation": "rerank", "request_model": "rerank-v3.5", "response_id": "r1", "input_tokens": None},
    ),
    "rerank": Recorded(
        rerank.RERANK,
        {"model": "BAAI/bge-reranker-v2-m3", "query": "q", "documents": ["a", "b"]},
        JSON,
        b'{"id": "rerank-1", "model": "bge", "usage": {"total_tokens": 56}, "results": [{"index": 0}]}',
        {"operation": "rerank", "response_id": "rerank-1", "response_model": "bge", "input_tokens": 56},
    ),
    "mistral fim": Recorded(
        mistral.FIM,
        _FIM_ASKED,
        JSON,
        json.dumps(
            {
                "id": "cmpl_1",
                "model": "codestral-2508",
                "choices": [{"index": 0, "message": {"content": "a):"}, "finish_reason": "stop"}],
                "usage": _FIM_USAGE,
            }
        ).encode(),
        _FIM_TOLD,
    ),
}

_V1_EVENTS = (
    {"is_finished": False, "event_type": "stream-start", "generation_id": "g1"},
    {"is_finished": False, "event_type": "text-generation", "text": "Hello"},
    {"is_finished": False, "event_type": "text-generation", "text": " yöu"},
    {
        "is_finished": True,
        "event_type": "stream-end",
        "finish_reason": "MAX_TOKENS",
        "response": _COHERE_V1_ANSWER,
    },
)
_V2_EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "message-start", "id": "c14c80c3", "delta": {"message": {"role": "assistant", "content": []}}},
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hello"}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": " yöu"}}}},
    {"type": "content-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": _COHERE_USAGE}},
)

STREAMED: dict[str, Recorded] = {
    "gemini, events": Recorded(
        gemini.GENERATE_CONTENT, {**_GEMINI_ASKED, **_STREAM}, SSE, sse(*_GEMINI_CHUNKS, end="\r\n"), _GEMINI_TOLD, 3
    ),
    "gemini, array": Recorded(
        gemini.GENERATE_CONTENT, {**_GEMINI_ASKED, **_STREAM}, JSON, array(*_GEMINI_CHUNKS), _GEMINI_TOLD, 3
    ),
    "llama.cpp": Recorded(
        llama_cpp.COMPLETION,
        {"prompt": "Hi", **_STREAM},
        SSE,
        sse(*({"index": 0, "content": c, "stop": False} for c in ("He", "llö", " you")), _LLAMA_LAST),
        _LLAMA_TOLD,
        4,
    ),
    "tgi": Recorded(
        tgi.GENERATE,
        {"inputs": "Hi", **_STREAM},
        SSE,
        sse(_tgi("He"), _tgi("llö"), _tgi("</s>", generated_text="Hellö", details=_TGI_DETAILS), space=""),
        {"input_tokens": 6, "output_tokens": 3, "finish_reasons": ("stop",)},
        3,
    ),
    "cohere": Recorded(cohere.CHAT, {**_COHERE_ASKED, **_STREAM}, SSE, sse(*_V2_EVENTS, named=True), _COHERE_TOLD, 6),
    "cohere, version 1": Recorded(
        cohere.CHAT, {"message": "Hi", **_STREAM}, "application/stream+json", lines(*_V1_EVENTS), _COHERE_V1_TOLD, 4
    ),
    "cohere, version 1, typed as JSON": Recorded(
        cohere.CHAT, {"message": "Hi", **_STREAM}, JSON, lines(*_V1_EVENTS, end="\r\n"), _COHERE_V1_TOLD, 4
    ),
    "mistral fim": Recorded(
        mistral.FIM,
        {**_FIM_ASKED, **_STREAM},
        SSE,
        sse(_chunk("a"), _chunk("):"), _chunk(None, usage=_FIM_USAGE), done=True),
        _FIM_TOLD,
        3,
    ),
    "openai, typed as text": Recorded(
        openai.CHAT,
        {"model": "codestral-latest", **_STREAM},
        "text/plain",
        sse(_chunk("a"), _chunk("):"), _chunk(None, usage=_FIM_USAGE), done=True),
        _FIM_TOLD,
        3,
    ),
}
