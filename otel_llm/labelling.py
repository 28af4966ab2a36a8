"""What an application says of the calls that it makes in a block of code: labels, and attributes of their spans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import baggage
from opentelemetry.context import Context

from otel_llm import context as contexts
from otel_llm.block import Block
from otel_llm.context import ATTRIBUTES_KEY, LABELS_KEY, Labels

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue


class Said(Block):
    """A block in which the context says more."""

    def __init__(self, function: str, within: Callable[[Context], Context]) -> None:
        super().__init__(function)
        self._within = within

    def enter(self, context: Context) -> Context:
        """Return the context that says it."""
        return self._within(context)

    def leave(self, error: BaseException | None) -> None:
        """Do nothing: with the context it is gone."""


def labels(**labels: str) -> Said:
    """Label the calls made inside: on spans as ``otel_llm.label.<key>``, on Prometheus pages where a dialect asks.

    Blocks nest: the inner one adds to the outer one and wins where both name a key. The labels follow the OpenTelemetry
    context into tasks and threads, and with ``baggage_labels`` into other processes. Also a decorator, of functions,
    coroutine functions and generators.

    Raises:
        TypeError: a value is no string.
        ValueError: later, the block is entered or left a second time.
    """
    for key, value in labels.items():
        if not isinstance(value, str):
            raise TypeError(f"otel_llm.labels: {key} must be a string, not {type(value).__name__}")

    def within(context: Context) -> Context:
        outer: Any = context.get(LABELS_KEY) or {}
        context = Context({**context, LABELS_KEY: Labels(outer, labels)})
        for name in contexts.carried.intersection(labels):
            context = baggage.set_baggage(name, labels[name], context)
        return context

    return Said("labels", within)


def attributes(attributes: Mapping[str, AttributeValue]) -> Said:
    """Put span attributes, such as ``gen_ai.conversation.id``, on the calls made inside. Also a decorator.

    Raises:
        TypeError: *attributes* is no mapping of strings.
        ValueError: later, the block is entered or left a second time.
    """
    if not isinstance(attributes, Mapping) or not all(isinstance(key, str) for key in attributes):
        raise TypeError("otel_llm.attributes: expected a mapping of attribute names to values")

    def within(context: Context) -> Context:
        known: Any = context.get(ATTRIBUTES_KEY) or {}
        return Context({**context, ATTRIBUTES_KEY: {**known, **attributes}})

    return Said("attributes", within)
