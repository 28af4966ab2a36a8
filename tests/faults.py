"""A fault of ours at every place inside a call: the caller gets the very thing that he gets without us.

It is logged once for a place and counted each time, and the call ends.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import SpanProcessor

from otel_llm import exchange, faults, foreign, ledger, streams
from otel_llm.bodies import body
from otel_llm.sinks import events, metrics, spans
from otel_llm.testing import Seen, capture
from otel_llm.wire.format import Format
from otel_llm_semconv import attributes as names
from otel_llm_semconv import environment

Accounts = Callable[[Callable[[], None]], dict[str, Any]]
"""Makes a call of every kind, with something to do after each, and returns the accounts of what the caller got."""


def broken(*args: Any, **kwargs: Any) -> Any:
    """Fail, as no code of ours should."""
    raise RuntimeError("injected")


class Place(NamedTuple):
    """Where a fault is put: an attribute of something, or a reader of the format that is kept under a path."""

    owner: Any
    name: str
    path: str | None = None

    def put(self, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Any] = broken) -> None:
        """Put a fault there."""
        if self.path is None:
            monkeypatch.setattr(self.owner, self.name, fault)
        else:
            readers: Any = {self.name: fault}
            kept = self.owner[self.path]
            if isinstance(kept, Format):
                monkeypatch.setitem(self.owner, self.path, kept._replace(**readers))
            else:  # with what else is kept there
                format, *more = kept
                monkeypatch.setitem(self.owner, self.path, (format._replace(**readers), *more))


def places(begin: Place, formats: Mapping[str, Any], path: str, **more: Place) -> dict[str, Place]:
    """Return the places that calls of every client come through, the first of which is the instrumentor's own."""
    readers = (
        "read_request",
        "read_request_content",
        "read_answer",
        "read_answer_content",
        "read_chunks",
        "read_chunks_content",
        "has_text",
    )
    return {
        "begin of the instrumentor": begin,
        "begin": Place(exchange.Exchange, "begin"),
        **{reader.replace("_", " "): Place(formats, reader, path) for reader in readers},
        "foreign": Place(foreign, "may_be_near"),
        "ledger begin": Place(ledger.Ledger, "begin"),
        "ledger end": Place(ledger.Ledger, "end"),
        "span begin": Place(spans.Spans, "begin"),
        "span attributes": Place(spans, "span_attributes"),
        "span content": Place(spans, "_content_attributes"),
        "metrics": Place(metrics.Metrics, "end"),
        "events": Place(events.Events, "end"),
        "tap": Place(exchange, "Tap"),
        "body": Place(exchange, "Body"),
        "feed": Place(body.Body, "feed"),
        "request id": Place(exchange, "read_request_id"),
        "end of a stream": Place(streams.Tap, "_read"),
        **{name.replace("_", " "): place for name, place in more.items()},
    }


UNSEEN = ("begin of the instrumentor", "begin", "ledger begin", "span begin")
"""Places before the span begins: where they fail there is none."""


def check(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    place: Place,
    accounts: Accounts,
    inferences: int,
) -> None:
    """Check that calls with a fault at that place are what they are without us, and that the fault is told.

    Args:
        monkeypatch: puts the fault there.
        caplog: has the log.
        name: what `places` calls the place.
        place: the place.
        accounts: makes the calls.
        inferences: how many of the calls run a model.
    """
    bare = accounts(lambda: None)
    kinds = len(bare)
    hits = 0

    def fault(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits
        hits += 1
        broken()

    place.put(monkeypatch, fault)
    monkeypatch.setenv(environment.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, "SPAN_AND_EVENT")
    caplog.set_level(logging.WARNING, "otel_llm")

    with capture() as seen:
        ended: list[int] = []

        assert bare == accounts(lambda: ended.append(len(seen.spans)))

        # A place that failed may leave another without what it needs.
        assert 0 < hits <= sum(faults.counts.values())
        logged = [record for record in caplog.records if record.name == "otel_llm"]
        assert sorted(faults.counts) == sorted(
            re.findall(r"internal fault in ([^;]+);", record.message)[0] for record in logged
        )
        assert faults.counts == {
            point["attributes"][names.OTEL_LLM_FAULT_PLACE]: point["value"]
            for point in seen.points("otel_llm.internal.faults")
        }
        assert ([0] * kinds if name in UNSEEN else list(range(1, kinds + 1))) == ended
        assert exchange.current_exchange.get() is None
        if name not in ("ledger begin", "ledger end"):
            assert all(point["value"] == 0 for point in seen.points("otel_llm.client.active"))
        if name not in ("metrics", "begin of the instrumentor", "begin"):
            durations = seen.points("gen_ai.client.operation.duration")
            assert inferences == sum(point["count"] for point in durations)


class _Broken(SpanProcessor):
    """A processor of the user's that fails."""

    def __init__(self, at: str) -> None:
        self._at = at

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._fail("start")

    def on_end(self, span: Any) -> None:
        self._fail("end")

    def _fail(self, at: str) -> None:
        if at == self._at:
            broken()


def check_processor(at: str, accounts: Accounts, requests: int) -> None:
    """Check that a processor of the user's that fails at the start or the end of each span disturbs no call.

    Args:
        at: `start` or `end`.
        accounts: makes the calls.
        requests: how many requests they send, each with a span of its own.
    """
    bare = accounts(lambda: None)

    with capture() as seen:
        seen.tracer_provider.add_span_processor(_Broken(at))
        assert bare == accounts(lambda: None)

        assert {"begin" if at == "start" else "spans": len(bare), "http": requests} == faults.counts
        assert all(point["value"] == 0 for point in seen.points("otel_llm.client.active"))


def sane(seen: Seen) -> dict[str, Any]:
    """Check what holds for each record, whatever was answered, and return the attributes of the one span."""
    (span,) = seen.spans
    assert encode_spans(seen._spans.get_finished_spans()).SerializeToString()
    attributes: dict[str, Any] = span["attributes"]
    for name, value in attributes.items():
        if name.startswith("gen_ai.usage."):
            assert type(value) is int
            assert 0 <= value < 1 << 63
        if type(value) is str:
            assert len(value) <= 1024 or name == names.OPENAI_RESPONSE_SYSTEM_FINGERPRINT
    for point in seen.metrics:
        assert all(math.isfinite(point[key]) for key in ("value", "sum") if key in point)
        assert all(type(value) in (str, int, bool) for value in point["attributes"].values())
    (active,) = seen.points("otel_llm.client.active")
    assert 0 == active["value"]
    assert (names.ERROR_TYPE in attributes) == (span["status"] == "error")
    return attributes
