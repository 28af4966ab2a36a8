"""Metrics: name, unit, attributes and buckets of each, in both vocabularies of the conventions and in our own.

Released versions of the conventions and their present state name the client metrics differently, without aliases:
`released` is semantic conventions 1.41, the last with GenAI content and what dashboards know; `latest` is the GenAI
conventions' own repository. No name means two things, so both can be written side by side.

`attributes` are the keys we put on a measurement, a fixed and bounded set. The conventions would add
`openai.response.service_tier` and `openai.response.system_fingerprint`; the project keeps them on spans, because each
new fingerprint would begin new series for ever.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from otel_llm_semconv import attributes as attr

Kind: TypeAlias = Literal["histogram", "counter", "updowncounter", "gauge"]
"""Kind of instrument."""

Vocabulary: TypeAlias = Literal["released", "latest", "otel_llm"]
"""Where a metric is at home."""

VocabularyChoice: TypeAlias = Literal["released", "latest", "both"]
"""What a user can ask for; our own metrics are there in any case."""


class Metric(NamedTuple):
    """What one instrument is made from."""

    name: str
    """Name of the metric."""
    kind: Kind
    """Kind of instrument, observable or not."""
    value_type: type[int] | type[float]
    """Type of the values."""
    unit: str
    """Unit in UCUM."""
    description: str
    """What it measures, in the conventions' own words where they have it."""
    attributes: tuple[str, ...]
    """Keys of the attributes a measurement may have."""
    boundaries: tuple[float, ...]
    """Explicit bucket boundaries of a histogram, else empty."""
    vocabularies: tuple[Vocabulary, ...]
    """The vocabularies that have it."""
    source: str
    """Where it is defined."""


# Bucket boundaries

DURATION_BOUNDARIES: Final[tuple[float, ...]] = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
    *(1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
"""Seconds of client operations (GenAI semantic conventions, metrics); doubling."""

TOKEN_BOUNDARIES: Final[tuple[float, ...]] = (
    *(1, 4, 16, 64, 256, 1024, 4096),
    *(16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864),
)
"""Tokens of one operation (GenAI semantic conventions, metrics); times four."""

AGENT_DURATION_BOUNDARIES: Final[tuple[float, ...]] = (
    *(0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4),
    *(12.8, 25.6, 51.2, 102.4, 204.8, 409.6),
)
"""Seconds of an agent's run (GenAI semantic conventions, metrics); doubling."""

WORKFLOW_DURATION_BOUNDARIES: Final[tuple[float, ...]] = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
"""Seconds of a workflow (GenAI semantic conventions, metrics); one second to two hours."""

CALL_COUNT_BOUNDARIES: Final[tuple[float, ...]] = (1, 2, 4, 8, 16, 32, 64, 128)
"""Calls made in one run of an agent (GenAI semantic conventions, metrics); doubling."""

SERVER_TIME_PER_OUTPUT_TOKEN_BOUNDARIES: Final[tuple[float, ...]] = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2),
    *(0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
"""Seconds per token on a model server (semantic conventions 1.41, GenAI metrics)."""

SERVER_TIME_TO_FIRST_TOKEN_BOUNDARIES: Final[tuple[float, ...]] = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Seconds to the first token on a model server (semantic conventions 1.41, GenAI metrics)."""

HTTP_DURATION_BOUNDARIES: Final[tuple[float, ...]] = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25),
    *(0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)
"""Seconds of an HTTP request (semantic conventions 1.44, HTTP metrics)."""

GAP_BOUNDARIES: Final[tuple[float, ...]] = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08),
    *(0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24),
)
"""Seconds between two chunks (otel-llm): `DURATION_BOUNDARIES` up to 10 s and on down to the gaps of a fast stream."""

SERVER_DURATION_BOUNDARIES: Final[tuple[float, ...]] = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32),
    *(0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
"""Seconds of one phase on a server (otel-llm): `DURATION_BOUNDARIES` and on down to a model that is loaded already."""

RATE_BOUNDARIES: Final[tuple[float, ...]] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Output tokens per second (otel-llm): from a model on a small CPU to the fastest hardware; doubling."""

# Attributes, sources and vocabularies that many metrics share

_START: Final = (
    attr.GEN_AI_OPERATION_NAME,
    attr.GEN_AI_PROVIDER_NAME,
    attr.GEN_AI_REQUEST_MODEL,
    attr.SERVER_ADDRESS,
    attr.SERVER_PORT,
)
"""What is known when a call begins, and what a rate limit is about."""

_CALL: Final = (
    attr.GEN_AI_OPERATION_NAME,
    attr.GEN_AI_PROVIDER_NAME,
    attr.GEN_AI_REQUEST_MODEL,
    attr.GEN_AI_RESPONSE_MODEL,
    attr.SERVER_ADDRESS,
    attr.SERVER_PORT,
)
"""What is known when a call ends."""

_RELEASED: Final = "semantic conventions 1.41, GenAI metrics"
"""Source of the metrics the released conventions define."""

_LATEST: Final = "GenAI semantic conventions, metrics"
"""Source of the metrics only the present conventions define."""

_LATEST_TOKENS: Final = "GenAI semantic conventions, token metrics"
"""Source of the present token metrics."""

_EVERYWHERE: Final[tuple[Vocabulary, ...]] = ("released", "latest")
"""Vocabularies of a metric whose name has not changed."""

# Client metrics

GEN_AI_CLIENT_OPERATION_DURATION: Final = Metric(
    name="gen_ai.client.operation.duration",
    kind="histogram",
    value_type=float,
    unit="s",
    description="GenAI operation duration.",
    attributes=(*_CALL, attr.ERROR_TYPE),
    boundaries=DURATION_BOUNDARIES,
    vocabularies=_EVERYWHERE,
    source=_RELEASED,
)
"""Duration of every operation in `released`; of all but inference in `latest`."""

GEN_AI_CLIENT_INFERENCE_DURATION: Final = Metric(
    name="gen_ai.client.inference.duration",
    kind="histogram",
    value_type=float,
    unit="s",
    description="GenAI client inference operation duration.",
    attributes=(*_CALL, attr.ERROR_TYPE),
    boundaries=DURATION_BOUNDARIES,
    vocabularies=("latest",),
    source=_LATEST,
)
"""Duration of an inference, `values.INFERENCE_OPERATIONS`."""

GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK: Final = Metric(
    name="gen_ai.client.operation.time_to_first_chunk",
    kind="histogram",
    value_type=float,
    unit="s",
    description=(
        "Time to receive the first chunk, measured from when the client issues the generation request "
        "to when the first chunk is received in the response stream."
    ),
    attributes=_CALL,
    boundaries=DURATION_BOUNDARIES,
    vocabularies=("released",),
    source=_RELEASED,
)
"""Time to the first chunk, of streams only."""

GEN_AI_CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK: Final = GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK._replace(
    name="gen_ai.client.inference.time_to_first_chunk", vocabularies=("latest",), source=_LATEST
)
"""Time to the first chunk, of streams only."""

GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK: Final = Metric(
    name="gen_ai.client.operation.time_per_output_chunk",
    kind="histogram",
    value_type=float,
    unit="s",
    description=(
        "Time per output chunk, recorded for each chunk received after the first one, measured as the time elapsed "
        "from the end of the previous chunk to the end of the current chunk."
    ),
    attributes=_CALL,
    boundaries=DURATION_BOUNDARIES,
    vocabularies=("released",),
    source=_RELEASED,
)
"""Gap before each chunk; not written by the project, see `NOT_WRITTEN`."""

GEN_AI_CLIENT_INFERENCE_TIME_PER_OUTPUT_CHUNK: Final = GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK._replace(
    name="gen_ai.client.inference.time_per_output_chunk", vocabularies=("latest",), source=_LATEST
)
"""Gap before each chunk; not written by the project, see `NOT_WRITTEN`."""

GEN_AI_CLIENT_TOKEN_USAGE: Final = Metric(
    name="gen_ai.client.token.usage",
    kind="histogram",
    value_type=int,
    unit="{token}",
    description="Number of input and output tokens used.",
    attributes=(*_CALL, attr.GEN_AI_TOKEN_TYPE),
    boundaries=TOKEN_BOUNDARIES,
    vocabularies=("released",),
    source=_RELEASED,
)
"""Tokens of one operation, a measurement for each `values.TokenType`."""

GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS: Final = Metric(
    name="gen_ai.client.inference.usage.input_tokens",
    kind="counter",
    value_type=int,
    unit="{token}",
    description="The number of input (prompt) tokens used, including cached tokens.",
    attributes=(*_CALL, attr.GEN_AI_TOKEN_MODALITY),
    boundaries=(),
    vocabularies=("latest",),
    source=_LATEST_TOKENS,
)
"""Input tokens; the modalities add up to the total, `unknown` taking the remainder."""

GEN_AI_CLIENT_INFERENCE_USAGE_OUTPUT_TOKENS: Final = GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS._replace(
    name="gen_ai.client.inference.usage.output_tokens",
    description="The number of output (completion) tokens used, including reasoning tokens.",
)
"""Output tokens; the modalities add up to the total, `unknown` taking the remainder."""

GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_READ_INPUT_TOKENS: Final = GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS._replace(
    name="gen_ai.client.inference.usage.cache_read.input_tokens",
    description="The number of input tokens served from a provider-managed cache.",
)
"""Input tokens read from the cache, a part of the input tokens."""

GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_WRITE_INPUT_TOKENS: Final = GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS._replace(
    name="gen_ai.client.inference.usage.cache_write.input_tokens",
    description="The number of input tokens written to a provider-managed cache.",
)
"""Input tokens written to the cache, a part of the input tokens."""

GEN_AI_CLIENT_INFERENCE_USAGE_REASONING_OUTPUT_TOKENS: Final = GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS._replace(
    name="gen_ai.client.inference.usage.reasoning.output_tokens",
    description="The number of output tokens used for reasoning (e.g. chain-of-thought, extended thinking).",
)
"""Output tokens spent on reasoning, a part of the output tokens."""

GEN_AI_CLIENT_INFERENCE_OPERATION_INPUT_TOKENS: Final = Metric(
    name="gen_ai.client.inference.operation.input_tokens",
    kind="histogram",
    value_type=int,
    unit="{token}",
    description="The number of input (prompt) tokens used per inference operation.",
    attributes=(*_CALL, attr.ERROR_TYPE),
    boundaries=TOKEN_BOUNDARIES,
    vocabularies=("latest",),
    source=_LATEST_TOKENS,
)
"""Input tokens of one inference, for percentiles only; what was not told is absent."""

GEN_AI_CLIENT_INFERENCE_OPERATION_OUTPUT_TOKENS: Final = GEN_AI_CLIENT_INFERENCE_OPERATION_INPUT_TOKENS._replace(
    name="gen_ai.client.inference.operation.output_tokens",
    description="The number of output (completion) tokens used per inference operation.",
)
"""Output tokens of one inference, for percentiles only; what was not told is absent."""

# Agent, workflow and tool metrics

GEN_AI_INVOKE_AGENT_DURATION: Final = Metric(
    name="gen_ai.invoke_agent.duration",
    kind="histogram",
    value_type=float,
    unit="s",
    description=(
        "The end-to-end duration of a single in-process agent invocation, from the moment the invocation starts until "
        "the agent emits the last chunk of its final response or terminates with an error."
    ),
    attributes=(attr.GEN_AI_AGENT_NAME, attr.GEN_AI_REQUEST_MODEL, attr.ERROR_TYPE),
    boundaries=AGENT_DURATION_BOUNDARIES,
    vocabularies=_EVERYWHERE,
    source=_LATEST,
)
"""Duration of an in-process agent's run."""

GEN_AI_INVOKE_AGENT_INFERENCE_CALLS: Final = Metric(
    name="gen_ai.invoke_agent.inference_calls",
    kind="histogram",
    value_type=int,
    unit="{inference_call}",
    description="The number of inference (model) calls a GenAI agent makes during a single invocation.",
    attributes=(attr.GEN_AI_AGENT_NAME,),
    boundaries=CALL_COUNT_BOUNDARIES,
    vocabularies=_EVERYWHERE,
    source=_LATEST,
)
"""Model calls of one run that the agent made itself, failed ones too."""

GEN_AI_INVOKE_AGENT_TOOL_CALLS: Final = GEN_AI_INVOKE_AGENT_INFERENCE_CALLS._replace(
    name="gen_ai.invoke_agent.tool_calls",
    unit="{tool_call}",
    description="The number of tool calls a GenAI agent makes during a single invocation.",
)
"""Tool calls of one run that the agent made itself, failed ones too."""

GEN_AI_EXECUTE_TOOL_DURATION: Final = Metric(
    name="gen_ai.execute_tool.duration",
    kind="histogram",
    value_type=float,
    unit="s",
    description="The duration of a single tool execution.",
    attributes=(attr.GEN_AI_TOOL_NAME, attr.GEN_AI_TOOL_TYPE, attr.GEN_AI_AGENT_NAME, attr.ERROR_TYPE),
    boundaries=DURATION_BOUNDARIES,
    vocabularies=_EVERYWHERE,
    source=_LATEST,
)
"""Duration of a tool's execution by the application."""

GEN_AI_INVOKE_WORKFLOW_DURATION: Final = Metric(
    name="gen_ai.invoke_workflow.duration",
    kind="histogram",
    value_type=float,
    unit="s",
    description="Records duration of GenAI workflow.",
    attributes=(attr.GEN_AI_WORKFLOW_NAME, attr.ERROR_TYPE),
    boundaries=WORKFLOW_DURATION_BOUNDARIES,
    vocabularies=_EVERYWHERE,
    source=_LATEST,
)
"""Duration of a workflow's run."""

# Model server metrics, for the proxy and for reading those of model servers

GEN_AI_SERVER_REQUEST_DURATION: Final = Metric(
    name="gen_ai.server.request.duration",
    kind="histogram",
    value_type=float,
    unit="s",
    description="Generative AI server request duration such as time-to-last byte or last output token.",
    attributes=(*_CALL, attr.ERROR_TYPE),
    boundaries=DURATION_BOUNDARIES,
    vocabularies=_EVERYWHERE,
    source=_RELEASED,
)
"""Duration of a request on a model server; not for a client."""

GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN: Final = Metric(
    name="gen_ai.server.time_per_output_token",
    kind="histogram",
    value_type=float,
    unit="s",
    description="Time per output token generated after the first token for successful responses.",
    attributes=_CALL,
    boundaries=SERVER_TIME_PER_OUTPUT_TOKEN_BOUNDARIES,
    vocabularies=_EVERYWHERE,
    source=_RELEASED,
)
"""Time per token on a model server; not for a client."""

GEN_AI_SERVER_TIME_TO_FIRST_TOKEN: Final = Metric(
    name="gen_ai.server.time_to_first_token",
    kind="histogram",
    value_type=float,
    unit="s",
    description="Time to generate first token for successful responses.",
    attributes=_CALL,
    boundaries=SERVER_TIME_TO_FIRST_TOKEN_BOUNDARIES,
    vocabularies=_EVERYWHERE,
    source=_RELEASED,
)
"""Time to the first token on a model server; not for a client."""

# HTTP

HTTP_CLIENT_REQUEST_DURATION: Final = Metric(
    name="http.client.request.duration",
    kind="histogram",
    value_type=float,
    unit="s",
    description="Duration of HTTP client requests.",
    attributes=(
        attr.HTTP_REQUEST_METHOD,
        attr.SERVER_ADDRESS,
        attr.SERVER_PORT,
        attr.HTTP_RESPONSE_STATUS_CODE,
        attr.ERROR_TYPE,
        attr.NETWORK_PROTOCOL_NAME,
        attr.NETWORK_PROTOCOL_VERSION,
    ),
    boundaries=HTTP_DURATION_BOUNDARIES,
    vocabularies=_EVERYWHERE,
    source="semantic conventions 1.44, HTTP metrics",
)
"""Duration of one HTTP request, to the response's headers; stable."""

# Ours

OTEL_LLM_CLIENT_ACTIVE: Final = Metric(
    name="otel_llm.client.active",
    kind="updowncounter",
    value_type=int,
    unit="{call}",
    description="Number of calls under way.",
    attributes=_START,
    boundaries=(),
    vocabularies=("otel_llm",),
    source="otel-llm",
)
"""Calls under way; without the response model, which nobody knows at the start."""

OTEL_LLM_CLIENT_RETRIES: Final = Metric(
    name="otel_llm.client.retries",
    kind="counter",
    value_type=int,
    unit="{retry}",
    description="Number of attempts that were repeated by the client.",
    attributes=(*_CALL, attr.OTEL_LLM_RETRY_REASON),
    boundaries=(),
    vocabularies=("otel_llm",),
    source="otel-llm",
)
"""Retries, by `values.RetryReason`."""

OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING: Final = Metric(
    name="otel_llm.client.ratelimit.requests.remaining",
    kind="gauge",
    value_type=int,
    unit="{request}",
    description="Requests left in the present window, as the provider's last response headers say.",
    attributes=_START,
    boundaries=(),
    vocabularies=("otel_llm",),
    source="otel-llm",
)
"""Requests the provider still allows."""

OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_LIMIT: Final = OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING._replace(
    name="otel_llm.client.ratelimit.requests.limit",
    description="Requests allowed in one window, as the provider's last response headers say.",
)
"""Requests the provider allows in all."""

OTEL_LLM_CLIENT_RATELIMIT_TOKENS_REMAINING: Final = OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING._replace(
    name="otel_llm.client.ratelimit.tokens.remaining",
    unit="{token}",
    description="Tokens left in the present window, as the provider's last response headers say.",
)
"""Tokens the provider still allows."""

OTEL_LLM_CLIENT_RATELIMIT_TOKENS_LIMIT: Final = OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING._replace(
    name="otel_llm.client.ratelimit.tokens.limit",
    unit="{token}",
    description="Tokens allowed in one window, as the provider's last response headers say.",
)
"""Tokens the provider allows in all."""

OTEL_LLM_CLIENT_TIME_TO_FIRST_TEXT: Final = Metric(
    name="otel_llm.client.time_to_first_text",
    kind="histogram",
    value_type=float,
    unit="s",
    description="Time from the start of the call to the first chunk of the stream which carries text.",
    attributes=_CALL,
    boundaries=DURATION_BOUNDARIES,
    vocabularies=("otel_llm",),
    source="otel-llm",
)
"""What a reader waits for: the first chunks of many streams carry only a role or reasoning."""

OTEL_LLM_CLIENT_CHUNK_GAP: Final = Metric(
    name="otel_llm.client.chunk.gap",
    kind="histogram",
    value_type=float,
    unit="s",
    description="Mean time between two chunks of one stream.",
    attributes=_CALL,
    boundaries=GAP_BOUNDARIES,
    vocabularies=("otel_llm",),
    source="otel-llm",
)
"""Pace of a stream, one measurement per call instead of one per chunk."""

OTEL_LLM_CLIENT_CHUNK_GAP_MAX: Final = OTEL_LLM_CLIENT_CHUNK_GAP._replace(
    name="otel_llm.client.chunk.gap.max",
    description="Longest time between two chunks of one stream.",
)
"""Worst stall of a stream, one measurement per call."""

OTEL_LLM_CLIENT_OUTPUT_RATE: Final = Metric(
    name="otel_llm.client.output.rate",
    kind="histogram",
    value_type=float,
    unit="{token}/s",
    description="Output tokens per second of generation.",
    attributes=_CALL,
    boundaries=RATE_BOUNDARIES,
    vocabularies=("otel_llm",),
    source="otel-llm",
)
"""Speed of generation."""

OTEL_LLM_CLIENT_TOKENS: Final = Metric(
    name="otel_llm.client.tokens",
    kind="counter",
    value_type=int,
    unit="{token}",
    description="Number of tokens used, by kind; cached and reasoning tokens are parts of input and output.",
    attributes=(*_CALL, attr.OTEL_LLM_TOKEN_KIND),
    boundaries=(),
    vocabularies=("otel_llm",),
    source="otel-llm",
)
"""Tokens of all operations, by `values.TokenKind`."""

OTEL_LLM_SERVER_LOAD_DURATION: Final = Metric(
    name=attr.OTEL_LLM_SERVER_LOAD_DURATION,
    kind="histogram",
    value_type=float,
    unit="s",
    description="Time in which the server loaded the model, by its own clock.",
    attributes=_CALL,
    boundaries=SERVER_DURATION_BOUNDARIES,
    vocabularies=("otel_llm",),
    source="otel-llm",
)
"""What a call waits for where the model was not in memory; Ollama tells it of every call."""

OTEL_LLM_SERVER_PROMPT_DURATION: Final = OTEL_LLM_SERVER_LOAD_DURATION._replace(
    name=attr.OTEL_LLM_SERVER_PROMPT_DURATION,
    description="Time in which the server evaluated the prompt, by its own clock.",
)
"""Evaluation of the prompt."""

OTEL_LLM_SERVER_GENERATION_DURATION: Final = OTEL_LLM_SERVER_LOAD_DURATION._replace(
    name=attr.OTEL_LLM_SERVER_GENERATION_DURATION,
    description="Time in which the server generated the answer, by its own clock.",
)
"""Generation of the answer."""

OTEL_LLM_SERVER_OUTPUT_RATE: Final = OTEL_LLM_CLIENT_OUTPUT_RATE._replace(
    name=attr.OTEL_LLM_SERVER_OUTPUT_RATE,
    description="Output tokens per second of generation, by the server's own clock.",
)
"""Speed of generation, free of the network and of a slow reader."""

OTEL_LLM_INTERNAL_FAULTS: Final = Metric(
    name="otel_llm.internal.faults",
    kind="counter",
    value_type=int,
    unit="{fault}",
    description="Number of faults of otel-llm itself that were kept from the application.",
    attributes=(attr.OTEL_LLM_FAULT_PLACE,),
    boundaries=(),
    vocabularies=("otel_llm",),
    source="otel-llm",
)
"""Faults of our own; anything but 0 should be reported to us."""

OTEL_LLM_INTERNAL_FOLDED: Final = Metric(
    name="otel_llm.internal.folded",
    kind="counter",
    value_type=int,
    unit="{call}",
    description="Number of calls that are counted in an overflow series, since there were too many label sets.",
    attributes=(),
    boundaries=(),
    vocabularies=("otel_llm",),
    source="otel-llm",
)
"""Calls beyond the cap on label sets; `OTEL_LLM_MAX_SERIES` raises it."""

# Collections and look-ups

CLIENT: Final = (
    GEN_AI_CLIENT_OPERATION_DURATION,
    GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK,
    GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK,
    GEN_AI_CLIENT_TOKEN_USAGE,
    GEN_AI_CLIENT_INFERENCE_DURATION,
    GEN_AI_CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK,
    GEN_AI_CLIENT_INFERENCE_TIME_PER_OUTPUT_CHUNK,
    GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS,
    GEN_AI_CLIENT_INFERENCE_USAGE_OUTPUT_TOKENS,
    GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_READ_INPUT_TOKENS,
    GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_WRITE_INPUT_TOKENS,
    GEN_AI_CLIENT_INFERENCE_USAGE_REASONING_OUTPUT_TOKENS,
    GEN_AI_CLIENT_INFERENCE_OPERATION_INPUT_TOKENS,
    GEN_AI_CLIENT_INFERENCE_OPERATION_OUTPUT_TOKENS,
)
"""Client metrics of the conventions, both vocabularies."""

AGENT: Final = (
    GEN_AI_INVOKE_AGENT_DURATION,
    GEN_AI_INVOKE_AGENT_INFERENCE_CALLS,
    GEN_AI_INVOKE_AGENT_TOOL_CALLS,
    GEN_AI_EXECUTE_TOOL_DURATION,
    GEN_AI_INVOKE_WORKFLOW_DURATION,
)
"""Agent, tool and workflow metrics of the conventions."""

SERVER: Final = (
    GEN_AI_SERVER_REQUEST_DURATION,
    GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN,
    GEN_AI_SERVER_TIME_TO_FIRST_TOKEN,
)
"""Model server metrics of the conventions."""

HTTP: Final = (HTTP_CLIENT_REQUEST_DURATION,)
"""HTTP metrics of the conventions."""

OWN: Final = (
    OTEL_LLM_CLIENT_ACTIVE,
    OTEL_LLM_CLIENT_RETRIES,
    OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING,
    OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_LIMIT,
    OTEL_LLM_CLIENT_RATELIMIT_TOKENS_REMAINING,
    OTEL_LLM_CLIENT_RATELIMIT_TOKENS_LIMIT,
    OTEL_LLM_CLIENT_TIME_TO_FIRST_TEXT,
    OTEL_LLM_CLIENT_CHUNK_GAP,
    OTEL_LLM_CLIENT_CHUNK_GAP_MAX,
    OTEL_LLM_CLIENT_OUTPUT_RATE,
    OTEL_LLM_CLIENT_TOKENS,
    OTEL_LLM_SERVER_LOAD_DURATION,
    OTEL_LLM_SERVER_PROMPT_DURATION,
    OTEL_LLM_SERVER_GENERATION_DURATION,
    OTEL_LLM_SERVER_OUTPUT_RATE,
    OTEL_LLM_INTERNAL_FAULTS,
    OTEL_LLM_INTERNAL_FOLDED,
)
"""Metrics of otel-llm, whatever the vocabulary."""

ALL: Final = (*CLIENT, *AGENT, *SERVER, *HTTP, *OWN)
"""Every metric."""

BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in ALL}
"""Every metric by its name."""

NOT_WRITTEN: Final = (
    GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK,
    GEN_AI_CLIENT_INFERENCE_TIME_PER_OUTPUT_CHUNK,
)
"""Client metrics the project leaves out: they cost a measurement per chunk; `OTEL_LLM_CLIENT_CHUNK_GAP` does not."""

VOCABULARY_CHOICES: Final[Mapping[VocabularyChoice, frozenset[Vocabulary]]] = {
    "released": frozenset({"released"}),
    "latest": frozenset({"latest"}),
    "both": frozenset({"released", "latest"}),
}
"""The vocabularies behind each choice."""


def in_vocabulary(choice: VocabularyChoice) -> tuple[Metric, ...]:
    """Return the conventions' client metrics to create for a choice; `OWN` comes on top of them."""
    wanted = VOCABULARY_CHOICES[choice]
    return tuple(
        metric for metric in CLIENT if metric not in NOT_WRITTEN and not wanted.isdisjoint(metric.vocabularies)
    )
