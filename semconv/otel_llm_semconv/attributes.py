"""Keys of span, metric, event and resource attributes.

Below each key stand its meaning, and in parentheses its type and where it comes from. Keys which the conventions have
renamed or removed are left out, so what is not here must not be emitted. A constant ending in `_PREFIX` begins a family
of keys, whose rest the user chooses.
"""

from typing import Final

# Operation and provider

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
"""What is done: one of `values.Operation`, or a custom value if none applies.
(string; GenAI semantic conventions, spans, inference)"""

GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
"""Whose telemetry flavour this is: one of `providers.Provider`, or a custom value if none applies.
(string; GenAI semantic conventions, spans, inference)"""

GEN_AI_OUTPUT_TYPE: Final = "gen_ai.output.type"
"""Type of content the client asks for, one of `values.OutputType`; the modality, not the file format.
(string; GenAI semantic conventions, spans, inference)"""

# Request

GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
"""Model the request names. (string; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
"""Number of candidates asked for, only if not 1. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
"""Encodings asked for in an embeddings request. (string[]; GenAI semantic conventions, spans, embeddings)"""

GEN_AI_REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
"""Frequency penalty. (double; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
"""Largest number of tokens to generate. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
"""Presence penalty. (double; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
"""Earlier response whose context the request continues. (string; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
"""Reasoning effort, exactly as sent to the provider. (string; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_SEED: Final = "gen_ai.request.seed"
"""Seed for repeatable sampling. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
"""Sequences at which the model stops. (string[]; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
"""`True` if the response is streamed; never `False`, then it is left out.
(boolean; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_STREAM_CURSOR: Final = "gen_ai.request.stream_cursor"
"""Position after which a fetched stream is resumed. (string; GenAI semantic conventions, spans, fetch response)"""

GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
"""Sampling temperature. (double; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_TOP_K: Final = "gen_ai.request.top_k"
"""Sample among the k most likely tokens; never OpenAI's `top_logprobs`.
(int; GenAI semantic conventions, spans, inference)"""

GEN_AI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
"""Nucleus sampling threshold. (double; GenAI semantic conventions, spans, inference)"""

GEN_AI_EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
"""Number of dimensions of the embeddings. (int; GenAI semantic conventions, spans, embeddings)"""

# Response

GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
"""Identifier of the response. (string; GenAI semantic conventions, spans, inference)"""

GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
"""Model which answered. (string; GenAI semantic conventions, spans, inference)"""

GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
"""Why generation stopped, one per choice and in their order; `error` where a reason never came.
(string[]; GenAI semantic conventions, spans, inference)"""

GEN_AI_RESPONSE_STATUS: Final = "gen_ai.response.status"
"""Life-cycle status of a fetched response, one of `values.ResponseStatus`.
(string; GenAI semantic conventions, spans, fetch response)"""

GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds from the start of the call to the first chunk of a stream.
(double; GenAI semantic conventions, spans, inference)"""

# Token usage

GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
"""All input tokens, the cached ones included. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
"""All output tokens, those of reasoning included. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
"""Input tokens served from the provider's cache. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
"""Input tokens written to the provider's cache. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
"""Output tokens spent on reasoning. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_TEXT_INPUT_TOKENS: Final = "gen_ai.usage.text.input_tokens"
"""Input tokens of text. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_TEXT_OUTPUT_TOKENS: Final = "gen_ai.usage.text.output_tokens"
"""Output tokens of text. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_TEXT_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.text.cache_read.input_tokens"
"""Input tokens of text served from the cache. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_IMAGE_INPUT_TOKENS: Final = "gen_ai.usage.image.input_tokens"
"""Input tokens of images. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_IMAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.image.output_tokens"
"""Output tokens of images. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_IMAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.image.cache_read.input_tokens"
"""Input tokens of images served from the cache. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
"""Input tokens of audio. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
"""Output tokens of audio. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.audio.cache_read.input_tokens"
"""Input tokens of audio served from the cache. (int; GenAI semantic conventions, spans, inference)"""

GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"
"""Which tokens a measurement counts, one of `values.TokenType`; `released` vocabulary only.
(string; semantic conventions 1.41, GenAI metrics)"""

GEN_AI_TOKEN_MODALITY: Final = "gen_ai.token.modality"
"""Modality of the tokens counted, one of `values.TokenModality`; `latest` vocabulary only.
(string; GenAI semantic conventions, token metrics)"""

# Content: may hold personal data, never captured unless asked for

GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"
"""Chat history given to the model, in the order sent. (any; GenAI semantic conventions, spans, inference)"""

GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
"""Messages the model returned, exactly one per choice. (any; GenAI semantic conventions, spans, inference)"""

GEN_AI_SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
"""Instructions given apart from the chat history. (any; GenAI semantic conventions, spans, inference)"""

GEN_AI_TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
"""Tools offered to the model; only type and name by default. (any; GenAI semantic conventions, spans, inference)"""

# Conversation and prompt

GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
"""Identifier of the conversation if the application or API has one; never invented.
(string; GenAI semantic conventions, spans, inference)"""

GEN_AI_CONVERSATION_COMPACTED: Final = "gen_ai.conversation.compacted"
"""`True` if the context used is a compacted view of the conversation; never `False`.
(boolean; GenAI semantic conventions, spans, inference)"""

GEN_AI_PROMPT_NAME: Final = "gen_ai.prompt.name"
"""Name of the prompt template used. (string; GenAI semantic conventions, spans, inference)"""

GEN_AI_PROMPT_VERSION: Final = "gen_ai.prompt.version"
"""Version of the prompt template used. (string; GenAI semantic conventions, spans, inference)"""

GEN_AI_PROMPT_VARIABLE_PREFIX: Final = "gen_ai.prompt.variable."
"""Value of the template variable named by the rest of the key; content, only if asked for.
(string; GenAI semantic conventions, spans, inference)"""

# Agent and workflow

GEN_AI_AGENT_ID: Final = "gen_ai.agent.id"
"""Stable identifier of a hosted agent, never an in-memory one.
(string; GenAI semantic conventions, agent spans, create agent)"""

GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
"""Name the application gives the agent. (string; GenAI semantic conventions, agent spans, create agent)"""

GEN_AI_AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
"""Description the application gives the agent. (string; GenAI semantic conventions, agent spans, create agent)"""

GEN_AI_AGENT_VERSION: Final = "gen_ai.agent.version"
"""Version of the agent. (string; GenAI semantic conventions, agent spans, create agent)"""

GEN_AI_MAIN_AGENT_ID: Final = "gen_ai.main_agent.id"
"""Stable identifier of the process's top-level agent; a resource attribute.
(string; GenAI semantic conventions, entities, main agent)"""

GEN_AI_MAIN_AGENT_NAME: Final = "gen_ai.main_agent.name"
"""Name of the process's top-level agent; a resource attribute.
(string; GenAI semantic conventions, entities, main agent)"""

GEN_AI_MAIN_AGENT_DESCRIPTION: Final = "gen_ai.main_agent.description"
"""Description of the process's top-level agent; a resource attribute.
(string; GenAI semantic conventions, entities, main agent)"""

GEN_AI_WORKFLOW_NAME: Final = "gen_ai.workflow.name"
"""Name the application gives the workflow; few distinct values.
(string; GenAI semantic conventions, agent spans, invoke workflow)"""

# Tool and skill

GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
"""Name of the tool. (string; GenAI semantic conventions, spans, execute tool)"""

GEN_AI_TOOL_TYPE: Final = "gen_ai.tool.type"
"""Type of the tool, usually one of `values.ToolType`. (string; GenAI semantic conventions, spans, execute tool)"""

GEN_AI_TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
"""Description of the tool; may be sensitive. (string; GenAI semantic conventions, spans, execute tool)"""

GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
"""Identifier of the tool call. (string; GenAI semantic conventions, spans, execute tool)"""

GEN_AI_TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
"""Arguments of the tool call as an object; content, only if asked for.
(any; GenAI semantic conventions, spans, execute tool)"""

GEN_AI_TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
"""Result of the tool call as an object; content, only if asked for.
(any; GenAI semantic conventions, spans, execute tool)"""

GEN_AI_SKILL_NAME: Final = "gen_ai.skill.name"
"""Name of the agent skill. (string; GenAI semantic conventions, spans, execute tool, load skill)"""

GEN_AI_SKILL_DESCRIPTION: Final = "gen_ai.skill.description"
"""Description of the agent skill. (string; GenAI semantic conventions, spans, execute tool, load skill)"""

GEN_AI_SKILL_RESOURCE_NAME: Final = "gen_ai.skill.resource.name"
"""Name of a file of the skill, relative to it.
(string; GenAI semantic conventions, spans, execute tool, read skill resource)"""

GEN_AI_SKILL_SOURCE_URI: Final = "gen_ai.skill.source.uri"
"""Where the skill was loaded from, without credentials.
(string; GenAI semantic conventions, spans, execute tool, load skill)"""

# Retrieval and memory

GEN_AI_DATA_SOURCE_ID: Final = "gen_ai.data_source.id"
"""Identifier of the data source in the GenAI system. (string; GenAI semantic conventions, spans, retrieval)"""

GEN_AI_RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"
"""Largest number of documents to return. (int; GenAI semantic conventions, spans, retrieval)"""

GEN_AI_RETRIEVAL_QUERY_TEXT: Final = "gen_ai.retrieval.query.text"
"""Text of the query; content, only if asked for. (string; GenAI semantic conventions, spans, retrieval)"""

GEN_AI_RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"
"""Documents found; content, only if asked for. (any; GenAI semantic conventions, spans, retrieval)"""

GEN_AI_MEMORY_STORE_ID: Final = "gen_ai.memory.store.id"
"""Identifier of the memory store. (string; GenAI semantic conventions, spans, memory)"""

GEN_AI_MEMORY_RECORD_ID: Final = "gen_ai.memory.record.id"
"""Identifier of the memory record. (string; GenAI semantic conventions, spans, memory)"""

GEN_AI_MEMORY_RECORD_COUNT: Final = "gen_ai.memory.record.count"
"""Number of records found, or attempted to write or delete. (int; GenAI semantic conventions, spans, memory)"""

GEN_AI_MEMORY_QUERY_TEXT: Final = "gen_ai.memory.query.text"
"""Text of the search; content, only if asked for. (string; GenAI semantic conventions, spans, memory)"""

GEN_AI_MEMORY_RECORDS: Final = "gen_ai.memory.records"
"""Records stored or found; content, only if asked for. (any; GenAI semantic conventions, spans, memory)"""

# Evaluation

GEN_AI_EVALUATION_NAME: Final = "gen_ai.evaluation.name"
"""Name of the evaluation. (string; GenAI semantic conventions, events, evaluation result)"""

GEN_AI_EVALUATION_SCORE_VALUE: Final = "gen_ai.evaluation.score.value"
"""Score as a number. (double; GenAI semantic conventions, events, evaluation result)"""

GEN_AI_EVALUATION_SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
"""Score as a word; few distinct values. (string; GenAI semantic conventions, events, evaluation result)"""

GEN_AI_EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"
"""Why the evaluator gave the score. (string; GenAI semantic conventions, events, evaluation result)"""

# OpenAI: only where the provider is OpenAI or Azure OpenAI (`providers.OPENAI_FLAVOURED`)

OPENAI_API_TYPE: Final = "openai.api.type"
"""Which OpenAI API, one of `values.OpenAIApiType`. (string; GenAI semantic conventions, OpenAI)"""

OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
"""Service tier asked for, unless it is `auto`. (string; GenAI semantic conventions, OpenAI)"""

OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
"""Service tier used; span attribute only. (string; GenAI semantic conventions, OpenAI)"""

OPENAI_RESPONSE_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"
"""Fingerprint of the backend's configuration; span attribute only. (string; GenAI semantic conventions, OpenAI)"""

# Azure

AZURE_RESOURCE_PROVIDER_NAMESPACE: Final = "azure.resource_provider.namespace"
"""Azure resource provider, `Microsoft.CognitiveServices`. (string; GenAI semantic conventions, Azure AI Inference)"""

AZURE_SERVICE_REQUEST_ID: Final = "azure.service.request.id"
"""Identifier Azure gave the request. (string; semantic conventions 1.44, Azure attributes)"""

# Server, errors and exceptions

SERVER_ADDRESS: Final = "server.address"
"""Host name the client was configured with. (string; semantic conventions 1.44, server attributes)"""

SERVER_PORT: Final = "server.port"
"""Port of the server, always set beside the address. (int; semantic conventions 1.44, server attributes)"""

ERROR_TYPE: Final = "error.type"
"""How the operation failed; absent on success, the same on span and metrics, few distinct values.
(string; semantic conventions 1.44, recording errors)"""

EXCEPTION_TYPE: Final = "exception.type"
"""Fully qualified class name of the exception. (string; semantic conventions 1.44, exceptions)"""

EXCEPTION_MESSAGE: Final = "exception.message"
"""Message of the exception; may be sensitive. (string; semantic conventions 1.44, exceptions)"""

EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
"""Stack trace as Python prints it. (string; semantic conventions 1.44, exceptions)"""

# HTTP client

HTTP_REQUEST_METHOD: Final = "http.request.method"
"""Request method, `_OTHER` if not a known one. (string; semantic conventions 1.44, HTTP client spans)"""

HTTP_REQUEST_METHOD_ORIGINAL: Final = "http.request.method_original"
"""Request method as sent, if it is not a known one. (string; semantic conventions 1.44, HTTP client spans)"""

HTTP_REQUEST_RESEND_COUNT: Final = "http.request.resend_count"
"""Ordinal number of the attempt, only if it is not the first. (int; semantic conventions 1.44, HTTP client spans)"""

HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
"""Status code of the response. (int; semantic conventions 1.44, HTTP client spans)"""

URL_FULL: Final = "url.full"
"""Absolute URL without credentials and signatures. (string; semantic conventions 1.44, HTTP client spans)"""

URL_SCHEME: Final = "url.scheme"
"""Scheme of the URL. (string; semantic conventions 1.44, HTTP client spans)"""

URL_TEMPLATE: Final = "url.template"
"""Path of the URL with placeholders for what varies. (string; semantic conventions 1.44, HTTP client spans)"""

NETWORK_PEER_ADDRESS: Final = "network.peer.address"
"""Address of the other end of the connection. (string; semantic conventions 1.44, HTTP client spans)"""

NETWORK_PEER_PORT: Final = "network.peer.port"
"""Port of the other end of the connection. (int; semantic conventions 1.44, HTTP client spans)"""

NETWORK_PROTOCOL_NAME: Final = "network.protocol.name"
"""Protocol, only if it is not `http`. (string; semantic conventions 1.44, HTTP client spans)"""

NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"
"""Version of the protocol, as `1.1` or `2`. (string; semantic conventions 1.44, HTTP client spans)"""

USER_AGENT_ORIGINAL: Final = "user_agent.original"
"""User-Agent header of the request. (string; semantic conventions 1.44, HTTP client spans)"""

# Resource, scope and the metrics SDK

SERVICE_NAME: Final = "service.name"
"""Logical name of the service. (string; semantic conventions 1.44, service)"""

SERVICE_NAMESPACE: Final = "service.namespace"
"""Group of services this one belongs to. (string; semantic conventions 1.44, service)"""

SERVICE_VERSION: Final = "service.version"
"""Version of the service. (string; semantic conventions 1.44, service)"""

SERVICE_INSTANCE_ID: Final = "service.instance.id"
"""Identifier of one instance of the service. (string; semantic conventions 1.44, service)"""

TELEMETRY_DISTRO_NAME: Final = "telemetry.distro.name"
"""Name of the distribution which set up the SDK. (string; semantic conventions 1.44, telemetry SDK)"""

TELEMETRY_DISTRO_VERSION: Final = "telemetry.distro.version"
"""Version of the distribution which set up the SDK. (string; semantic conventions 1.44, telemetry SDK)"""

OTEL_SCOPE_NAME: Final = "otel.scope.name"
"""Name of the instrumentation scope, as Prometheus series carry it. (string; semantic conventions 1.44, scope)"""

OTEL_SCOPE_VERSION: Final = "otel.scope.version"
"""Version of the instrumentation scope, as Prometheus series carry it. (string; semantic conventions 1.44, scope)"""

OTEL_SCOPE_SCHEMA_URL: Final = "otel.scope.schema_url"
"""Schema URL of the instrumentation scope, as Prometheus series carry it.
(string; semantic conventions 1.44, scope)"""

OTEL_METRIC_OVERFLOW: Final = "otel.metric.overflow"
"""`True` on the one series which collects what exceeds the cardinality limit.
(boolean; metrics SDK specification, cardinality limits)"""

OTEL_METRIC_OVERFLOW_LABEL: Final = "otel_metric_overflow"
"""`OTEL_METRIC_OVERFLOW` as a Prometheus label, with the value `true`.
(string; Prometheus compatibility specification, attributes)"""

# Anthropic: what its own client calls them, since the conventions have no names

ANTHROPIC_REQUEST_SERVICE_TIER: Final = "anthropic.request.service_tier"
"""Service tier asked for. (string; anthropic-sdk-python 2, spans of its own)"""

ANTHROPIC_RESPONSE_SERVICE_TIER: Final = "anthropic.response.service_tier"
"""Service tier that was used. (string; anthropic-sdk-python 2, spans of its own)"""

# Ours

OTEL_LLM_RETRIES: Final = "otel_llm.retries"
"""Retries made within the call, only if there were any. (int; otel-llm, spans)"""

OTEL_LLM_RETRY_REASON: Final = "otel_llm.retry.reason"
"""Why an attempt was repeated, one of `values.RetryReason`. (string; otel-llm, metrics)"""

OTEL_LLM_REQUEST_ID: Final = "otel_llm.response.request_id"
"""Value of the `x-request-id` response header, what a provider's support asks for. (string; otel-llm, spans)"""

OTEL_LLM_TIME_TO_FIRST_TEXT: Final = "otel_llm.response.time_to_first_text"
"""Seconds from the start of the call to the first chunk of a stream which carries text. (double; otel-llm, spans)"""

OTEL_LLM_SERVER_LOAD_DURATION: Final = "otel_llm.server.load.duration"
"""Seconds in which the server loaded the model, by its own clock. (double; otel-llm, spans)"""

OTEL_LLM_SERVER_PROMPT_DURATION: Final = "otel_llm.server.prompt.duration"
"""Seconds in which the server evaluated the prompt, by its own clock. (double; otel-llm, spans)"""

OTEL_LLM_SERVER_GENERATION_DURATION: Final = "otel_llm.server.generation.duration"
"""Seconds in which the server generated the answer, by its own clock. (double; otel-llm, spans)"""

OTEL_LLM_SERVER_OUTPUT_RATE: Final = "otel_llm.server.output.rate"
"""Output tokens per second of generation, by the server's own clock. (double; otel-llm, spans)"""

OTEL_LLM_STREAM_CHUNKS: Final = "otel_llm.stream.chunks"
"""Chunks received from a stream. (int; otel-llm, spans)"""

OTEL_LLM_STREAM_OUTCOME: Final = "otel_llm.stream.outcome"
"""How a stream ended, one of `values.StreamOutcome`. (string; otel-llm, spans)"""

OTEL_LLM_TOKEN_KIND: Final = "otel_llm.token.kind"
"""Which tokens are counted, one of `values.TokenKind`. (string; otel-llm, metrics)"""

OTEL_LLM_FAULT_PLACE: Final = "otel_llm.fault.place"
"""Where in otel-llm a fault of its own was swallowed; few distinct values. (string; otel-llm, metrics)"""

OTEL_LLM_LABEL_PREFIX: Final = "otel_llm.label."
"""Value of the context label named by the rest of the key. (string; otel-llm, spans and metrics)"""

OTEL_LLM_CLIENT_ID: Final = "otel_llm.client.id"
"""Who made a request of the application, as it knows its clients. (string; otel-llm, manual API)"""

OTEL_LLM_QUEUE_PRIORITY: Final = "otel_llm.queue.priority"
"""Priority of the requests in a queue. (string; otel-llm, manual API)"""

OTEL_LLM_MODEL_VERSION: Final = "otel_llm.model.version"
"""Version of a model. (string; otel-llm, manual API)"""

OTEL_LLM_MODEL_BASE_URL: Final = "otel_llm.model.base_url"
"""Where a model is served. (string; otel-llm, manual API)"""

OTEL_LLM_MEMORY_TYPE: Final = "otel_llm.memory.type"
"""Kind of memory, such as ``rss`` or ``vram``. (string; otel-llm, manual API)"""

OTEL_LLM_MEMORY_OPERATION: Final = "otel_llm.memory.operation"
"""What was done with the memory of a conversation or an agent. (string; otel-llm, manual API)"""

OTEL_LLM_CACHE_TYPE: Final = "otel_llm.cache.type"
"""Which of its caches the application asked. (string; otel-llm, manual API)"""

OTEL_LLM_BACKEND_NAME: Final = "otel_llm.backend.name"
"""Name that the application has for a backend. (string; otel-llm, manual API)"""

OTEL_LLM_STEP_NAME: Final = "otel_llm.step.name"
"""Name of a step of a workflow. (string; otel-llm, manual API)"""
