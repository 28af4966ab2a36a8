"""Mistral's completion of code between a prompt and a suffix: asked like a completion, answered like a chat.

Source: Mistral AI API reference, "Fim completion".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_llm.call import Call
from otel_llm.wire import openai_content as content
from otel_llm.wire.fields import integer, strings
from otel_llm.wire.format import Format
from otel_llm.wire.openai import CHAT, SAMPLING, Parameters, read_parameters
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import Operation

_FIM: Parameters = {
    **SAMPLING,
    "max_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "stop": (names.GEN_AI_REQUEST_STOP_SEQUENCES, strings),
    "random_seed": (names.GEN_AI_REQUEST_SEED, integer),
}


def _read_request(call: Call, body: Mapping[str, Any]) -> None:
    read_parameters(call, body, _FIM)


FIM = Format(
    Operation.TEXT_COMPLETION,
    _read_request,
    CHAT.read_answer,
    CHAT.read_chunks,
    CHAT.has_text,
    content.read_completion_request,
    content.read_chat_answer,
    content.read_chat_chunks,
)
