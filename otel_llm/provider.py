"""Which provider answers, as far as a client can know."""

from __future__ import annotations

from otel_llm_semconv.providers import HOST_RULES, PROVIDER_PORTS


def provider_of(host: str | None, port: int | None, default: str) -> str:
    """Return the value of ``gen_ai.provider.name`` for a host, or *default* where no rule knows it.

    Source: GenAI semantic conventions, ``gen_ai.provider.name``: "the instrumentation's best knowledge".
    """
    if host:
        name = host.lower()
        for rule in HOST_RULES:
            if name.startswith(rule.prefix) and name.endswith(rule.suffix):
                return rule.provider
    return PROVIDER_PORTS.get(port or 0, default)
