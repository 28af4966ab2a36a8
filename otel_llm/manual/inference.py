"""A block that is one inference: counted by itself, or left to the instrumented calls that are made inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from threading import RLock
from time import perf_counter
from typing import Any, Self, cast
from urllib.parse import urlsplit

from opentelemetry.context import Context

from otel_llm.block import Block
from otel_llm.call import Call
from otel_llm.context import ATTRIBUTES_KEY, BLOCK_KEY, LABELS_KEY, Labels
from otel_llm.manual import arguments, telling
from otel_llm.provider import DEFAULT_PORTS, provider_of
from otel_llm.telemetry import Telemetry, forks, suppressed
from otel_llm.wire.fields import total
from otel_llm_semconv import attributes as names
from otel_llm_semconv.measures import TOKENS
from otel_llm_semconv.values import INFERENCE_OPERATIONS, Operation

_FUNCTION = "track_inference"
_UNKNOWN = "unknown"
_OPERATIONS = (*sorted(INFERENCE_OPERATIONS), Operation.EMBEDDINGS)
_CHECKS: Mapping[str, Callable[[str, str, Any], Any]] = {
    **dict.fromkeys(TOKENS, arguments.whole),
    **dict.fromkeys(("response_model", "response_id", "error_type"), arguments.text),
    "finish_reasons": arguments.texts,
}
"""What an application may write onto the call, and what it has to be."""


class Inference(Block):
    """See `track_inference`."""

    function = _FUNCTION
    call: Call
    """What is recorded; there once the block is entered."""
    _telemetry: Telemetry | None = None
    _alone = True
    """Whether no call of an instrumented client was made inside."""
    _is_ours = False
    """Whether a call was made inside that we see ourselves."""

    def __init__(self, facts: Mapping[str, Any], labels: Mapping[str, str]) -> None:
        self._facts = facts
        """What the call is of, by the fields that say it."""
        self._labels = labels
        self._told: dict[str, int] = {}
        self._lock = RLock()

    def __enter__(self) -> Call:  # type: ignore[override]
        """Begin, and return the call; what is written onto it is recorded with it."""
        Block.__enter__(self)
        return self.call

    async def __aenter__(self) -> Call:  # type: ignore[override]
        """Begin, and return the call."""
        return self.__enter__()

    def enter(self, context: Context) -> Context:
        """Begin the call, and have the calls made inside know of it."""
        self.call = call = Call()
        call.__dict__.update(self._facts)
        if self._labels:
            outer: Any = context.get(LABELS_KEY) or {}
            context = Context({**context, LABELS_KEY: Labels(outer, self._labels)})
        telemetry = telling.listener(_FUNCTION)
        if telemetry is None or (context and suppressed(context)) or (telemetry.asleep and not telemetry.wakes()):
            call.started_at = perf_counter()
            return Context({**context, BLOCK_KEY: self})
        around: Any = context.get(BLOCK_KEY)
        if around is not None:
            around.step_back()
        self._telemetry = telemetry
        call.context = context
        return telemetry.begin_by_hand(call, self)

    def _another(self) -> Self:
        return type(self)(self._facts, self._labels)

    def take(self, call: Call) -> None:
        """Have a call of an instrumented client count in the place of the block, with the block's model."""
        telemetry = self._telemetry
        if telemetry is not None and (self._is_here() or not self._alone):
            self._is_ours = True
            telemetry.ledger.rename(call, self._facts["request_model"])
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
        model: str = self._facts["request_model"]
        return model

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
        """End the call, and count it if it was alone; what was written onto it is checked in any case."""
        call = self.call
        call.ended_at = self.ended_at
        telemetry = self._telemetry
        try:
            self._tidy(call)
            if telemetry is not None:
                telemetry.spans.own_up(call)
        finally:
            if telemetry is not None:
                with self._lock:
                    alone = self._alone
                if call.dropped:
                    if alone:
                        telemetry.ledger.leave(call)
                elif alone:
                    telemetry.end(call, error, self.ended_at)
                else:
                    telemetry.spans.end_around(call, error)
                call.context = None

    def _tidy(self, call: Call) -> None:
        """Have what the application wrote onto the call be what it should be, and add what it told of tokens."""
        fields = call.__dict__
        fields.update(self._facts)
        for name in _CHECKS:
            if name in fields:
                given = fields.pop(name)
                if given is None:
                    continue
                try:
                    fields[name] = _CHECKS[name](_FUNCTION, name, given)
                except (TypeError, ValueError) as wrong:
                    self.wrong = wrong
        if self._told:
            for name, tokens in self._told.items():
                fields[name] = total(tokens, fields.get(name))
        # A dict of the application's own is not to be filled with what else the span says.
        attributes: Any = fields.get("attributes")
        call.attributes = {}
        if type(attributes) is not dict or attributes:
            self._tidy_attributes(call, attributes)
        if call.first_chunk_at is not None:
            self._tidy_first_chunk(call)

    def _tidy_attributes(self, call: Call, given: Any) -> None:
        if given is None:
            return
        # What `otel_llm.attributes` says of the call was not written onto it.
        said: Any = self.context.get(ATTRIBUTES_KEY) or {}
        try:
            items = arguments.items(_FUNCTION, "attributes", given)
        except TypeError as wrong:
            self.wrong = wrong
            return
        for name, value in items:
            try:
                is_said = name in said and said[name] is value
                call.attributes[name] = value if is_said else arguments.attribute(_FUNCTION, "attributes", name, value)
            except (TypeError, ValueError) as wrong:
                self.wrong = wrong

    def _tidy_first_chunk(self, call: Call) -> None:
        try:
            moment = arguments.seconds(_FUNCTION, "first_chunk_at", cast("float", call.first_chunk_at))
            if not call.started_at <= moment <= self.ended_at:
                raise ValueError(f"otel_llm.{_FUNCTION}: first_chunk_at must be a time.perf_counter() inside the block")
        except (TypeError, ValueError) as wrong:
            call.first_chunk_at, self.wrong = None, wrong
            return
        call.attributes[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = moment - call.started_at


@lru_cache(maxsize=1024)
def _facts_of(
    model: str, operation: str, provider: str | None, base_url: str | None, endpoint: str | None
) -> Mapping[str, Any]:
    """Return what a call is of, by its fields."""
    operation = arguments.text(_FUNCTION, "operation", operation)
    if operation not in _OPERATIONS:
        accepted = ", ".join([repr(str(each)) for each in _OPERATIONS])
        raise ValueError(f"otel_llm.{_FUNCTION}: operation must be one of {accepted}, not {operation!r}")
    model = arguments.text(_FUNCTION, "model", model)
    provider = arguments.maybe(_FUNCTION, "provider", provider)
    base_url = arguments.maybe(_FUNCTION, "base_url", base_url)
    endpoint = arguments.maybe(_FUNCTION, "endpoint", endpoint)
    address, port = (None, None) if base_url is None else _server(base_url)
    return {
        "operation": operation,
        "provider": provider or provider_of(address, port, _UNKNOWN),
        "request_model": model,
        "server_address": address,
        "server_port": port,
        "base_url": base_url,
        "endpoint": endpoint,
    }


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
    given = model, operation, provider, base_url, endpoint
    try:
        facts = _facts_of(*given)
    except TypeError:  # it may be that one is nothing to remember results by
        facts = _facts_of.__wrapped__(*given)
    if labels:
        labels = {name: arguments.text(_FUNCTION, name, value, empty=True) for name, value in labels.items()}
    return Inference(facts, labels)
