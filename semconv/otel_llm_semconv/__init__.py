"""Names of the GenAI semantic conventions and of otel-llm, and nothing else.

This is the only package of the project which spells the name of an attribute, a metric or an event. It imports the
standard library only, so that anything may import it at no cost.

The conventions are those of https://github.com/open-telemetry/semantic-conventions-genai as of October 2026. Everything
GenAI in them has the status Development and no release is tagged, so `SCHEMA_URL` is the version its README declares.
"""

from typing import Final

from otel_llm_semconv import attributes, environment, errors, events, measures, metrics, others, providers, values

__all__ = [
    "SCHEMA_URL",
    "attributes",
    "environment",
    "errors",
    "events",
    "measures",
    "metrics",
    "others",
    "providers",
    "values",
]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai/1.42.0"
"""Schema URL for every instrumentation scope of the project (GenAI semantic conventions, README).

Those of the core conventions would be wrong: they deprecate all GenAI names since 1.42.0.
"""
