"""Mistral's completion of code between a prompt and a suffix: asked like a completion, answered like a chat.

Source: Mistral AI API reference, "Fim completion".
"""

from __future__ import annotations

from otel_llm.wire import openai_content as content
from otel_llm.wire.fields import integer
from otel_llm.wire.format import Format
from otel_llm.wire.openai import CHAT
from otel_llm.wire.parameters import SAMPLING, Parameters, reader_of
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import Operation

_FIM: Parameters = {
    **SAMPLING,
    "max_tokens": (names.GEN_AI_REQUEST_MAX_TOKENS, integer),
    "random_seed": (names.GEN_AI_REQUEST_SEED, integer),
}


FIM = Format(
    Operation.TEXT_COMPLETION,
    reader_of(_FIM),
    CHAT.read_answer,
    CHAT.read_chunks,
    CHAT.has_text,
    content.read_completion_request,
    content.read_chat_answer,
    content.read_chat_chunks,
)
