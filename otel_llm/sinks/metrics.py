"""Metric points for each call: distributions are recorded, everything countable is observed from the ledger.

Source: GenAI semantic conventions, "Metrics" and "Token metrics", in the vocabulary that the settings choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.util.types import AttributeValue

from otel_llm import faults
from otel_llm.call import Call
from otel_llm.config import Settings
from otel_llm.foreign import NOTHING, Covered
from otel_llm.ledger import OVERFLOW, Key, Ledger, Row
from otel_llm.measures import key_of
from otel_llm.overdue import settle
from otel_llm.prometheus import shortcut
from otel_llm.prometheus.shortcut import Observations
from otel_llm.state import Facts, short
from otel_llm.wire.fields import LARGEST
from otel_llm_semconv import attributes as names
from otel_llm_semconv import measures, metrics
from otel_llm_semconv.measures import MEASURES
from otel_llm_semconv.metrics import Metric
from otel_llm_semconv.values import INFERENCE_OPERATIONS, TokenKind, TokenModality, TokenType

Attributes = Mapping[str, AttributeValue]
Value = int | float

_OVERFLOW_ATTRIBUTES: Attributes = {names.OTEL_METRIC_OVERFLOW: True}

_INPUT_MODALITIES = {
    names.GEN_AI_USAGE_TEXT_INPUT_TOKENS: TokenModality.TEXT,
    names.GEN_AI_USAGE_IMAGE_INPUT_TOKENS: TokenModality.IMAGE,
    names.GEN_AI_USAGE_AUDIO_INPUT_TOKENS: TokenModality.AUDIO,
}
_OUTPUT_MODALITIES = {
    names.GEN_AI_USAGE_TEXT_OUTPUT_TOKENS: TokenModality.TEXT,
    names.GEN_AI_USAGE_IMAGE_OUTPUT_TOKENS: TokenModality.IMAGE,
    names.GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS: TokenModality.AUDIO,
}


class Family:
    """The series of one metric: attributes by key, at most *max_series* and one overflow series beyond."""

    def __init__(self, metric: Metric, max_series: int) -> None:
        self._names = metric.attributes
        self._max_series = max_series
        self._attributes: dict[Key, Attributes] = {}

    def attributes(self, key: Key) -> Attributes:
        """Return the attributes of the key's series; the same mapping each time."""
        known = self._attributes.get(key)
        return self._admit(key) if known is None else known

    def _admit(self, key: Key) -> Attributes:
        if key == OVERFLOW or len(self._attributes) >= self._max_series:
            return _OVERFLOW_ATTRIBUTES
        attributes: dict[str, AttributeValue] = {}
        for name, value in zip(self._names, key, strict=False):
            if isinstance(value, (str, int)):
                attributes[name] = short(value)
        self._attributes[key] = attributes
        return attributes


Point = tuple[Callable[[Value, Attributes, Context | None], None], Attributes]
"""How to record a value, and the attributes of the series it belongs to."""


class Distribution(Family):
    """A histogram and its series."""

    def __init__(self, meter: Meter, metric: Metric, max_series: int) -> None:
        super().__init__(metric, max_series)
        self.record: Callable[[Value, Attributes, Context | None], None] = meter.create_histogram(
            metric.name,
            metric.unit,
            metric.description,
            explicit_bucket_boundaries_advisory=metric.boundaries,
        ).record

    def point(self, key: Key) -> Point:
        """Return how to record into the key's series."""
        return self.record, self.attributes(key)


class Observed(Family):
    """A counter or a gauge and its series, read when somebody collects."""

    def __init__(
        self, meter: Meter, metric: Metric, max_series: int, read: Callable[[], Iterable[tuple[Key, Value]]]
    ) -> None:
        super().__init__(metric, max_series)
        self._read = read
        self._newest = metric.kind == "gauge"
        self._seen: dict[int, Attributes] = {}
        """Attributes by their identity, in the order in which they came."""
        self._instrument: object = None
        create = {
            "counter": meter.create_observable_counter,
            "updowncounter": meter.create_observable_up_down_counter,
            "gauge": meter.create_observable_gauge,
        }[metric.kind]
        self._instrument = create(metric.name, [self._observe], metric.unit, metric.description)

    def observations(self) -> Observations:
        """Return what is there to observe now, each series in its place among the others, once it has been there.

        No total is more than OTLP can carry: one that is would keep all other metrics from being exported, too.
        """
        totals: dict[int, Value] = {}
        for key, value in self._read():
            attributes = self.attributes(key)
            one = id(attributes)
            if one in totals:
                totals[one] = value if self._newest else totals[one] + value
            else:
                totals[one] = value
                self._seen.setdefault(one, attributes)
        seen = [(attributes, totals[one]) for one, attributes in self._seen.items() if one in totals]
        return Observations([attributes for attributes, _ in seen], [min(value, LARGEST) for _, value in seen])

    def _observe(self, options: CallbackOptions) -> Iterable[Observation]:
        found = self.observations()
        short = shortcut.current()
        left = short is not None and short.leave(self._instrument, found)
        return map(Observation, found.values[:1] if left else found.values, found.attributes)


class Plan(NamedTuple):
    """Where the numbers of calls that share their attributes are recorded; worked out once for all of them."""

    durations: tuple[Point, ...]
    input_tokens: tuple[Point, ...]
    output_tokens: tuple[Point, ...]
    first_chunks: tuple[Point, ...]


def _rest(plan: Plan, covered: Covered) -> Plan:
    """Leave to another instrumentation what it records."""
    return Plan(
        durations=() if covered.duration else plan.durations,
        input_tokens=() if covered.tokens else plan.input_tokens,
        output_tokens=() if covered.tokens else plan.output_tokens,
        first_chunks=() if covered.first_chunk else plan.first_chunks,
    )


class Metrics:
    """Record the distributions of each finished call."""

    def __init__(self, meter: Meter, ledger: Ledger, settings: Settings) -> None:
        chosen = {*metrics.in_vocabulary(settings.semconv), *metrics.OWN}

        def distributions(*candidates: Metric) -> tuple[Distribution, ...]:
            wanted = [metric for metric in candidates if metric in chosen]
            return tuple([Distribution(meter, metric, settings.max_series) for metric in wanted])

        self._most_plans = settings.max_series
        self._plans: dict[Key, Plan] = {}
        self._released = settings.semconv != "latest"
        self._operation_duration = distributions(metrics.GEN_AI_CLIENT_OPERATION_DURATION)
        self._inference_duration = distributions(metrics.GEN_AI_CLIENT_INFERENCE_DURATION)
        self._first_chunk = distributions(
            metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK, metrics.GEN_AI_CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK
        )
        self._token_usage = distributions(metrics.GEN_AI_CLIENT_TOKEN_USAGE)
        self._input_tokens = distributions(metrics.GEN_AI_CLIENT_INFERENCE_OPERATION_INPUT_TOKENS)
        self._output_tokens = distributions(metrics.GEN_AI_CLIENT_INFERENCE_OPERATION_OUTPUT_TOKENS)
        (self._first_text,) = distributions(metrics.OTEL_LLM_CLIENT_TIME_TO_FIRST_TEXT)
        (self._gap,) = distributions(metrics.OTEL_LLM_CLIENT_CHUNK_GAP)
        (self._longest_gap,) = distributions(metrics.OTEL_LLM_CLIENT_CHUNK_GAP_MAX)
        (self._output_rate,) = distributions(metrics.OTEL_LLM_CLIENT_OUTPUT_RATE)
        (self._server_rate,) = distributions(metrics.OTEL_LLM_SERVER_OUTPUT_RATE)
        server_times = (
            metrics.OTEL_LLM_SERVER_LOAD_DURATION,
            metrics.OTEL_LLM_SERVER_PROMPT_DURATION,
            metrics.OTEL_LLM_SERVER_GENERATION_DURATION,
        )
        self._server_times = {metric.name: Distribution(meter, metric, settings.max_series) for metric in server_times}
        self._told = {
            name: Distribution(meter, metric, settings.max_series)
            for name, metric in MEASURES.items()
            if metric.kind == "histogram"
        }

    def end(self, call: Call) -> None:
        """Record the call, but for what another instrumentation records of it in ``gen_ai.client.*``."""
        if call.chunks:
            self._record_stream(call)
        if call.server_times is not None:
            self._record_server(call, call.server_times)
        if not call.runs_model:
            return
        context = call.context
        key = (*call.series, call.error_type)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan(call.operation, call.series, key)
        if call.covered is not NOTHING:
            plan = _rest(plan, call.covered)
        duration = call.ended_at - call.started_at
        for record, attributes in plan.durations:
            record(duration, attributes, context)
        tokens = call.input_tokens
        if tokens is not None:
            for record, attributes in plan.input_tokens:
                record(tokens, attributes, context)
        tokens = call.output_tokens
        if tokens is not None:
            for record, attributes in plan.output_tokens:
                record(tokens, attributes, context)
        if call.first_chunk_at is not None:
            for record, attributes in plan.first_chunks:
                record(call.first_chunk_at - call.started_at, attributes, context)

    def distribute(self, measure: str, facts: Facts, value: Value, context: Context | None) -> None:
        """Record what was told by hand of something else than a call; the context may hold a span for an exemplar."""
        histogram = self._told[measure]
        key = key_of(facts, MEASURES[measure].attributes)
        histogram.record(value, histogram.attributes(key), context)

    def _plan(self, operation: str, series: Key, with_error: Key) -> Plan:
        """Say where calls with these attributes are recorded; the latest vocabulary keeps inference apart."""
        inference = operation in INFERENCE_OPERATIONS
        durations = (
            *(self._operation_duration if self._released or not inference else ()),
            *(self._inference_duration if inference else ()),
        )
        inputs, outputs = (self._input_tokens, self._output_tokens) if inference else ((), ())
        plan = Plan(
            tuple([histogram.point(with_error) for histogram in durations]),
            (
                *(histogram.point((*series, TokenType.INPUT)) for histogram in self._token_usage),
                *(histogram.point(with_error) for histogram in inputs),
            ),
            (
                *(histogram.point((*series, TokenType.OUTPUT)) for histogram in self._token_usage),
                *(histogram.point(with_error) for histogram in outputs),
            ),
            tuple([histogram.point(series) for histogram in self._first_chunk]),
        )
        if len(self._plans) < self._most_plans:
            self._plans[with_error] = plan
        return plan

    def _record_stream(self, call: Call) -> None:
        if call.first_chunk_at is None:
            return
        numbers: list[tuple[Distribution, Value]] = []
        if call.first_text_at is not None:
            numbers.append((self._first_text, call.first_text_at - call.started_at))
        if call.chunks > 1:
            numbers.append((self._gap, (call.last_chunk_at - call.first_chunk_at) / (call.chunks - 1)))
            numbers.append((self._longest_gap, call.longest_gap))
        seconds = call.ended_at - call.first_chunk_at
        if call.output_tokens and seconds > 0:
            numbers.append((self._output_rate, call.output_tokens / seconds))
        for histogram, value in numbers:
            histogram.record(value, histogram.attributes(call.series), call.context)

    def _record_server(self, call: Call, times: Mapping[str, float]) -> None:
        for name, seconds in times.items():
            histogram = self._server_times[name]
            histogram.record(seconds, histogram.attributes(call.series), call.context)
        rate = call.server_output_rate
        if rate is not None:
            self._server_rate.record(rate, self._server_rate.attributes(call.series), call.context)


def observe(meter: Meter, ledger: Ledger, settings: Settings, observed_already: set[str]) -> None:
    """Make the ledger's counters and gauges instruments of the meter, each once however often this is called."""
    chosen = {*metrics.in_vocabulary(settings.semconv), *metrics.OWN, *measures.OWN}

    def observed(metric: Metric, read: Callable[[Ledger], Iterable[tuple[Key, Value]]]) -> None:
        if metric not in chosen or metric.name in observed_already:
            return
        observed_already.add(metric.name)
        Observed(meter, metric, settings.max_series, partial(read, ledger))

    observed(metrics.OTEL_LLM_CLIENT_ACTIVE, _active)
    observed(metrics.OTEL_LLM_CLIENT_RETRIES, _retries)
    observed(metrics.OTEL_LLM_CLIENT_TOKENS, _tokens)
    observed(metrics.OTEL_LLM_INTERNAL_FAULTS, lambda _: [((place,), count) for place, count in faults.counts.items()])
    observed(metrics.OTEL_LLM_INTERNAL_FOLDED, _folded)
    for metric in (
        metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING,
        metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_LIMIT,
        metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_REMAINING,
        metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_LIMIT,
    ):
        observed(metric, _rate_limit(metric.name))
    for metric, total, modalities in (
        (metrics.GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS, "input", _INPUT_MODALITIES),
        (metrics.GEN_AI_CLIENT_INFERENCE_USAGE_OUTPUT_TOKENS, "output", _OUTPUT_MODALITIES),
        (metrics.GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_READ_INPUT_TOKENS, "cache_read", {}),
        (metrics.GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_WRITE_INPUT_TOKENS, "cache_write", {}),
        (metrics.GEN_AI_CLIENT_INFERENCE_USAGE_REASONING_OUTPUT_TOKENS, "reasoning", {}),
    ):
        observed(metric, _usage(total, modalities))
    for name, metric in MEASURES.items():
        if metric.kind != "histogram":
            observed(metric, partial(_told, name, metric.attributes))


_KINDS = (
    ("input", TokenKind.INPUT),
    ("output", TokenKind.OUTPUT),
    ("cache_read", TokenKind.CACHE_READ),
    ("cache_write", TokenKind.CACHE_WRITE),
    ("reasoning", TokenKind.REASONING),
)


def _with(key: Key, value: object) -> Key:
    return key if key == OVERFLOW else (*key, value)


def _active(ledger: Ledger) -> Iterator[tuple[Key, Value]]:
    settle()  # a collection is the first to ask for these, and takes its locks for the others afterwards
    for key, lane in list(ledger.lanes.items()):
        yield key, lane.active


def _tokens(ledger: Ledger) -> Iterator[tuple[Key, Value]]:
    for key, row in ledger.snapshot():
        for column, kind in _KINDS:
            tokens: int | None = getattr(row, column)
            if tokens is not None:
                yield _with(key, kind), tokens
    told_of = metrics.OTEL_LLM_CLIENT_TOKENS.attributes[:-1]
    for column, (_, kind) in zip(measures.TOKENS, _KINDS, strict=True):
        for key, told in _told(column, told_of, ledger):
            yield _with(key, kind), told


def _told(name: str, attributes: tuple[str, ...], ledger: Ledger) -> Iterator[tuple[Key, Value]]:
    """Read what was told by hand; all of it are whole numbers."""
    for key, value in ledger.measures.points(name, attributes):
        yield key, int(value)


def _folded(ledger: Ledger) -> Iterator[tuple[Key, Value]]:
    folded = ledger.folded + ledger.measures.folded
    if folded:
        yield (None,), folded


def _retries(ledger: Ledger) -> Iterator[tuple[Key, Value]]:
    for key, row in ledger.snapshot():
        for reason, retries in list((row.retries or {}).items()):
            yield _with(key, reason), retries


def _rate_limit(name: str) -> Callable[[Ledger], Iterator[tuple[Key, Value]]]:
    def read(ledger: Ledger) -> Iterator[tuple[Key, Value]]:
        for key, lane in list(ledger.lanes.items()):
            limit = lane.rate_limits().get(name)
            if limit is not None:
                yield key, limit

    return read


def _usage(total: str, modalities: Mapping[str, str]) -> Callable[[Ledger], Iterator[tuple[Key, Value]]]:
    """Read a token total by modality; what the provider does not break down is of unknown modality.

    Source: GenAI semantic conventions, "Token metrics", ``gen_ai.token.modality``.
    """

    def read(ledger: Ledger) -> Iterator[tuple[Key, Value]]:
        for key, row in ledger.snapshot():
            tokens: int | None = getattr(row, total)
            if tokens is None or (key and key[0] not in INFERENCE_OPERATIONS):
                continue
            rest = tokens
            for name, modality in modalities.items():
                part = (row.modalities or {}).get(name)
                if part:
                    rest -= part
                    yield _with(key, modality), part
            if rest > 0 or tokens == 0:
                yield _with(key, TokenModality.UNKNOWN), rest

    return read


__all__ = ["Metrics", "Row", "observe"]
