"""What other GenAI instrumentations write: their scopes, and how they spell what the conventions now spell otherwise.

Those of contrib, OpenLLMetry and pydantic-ai are as their packages of November 2026 have them, others as they document
themselves; what is not listed is taken as it is.
"""

from collections.abc import Mapping
from typing import Final

from otel_llm_semconv.errors import ErrorClass
from otel_llm_semconv.providers import Provider
from otel_llm_semconv.values import Operation, TokenType

SYSTEM: Final = "gen_ai.system"
"""Attribute that was `gen_ai.provider.name` until semantic conventions 1.37."""

CLIENT_BY_SCOPE: Final[Mapping[str, str]] = {
    "opentelemetry.instrumentation.anthropic": "anthropic",
    "opentelemetry.instrumentation.genai.anthropic": "anthropic",
    "opentelemetry.instrumentation.genai.openai": "openai",
    "opentelemetry.instrumentation.groq": "groq",
    "opentelemetry.instrumentation.ollama": "ollama",
    "opentelemetry.instrumentation.openai": "openai",
    "opentelemetry.instrumentation.openai_v2": "openai",
    "opentelemetry.instrumentation.together": "together",
}
"""Scopes, and those below them, of instrumentations of one client that otel-llm patches: the package of the client."""

PROVIDER_BY_SCOPE: Final[Mapping[str, str]] = {
    "opentelemetry.instrumentation.bedrock": Provider.AWS_BEDROCK,
    "opentelemetry.instrumentation.botocore": Provider.AWS_BEDROCK,
    "opentelemetry.instrumentation.cohere": Provider.COHERE,
    "opentelemetry.instrumentation.google_genai": Provider.GCP_GEN_AI,
    "opentelemetry.instrumentation.google_generativeai": Provider.GCP_GEN_AI,
    "opentelemetry.instrumentation.mistralai": Provider.MISTRAL_AI,
    "opentelemetry.instrumentation.sagemaker": "aws.sagemaker",
    "opentelemetry.instrumentation.vertexai": Provider.GCP_VERTEX_AI,
    "opentelemetry.instrumentation.watsonx": Provider.IBM_WATSONX_AI,
}
"""Scopes of instrumentations of one provider, some of whose points do not name it."""

FRAMEWORK_SCOPES: Final = frozenset(
    {
        "agent_framework",
        "agno",
        "haystack",
        "langchain",
        "litellm",
        "llama_index",
        "opentelemetry.instrumentation.agno",
        "opentelemetry.instrumentation.crewai",
        "opentelemetry.instrumentation.genai.langchain",
        "opentelemetry.instrumentation.haystack",
        "opentelemetry.instrumentation.langchain",
        "opentelemetry.instrumentation.llamaindex",
        "opentelemetry.instrumentation.openai_agents",
        "pydantic-ai",
        "semantic_kernel",
        "strands",
    }
)
"""Scopes, and those below them, of frameworks: what they count goes by clients that may be counted themselves."""

PROVIDERS: Final[Mapping[str, str]] = {
    "aws": Provider.AWS_BEDROCK,
    "az.ai.inference": Provider.AZURE_AI_INFERENCE,
    "az.ai.openai": Provider.AZURE_AI_OPENAI,
    "azure": Provider.AZURE_AI_OPENAI,
    "azure_openai": Provider.AZURE_AI_OPENAI,
    "bedrock": Provider.AWS_BEDROCK,
    "gemini": Provider.GCP_GEMINI,
    "google": Provider.GCP_GEN_AI,
    "google_genai": Provider.GCP_GEN_AI,
    "mistral": Provider.MISTRAL_AI,
    "mistralai": Provider.MISTRAL_AI,
    "together": Provider.TOGETHER_AI,
    "togetherai": Provider.TOGETHER_AI,
    "vertex_ai": Provider.GCP_VERTEX_AI,
    "vertexai": Provider.GCP_VERTEX_AI,
    "watsonx": Provider.IBM_WATSONX_AI,
    "xai": Provider.X_AI,
}
"""Providers, in lower case, that are spelled otherwise in the conventions."""

OPERATIONS: Final[Mapping[str, str]] = {
    "acompletion": Operation.CHAT,
    "aembedding": Operation.EMBEDDINGS,
    "completion": Operation.CHAT,
    "embedding": Operation.EMBEDDINGS,
}
"""Operations that are spelled otherwise in the conventions."""

NOT_CALLS: Final = frozenset(
    {
        Operation.CANCEL_RESPONSE,
        Operation.COUNT_TOKENS,
        Operation.CREATE_AGENT,
        Operation.CREATE_MEMORY,
        Operation.CREATE_MEMORY_STORE,
        Operation.CREATE_VIDEO,
        Operation.DELETE_MEMORY,
        Operation.DELETE_MEMORY_STORE,
        Operation.EXECUTE_TOOL,
        Operation.FETCH_RESPONSE,
        Operation.INVOKE_AGENT,
        Operation.INVOKE_WORKFLOW,
        Operation.PLAN,
        Operation.RETRIEVAL,
        Operation.SEARCH_MEMORY,
        Operation.UPDATE_MEMORY,
        Operation.UPSERT_MEMORY,
        "agent",
        "framework",
        "task",
        "tool",
        "vectordb",
        "workflow",
    }
)
"""Operations that run no model, or whose calls of models are counted by themselves."""

TOKEN_TYPES: Final[Mapping[str, str]] = {
    "completion": TokenType.OUTPUT,
    "prompt": TokenType.INPUT,
}
"""Types of tokens that are spelled otherwise in the conventions."""

CLASS_BY_EXCEPTION: Final[Mapping[str, str]] = {
    # botocore, and what services of AWS call their errors
    "AccessDenied": ErrorClass.AUTH,
    "AccessDeniedException": ErrorClass.AUTH,
    "ClientError": ErrorClass.API_ERROR,
    "ConnectionClosedError": ErrorClass.NETWORK,
    "ExpiredToken": ErrorClass.AUTH,
    "ExpiredTokenException": ErrorClass.AUTH,
    "InternalFailure": ErrorClass.API_ERROR,
    "InternalServerException": ErrorClass.API_ERROR,
    "InvalidSignatureException": ErrorClass.AUTH,
    "LimitExceededException": ErrorClass.RATE_LIMIT,
    "MissingAuthenticationTokenException": ErrorClass.AUTH,
    "ModelErrorException": ErrorClass.API_ERROR,
    "ModelNotReadyException": ErrorClass.API_ERROR,
    "ModelStreamErrorException": ErrorClass.API_ERROR,
    "ModelTimeoutException": ErrorClass.TIMEOUT,
    "NoCredentialsError": ErrorClass.AUTH,
    "RequestTimeout": ErrorClass.TIMEOUT,
    "RequestTimeoutException": ErrorClass.TIMEOUT,
    "ResourceNotFoundException": ErrorClass.API_ERROR,
    "ServiceQuotaExceededException": ErrorClass.RATE_LIMIT,
    "ServiceUnavailableException": ErrorClass.API_ERROR,
    "ThrottledException": ErrorClass.RATE_LIMIT,
    "Throttling": ErrorClass.RATE_LIMIT,
    "ThrottlingException": ErrorClass.RATE_LIMIT,
    "TooManyRequestsException": ErrorClass.RATE_LIMIT,
    "UnrecognizedClientException": ErrorClass.AUTH,
    "ValidationException": ErrorClass.API_ERROR,
    # google.api_core and google.genai
    "BadRequest": ErrorClass.API_ERROR,
    "DeadlineExceeded": ErrorClass.TIMEOUT,
    "Forbidden": ErrorClass.AUTH,
    "GatewayTimeout": ErrorClass.TIMEOUT,
    "InvalidArgument": ErrorClass.API_ERROR,
    "NotFound": ErrorClass.API_ERROR,
    "PermissionDenied": ErrorClass.AUTH,
    "ResourceExhausted": ErrorClass.RATE_LIMIT,
    "RetryError": ErrorClass.TIMEOUT,
    "ServerError": ErrorClass.API_ERROR,
    "ServiceUnavailable": ErrorClass.API_ERROR,
    "TooManyRequests": ErrorClass.RATE_LIMIT,
    "Unauthenticated": ErrorClass.AUTH,
    "Unauthorized": ErrorClass.AUTH,
    # aiohttp and requests
    "ClientConnectorError": ErrorClass.NETWORK,
    "ClientOSError": ErrorClass.NETWORK,
    "HTTPError": ErrorClass.API_ERROR,
    "ServerDisconnectedError": ErrorClass.NETWORK,
}
"""Class of an exception of a client that otel-llm does not patch, by its name without the module."""
