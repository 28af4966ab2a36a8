"""Every format by its name, for what recognises requests by their paths and reads their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from otel_llm.wire.format import Format
from otel_llm_semconv.providers import Provider

NAMES: Mapping[str, str] = {
    "openai.chat": "openai_any.CHAT",
    "openai.completions": "openai_any.COMPLETIONS",
    "openai.responses": "openai.RESPONSES",
    "openai.embeddings": "openai.EMBEDDINGS",
    "openai.images": "openai_any.IMAGES",
    "openai.speech": "openai_any.SPEECH",
    "openai.transcriptions": "openai_any.TRANSCRIPTIONS",
    "openai.moderations": "openai_any.MODERATIONS",
    "groq.chat": "openai_any.GROQ_CHAT",
    "cerebras.chat": "openai_any.CEREBRAS_CHAT",
    "cerebras.completions": "openai_any.CEREBRAS_COMPLETIONS",
    "anthropic.messages": "anthropic.MESSAGES",
    "anthropic.complete": "anthropic.COMPLETE",
    "gemini.generate": "gemini.GENERATE_CONTENT",
    "gemini.embed": "gemini.EMBED_CONTENT",
    "vertex.predict": "gemini.PREDICT",
    "bedrock.converse": "bedrock.CONVERSE",
    "bedrock.invoke": "bedrock.INVOKE",
    "cohere.chat": "cohere.CHAT",
    "cohere.generate": "cohere.GENERATE",
    "cohere.embed": "cohere.EMBED",
    "cohere.rerank": "cohere.RERANK",
    "mistral.fim": "mistral.FIM",
    "rerank.rerank": "rerank.RERANK",
    "ollama.chat": "ollama.CHAT",
    "ollama.generate": "ollama.GENERATE",
    "ollama.embed": "ollama.EMBED",
    "llama_cpp.completion": "llama_cpp.COMPLETION",
    "llama_cpp.infill": "llama_cpp.INFILL",
    "llama_cpp.embedding": "llama_cpp.EMBEDDING",
    "tgi.generate": "tgi.GENERATE",
}
"""Where each format is, by its name: the API's, a dot, and the endpoint's. A module is imported when it is needed."""

_PROVIDERS: Mapping[str, str] = {
    "openai": Provider.OPENAI,
    "groq": Provider.GROQ,
    "cerebras": Provider.CEREBRAS,
    "anthropic": Provider.ANTHROPIC,
    "gemini": Provider.GCP_GEMINI,
    "vertex": Provider.GCP_VERTEX_AI,
    "bedrock": Provider.AWS_BEDROCK,
    "cohere": Provider.COHERE,
    "mistral": Provider.MISTRAL_AI,
    "rerank": Provider.COHERE,
    "ollama": Provider.OLLAMA,
    "llama_cpp": Provider.LLAMA_CPP,
    "tgi": Provider.TGI,
}


@cache
def format_of(name: str) -> Format:
    """Return a format by its name."""
    module, _, attribute = NAMES[name].partition(".")
    format: Format = getattr(import_module(f"otel_llm.wire.{module}"), attribute)
    return format


def provider_by_format(name: str) -> str:
    """Return who answers a format where the host does not tell: who made it."""
    return _PROVIDERS[name.partition(".")[0]]
