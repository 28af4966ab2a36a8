"""One request of a client, from its begin to its answer: the body that every instrumentor shares.

An instrumentor's sync and async shells do nothing but call these methods around the client's own code. None of them
returns anything that the user gets, and none raises.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar, Token
from time import perf_counter
from typing import Any, NamedTuple

from opentelemetry.context import Context

from otel_llm import foreign
from otel_llm.bodies.body import Body
from otel_llm.call import Call
from otel_llm.context import BLOCK_KEY, current_context
from otel_llm.faults import fault, guarded
from otel_llm.overdue import end_safely
from otel_llm.streams import Tap, read_answer, watch
from otel_llm.telemetry import Telemetry, suppressed
from otel_llm.wire.fields import text
from otel_llm.wire.format import Format
from otel_llm.wire.headers import read_request_id
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import SPAN_NAMED_BY, RetryReason, StreamOutcome


class Server(NamedTuple):
    """Whom a client talks to."""

    provider: str
    address: str | None
    port: int | None
    base_url: str | None = None
    """Where its paths begin, as a user writes it: without credentials, a query or a slash at its end."""


class Exchange:
    """The request of one call while it is under way."""

    telemetry: Telemetry
    """Set by the shell that makes the exchange, which spares every call a frame."""
    _format: Format
    _call: Call | None = None
    _answer: Any = None
    _tap: Tap | None = None
    _raw = False
    _exchange_token: Token[Exchange | None] | None = None
    _context_token: Token[Context] | None = None
    last_status: int | None = None
    """Status of the last failed attempt."""
    asked = False
    """Whether we asked for a chunk with usage that the caller does not expect."""
    idle = True
    """Whether no call has begun here."""
    over = False
    """Whether the request is done, though a task that was made in the middle of it may still find it in its context."""
    within: Context | None = None
    """The context of the call, where that is not the one in which it begins."""
    covered = staticmethod(foreign.covered)
    """What another instrumentation makes of an operation."""

    def begin(
        self,
        format: Format,
        server: Server,
        endpoint: str,
        body: dict[str, Any] | None,
        *,
        raw: bool,
        image: bool = False,
    ) -> None:
        """Begin the call and make its span current, unless the user asked for silence.

        Unlike the other methods it may raise: the instrumentor that calls it has more to guard than this.

        Args:
            format: how the request is to be read.
            server: whom it goes to.
            endpoint: the whole path that it asks for, with templates in the place of ids.
            body: what it says.
            raw: whether the caller gets the bytes of the answer.
            image: whether the request is known to show an image, which its body may not tell.
        """
        context = self.within
        if context is None:
            context = current_context.get()
        if context and suppressed(context):
            return
        call = Call()
        call.operation = format.operation
        call.context = context
        call.provider, call.server_address, call.server_port, call.base_url = server
        call.endpoint = endpoint
        if image:
            call.image = True
        self._format = format
        self._raw = raw
        telemetry = self.telemetry
        # Most of a request is read for nobody where the call is about to be sampled out.
        late = telemetry.only_spans and format.operation not in SPAN_NAMED_BY
        try:
            if isinstance(body, dict):
                if late:
                    call.request_model = text(body.get("model"))
                else:
                    _read_request(telemetry, format, call, body)
            if context or foreign.may_be_near():
                call.covered = self.covered(format.operation, context)
        finally:
            self._call = call
            telemetry.begin(call)
            if not call.ends:
                self._call = None
            self.idle = False
            self._exchange_token = current_exchange.set(self)
            if call.span is not None:
                self._context_token = current_context.set(call.context)
        if late and self._call is not None and isinstance(body, dict):
            _read_request(telemetry, format, call, body)
            block: Any = context.get(BLOCK_KEY)
            if block is not None and call.runs_model:
                block.take(call)

    def step_aside(self) -> None:
        """Keep what the client does now from the call of an exchange further out, where nothing has begun here.

        It stays the client's all the same: what it sends is no call of a layer below either.
        """
        self._exchange_token = current_exchange.set(self)

    @property
    def recording(self) -> bool:
        """Whether a call has begun here that somebody will see."""
        return self._call is not None

    @property
    def traced(self) -> bool:
        """Whether the call has its one span: a recording one of ours, or that of another instrumentation."""
        call = self._call
        if call is None:
            return False
        return call.covered.span if call.span is None else call.span.is_recording()

    def told(self, attributes: Mapping[str, Any]) -> None:
        """Take note of attributes that the client itself would give the call's span."""
        if self._call is not None:
            for name, value in attributes.items():
                self._call.attributes.setdefault(name, value)

    @guarded
    def retried(self, reason: str) -> None:
        """Take note that the client is about to try again."""
        if self._call is not None:
            self._call.retry_reasons = (*self._call.retry_reasons, reason)

    def answered(self, response: Any, *, stream: bool = False) -> None:
        """Take note of a response and of how its body will be read: by the client's *stream*, or by the caller."""
        call = self._call
        if call is None:
            return
        try:
            self._answer = response
            call.response_headers = response.headers
            # A response that was made with its body, as in tests and caches, counts as closed from the start.
            if not response.is_closed or (stream and not self._raw):
                self._tap_into(call, response)
        except Exception:
            fault("answered")

    def _tap_into(self, call: Call, response: Any) -> None:
        if self._tap is not None:  # a middleware of the client's asked a second time
            self._tap.let_go()
        tap = Tap(self.telemetry, call, self._format)
        tap.asked = self.asked
        headers = response.headers
        read_request_id(call, headers)
        if self._raw:
            encoding = headers.get("content-encoding", "")
            tap.body = Body(headers.get("content-type", ""), encoding, asked=call.streaming)
        if watch(response, tap):
            self._tap = tap
            tap.busy = True  # until the caller has it: the client itself may close it and ask again

    def opened(self) -> Tap | None:
        """Leave the request behind, the first chunk of whose answer is there; return what sees the chunks, if any."""
        self._leave()
        if self._call is None:
            return None
        try:
            return Tap(self.telemetry, self._call, self._format)
        except Exception:
            self.telemetry.end(self._call)
            fault("opened")
            return None

    def attempted(self, response: Any) -> None:
        """Take note of an attempt that failed with a status, and may be tried again."""
        if self._call is None:
            return
        try:
            self.last_status = response.status_code
            self._call.response_headers = response.headers
        except Exception:
            fault("attempted")

    def returned(self, result: object) -> None:
        """End the call with what the client returns, or leave that to the stream."""
        at = perf_counter()
        call = self._call
        self._leave()
        if call is None:
            return
        if self._tap is not None:
            self._tap.busy = False
            return
        telemetry = self.telemetry
        try:
            if self._raw or result is self._answer:
                self._read_content(call, self._answer)
            elif telemetry.captures_content:
                read_answer(telemetry, self._format, call, result)
            else:
                self._format.read_answer(call, result)
            if names.OTEL_LLM_REQUEST_ID not in call.attributes and self._answer is not None:
                read_request_id(call, self._answer.headers)
        except Exception:
            fault("read_answer")
        telemetry.end(call, None, at)

    def _read_content(self, call: Call, response: Any) -> None:
        """Read a body that is there already but was not parsed by the client."""
        body = Body(response.headers.get("content-type", ""), "", asked=call.streaming)
        events = [*body.feed(response.content), *body.rest()]
        if body.is_stream:
            chunks = [body.decode(event) for event in events]
            call.streamed, call.chunks, call.stream_outcome = True, len(chunks), StreamOutcome.COMPLETED
            self._format.read_chunks(call, chunks)
            if self.telemetry.captures_content and self._format.read_chunks_content is not None:
                self._format.read_chunks_content(call, chunks)
        else:
            read_answer(self.telemetry, self._format, call, body.answer())

    @guarded
    def failed(self, error: BaseException) -> None:
        """End the call with the exception that the caller gets."""
        self._leave()
        call = self._call
        if call is None:
            return
        if self._tap is not None:
            self._tap.fail(error)
            return
        try:
            # A body that cannot be parsed is an error that knows nothing of its response.
            headers = getattr(getattr(error, "response", self._answer), "headers", None)
            if headers is not None:
                call.response_headers = headers
                told = getattr(error, "request_id", None)  # the client itself has read it there
                if type(told) is str and told:
                    call.attributes[names.OTEL_LLM_REQUEST_ID] = told
                else:
                    read_request_id(call, headers)
            # An answer that could not be parsed was paid for all the same; some errors carry it.
            answer = getattr(error, "completion", None) or _decoded(self._answer)
            if answer is not None:
                read_answer(self.telemetry, self._format, call, answer)
        finally:
            if isinstance(error, GeneratorExit):
                # The waiting coroutine was dropped, perhaps by the collector.
                end_safely(lambda: self.telemetry.end(call, error))
            else:
                self.telemetry.end(call, error)

    def _leave(self) -> None:
        """Leave the context as it was, also where a coroutine is closed in a context that is not its own."""
        self.over = True
        try:
            if self._context_token is not None:
                current_context.reset(self._context_token)
            if self._exchange_token is not None:
                current_exchange.reset(self._exchange_token)
        except (ValueError, RuntimeError):
            pass


def _read_request(telemetry: Telemetry, format: Format, call: Call, body: dict[str, Any]) -> None:
    format.read_request(call, body)
    if telemetry.captures_content and format.read_request_content is not None:
        format.read_request_content(call, body)


def _decoded(response: Any) -> object:
    """Return the JSON object that a response brought, if it is read and no error."""
    if response is None or response.status_code >= 400 or not response.is_closed:
        return None
    try:
        answer: object = json.loads(response.content)
    except Exception:
        return None
    return answer if isinstance(answer, dict) else None  # pyright: ignore[reportUnknownVariableType]


current_exchange: ContextVar[Exchange | None] = ContextVar("otel_llm_exchange", default=None)
"""The exchange whose request is under way here, so that lower layers leave it alone; see `owner`."""


def owner() -> Exchange | None:
    """Return the exchange that a request belongs to which is sent now, or None."""
    exchange = current_exchange.get()
    return None if exchange is None or exchange.over else exchange


def retry_reason(status: int | None, error: BaseException | None) -> str:
    """Return why a client tries again: the status of the last attempt, or the exception it met."""
    if error is not None:
        name = type(error).__name__
        return RetryReason.TIMEOUT if "Timeout" in name else RetryReason.CONNECTION
    if status == 429:
        return RetryReason.RATE_LIMIT
    if status == 408:
        return RetryReason.TIMEOUT
    if status == 409:
        return RetryReason.CONFLICT
    if status is not None and status >= 500:
        return RetryReason.SERVER_ERROR
    return RetryReason.OTHER
