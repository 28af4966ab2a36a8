"""The record of one call: what was asked, what was answered, how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_llm.foreign import NOTHING, Covered
from otel_llm_semconv import attributes as names

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from otel_llm.context import Labels
    from otel_llm.ledger import Track


class ServerTime:
    """A field of `Call.server_times`: seconds, or None where the server did not tell them.

    They stand together so that a call without any is told by one look.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, call: Call, owner: type[Call]) -> float | None:
        return None if call.server_times is None else call.server_times.get(self._name)

    def __set__(self, call: Call, seconds: float | None) -> None:
        if seconds is None or not 0 <= seconds < float("inf"):
            return
        if call.server_times is None:
            call.server_times = {}
        call.server_times[self._name] = seconds


class Call:
    """One logical operation of a client, with all its retries inside.

    It begins once and ends exactly once. Fields that were never sent or never answered keep their class defaults, so an
    instance holds only what is known. Times are seconds of ``time.perf_counter``; `started_at_ns` is nanoseconds since
    the epoch. `attributes` holds further span attributes by their conventional names, as the wire readers found them.
    """

    operation: str = ""
    provider: str = ""
    request_model: str | None = None
    response_model: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    base_url: str | None = None
    """Where the client sends its requests, such as ``https://api.openai.com/v1``."""
    endpoint: str | None = None
    """Path of the API that was called, such as ``/v1/chat/completions``, with templates in the place of ids."""
    image: bool = False
    """Whether the request shows the model an image."""
    runs_model: bool = True
    """Whether the operation is inference (or embedding), so that it counts in ``gen_ai.client.*``."""

    attributes: dict[str, AttributeValue]
    ends: list[bool]
    """Taken by the first who ends the call."""
    streaming: bool = False
    """Whether the request asked for a stream."""
    choice_count: int = 1

    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    modality_tokens: dict[str, int] | None = None
    """Tokens by modality, keyed by the span attribute that carries them."""

    server_times: dict[str, float] | None = None
    """Seconds by the server's own clock, by the attribute and the metric that carry them."""
    load_seconds = ServerTime(names.OTEL_LLM_SERVER_LOAD_DURATION)
    """Seconds in which the server loaded the model."""
    prompt_seconds = ServerTime(names.OTEL_LLM_SERVER_PROMPT_DURATION)
    """Seconds in which the server evaluated the prompt."""
    generation_seconds = ServerTime(names.OTEL_LLM_SERVER_GENERATION_DURATION)
    """Seconds in which the server generated the answer."""

    input_messages: list[dict[str, Any]] | None = None
    output_messages: list[dict[str, Any]] | None = None
    system_instructions: list[dict[str, Any]] | None = None
    tool_definitions: list[dict[str, Any]] | None = None

    forks: int = 0
    started_at_ns: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    streamed: bool = False
    """Whether the answer came as a stream."""
    first_chunk_at: float | None = None
    first_text_at: float | None = None
    last_chunk_at: float = 0.0
    chunks: int = 0
    longest_gap: float = 0.0

    error: BaseException | None = None
    error_type: str | None = None
    error_message: str | None = None
    stream_outcome: str | None = None

    retry_reasons: tuple[str, ...] = ()
    response_headers: Any = None
    """Headers of the last answer, which tell the headroom of the rate limits."""

    labels: Labels | None = None
    covered: Covered = NOTHING
    """What of this call another instrumentation makes already: its span, its ``gen_ai.client.*`` points."""
    dropped: bool = False

    span: Span | None = None
    context: Context | None = None
    series: tuple[object, ...] = ()
    """Values of the attributes of its metric points, in the order in which the metrics declare them."""
    track: Track | None = None
    """Where the ledger counts it."""

    def __init__(self) -> None:
        self.attributes = {}
        self.ends = [True]

    @property
    def duration(self) -> float:
        """Seconds from the request to the end of the response."""
        return self.ended_at - self.started_at

    @property
    def time_to_first_chunk(self) -> float | None:
        """Seconds from the request to the first chunk, or None where nothing streamed."""
        return None if self.first_chunk_at is None else self.first_chunk_at - self.started_at

    @property
    def time_to_first_text(self) -> float | None:
        """Seconds from the request to the first chunk that carried text, or None."""
        return None if self.first_text_at is None else self.first_text_at - self.started_at

    @property
    def server_output_rate(self) -> float | None:
        """Output tokens per second of generation by the server's clock, or None where it did not tell both."""
        seconds = self.generation_seconds
        return self.output_tokens / seconds if self.output_tokens and seconds else None

    def drop(self) -> None:
        """Leave this call out of every trace, metric and page; for a `call_hook`."""
        self.dropped = True

    def __repr__(self) -> str:
        return f"<Call {self.operation} {self.request_model} {self.error_type or 'ok'}>"
