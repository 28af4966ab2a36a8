"""The real client against the Anthropic-compatible endpoint of a real Ollama."""

from __future__ import annotations

from typing import Any

import pytest

from otel_llm.testing import capture
from otel_llm_semconv import attributes as names
from tests.backends.servers import Ollama

anthropic: Any = pytest.importorskip("anthropic")


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_are_what_the_server_said(ollama_server: Ollama, stream: bool) -> None:
    """Model, reason and tokens are those of the answer; the end of a stream corrects what its beginning guessed."""
    asked: Any = {"model": "tiny", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}
    with anthropic.Anthropic(base_url=ollama_server.url, api_key="none", max_retries=0) as own, capture() as seen:
        if stream:
            events = list(own.messages.create(**asked, stream=True))
            (message,) = [event.message for event in events if event.type == "message_start"]
            (last,) = [event for event in events if event.type == "message_delta"]
            reason, usage = last.delta.stop_reason, last.usage
        else:
            message = own.messages.create(**asked)
            reason, usage = message.stop_reason, message.usage

        (span,) = seen.spans

    assert usage.output_tokens > 0
    expected = {
        names.GEN_AI_RESPONSE_ID: message.id,
        names.GEN_AI_RESPONSE_MODEL: message.model,
        names.GEN_AI_USAGE_INPUT_TOKENS: usage.input_tokens,
        names.GEN_AI_USAGE_OUTPUT_TOKENS: usage.output_tokens,
        names.GEN_AI_RESPONSE_FINISH_REASONS: ({"end_turn": "stop", "max_tokens": "length"}[reason],),
    }
    assert expected == {name: span["attributes"].get(name) for name in expected}
    assert "chat tiny" == span["name"]


def test_an_unknown_model(ollama_server: Ollama) -> None:
    """The exception that the caller gets is the error of the call."""
    asked: Any = {"model": "nobody", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}
    with anthropic.Anthropic(base_url=ollama_server.url, api_key="none", max_retries=0) as own, capture() as seen:
        with pytest.raises(anthropic.NotFoundError):
            own.messages.create(**asked)

        (span,) = seen.spans

    assert ("error", "anthropic.NotFoundError") == (span["status"], span["attributes"][names.ERROR_TYPE])
