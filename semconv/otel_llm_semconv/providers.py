"""Values of `gen_ai.provider.name`, and the hosts and ports that give a provider away.

Data only: the function which chooses a provider is in `otel_llm`.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Provider:
    """Values of `gen_ai.provider.name` (GenAI semantic conventions, registry), and a few custom ones of ours."""

    ANTHROPIC: Final = "anthropic"
    """Anthropic."""
    AWS_BEDROCK: Final = "aws.bedrock"
    """AWS Bedrock."""
    AZURE_AI_INFERENCE: Final = "azure.ai.inference"
    """Azure AI Inference."""
    AZURE_AI_OPENAI: Final = "azure.ai.openai"
    """Azure OpenAI."""
    COHERE: Final = "cohere"
    """Cohere."""
    DEEPSEEK: Final = "deepseek"
    """DeepSeek."""
    GCP_GEMINI: Final = "gcp.gemini"
    """Gemini, the `generativelanguage.googleapis.com` endpoint."""
    GCP_GEN_AI: Final = "gcp.gen_ai"
    """Any Google endpoint, if it is not known which."""
    GCP_VERTEX_AI: Final = "gcp.vertex_ai"
    """Vertex AI, the `aiplatform.googleapis.com` endpoint."""
    GROQ: Final = "groq"
    """Groq."""
    IBM_WATSONX_AI: Final = "ibm.watsonx.ai"
    """IBM watsonx.ai."""
    MISTRAL_AI: Final = "mistral_ai"
    """Mistral AI."""
    MOONSHOT_AI: Final = "moonshot_ai"
    """Moonshot AI."""
    OPENAI: Final = "openai"
    """OpenAI."""
    PERPLEXITY: Final = "perplexity"
    """Perplexity."""
    X_AI: Final = "x_ai"
    """xAI."""
    OLLAMA: Final = "ollama"
    """Ollama, for which the conventions have no value yet."""
    CEREBRAS: Final = "cerebras"
    """Cerebras, likewise."""
    TOGETHER_AI: Final = "together_ai"
    """Together AI, likewise."""
    LLAMA_CPP: Final = "llama_cpp"
    """llama.cpp's server, likewise."""
    TGI: Final = "tgi"
    """Text Generation Inference, likewise."""


OPENAI_FLAVOURED: Final = frozenset({Provider.OPENAI, Provider.AZURE_AI_OPENAI})
"""Providers whose telemetry may carry `openai.*` attributes."""


class HostRule(NamedTuple):
    """A host belongs to the provider if its lower-case name starts with `prefix` and ends with `suffix`."""

    prefix: str
    """How the host name starts, often empty."""
    suffix: str
    """How the host name ends: three labels or a leading dot, so that no foreign domain can match."""
    provider: str
    """The provider, a value of `Provider`."""


HOST_RULES: Final = (
    HostRule("", ".openai.azure.com", Provider.AZURE_AI_OPENAI),
    HostRule("", ".openai.azure.us", Provider.AZURE_AI_OPENAI),
    HostRule("", ".inference.ai.azure.com", Provider.AZURE_AI_INFERENCE),
    HostRule("", ".services.ai.azure.com", Provider.AZURE_AI_INFERENCE),
    HostRule("", "api.openai.com", Provider.OPENAI),
    HostRule("", "api.anthropic.com", Provider.ANTHROPIC),
    HostRule("", "api.deepseek.com", Provider.DEEPSEEK),
    HostRule("", "api.groq.com", Provider.GROQ),
    HostRule("", "api.together.ai", Provider.TOGETHER_AI),
    HostRule("", "api.together.xyz", Provider.TOGETHER_AI),
    HostRule("", "api.cerebras.ai", Provider.CEREBRAS),
    HostRule("", "api.x.ai", Provider.X_AI),
    HostRule("", "api.mistral.ai", Provider.MISTRAL_AI),
    HostRule("", "api.perplexity.ai", Provider.PERPLEXITY),
    HostRule("", "api.moonshot.ai", Provider.MOONSHOT_AI),
    HostRule("", "api.moonshot.cn", Provider.MOONSHOT_AI),
    HostRule("", "api.cohere.com", Provider.COHERE),
    HostRule("", "api.cohere.ai", Provider.COHERE),
    HostRule("", "generativelanguage.googleapis.com", Provider.GCP_GEMINI),
    HostRule("", "aiplatform.googleapis.com", Provider.GCP_VERTEX_AI),
    HostRule("bedrock", ".amazonaws.com", Provider.AWS_BEDROCK),
    HostRule("bedrock", ".api.aws", Provider.AWS_BEDROCK),
    HostRule("", ".ml.cloud.ibm.com", Provider.IBM_WATSONX_AI),
)
"""Hosts of the well-known providers; the first rule that matches decides."""

OLLAMA_FINGERPRINT: Final = "fp_ollama"
"""What Ollama says as `system_fingerprint` behind its OpenAI-compatible endpoints."""

PROVIDER_PORTS: Final[Mapping[int, str]] = {11434: Provider.OLLAMA}
"""Ports that name a provider on a host no rule knows."""
