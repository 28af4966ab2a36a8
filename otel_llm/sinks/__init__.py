"""Where a finished call goes: a span, metric points, an event. The ledger is `otel_llm.ledger`."""
