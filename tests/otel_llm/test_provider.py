"""Which provider answers: by host, by port, by class of client."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from otel_llm.provider import provider_of
from otel_llm.testing import Seen
from otel_llm.testing.server import Reply, ScriptedServer, sse
from otel_llm_openai.server import server_of
from otel_llm_semconv import attributes as names
from otel_llm_semconv.environment import OLLAMA_HOST


@pytest.mark.parametrize(
    ("host", "port", "provider"),
    [
        ("api.openai.com", 443, "openai"),
        ("API.OpenAI.com", 443, "openai"),
        ("mine.openai.azure.com", 443, "azure.ai.openai"),
        ("api.deepseek.com", 443, "deepseek"),
        ("api.groq.com", 443, "groq"),
        ("api.x.ai", 443, "x_ai"),
        ("api.mistral.ai", 443, "mistral_ai"),
        ("api.perplexity.ai", 443, "perplexity"),
        ("api.moonshot.cn", 443, "moonshot_ai"),
        ("generativelanguage.googleapis.com", 443, "gcp.gemini"),
        ("us-central1-aiplatform.googleapis.com", 443, "gcp.vertex_ai"),
        ("bedrock-runtime.us-east-1.amazonaws.com", 443, "aws.bedrock"),
        ("localhost", 11434, "ollama"),
        ("evil-api.openai.com.example.org", 443, "fallback"),
        ("10.0.0.7", 8000, "fallback"),
        (None, None, "fallback"),
    ],
)
def test_by_host_and_port(host: str | None, port: int | None, provider: str) -> None:
    """Well-known hosts name their provider, Ollama's port names Ollama, anything else is the client's default."""
    assert provider == provider_of(host, port, "fallback")


@pytest.mark.parametrize(
    ("base_url", "server"),
    [
        ("https://api.openai.com/v1", ("openai", "api.openai.com", 443)),
        ("http://localhost:11434/v1/", ("ollama", "localhost", 11434)),
        ("http://[::1]:8000/prefix/v1", ("openai", "::1", 8000)),
        ("http://gateway.example/v1", ("openai", "gateway.example", 80)),
    ],
)
def test_by_client(base_url: str, server: tuple[str, str, int]) -> None:
    """Address and port are those of the base URL, the port always told; a new base URL counts at once."""
    with openai.OpenAI(base_url=base_url, api_key="test") as client:
        assert server == server_of(client)[0][:3]
        assert server == server_of(client)[0][:3]
        client.base_url = "https://api.groq.com/openai/v1"
        assert ("groq", "api.groq.com", 443) == server_of(client)[0][:3]


@pytest.mark.parametrize(
    ("own", "host", "port", "provider"),
    [
        ("http://box:8000", "box", 8000, "ollama"),
        ("http://box:8000/", "BOX", 8000, "ollama"),
        ("box:8000", "box", 8000, "ollama"),
        ("box", "box", 8000, "fallback"),
        ("http://box", "box", 80, "ollama"),
        ("https://box/below", "box", 443, "ollama"),
        (":8000", "127.0.0.1", 8000, "ollama"),
        (":8000", "localhost", 8000, "ollama"),
        ("0.0.0.0:8000", "localhost", 8000, "ollama"),
        ("0.0.0.0:8000", "box", 8000, "fallback"),
        ("[::1]:8000", "::1", 8000, "ollama"),
        ("http://box:8000", "box", 8001, "fallback"),
        ("http://box:no", "box", 8000, "fallback"),
        ("http://[box", "box", 8000, "fallback"),
        ("http://api.openai.com:443", "api.openai.com", 443, "openai"),
        ("", "box", 8000, "fallback"),
    ],
)
def test_by_ollama_host(monkeypatch: pytest.MonkeyPatch, own: str, host: str, port: int, provider: str) -> None:
    """What ``OLLAMA_HOST`` names is Ollama, in every form that its clients take, unless the host is somebody's own."""
    monkeypatch.setenv(OLLAMA_HOST, own)
    assert provider == provider_of(host, port, "fallback")


@pytest.mark.parametrize("stream", [False, True])
def test_by_the_reply(server: ScriptedServer, seen: Seen, stream: bool) -> None:
    """A server that answers as Ollama does is Ollama on the span and in the metrics, with nothing of OpenAI's own."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}, "delta": {}}
    answer = {"id": "1", "object": "x", "created": 1, "model": "tiny", "choices": [choice]}
    said = {**answer, "service_tier": "default", "system_fingerprint": "fp_ollama"}
    server.script(sse(said, {**said, "choices": []}) if stream else Reply(json=said))
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        made: Any = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "hi"}], service_tier="flex", stream=stream
        )
        if stream:
            list(made)
    (span,) = seen.spans
    (point,) = seen.points("gen_ai.client.operation.duration")

    assert "ollama" == span["attributes"][names.GEN_AI_PROVIDER_NAME]
    assert "ollama" == point["attributes"][names.GEN_AI_PROVIDER_NAME]
    assert [] == [name for name in span["attributes"] if name.startswith("openai.")]
    assert [0] == [active["value"] for active in seen.points("otel_llm.client.active")]


def test_azure_by_class() -> None:
    """An Azure client is Azure whatever its host."""
    settings: dict[str, Any] = {"api_key": "test", "api_version": "1"}
    with openai.AzureOpenAI(azure_endpoint="https://proxy.example", **settings) as client:
        assert ("azure.ai.openai", "proxy.example", 443) == server_of(client)[0][:3]
