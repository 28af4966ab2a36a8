"""Real instrumentations of Bedrock's client, which we do not patch, where they are installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otel_llm.ledger import Ledger
from otel_llm.prometheus.foreign.adapter import ForeignReader
from otel_llm.state import Columns
from otel_llm.testing.server import Reply, ScriptedServer

boto3: Any = pytest.importorskip("boto3")

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18},
    "metrics": {"latencyMs": 5},
}
THROTTLED = Reply(429, json={"message": "slow down"}, headers={"x-amzn-errortype": "ThrottlingException"})
ASK: dict[str, Any] = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": "hi"}]}]}

INSTRUMENTORS = {
    "opentelemetry.instrumentation.botocore": "BotocoreInstrumentor",
    "opentelemetry.instrumentation.bedrock": "BedrockInstrumentor",
}


@pytest.fixture(params=INSTRUMENTORS)
def reader(request: pytest.FixtureRequest) -> Iterator[ForeignReader]:
    """A reader of what one of the instrumentations records."""
    module: Any = pytest.importorskip(request.param)
    instrumentor = getattr(module, INSTRUMENTORS[request.param])()
    provider = MeterProvider(shutdown_on_exit=False)
    reader = ForeignReader(Ledger(100, Columns({"duration": (0.0, 60.0), "input_tokens": (10.0, 100.0)})))
    assert reader.attach(provider)
    instrumentor.instrument(meter_provider=provider, tracer_provider=TracerProvider(), skip_dep_check=True)
    yield reader
    instrumentor.uninstrument()
    reader.detach()


def bedrock(server: ScriptedServer) -> Any:
    """Return a client of the server."""
    config = import_module("botocore.config").Config(retries={"max_attempts": 0}, proxies={})
    return boto3.client(
        "bedrock-runtime",
        region_name="eu-west-1",
        endpoint_url=server.url,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=config,
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_calls_of_bedrock(server: ScriptedServer, reader: ForeignReader) -> None:
    """Calls by botocore count once, with their tokens, and failed ones with their class of error."""
    own = bedrock(server)
    for _ in range(2):
        server.script(Reply(json=ANSWER))
        assert "end_turn" == own.converse(**ASK)["stopReason"]
    server.script(THROTTLED)
    with pytest.raises(Exception, match="slow down"):
        own.converse(**ASK)
    own.close()

    fine = [(facts, totals) for facts, totals in reader.cells() if facts.failure is None]
    failed = [(facts, totals) for facts, totals in reader.cells() if facts.failure is not None]
    assert 2 == sum(totals.calls for _, totals in fine)
    assert 22 == sum(totals.input_tokens or 0 for _, totals in fine)
    assert 14 == sum(totals.output_tokens or 0 for _, totals in fine)
    assert {"aws.bedrock"} == {facts.provider for facts, _ in (*fine, *failed)}
    if failed:  # one of the two does not record them
        ((facts, totals),) = failed
        assert facts.failure is not None
        assert (MODEL, "rate_limit", 1) == (facts.request_model, facts.failure.error_class, totals.calls)
        assert {MODEL} == {facts.request_model for facts, _ in fine}
