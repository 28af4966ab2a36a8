"""Which provider answers: by host, by port, by class of client."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from otel_llm.provider import provider_of
from otel_llm_openai.server import server_of


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
        assert server == server_of(client)
        assert server == server_of(client)
        client.base_url = "https://api.groq.com/openai/v1"
        assert ("groq", "api.groq.com", 443) == server_of(client)


def test_azure_by_class() -> None:
    """An Azure client is Azure whatever its host."""
    settings: dict[str, Any] = {"api_key": "test", "api_version": "1"}
    with openai.AzureOpenAI(azure_endpoint="https://proxy.example", **settings) as client:
        assert ("azure.ai.openai", "proxy.example", 443) == server_of(client)
