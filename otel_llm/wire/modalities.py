"""Tokens by modality: what of the usage was text, images or audio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import count
from otel_llm_semconv import attributes as names

INPUT: Mapping[str, str] = {
    "text_tokens": names.GEN_AI_USAGE_TEXT_INPUT_TOKENS,
    "image_tokens": names.GEN_AI_USAGE_IMAGE_INPUT_TOKENS,
    "audio_tokens": names.GEN_AI_USAGE_AUDIO_INPUT_TOKENS,
}
OUTPUT: Mapping[str, str] = {
    "text_tokens": names.GEN_AI_USAGE_TEXT_OUTPUT_TOKENS,
    "image_tokens": names.GEN_AI_USAGE_IMAGE_OUTPUT_TOKENS,
    "audio_tokens": names.GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS,
}
CACHED: Mapping[str, str] = {
    "text_tokens": names.GEN_AI_USAGE_TEXT_CACHE_READ_INPUT_TOKENS,
    "image_tokens": names.GEN_AI_USAGE_IMAGE_CACHE_READ_INPUT_TOKENS,
    "audio_tokens": names.GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS,
}


def read_modalities(call: Call, details: Mapping[str, Any], modalities: Mapping[str, str]) -> None:
    """Read the counts of one of the tables above, but for those that are zero."""
    for key, name in modalities.items():
        tokens = count(details.get(key))
        if tokens:
            call.modality_tokens = {**(call.modality_tokens or {}), name: tokens}
