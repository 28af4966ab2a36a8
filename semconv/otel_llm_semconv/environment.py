"""Names of the environment variables that concern the project, whether it reads them itself or leaves them to others.

Those of OpenTelemetry mean what its specification says. Ours begin with `OTEL_LLM_`.
"""

from typing import Final

# OpenTelemetry specification

OTEL_SDK_DISABLED: Final = "OTEL_SDK_DISABLED"
"""`true` switches everything off (OpenTelemetry specification, SDK environment variables)."""

OTEL_CONFIG_FILE: Final = "OTEL_CONFIG_FILE"
"""Path of a declarative configuration (OpenTelemetry specification, declarative configuration)."""

OTEL_SERVICE_NAME: Final = "OTEL_SERVICE_NAME"
"""The `service.name` resource attribute (OpenTelemetry specification, SDK environment variables)."""

OTEL_RESOURCE_ATTRIBUTES: Final = "OTEL_RESOURCE_ATTRIBUTES"
"""Further resource attributes, `key=value,...` (OpenTelemetry specification, SDK environment variables)."""

OTEL_TRACES_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
"""Exporters of spans (OpenTelemetry specification, SDK environment variables)."""

OTEL_METRICS_EXPORTER: Final = "OTEL_METRICS_EXPORTER"
"""Exporters of metrics (OpenTelemetry specification, SDK environment variables)."""

OTEL_LOGS_EXPORTER: Final = "OTEL_LOGS_EXPORTER"
"""Exporters of log records (OpenTelemetry specification, SDK environment variables)."""

OTEL_METRICS_EXEMPLAR_FILTER: Final = "OTEL_METRICS_EXEMPLAR_FILTER"
"""`trace_based`, `always_on` or `always_off` (OpenTelemetry specification, SDK environment variables)."""

OTEL_EXPORTER_OTLP_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""Where OTLP goes, for all signals (OpenTelemetry specification, OTLP exporter)."""

OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
"""Where spans go by OTLP (OpenTelemetry specification, OTLP exporter)."""

OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
"""Where metrics go by OTLP (OpenTelemetry specification, OTLP exporter)."""

OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
"""Where log records go by OTLP (OpenTelemetry specification, OTLP exporter)."""

OTEL_EXPORTER_OTLP_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
"""`grpc` or `http/protobuf` (OpenTelemetry specification, OTLP exporter)."""

OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
"""`OTEL_EXPORTER_OTLP_PROTOCOL` for spans (OpenTelemetry specification, OTLP exporter)."""

OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"
"""`OTEL_EXPORTER_OTLP_PROTOCOL` for metrics (OpenTelemetry specification, OTLP exporter)."""

OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"
"""`OTEL_EXPORTER_OTLP_PROTOCOL` for log records (OpenTelemetry specification, OTLP exporter)."""

OTEL_EXPORTER_PROMETHEUS_HOST: Final = "OTEL_EXPORTER_PROMETHEUS_HOST"
"""Address the Prometheus page listens on (OpenTelemetry specification, SDK environment variables)."""

OTEL_EXPORTER_PROMETHEUS_PORT: Final = "OTEL_EXPORTER_PROMETHEUS_PORT"
"""Port the Prometheus page listens on (OpenTelemetry specification, SDK environment variables)."""

# OpenTelemetry conventions and OpenTelemetry Python

OTEL_SEMCONV_STABILITY_OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
"""`http` or `http/dup` for the stable HTTP names (semantic conventions 1.44, HTTP)."""

OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN: Final = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"
"""`logs` or `logs/dup` to record exceptions as log records (semantic conventions 1.44, exceptions)."""

OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""Where content goes: `NO_CONTENT`, `SPAN_ONLY`, `EVENT_ONLY` or `SPAN_AND_EVENT` (OpenTelemetry Python GenAI)."""

OTEL_PYTHON_DISABLED_INSTRUMENTATIONS: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
"""Instrumentations not to be loaded, by entry point name; `*` for all (OpenTelemetry Python, zero-code)."""

# Others

OLLAMA_HOST: Final = "OLLAMA_HOST"
"""Where Ollama's clients find the server, and where it listens (Ollama)."""

# Ours

OTEL_LLM_SEMCONV: Final = "OTEL_LLM_SEMCONV"
"""Metric vocabulary: `released`, `latest` or `both`, see `metrics.VOCABULARY_CHOICES` (otel-llm)."""

OTEL_LLM_MAX_SERIES: Final = "OTEL_LLM_MAX_SERIES"
"""Most label sets of one metric; those beyond it share one overflow series (otel-llm)."""

OTEL_LLM_OPENAI_INJECT_USAGE: Final = "OTEL_LLM_OPENAI_INJECT_USAGE"
"""`true` to ask for the usage of streams that were not asked for theirs, and to hide it again (otel-llm)."""

OTEL_LLM_HTTP_RULES: Final = "OTEL_LLM_HTTP_RULES"
"""Path of a TOML file that tells which requests of `httpx` are LLM calls (otel-llm)."""

OTEL_LLM_HTTP_SPANS: Final = "OTEL_LLM_HTTP_SPANS"
"""`false` for no HTTP spans and metrics inside LLM calls (otel-llm)."""

OTEL_LLM_LABELS: Final = "OTEL_LLM_LABELS"
"""Labels of every call, `key=value,...` (otel-llm)."""

OTEL_LLM_DIALECTS: Final = "OTEL_LLM_DIALECTS"
"""What `/metrics` shows beside the canonical families: dialects and paths of TOML files, `a,./b.toml` (otel-llm)."""

OTEL_LLM_COMPAT: Final = "OTEL_LLM_COMPAT"
"""`calls`: instrumented calls feed what they can, and functions of drop-in modules only the rest (otel-llm)."""

OTEL_LLM_BAGGAGE_LABELS: Final = "OTEL_LLM_BAGGAGE_LABELS"
"""Names of labels that travel as OpenTelemetry baggage, `a,b` (otel-llm)."""

OTEL_LLM_MULTIPROC_DIR: Final = "OTEL_LLM_MULTIPROC_DIR"
"""Directory in which the workers of one application share their metrics (otel-llm)."""

OTEL_LLM_WEB_CONFIG: Final = "OTEL_LLM_WEB_CONFIG"
"""Path of a web configuration file of the Prometheus exporter toolkit, for the page (otel-llm)."""
