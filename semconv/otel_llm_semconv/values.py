"""Values of the attributes which have a fixed set of them.

Plain namespaces of strings rather than enumerations: they cost nothing to import, and their members are the values.
"""

from typing import Final

from otel_llm_semconv import attributes as names


class Operation:
    """Values of `gen_ai.operation.name` (GenAI semantic conventions, spans)."""

    CHAT: Final = "chat"
    """Chat completion, OpenAI's responses and Ollama's chat included."""
    TEXT_COMPLETION: Final = "text_completion"
    """Completion of a text, such as OpenAI's legacy completions and Ollama's generate."""
    GENERATE_CONTENT: Final = "generate_content"
    """Multimodal generation, such as Gemini's generateContent."""
    EMBEDDINGS: Final = "embeddings"
    """Embedding of texts."""
    RETRIEVAL: Final = "retrieval"
    """Search in a data source, such as OpenAI's vector stores."""
    FETCH_RESPONSE: Final = "fetch_response"
    """Fetching an earlier response by its identifier; reports no token usage."""
    CREATE_AGENT: Final = "create_agent"
    """Creation of a hosted agent."""
    INVOKE_AGENT: Final = "invoke_agent"
    """Run of an agent, remote or in process."""
    INVOKE_WORKFLOW: Final = "invoke_workflow"
    """Run of a workflow of several agents or operations."""
    PLAN: Final = "plan"
    """Planning phase of an agent."""
    EXECUTE_TOOL: Final = "execute_tool"
    """Execution of a tool by the application."""
    CREATE_MEMORY: Final = "create_memory"
    """Creation of memory records."""
    UPDATE_MEMORY: Final = "update_memory"
    """Change of memory records."""
    UPSERT_MEMORY: Final = "upsert_memory"
    """Creation or change of memory records, whichever is needed."""
    SEARCH_MEMORY: Final = "search_memory"
    """Search in a memory store."""
    DELETE_MEMORY: Final = "delete_memory"
    """Deletion of memory records."""
    CREATE_MEMORY_STORE: Final = "create_memory_store"
    """Creation of a memory store."""
    DELETE_MEMORY_STORE: Final = "delete_memory_store"
    """Deletion of a memory store."""
    MODERATION: Final = "moderation"
    """Classification of content by a moderation model; a custom value, as are those below."""
    DECISION: Final = "decision"
    """Answers to closed questions about an input, as OpenAI's decisions."""
    COMPACT_RESPONSE: Final = "compact_response"
    """Compaction of a conversation by a model."""
    CANCEL_RESPONSE: Final = "cancel_response"
    """Cancellation of a response that is being made in the background; reports no token usage."""
    COUNT_TOKENS: Final = "count_tokens"
    """Counting the tokens of an input without running a model on it."""
    CREATE_VIDEO: Final = "create_video"
    """Order of a video, which is made after the call."""
    RERANK: Final = "rerank"
    """Order of documents by their relevance to a query."""


INFERENCE_OPERATIONS: Final = frozenset({Operation.CHAT, Operation.TEXT_COMPLETION, Operation.GENERATE_CONTENT})
"""Operations the conventions call inference: those with the `gen_ai.client.inference.*` metrics."""

SPAN_NAMED_BY: Final = {
    Operation.CREATE_AGENT: names.GEN_AI_AGENT_NAME,
    Operation.INVOKE_AGENT: names.GEN_AI_AGENT_NAME,
    Operation.RETRIEVAL: names.GEN_AI_DATA_SOURCE_ID,
}
"""Attributes that stand in the span name after the operation, where that is not the model (GenAI semantic conventions,
"Retrieval", "Create agent", "Invoke agent")."""


class OutputType:
    """Values of `gen_ai.output.type` (GenAI semantic conventions, spans, inference)."""

    TEXT: Final = "text"
    """Plain text."""
    JSON: Final = "json"
    """A JSON object, of a given schema or not."""
    IMAGE: Final = "image"
    """An image."""
    SPEECH: Final = "speech"
    """Speech."""


class ResponseStatus:
    """Values of `gen_ai.response.status` (GenAI semantic conventions, spans, fetch response)."""

    QUEUED: Final = "queued"
    """Accepted, not begun."""
    IN_PROGRESS: Final = "in_progress"
    """Being generated."""
    COMPLETED: Final = "completed"
    """Finished well."""
    INCOMPLETE: Final = "incomplete"
    """Stopped early, by a token limit or a content filter."""
    FAILED: Final = "failed"
    """Ended in an error."""
    CANCELLED: Final = "cancelled"
    """Cancelled before the end."""


class FinishReason:
    """Values of a message's finish reason (GenAI semantic conventions, output messages schema).

    `gen_ai.response.finish_reasons` keeps the provider's own words; of these it needs only `ERROR`.
    """

    STOP: Final = "stop"
    """The model came to an end or to a stop sequence."""
    LENGTH: Final = "length"
    """The token limit was reached."""
    CONTENT_FILTER: Final = "content_filter"
    """A content filter cut the output."""
    TOOL_CALL: Final = "tool_call"
    """The model wants a tool called."""
    COMPACTION: Final = "compaction"
    """The conversation was compacted."""
    ERROR: Final = "error"
    """Generation failed, or a reason was due and never came."""


class TokenType:
    """Values of `gen_ai.token.type` (semantic conventions 1.41, GenAI metrics)."""

    INPUT: Final = "input"
    """Input tokens."""
    OUTPUT: Final = "output"
    """Output tokens."""


class TokenModality:
    """Values of `gen_ai.token.modality` (GenAI semantic conventions, token metrics)."""

    TEXT: Final = "text"
    """Tokens of text."""
    IMAGE: Final = "image"
    """Tokens of images."""
    AUDIO: Final = "audio"
    """Tokens of audio."""
    UNKNOWN: Final = "unknown"
    """Tokens the provider does not break down."""


class TokenKind:
    """Values of `otel_llm.token.kind`.

    `INPUT` and `OUTPUT` are totals. The others are parts of them, so never add them up.
    """

    INPUT: Final = "input"
    """All input tokens."""
    OUTPUT: Final = "output"
    """All output tokens."""
    CACHE_READ: Final = "cache_read"
    """Input tokens served from the provider's cache."""
    CACHE_WRITE: Final = "cache_write"
    """Input tokens written to the provider's cache."""
    REASONING: Final = "reasoning"
    """Output tokens spent on reasoning."""


class ToolType:
    """Values of `gen_ai.tool.type` (GenAI semantic conventions, spans, execute tool)."""

    FUNCTION: Final = "function"
    """Run by the client with arguments from the model."""
    EXTENSION: Final = "extension"
    """Run on the agent's side to call other systems."""
    DATASTORE: Final = "datastore"
    """Gives access to data for retrieval."""


class OpenAIApiType:
    """Values of `openai.api.type` (GenAI semantic conventions, OpenAI)."""

    CHAT_COMPLETIONS: Final = "chat_completions"
    """The chat completions API."""
    RESPONSES: Final = "responses"
    """The responses API."""


class OpenAIServiceTier:
    """Values of `openai.request.service_tier` (GenAI semantic conventions, OpenAI); responses may name others."""

    AUTO: Final = "auto"
    """The project's setting decides; not reported."""
    DEFAULT: Final = "default"
    """The standard tier."""


class RetryReason:
    """Values of `otel_llm.retry.reason`."""

    RATE_LIMIT: Final = "rate_limit"
    """Status 429."""
    TIMEOUT: Final = "timeout"
    """No answer in time, or status 408."""
    CONNECTION: Final = "connection"
    """The connection failed or broke."""
    CONFLICT: Final = "conflict"
    """Status 409."""
    SERVER_ERROR: Final = "server_error"
    """Status 500 and above."""
    OTHER: Final = "other"
    """Anything else, such as the server's `x-should-retry` header."""


class StreamOutcome:
    """Values of `otel_llm.stream.outcome`."""

    COMPLETED: Final = "completed"
    """Read to its end."""
    CLOSED: Final = "closed"
    """Closed by the application before its end, which is no error."""
    ABANDONED: Final = "abandoned"
    """Dropped without being closed."""


class Work:
    """How names of spans begin that are of no operation of the conventions."""

    STEP: Final = "step"
    """A step of a workflow."""
    LOAD_MODEL: Final = "load_model"
    """The application loads a model."""
    INFERENCE: Final = "inference"
    """The application asks a model, by calls that have spans of their own."""


CIRCUIT_BREAKER_STATES: Final = {"closed": 0, "half-open": 1, "open": 2}
"""Values of `otel_llm.circuit_breaker.state` by the names of the states (TinyLLM)."""

HTTP_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
"""Values of `http.request.method` (semantic conventions 1.44, HTTP client spans)."""

OTHER_HTTP_METHOD: Final = "_OTHER"
"""Value of `http.request.method` for any other method."""
