"""What flows with the context: labels and attributes of the calls inside a block."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue


class _ByApi:
    """Stands in for the variable of a context implementation that has none, see ``OTEL_PYTHON_CONTEXT``."""

    get = staticmethod(context_api.get_current)
    set = staticmethod(context_api.attach)
    reset = staticmethod(context_api.detach)


def _variable() -> Any:
    token = context_api.attach(context_api.get_current())
    context_api.detach(token)
    return token.var if isinstance(token, Token) else _ByApi


# Every call goes here several times; the functions of the API are the same, in two or three frames each.
current_context: ContextVar[Context] = _variable()
"""Where OpenTelemetry keeps its current context: `get_current`, `attach` and `detach` as one variable."""
(SPAN_KEY,) = set_span_in_context(INVALID_SPAN, Context())
"""Where a context keeps its span."""

current_labels: ContextVar[Mapping[str, str] | None] = ContextVar("otel_llm_labels", default=None)
current_attributes: ContextVar[Mapping[str, AttributeValue] | None] = ContextVar("otel_llm_attributes", default=None)


@contextmanager
def labels(**labels: str) -> Generator[None]:
    """Label the calls made inside, as ``otel_llm.label.<key>`` on their spans.

    Blocks nest: the inner one adds to the outer one and wins where both name a key. The labels follow the context into
    tasks and into threads that carry it. Also a decorator.

    Raises:
        TypeError: a value is no string.
    """
    for key, value in labels.items():
        if not isinstance(value, str):
            raise TypeError(f"otel_llm.labels: {key} must be a string, not {type(value).__name__}")
    token = current_labels.set({**(current_labels.get() or {}), **labels})
    try:
        yield
    finally:
        current_labels.reset(token)


@contextmanager
def attributes(attributes: Mapping[str, AttributeValue]) -> Generator[None]:
    """Put span attributes, such as ``gen_ai.conversation.id``, on the calls made inside. Also a decorator.

    Raises:
        TypeError: *attributes* is no mapping of strings.
    """
    if not isinstance(attributes, Mapping) or not all(isinstance(key, str) for key in attributes):
        raise TypeError("otel_llm.attributes: expected a mapping of attribute names to values")
    token = current_attributes.set({**(current_attributes.get() or {}), **attributes})
    try:
        yield
    finally:
        current_attributes.reset(token)
