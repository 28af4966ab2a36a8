"""Answers of Amazon Bedrock, and of Anthropic, whose models answer the same there."""

from __future__ import annotations

import json
from typing import Any

from otel_llm.wire import anthropic, bedrock
from tests.wire.recorded import FRAMES, JSON, SSE, Recorded
from tests.wire.writing import frames, invoked, sse

_BEDROCK_USAGE = {
    "inputTokens": 10,
    "outputTokens": 4,
    "totalTokens": 114,
    "cacheReadInputTokens": 60,
    "cacheWriteInputTokens": 40,
}
_BEDROCK_TOLD = {
    "request_model": "amazon.nova-lite-v1:0",
    "input_tokens": 110,
    "output_tokens": 4,
    "cache_read_tokens": 60,
    "cache_write_tokens": 40,
    "finish_reasons": ("stop",),
}
_BEDROCK_ASKED: dict[str, Any] = {
    "model": "amazon.nova-lite-v1:0",
    "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
    "inferenceConfig": {"maxTokens": 64, "temperature": 0.5},
}
_CONVERSE_EVENTS: tuple[dict[str, Any], ...] = (
    {"messageStart": {"role": "assistant"}},
    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hello"}}},
    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": " yöu"}}},
    {"contentBlockStop": {"contentBlockIndex": 0}},
    {"messageStop": {"stopReason": "end_turn"}},
    {"metadata": {"usage": _BEDROCK_USAGE, "metrics": {"latencyMs": 371}}},
)
_CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
_CLAUDE_ASKED: dict[str, Any] = {
    "model": _CLAUDE,
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hi"}],
}
_CLAUDE_USAGE = {"input_tokens": 9, "cache_read_input_tokens": 20, "output_tokens": 4}
_CLAUDE_EVENTS: tuple[dict[str, Any], ...] = (
    {
        "type": "message_start",
        "message": {"id": "msg_1", "type": "message", "model": "claude-sonnet-4-5", "usage": _CLAUDE_USAGE},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "yoü"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
    {"type": "message_stop"},
)
_CLAUDE_TOLD = {
    "response_id": "msg_1",
    "response_model": "claude-sonnet-4-5",
    "input_tokens": 29,
    "output_tokens": 4,
    "cache_read_tokens": 20,
    "finish_reasons": ("stop",),
}
_COUNTS = {"x-amzn-bedrock-input-token-count": "9", "x-amzn-bedrock-output-token-count": "4"}
_STREAM = {"stream": True}

PLAIN: dict[str, Recorded] = {
    "converse": Recorded(
        bedrock.CONVERSE,
        _BEDROCK_ASKED,
        JSON,
        json.dumps(
            {
                "output": {"message": {"role": "assistant", "content": [{"text": "Hello yöu"}]}},
                "stopReason": "end_turn",
                "usage": _BEDROCK_USAGE,
                "metrics": {"latencyMs": 371},
            }
        ).encode(),
        _BEDROCK_TOLD,
    ),
    "invoke claude": Recorded(
        bedrock.INVOKE,
        _CLAUDE_ASKED,
        JSON,
        json.dumps(
            {
                "id": "msg_1",
                "type": "message",
                "model": "claude-sonnet-4-5",
                "content": [{"type": "text", "text": "Hi yoü"}],
                "stop_reason": "end_turn",
                "usage": _CLAUDE_USAGE,
            }
        ).encode(),
        {**_CLAUDE_TOLD, "operation": "chat", "request_model": _CLAUDE},
        headers=_COUNTS,
    ),
    "invoke titan": Recorded(
        bedrock.INVOKE,
        {"model": "amazon.titan-text-express-v1", "inputText": "Hi", "textGenerationConfig": {"maxTokenCount": 9}},
        JSON,
        b'{"inputTextTokenCount": 9, "results": [{"tokenCount": 4, "outputText": "Yo", "completionReason": "FINISH"}]}',
        {"operation": "text_completion", "input_tokens": 9, "output_tokens": 4, "finish_reasons": ("stop",)},
    ),
    "invoke llama": Recorded(
        bedrock.INVOKE,
        {"model": "meta.llama3-8b-instruct-v1:0", "prompt": "Hi", "max_gen_len": 9},
        JSON,
        b'{"generation": "Yo", "prompt_token_count": 9, "generation_token_count": 4, "stop_reason": "length"}',
        {"operation": "text_completion", "input_tokens": 9, "output_tokens": 4, "finish_reasons": ("length",)},
    ),
    "invoke mistral": Recorded(
        bedrock.INVOKE,
        {"model": "mistral.mistral-7b-instruct-v0:2", "prompt": "Hi"},
        JSON,
        b'{"outputs": [{"text": "Yo", "stop_reason": "stop"}]}',
        {"input_tokens": 9, "output_tokens": 4, "finish_reasons": ("stop",)},
        headers=_COUNTS,
    ),
    "invoke nova": Recorded(
        bedrock.INVOKE,
        {**_BEDROCK_ASKED, "schemaVersion": "messages-v1"},
        JSON,
        json.dumps(
            {"output": {"message": {"content": []}}, "stopReason": "end_turn", "usage": _BEDROCK_USAGE}
        ).encode(),
        _BEDROCK_TOLD,
    ),
    "invoke titan embeddings": Recorded(
        bedrock.INVOKE,
        {"model": "amazon.titan-embed-text-v2:0", "inputText": "Hi", "dimensions": 256},
        JSON,
        b'{"embedding": [0.1, 0.2], "inputTextTokenCount": 3}',
        {"operation": "embeddings", "input_tokens": 3, "output_tokens": None, "finish_reasons": ()},
    ),
    "invoke cohere embeddings": Recorded(
        bedrock.INVOKE,
        {"model": "cohere.embed-multilingual-v3", "texts": ["Hi"], "input_type": "search_query"},
        JSON,
        b'{"id": "e1", "embeddings": [[0.1, 0.2]], "response_type": "embeddings_floats", "texts": ["Hi"]}',
        {"operation": "embeddings", "input_tokens": 9, "output_tokens": None, "finish_reasons": ()},
        headers=_COUNTS,
    ),
}

STREAMED: dict[str, Recorded] = {
    "anthropic": Recorded(
        anthropic.MESSAGES, {**_CLAUDE_ASKED, **_STREAM}, SSE, sse(*_CLAUDE_EVENTS, named=True), _CLAUDE_TOLD, 7
    ),
    "converse": Recorded(
        bedrock.CONVERSE, {**_BEDROCK_ASKED, **_STREAM}, FRAMES, frames(_CONVERSE_EVENTS), _BEDROCK_TOLD, 6
    ),
    "invoke claude": Recorded(
        bedrock.INVOKE, {**_CLAUDE_ASKED, **_STREAM}, FRAMES, invoked(*_CLAUDE_EVENTS), _CLAUDE_TOLD, 7
    ),
    "invoke nova": Recorded(
        bedrock.INVOKE, {**_BEDROCK_ASKED, **_STREAM}, FRAMES, invoked(*_CONVERSE_EVENTS), _BEDROCK_TOLD, 6
    ),
    "invoke titan": Recorded(
        bedrock.INVOKE,
        {"model": "amazon.titan-text-express-v1", "inputText": "Hi", **_STREAM},
        FRAMES,
        invoked(
            {"outputText": "Yo", "index": 0, "totalOutputTextTokenCount": None, "inputTextTokenCount": 9},
            {"outputText": " you", "index": 0, "totalOutputTextTokenCount": 4, "completionReason": "LENGTH"},
        ),
        {"operation": "text_completion", "input_tokens": 9, "output_tokens": 4, "finish_reasons": ("length",)},
        2,
    ),
    "invoke llama": Recorded(
        bedrock.INVOKE,
        {"model": "meta.llama3-8b-instruct-v1:0", "prompt": "Hi", **_STREAM},
        FRAMES,
        invoked(
            {"generation": "Yo", "prompt_token_count": 9, "generation_token_count": 1, "stop_reason": None},
            {"generation": "", "prompt_token_count": None, "generation_token_count": 4, "stop_reason": "stop"},
        ),
        {"input_tokens": 9, "output_tokens": 4, "finish_reasons": ("stop",)},
        2,
    ),
    "invoke mistral": Recorded(
        bedrock.INVOKE,
        {"model": "mistral.mistral-7b-instruct-v0:2", "prompt": "Hi", **_STREAM},
        FRAMES,
        invoked({"outputs": [{"text": "Yo", "stop_reason": None}]}, {"outputs": [{"text": "", "stop_reason": "stop"}]}),
        {"input_tokens": 9, "output_tokens": 4, "finish_reasons": ("stop",)},
        2,
    ),
}
