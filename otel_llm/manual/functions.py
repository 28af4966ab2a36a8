"""What an application tells by hand of other things than calls: one function for each.

Every function checks what it is given, and raises nothing but that; it tells the ledger, from which both the pages of
the dialects and the OpenTelemetry instruments are made. Labels of `otel_llm.labels` count where a dialect asks for
them. Before `otel_llm.instrument` was called nothing is counted, which the log says once. All of them may be called by
any thread, in signal handlers and after a fork.

Source: the seeds of the five dialects; the metrics are those of ``otel_llm_semconv.measures``.
"""

from __future__ import annotations

from typing import Any

from otel_llm import faults
from otel_llm.context import BLOCK_KEY, current_context
from otel_llm.errors import failure_told
from otel_llm.manual import arguments, telling
from otel_llm_semconv import attributes as names
from otel_llm_semconv.errors import ErrorClass
from otel_llm_semconv.measures import LABELS
from otel_llm_semconv.values import CIRCUIT_BREAKER_STATES

_CLIENT_ID = LABELS[names.OTEL_LLM_CLIENT_ID]
_PRIORITY = LABELS[names.OTEL_LLM_QUEUE_PRIORITY]
_VERSION = LABELS[names.OTEL_LLM_MODEL_VERSION]
_MEMORY_TYPE = LABELS[names.OTEL_LLM_MEMORY_TYPE]
_MEMORY_OPERATION = LABELS[names.OTEL_LLM_MEMORY_OPERATION]
_CACHE_TYPE = LABELS[names.OTEL_LLM_CACHE_TYPE]
_BACKEND = LABELS[names.OTEL_LLM_BACKEND_NAME]


def record_tokens(
    model: str | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    *,
    provider: str | None = None,
    cache_read_tokens: int | None = None,
    cache_write_tokens: int | None = None,
    reasoning_tokens: int | None = None,
) -> None:
    """Add tokens that no instrumented call has told.

    Inside a `track_inference` block they are those of the block, and are left out where an instrumented call was made
    in it, which tells its own.

    Args:
        model: the model that used them.
        input_tokens: all of the input, cached ones included.
        output_tokens: all of the output, those of reasoning included.
        provider: whose model it is, such as ``openai``.
        cache_read_tokens: the part of the input that came from a cache.
        cache_write_tokens: the part of the input that was written to a cache.
        reasoning_tokens: the part of the output that was spent on reasoning.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a number is negative or not whole.
    """
    function = "record_tokens"
    model = arguments.maybe(function, "model", model)
    provider = arguments.maybe(function, "provider", provider)
    told: dict[str, int] = {}
    for name, tokens in (
        ("input_tokens", input_tokens),
        ("output_tokens", output_tokens),
        ("cache_read_tokens", cache_read_tokens),
        ("cache_write_tokens", cache_write_tokens),
        ("reasoning_tokens", reasoning_tokens),
    ):
        if tokens is not None:
            told[name] = arguments.whole(function, name, tokens)
    block: Any = current_context.get().get(BLOCK_KEY)
    if block is not None and block.add_tokens(told):
        return
    for name, tokens in told.items():
        telling.add(function, name, amount=tokens, model=model, provider=provider)


def record_error(
    error_type: str | BaseException | type[BaseException], *, model: str | None = None, provider: str | None = None
) -> None:
    """Count an error that no instrumented call has had.

    Args:
        error_type: the exception, its class, or a name: ``timeout``, ``RateLimitError`` or one of your own.
        model: the model that was asked.
        provider: whose model it is.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: *error_type* is an empty string.
    """
    function = "record_error"
    error = arguments.error_of(function, "error_type", error_type)
    model = arguments.maybe(function, "model", model)
    provider = arguments.maybe(function, "provider", provider)
    telling.add(function, "errors", model=model, provider=provider, failure=failure_told(error))


def record_rate_limit(client_id: str) -> None:
    """Count a request that the application refused since a client of its own asked too often.

    Args:
        client_id: which client; keep them few, each begins a series that stays.

    Raises:
        TypeError: *client_id* is no string.
        ValueError: it is empty.
    """
    function = "record_rate_limit"
    given = {_CLIENT_ID: arguments.text(function, "client_id", client_id)}
    telling.add(function, "rate_limits", given, failure=failure_told(ErrorClass.RATE_LIMIT))


def set_queue_size(model: str | None = None, size: int | None = None, *, priority: str | None = None) -> None:
    """Say how many requests wait in a queue; `instrument_queue` says it by itself.

    Args:
        model: the model that they are for.
        size: how many; it must be given.
        priority: of which priority they are.

    Raises:
        TypeError: an argument is of the wrong type, or there is no *size*.
        ValueError: *size* is negative or not whole.
    """
    function = "set_queue_size"
    model, given = _queue(function, model, priority)
    if size is None:
        raise TypeError(f"otel_llm.{function}: size must be a whole number from 0 up, and is missing")
    telling.put(function, "queue_size", arguments.whole(function, "size", size), given, model=model)


def record_queue_request(*, model: str | None = None, priority: str | None = None) -> None:
    """Count a request that came to a queue.

    Raises:
        TypeError: an argument is of the wrong type.
    """
    model, given = _queue("record_queue_request", model, priority)
    telling.add("record_queue_request", "queue_requests", given, model=model)


def record_queue_wait(seconds: float, *, model: str | None = None, priority: str | None = None) -> None:
    """Tell how many *seconds* a request waited in a queue.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: *seconds* are negative or not finite.
    """
    function = "record_queue_wait"
    seconds = arguments.seconds(function, "seconds", seconds)
    model, given = _queue(function, model, priority)
    telling.distribute(function, "queue_wait", seconds, given, model=model)


def record_queue_rejection(*, model: str | None = None, priority: str | None = None) -> None:
    """Count a request that a queue did not take.

    Raises:
        TypeError: an argument is of the wrong type.
    """
    model, given = _queue("record_queue_rejection", model, priority)
    telling.add("record_queue_rejection", "queue_rejected", given, model=model)


def set_queue_workers(count: int, *, model: str | None = None) -> None:
    """Say how many workers are at requests of a queue.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: *count* is negative or not whole.
    """
    function = "set_queue_workers"
    number = arguments.whole(function, "count", count)
    telling.put(function, "queue_workers", number, model=arguments.maybe(function, "model", model))


def _queue(function: str, model: str | None, priority: str | None) -> tuple[str | None, dict[str, str] | None]:
    model = arguments.maybe(function, "model", model)
    priority = arguments.maybe(function, "priority", priority)
    return model, None if priority is None else {_PRIORITY: priority}


def set_model_info(model: str, *, version: str | None = None, base_url: str | None = None, **facts: str) -> None:
    """Say what is known of a model; what was said of it before no longer counts.

    Args:
        model: its name.
        version: its version.
        base_url: where it is served.
        facts: what else a dialect shows: ``size``, ``modified`` and ``family`` with ``ollama_exporter``.

    Raises:
        TypeError: an argument is no string.
        ValueError: *model* is empty.
    """
    function, measure = "set_model_info", "model_info"
    model = arguments.text(function, "model", model)
    version = arguments.maybe(function, "version", version)
    base_url = arguments.maybe(function, "base_url", base_url)
    known = {name: arguments.maybe(function, name, value) for name, value in facts.items()}
    telemetry = telling.listener(function)
    if telemetry is None:
        return
    try:
        wanted = telemetry.ledger.columns.told_labels.get(measure, frozenset())
        given = {name: value for name, value in known.items() if value is not None and name in wanted}
        if version is not None:
            given[_VERSION] = version
        told = telling.facts_of(telemetry, measure, given, model=model, base_url=base_url)
        # The same model in another context, such as another container, is another one.
        telemetry.ledger.measures.put(measure, told, 1, of=telling.facts_of(telemetry, measure, model=model))
    except Exception:
        faults.fault(faults.MANUAL)


def record_model_load(model: str, seconds: float) -> None:
    """Tell in how many *seconds* the application loaded a model; `track_model_load` measures it.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: *model* is empty, or *seconds* are negative or not finite.
    """
    function = "record_model_load"
    model = arguments.text(function, "model", model)
    telling.distribute(function, "model_load", arguments.seconds(function, "seconds", seconds), model=model)


def set_memory_usage(model: str, size_bytes: int, *, memory_type: str | None = None) -> None:
    """Say how much memory a model or its server uses.

    Args:
        model: the model.
        size_bytes: bytes.
        memory_type: which memory, such as ``rss`` or ``vram``.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: *model* is empty, or *size_bytes* is negative or not whole.
    """
    function = "set_memory_usage"
    model = arguments.text(function, "model", model)
    number = arguments.whole(function, "size_bytes", size_bytes)
    memory_type = arguments.maybe(function, "memory_type", memory_type)
    given = None if memory_type is None else {_MEMORY_TYPE: memory_type}
    telling.put(function, "memory_usage", number, given, model=model)


def set_circuit_breaker_state(state: str, *, model: str | None = None) -> None:
    """Say in which state a circuit breaker is: ``closed``, ``half-open`` or ``open``.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: there is no such state.
    """
    function = "set_circuit_breaker_state"
    number = arguments.one_of(function, "state", state, CIRCUIT_BREAKER_STATES)
    telling.put(function, "circuit_breaker_state", number, model=arguments.maybe(function, "model", model))


def record_circuit_breaker_failure(*, model: str | None = None) -> None:
    """Count a failure that a circuit breaker saw.

    Raises:
        TypeError: *model* is no string.
    """
    function = "record_circuit_breaker_failure"
    telling.add(function, "circuit_breaker_failures", model=arguments.maybe(function, "model", model))


def record_cache_hit(cache_type: str = "general") -> None:
    """Count a request that a cache of the application answered.

    Raises:
        TypeError: *cache_type* is no string.
        ValueError: it is empty.
    """
    function = "record_cache_hit"
    telling.add(function, "cache_hits", {_CACHE_TYPE: arguments.text(function, "cache_type", cache_type)})


def record_cache_miss(cache_type: str = "general") -> None:
    """Count a request that a cache of the application could not answer.

    Raises:
        TypeError: *cache_type* is no string.
        ValueError: it is empty.
    """
    function = "record_cache_miss"
    telling.add(function, "cache_misses", {_CACHE_TYPE: arguments.text(function, "cache_type", cache_type)})


def record_rate_limit_wait(seconds: float, *, model: str | None = None) -> None:
    """Tell how many *seconds* a request waited for a rate limiter of the application.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: *seconds* are negative or not finite.
    """
    function = "record_rate_limit_wait"
    number = arguments.seconds(function, "seconds", seconds)
    telling.distribute(function, "rate_limit_wait", number, model=arguments.maybe(function, "model", model))


def record_memory_operation(operation: str) -> None:
    """Count an operation on the memory of a conversation or an agent, such as ``add``.

    Raises:
        TypeError: *operation* is no string.
        ValueError: it is empty.
    """
    function = "record_memory_operation"
    given = {_MEMORY_OPERATION: arguments.text(function, "operation", operation)}
    telling.add(function, "memory_operations", given)


def set_backend_health(backend: str, healthy: bool) -> None:
    """Say whether a backend is well.

    Args:
        backend: the name that the application has for it.
        healthy: whether it is.

    Raises:
        TypeError: *backend* is no string, or *healthy* neither True nor False.
        ValueError: *backend* is empty.
    """
    function = "set_backend_health"
    given = {_BACKEND: arguments.text(function, "backend", backend)}
    telling.put(function, "backend_health", int(arguments.flag(function, "healthy", healthy)), given)
