"""What flows with the context: labels and attributes of the calls inside a block."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from opentelemetry import baggage
from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

if TYPE_CHECKING:
    pass


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

BLOCK_KEY = context_api.create_key("otel_llm_block")
"""Where a context keeps the innermost `track_inference` block around it."""
LABELS_KEY = context_api.create_key("otel_llm_labels")
"""Where a context keeps the `Labels` of the calls made in it."""
ATTRIBUTES_KEY = context_api.create_key("otel_llm_attributes")
"""Where a context keeps the span attributes of the calls made in it."""


class Labels(dict[str, str]):
    """The labels of a block; which of them the ledger tells calls apart by is worked out once for all its calls."""

    __slots__ = ("_among", "_chosen")

    def __init__(self, *labels: Mapping[str, str]) -> None:
        super().__init__()
        for each in labels:
            # A string enum is its value here, as OTLP sends it.
            self.update({str.__str__(name): str.__str__(value) for name, value in each.items()})
        self._among: frozenset[str] | None = None
        self._chosen: tuple[tuple[str, str], ...] = ()

    def among(self, names: frozenset[str]) -> tuple[tuple[str, str], ...]:
        """Return those of these names, sorted by name."""
        if self._among is not names:
            self._chosen = tuple(sorted([label for label in self.items() if label[0] in names]))
            self._among = names
        return self._chosen


carried: frozenset[str] = frozenset()
"""Names of labels that travel as baggage; `instrument()` sets them."""


def carry(names: frozenset[str]) -> None:
    """Have labels of these names travel as OpenTelemetry baggage, out of this process and into it."""
    global carried
    carried = names


def labels_of(context: Context) -> Labels | None:
    """Return the labels of the calls made in a context: those that came as baggage, and the blocks' on top of them."""
    own = context.get(LABELS_KEY)
    labels = own if isinstance(own, Labels) else None
    if carried:
        known: Mapping[str, str] = labels or {}
        brought = {
            name: value
            for name, value in baggage.get_all(context).items()
            if name in carried and name not in known and isinstance(value, str)
        }
        if brought:
            return Labels(brought, known)
    return labels
