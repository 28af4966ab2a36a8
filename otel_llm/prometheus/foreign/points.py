"""What a point of another instrumentation says of its call, and of which calls somebody tells already."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.view import DropAggregation
from opentelemetry.util.types import AttributeValue

from otel_llm.errors import Failure, class_of_name
from otel_llm.wire.fields import clean
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics, others
from otel_llm_semconv.providers import OPENAI_FLAVOURED, Provider
from otel_llm_semconv.values import Operation, TokenType

_OURS = "otel_llm"
UNKNOWN = "unknown"
"""What stands for a provider that nobody names, and for a model in some instrumentations."""
_BY_TYPE = "tokens"

_COLUMNS: Mapping[str, str] = {
    metrics.GEN_AI_CLIENT_OPERATION_DURATION.name: "duration",
    metrics.GEN_AI_CLIENT_INFERENCE_DURATION.name: "duration",
    metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK.name: "time_to_first_chunk",
    metrics.GEN_AI_CLIENT_INFERENCE_TIME_TO_FIRST_CHUNK.name: "time_to_first_chunk",
    metrics.GEN_AI_CLIENT_TOKEN_USAGE.name: _BY_TYPE,
    metrics.GEN_AI_CLIENT_INFERENCE_OPERATION_INPUT_TOKENS.name: "input_tokens",
    metrics.GEN_AI_CLIENT_INFERENCE_OPERATION_OUTPUT_TOKENS.name: "output_tokens",
    metrics.GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS.name: "input_tokens",
    metrics.GEN_AI_CLIENT_INFERENCE_USAGE_OUTPUT_TOKENS.name: "output_tokens",
    metrics.GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_READ_INPUT_TOKENS.name: "cache_read_tokens",
    metrics.GEN_AI_CLIENT_INFERENCE_USAGE_CACHE_WRITE_INPUT_TOKENS.name: "cache_write_tokens",
    metrics.GEN_AI_CLIENT_INFERENCE_USAGE_REASONING_OUTPUT_TOKENS.name: "reasoning_tokens",
}
"""What is read, in both vocabularies of the conventions, and which column it feeds."""
_TOKENS = {TokenType.INPUT: "input_tokens", TokenType.OUTPUT: "output_tokens"}
SUMS = {f"{kind}_tokens": kind for kind in ("input", "output", "cache_read", "cache_write", "reasoning")}
"""Columns of tokens, and where a cell has their sums."""
_SECONDS = {"s": 1.0, "ms": 0.001, "us": 1e-6}

_GOOGLE = frozenset({Provider.GCP_GEN_AI, Provider.GCP_GEMINI, Provider.GCP_VERTEX_AI})
_PROVIDERS = frozenset([value for name, value in vars(Provider).items() if name.isupper()])


class Feed(NamedTuple):
    """An instrument that is read."""

    name: str
    scope: str
    column: str
    scale: float
    is_distribution: bool
    client: str | None
    """The client that its scope is about, if that is one which we patch."""
    is_framework: bool
    provider: str
    """The provider of what names none."""
    is_dropped: bool
    """Whether views of the user's say that there is no such metric."""


class Point(NamedTuple):
    """What a recorded point says of its call; hashable."""

    operation: str
    provider: str
    request_model: str | None
    response_model: str | None
    server_address: str | None
    server_port: int | None
    error_type: str | None
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def models(self) -> list[str]:
        """The models that it names, as `Models` knows them."""
        return [_bare(model) for model in (self.request_model, self.response_model) if model is not None]


class Models:
    """Which models of which providers somebody tells of, by the last part of their names."""

    def __init__(self) -> None:
        self._providers: dict[str, set[str]] = {}
        self._all: set[str] = set()

    def __len__(self) -> int:
        return len(self._providers)

    def add(self, provider: str, model: str | None) -> None:
        """Add a model."""
        self._all.add(provider)
        if model is not None:
            self._providers.setdefault(_bare(model), set()).add(provider)

    def have(self, point: Point, *, loosely: bool, any_model: bool = False) -> bool:
        """Whether they have the model of a point from its provider.

        Args:
            point: what was recorded.
            loosely: whether a provider that the conventions do not know can be any.
            any_model: whether the models are not all known, so that the provider decides.
        """
        if not any_model and not point.models:
            return point.provider in self._all
        known = self._all if any_model else {each for name in point.models for each in self._providers.get(name, ())}
        return any(_agree(point.provider, provider, loosely) for provider in known)


def _bare(model: str) -> str:
    return model.rpartition("/")[2].lower()


def _agree(told: str, known: str, loosely: bool) -> bool:
    """Whether two names can mean the same provider."""
    if told == Provider.GCP_GEN_AI:  # any Google endpoint
        return known in _GOOGLE
    if told in OPENAI_FLAVOURED or told == UNKNOWN:  # the client of OpenAI talks to hosts of many
        return True
    return told == known or (loosely and told not in _PROVIDERS)


def feed_of(instrument: Any, views: Any) -> Feed | None:
    """Return how an instrument is read, or None."""
    scope: str = instrument.instrumentation_scope.name
    column = _COLUMNS.get(instrument.name)
    is_distribution = isinstance(instrument, Histogram)
    if column is None or scope == _OURS or not (is_distribution or isinstance(instrument, Counter)):
        return None
    in_seconds = column not in SUMS and column != _BY_TYPE
    if in_seconds and not is_distribution:
        return None
    aggregations = [view._aggregation for view in views if view._match(instrument)]
    parts = scope.split(".")
    scopes = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return Feed(
        instrument.name,
        scope,
        column,
        _SECONDS.get(instrument.unit, 1.0) if in_seconds else 1,
        is_distribution,
        next((others.CLIENT_BY_SCOPE[each] for each in scopes if each in others.CLIENT_BY_SCOPE), None),
        not others.FRAMEWORK_SCOPES.isdisjoint(scopes),
        next((others.PROVIDER_BY_SCOPE[each] for each in scopes if each in others.PROVIDER_BY_SCOPE), UNKNOWN),
        bool(aggregations) and all(isinstance(each, DropAggregation) for each in aggregations),
    )


def column_of(feed: Feed, attributes: Mapping[str, AttributeValue]) -> str | None:
    """Return the column that a point feeds, or None."""
    if feed.column != _BY_TYPE:
        return feed.column
    kind = str(attributes.get(names.GEN_AI_TOKEN_TYPE))
    return _TOKENS.get(others.TOKEN_TYPES.get(kind, kind))


def point_of(feed: Feed, attributes: Mapping[str, AttributeValue]) -> Point:
    """Return what a point says of its call, without the labels of the context."""
    operation = _text(attributes, names.GEN_AI_OPERATION_NAME) or Operation.CHAT
    provider = _text(attributes, names.GEN_AI_PROVIDER_NAME) or _text(attributes, others.SYSTEM)
    port = attributes.get(names.SERVER_PORT)
    error_type = _text(attributes, names.ERROR_TYPE)
    if error_type is not None:
        # One release of opentelemetry-util-genai writes the class as Python shows it.
        error_type = clean(error_type.removeprefix("<class '").removesuffix("'>"))
    return Point(
        others.OPERATIONS.get(operation, operation),
        feed.provider if provider is None else _canonical(provider),
        _text(attributes, names.GEN_AI_REQUEST_MODEL),
        _text(attributes, names.GEN_AI_RESPONSE_MODEL),
        _text(attributes, names.SERVER_ADDRESS),
        port if type(port) is int else None,
        error_type,
    )


def _text(attributes: Mapping[str, AttributeValue], name: str) -> str | None:
    """Return an attribute that says something."""
    value = attributes.get(name)
    if not isinstance(value, str) or value in ("", UNKNOWN):
        return None
    return str.__str__(value)  # a member of an enumeration is a string of another text


def _canonical(provider: str) -> str:
    """Return a provider as the conventions spell it."""
    lower = provider.lower().replace(" ", "_")
    spelled = others.PROVIDERS.get(lower, lower)
    return spelled if spelled in _PROVIDERS else provider


@lru_cache(1024)
def failure_of(error_type: str) -> Failure:
    """Return how a call failed of which ``error.type`` is all that is known."""
    return Failure(error_type, error_type.rpartition(".")[2], class_of_name(error_type))
