"""A block that is one inference: counted by itself, or left to the instrumented calls that are made inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from threading import RLock
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from opentelemetry.context import Context

from otel_llm.block import Block
from otel_llm.call import Call
from otel_llm.context import BLOCK_KEY, LABELS_KEY, Labels
from otel_llm.manual import arguments, telling
from otel_llm.provider import DEFAULT_PORTS, provider_of
from otel_llm.telemetry import Telemetry, forks, suppressed
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import INFERENCE_OPERATIONS, Operation

T = TypeVar("T")

_FUNCTION = "track_inference"
_UNKNOWN = "unknown"
_OPERATIONS = (*sorted(INFERENCE_OPERATIONS), Operation.EMBEDDINGS)
_TEXTS = ("response_model", "response_id", "error_type")
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


class Inference(Block):
    """See `track_inference`."""

    call: Call
    """What is recorded; there once the block is entered."""

    def __init__(
        self,
        model: str,
        operation: str,
        provider: str | None,
        base_url: str | None,
        endpoint: str | None,
        labels: dict[str, str],
    ) -> None:
        super().__init__(_FUNCTION)
        self._server = _server(base_url) if base_url else (None, None)
        provider = provider or provider_of(*self._server, _UNKNOWN)
        self._given = model, operation, provider, base_url, endpoint
        self._labels = labels
        self._telemetry: Telemetry | None = None
        self._told: dict[str, int] = {}
        self._lock = RLock()
        self._alone = True
        """Whether no call of an instrumented client was made inside."""
        self._is_ours = False
        """Whether a call was made inside that we see ourselves."""
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
        self._describe(call)
        self._alone, self._telemetry, self._told, self._lock = True, None, {}, RLock()
        self._is_ours, self._wrong = False, None
        if self._labels:
            outer: Any = context.get(LABELS_KEY) or {}
            context = Context({**context, LABELS_KEY: Labels(outer, self._labels)})
        telemetry = telling.listener(_FUNCTION)
        if telemetry is None or suppressed(context) or (telemetry.asleep and not telemetry.wakes()):
            return Context({**context, BLOCK_KEY: self})
        around: Any = context.get(BLOCK_KEY)
        if around is not None:
            around.step_back()
        self._telemetry = telemetry
        call.context = context
        return telemetry.begin_by_hand(call, self)

    def _describe(self, call: Call) -> None:
        call.request_model, call.operation, call.provider, call.base_url, call.endpoint = self._given
        call.server_address, call.server_port = self._server

    def take(self, call: Call) -> None:
        """Have a call of an instrumented client count in the place of the block, with the block's model."""
        telemetry = self._telemetry
        if telemetry is not None and (self._is_here() or not self._alone):
            self._is_ours = True
            telemetry.ledger.rename(call, self._given[0])
            self.step_back()

    def take_point(self) -> str | None:
        """Have a call that another instrumentation tells of count in the place of the block.

        Returns:
            the block's model; empty where the block is over, and None where the call is counted by us already.
        """
        if self._is_ours:
            return None
        if self._telemetry is None or not self._is_here():
            return ""
        self.step_back()
        return self._given[0]

    def step_back(self) -> None:
        """Leave it to what is inside to count."""
        with self._lock:
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
        with self._lock:
            alone = self._alone
        if call.dropped:
            if alone:
                telemetry.ledger.leave(call)
        elif alone:
            try:
                self._tidy(call)
                telemetry.spans.own_up(call)
            finally:
                telemetry.end(call, error, self.ended_at)
        else:
            call.ended_at = self.ended_at
            telemetry.spans.end_around(call, error)
        call.context = None

    def _tidy(self, call: Call) -> None:
        """Have what the application wrote onto the call be what it should be, and add what it told of tokens."""
        self._describe(call)
        for name in _TOKENS:
            tokens, told = getattr(call, name), self._told.get(name)
            if tokens is not None:
                tokens = self._checked(arguments.whole, name, tokens)
            if told is not None:
                tokens = told + (tokens or 0)
            setattr(call, name, tokens)
        for name in _TEXTS:
            if getattr(call, name) is not None:
                setattr(call, name, self._checked(arguments.text, name, getattr(call, name)))
        if call.finish_reasons:
            call.finish_reasons = self._checked(arguments.texts, "finish_reasons", call.finish_reasons) or ()
        if not isinstance(call.attributes, dict):
            call.attributes = {}
        if call.first_chunk_at is not None:
            call.first_chunk_at = self._checked(self._moment, "first_chunk_at", call.first_chunk_at)
            if call.time_to_first_chunk is not None:
                call.attributes[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = call.time_to_first_chunk

    def _moment(self, function: str, name: str, value: float) -> float:
        """Return a time that is inside the block."""
        moment = arguments.seconds(function, name, value)
        if not self.call.started_at <= moment <= self.ended_at:
            raise ValueError(f"otel_llm.{function}: {name} must be a time.perf_counter() from inside the block")
        return moment

    def _checked(self, check: Callable[[str, str, Any], T], name: str, value: Any) -> T | None:
        try:
            return check(_FUNCTION, name, value)
        except (TypeError, ValueError) as wrong:
            self._wrong = wrong
            return None


@lru_cache(maxsize=256)
def _server(base_url: str) -> tuple[str | None, int | None]:
    """Return the address and the port of a base URL, as far as it tells them."""
    try:
        url = urlsplit(base_url)
        return url.hostname, url.port or DEFAULT_PORTS.get(url.scheme)
    except ValueError:
        return None, None


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
    returns the `Call`; `record_tokens` inside, or what is written onto ``input_tokens``, ``output_tokens``,
    ``response_model``, ``response_id``, ``finish_reasons``, ``first_chunk_at`` (seconds of ``time.perf_counter``),
    ``error_type`` (of an answer that is an error, where nothing is raised) and ``attributes``, is recorded with it.

    Args:
        model: the model that is asked.
        provider: whose model it is, such as ``openai``; if not given, what *base_url* tells, or unknown.
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
        arguments.maybe(_FUNCTION, "provider", provider),
        arguments.maybe(_FUNCTION, "base_url", base_url),
        arguments.maybe(_FUNCTION, "endpoint", endpoint),
        {name: arguments.text(_FUNCTION, name, value, empty=True) for name, value in labels.items()} if labels else {},
    )
