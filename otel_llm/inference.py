"""A block that is one inference: counted by itself, or left to the instrumented calls that are made inside."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from types import TracebackType
from typing import Any, TypeVar

from opentelemetry.context import Context

from otel_llm import arguments, telling
from otel_llm.block import Block
from otel_llm.call import Call
from otel_llm.context import BLOCK_KEY, LABELS_KEY, Labels
from otel_llm.telemetry import Telemetry, forks, suppressed
from otel_llm_semconv.values import INFERENCE_OPERATIONS, Operation

T = TypeVar("T")

_FUNCTION = "track_inference"
_UNKNOWN = "unknown"
_OPERATIONS = (*sorted(INFERENCE_OPERATIONS), Operation.EMBEDDINGS)
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


class Inference(Block):
    """See `track_inference`."""

    call: Call
    """What is recorded; there once the block is entered."""

    def __init__(
        self,
        model: str,
        operation: str,
        provider: str,
        base_url: str | None,
        endpoint: str | None,
        labels: dict[str, str],
    ) -> None:
        super().__init__(_FUNCTION)
        self._given = model, operation, provider, base_url, endpoint
        self._labels = labels
        self._telemetry: Telemetry | None = None
        self._told: dict[str, int] = {}
        self._lock = RLock()
        self._alone = True
        """Whether no call of an instrumented client was made inside."""
        self._wrong: TypeError | ValueError | None = None
        """What is wrong with something that was written onto the call."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the call; say what is wrong with what was written onto it, unless something else is raised already."""
        super().__exit__(kind, error, trace)
        if error is None and self._wrong is not None:
            raise self._wrong

    def __enter__(self) -> Call:  # type: ignore[override]
        """Begin, and return the call; what is written onto it is recorded with it."""
        super().__enter__()
        return self.call

    async def __aenter__(self) -> Call:  # type: ignore[override]
        """Begin, and return the call."""
        return self.__enter__()

    def enter(self, context: Context) -> Context:
        """Begin the call, and have the calls made inside know of it."""
        self.call = call = Call()
        call.request_model, call.operation, call.provider, call.base_url, call.endpoint = self._given
        self._alone, self._telemetry, self._told, self._lock = True, None, {}, RLock()
        self._wrong = None
        if self._labels:
            outer: Any = context.get(LABELS_KEY) or {}
            context = Context({**context, LABELS_KEY: Labels(outer, self._labels)})
        telemetry = telling.listener(_FUNCTION)
        if telemetry is None or suppressed(context) or (telemetry.asleep and not telemetry.wakes()):
            return context
        around: Any = context.get(BLOCK_KEY)
        if around is not None:
            around.step_back()
        self._telemetry = telemetry
        call.context = context
        return telemetry.begin_by_hand(call, self)

    def take(self, call: Call) -> None:
        """Have a call of an instrumented client count in the place of the block, with the block's model."""
        if self._inside:
            call.request_model = self._given[0]
            self.step_back()

    def step_back(self) -> None:
        """Leave it to what is inside to count."""
        if self._alone and self._telemetry is not None and self._is_here():
            self._alone = False
            self._telemetry.ledger.leave(self.call)

    def add_tokens(self, told: dict[str, int]) -> bool:
        """Take note of tokens that are told inside; False where the block is over."""
        if not self._is_here():
            return False
        with self._lock:
            for name, tokens in told.items():
                self._told[name] = tokens + self._told[name] if name in self._told else tokens
        return True

    def _is_here(self) -> bool:
        """Whether the block is under way, and in this process."""
        return self._inside and self._forks == forks()

    def leave(self, error: BaseException | None) -> None:
        """End the call, and count it if it was alone."""
        telemetry, call = self._telemetry, self.call
        if telemetry is None:
            return
        if call.dropped:
            if self._alone:
                telemetry.ledger.leave(call)
        elif self._alone:
            try:
                self._tidy(call)
                telemetry.spans.own_up(call)
            finally:
                telemetry.end(call, error, self.ended_at)
        else:
            call.ended_at = self.ended_at
            telemetry.spans.end_around(call, error)

    def _tidy(self, call: Call) -> None:
        """Have what the application wrote onto the call be what it should be, and add what it told of tokens."""
        call.request_model, call.operation, call.provider, call.base_url, call.endpoint = self._given
        for name in _TOKENS:
            tokens, told = getattr(call, name), self._told.get(name)
            if tokens is not None:
                tokens = self._checked(arguments.whole, name, tokens)
            if told is not None:
                tokens = told + (tokens or 0)
            setattr(call, name, tokens)
        if call.response_model is not None:
            call.response_model = self._checked(arguments.text, "response_model", call.response_model)
        if not isinstance(call.attributes, dict):
            call.attributes = {}

    def _checked(self, check: Callable[[str, str, Any], T], name: str, value: Any) -> T | None:
        try:
            return check(_FUNCTION, name, value)
        except (TypeError, ValueError) as wrong:
            self._wrong = wrong
            return None


def track_inference(
    model: str,
    *,
    provider: str | None = None,
    operation: str = Operation.CHAT,
    base_url: str | None = None,
    endpoint: str | None = None,
    **labels: str,
) -> Inference:
    """Track one inference by hand: as a block, ``with`` or ``async with``, or as a decorator.

    The block is a call as those of instrumented clients are, with span, metrics and pages, unless such a call is made
    inside: then that one counts, under the model and with the labels of the block, and the block does not. Entering it
    returns the `Call`; `record_tokens` inside, or what is written onto ``input_tokens``, ``output_tokens`` and
    ``response_model``, is recorded with it.

    Args:
        model: the model that is asked.
        provider: whose model it is, such as ``openai``; unknown if not given.
        operation: ``chat``, ``generate_content``, ``text_completion`` or ``embeddings``.
        base_url: where the model is served.
        endpoint: path of the API.
        labels: labels of the calls inside, as `otel_llm.labels` has them.

    Raises:
        TypeError: an argument is no string, or what is decorated no function.
        ValueError: *model* is empty, or there is no such *operation*; later, the block is entered or left twice.
        TypeError, ValueError: at the end of the block, what was written onto the call is no such thing.

    Source: GenAI semantic conventions, "Inference"; `track_inference` of seed 000.
    """
    operation = arguments.text(_FUNCTION, "operation", operation)
    if operation not in _OPERATIONS:
        accepted = ", ".join([repr(str(each)) for each in _OPERATIONS])
        raise ValueError(f"otel_llm.{_FUNCTION}: operation must be one of {accepted}, not {operation!r}")
    return Inference(
        arguments.text(_FUNCTION, "model", model),
        operation,
        arguments.maybe(_FUNCTION, "provider", provider) or _UNKNOWN,
        arguments.maybe(_FUNCTION, "base_url", base_url),
        arguments.maybe(_FUNCTION, "endpoint", endpoint),
        {name: arguments.text(_FUNCTION, name, value, empty=True) for name, value in labels.items()} if labels else {},
    )
