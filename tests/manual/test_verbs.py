"""What is told by hand is on the pages that ask for it, and an OpenTelemetry instrument."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics._internal import aggregation

import otel_llm
from otel_llm import faults, measures, runtime
from otel_llm.errors import failure_told
from otel_llm.manual import telling
from otel_llm.measures import Measures
from otel_llm.prometheus.reader import PrometheusReader
from otel_llm.state import Facts
from otel_llm.testing import Seen, capture
from otel_llm_semconv.errors import ErrorClass
from otel_llm_semconv.measures import MEASURES
from tests.manual.pages import rows


def values(seen: Seen, name: str) -> list[tuple[dict[str, Any], Any]]:
    """Return the points of a metric: attributes, and the value or how many and how much."""
    return [
        (point["attributes"], point["value"] if "value" in point else (point["count"], point["sum"]))
        for point in seen.points(name)
    ]


CASES: dict[str, tuple[Callable[[], None], str, dict[str, Any], object, str, dict[str, float]]] = {
    "error": (
        lambda: otel_llm.record_error(TimeoutError("x"), model="m", provider="openai"),
        "otel_llm.errors",
        {"error.type": "TimeoutError", "gen_ai.request.model": "m", "gen_ai.provider.name": "openai"},
        1,
        "tinyllm",
        {'tinyllm_errors_total{error_type="TimeoutError",graph="unknown",model="m"}': 1},
    ),
    "error of a class": (
        lambda: otel_llm.record_error(ConnectionError),
        "otel_llm.errors",
        {"error.type": "ConnectionError"},
        1,
        "llmbackend",
        {'llm_errors_total{backend="unknown",error_type="network"}': 1},
    ),
    "error of a name": (
        lambda: otel_llm.record_error("timeout", provider="ollama"),
        "otel_llm.errors",
        {"error.type": "timeout", "gen_ai.provider.name": "ollama"},
        1,
        "aegis",
        {'llm_errors_total{error_type="timeout",provider="local_ollama",task_type="generation"}': 1},
    ),
    "error for 000": (
        lambda: otel_llm.record_error("BadThing"),
        "otel_llm.errors",
        {"error.type": "BadThing"},
        1,
        "local_llm",
        {'llm_error_total{error_type="BadThing"}': 1},
    ),
    "rate limit": (
        lambda: otel_llm.record_rate_limit("c1"),
        "otel_llm.rate_limits",
        {"otel_llm.client.id": "c1"},
        1,
        "local_llm",
        {'llm_rate_limit_hits_total{client_id="c1"}': 1},
    ),
    "queue of a model": (
        lambda: otel_llm.set_queue_size("m", 5),
        "otel_llm.queue.size",
        {"gen_ai.request.model": "m"},
        5,
        "local_llm",
        {'llm_queue_size{model="m"}': 5},
    ),
    "queue of a priority": (
        lambda: otel_llm.set_queue_size(size=5, priority="high"),
        "otel_llm.queue.size",
        {"otel_llm.queue.priority": "high"},
        5,
        "tinyllm",
        {'tinyllm_queue_size{priority="high"}': 5},
    ),
    "queue request": (
        lambda: otel_llm.record_queue_request(priority="low"),
        "otel_llm.queue.requests",
        {"otel_llm.queue.priority": "low"},
        1,
        "tinyllm",
        {'tinyllm_queue_requests_total{priority="low"}': 1},
    ),
    "queue wait": (
        lambda: otel_llm.record_queue_wait(0.5, model="m"),
        "otel_llm.queue.wait.duration",
        {"gen_ai.request.model": "m"},
        (1, 0.5),
        "tinyllm",
        {
            'tinyllm_queue_wait_time_seconds_count{priority="normal"}': 1,
            'tinyllm_queue_wait_time_seconds_sum{priority="normal"}': 0.5,
        },
    ),
    "queue rejection": (
        lambda: otel_llm.record_queue_rejection(model="m"),
        "otel_llm.queue.rejected",
        {"gen_ai.request.model": "m"},
        1,
        "tinyllm",
        {"tinyllm_queue_requests_rejected_total": 1},
    ),
    "queue workers": (
        lambda: otel_llm.set_queue_workers(3),
        "otel_llm.queue.workers",
        {},
        3,
        "tinyllm",
        {"tinyllm_queue_active_workers": 3},
    ),
    "model info": (
        lambda: otel_llm.set_model_info("m", version="2", base_url="http://gpu:8000"),
        "otel_llm.model.info",
        {
            "gen_ai.request.model": "m",
            "otel_llm.model.version": "2",
            "otel_llm.model.base_url": "http://gpu:8000",
        },
        1,
        "local_llm",
        {'llm_model_info{base_url="http://gpu:8000",model="m",version="2"}': 1},
    ),
    "model info for 002": (
        lambda: otel_llm.set_model_info("m", size="4GB", modified="today", family="llama", colour="red"),
        "otel_llm.model.info",
        {"gen_ai.request.model": "m"},
        1,
        "ollama_exporter",
        {'llm_model_info{container="unknown",family="llama",model="m",modified="today",size="4GB"}': 1},
    ),
    "model load": (
        lambda: otel_llm.record_model_load("m", 2.5),
        "otel_llm.model.load.duration",
        {"gen_ai.request.model": "m"},
        (1, 2.5),
        "tinyllm",
        {
            'tinyllm_model_load_duration_seconds_count{model="m"}': 1,
            'tinyllm_model_load_duration_seconds_sum{model="m"}': 2.5,
        },
    ),
    "model load for 002": (
        lambda: otel_llm.record_model_load("m", 2.5),
        "otel_llm.model.load.duration",
        {"gen_ai.request.model": "m"},
        (1, 2.5),
        "ollama_exporter",
        {'llm_model_load_time_seconds{container="unknown",model="m"}': 2.5},
    ),
    "memory": (
        lambda: otel_llm.set_memory_usage("m", 1024, memory_type="vram"),
        "otel_llm.memory.usage",
        {"gen_ai.request.model": "m", "otel_llm.memory.type": "vram"},
        1024,
        "ollama_exporter",
        {'llm_memory_usage_bytes{container="unknown",memory_type="vram",model="m"}': 1024},
    ),
    "circuit breaker": (
        lambda: otel_llm.set_circuit_breaker_state("half-open", model="m"),
        "otel_llm.circuit_breaker.state",
        {"gen_ai.request.model": "m"},
        1,
        "tinyllm",
        {'tinyllm_circuit_breaker_state{model="m"}': 1},
    ),
    "circuit breaker failure": (
        lambda: otel_llm.record_circuit_breaker_failure(model="m"),
        "otel_llm.circuit_breaker.failures",
        {"gen_ai.request.model": "m"},
        1,
        "tinyllm",
        {'tinyllm_circuit_breaker_failures_total{model="m"}': 1},
    ),
    "cache hit": (
        otel_llm.record_cache_hit,
        "otel_llm.cache.hits",
        {"otel_llm.cache.type": "general"},
        1,
        "tinyllm",
        {'tinyllm_cache_hits_total{cache_type="general"}': 1},
    ),
    "cache miss": (
        lambda: otel_llm.record_cache_miss("semantic"),
        "otel_llm.cache.misses",
        {"otel_llm.cache.type": "semantic"},
        1,
        "tinyllm",
        {'tinyllm_cache_misses_total{cache_type="semantic"}': 1},
    ),
    "rate limit wait": (
        lambda: otel_llm.record_rate_limit_wait(0.05, model="m"),
        "otel_llm.rate_limit.wait.duration",
        {"gen_ai.request.model": "m"},
        (1, 0.05),
        "tinyllm",
        {
            'tinyllm_rate_limit_wait_seconds_count{model="m"}': 1,
            'tinyllm_rate_limit_wait_seconds_sum{model="m"}': 0.05,
        },
    ),
    "memory operation": (
        lambda: otel_llm.record_memory_operation("add"),
        "otel_llm.memory.operations",
        {"otel_llm.memory.operation": "add"},
        1,
        "tinyllm",
        {'tinyllm_memory_operations_total{operation_type="add"}': 1},
    ),
    "backend health": (
        lambda: otel_llm.set_backend_health("gpu", False),
        "otel_llm.backend.health",
        {"otel_llm.backend.name": "gpu"},
        0,
        "llmbackend",
        {'llm_backend_health{backend="gpu"}': 0},
    ),
}
"""What is called, its metric, attributes and value, and what a page shows of it."""


@pytest.mark.parametrize("case", CASES)
def test_verbs(case: str, seen: Seen) -> None:
    """Each function feeds its metric and its family, and no other metric of ours."""
    call, metric, attributes, value, dialect, shown = CASES[case]

    call()

    assert [(attributes, value)] == values(seen, metric)
    names = {name.partition("{")[0] for name in shown}
    assert shown == rows(dialect, *names)
    assert {metric} == {point["name"] for point in seen.metrics}
    assert (MEASURES[measure_of(metric)].unit,) == tuple({point["unit"] for point in seen.metrics})


def measure_of(metric: str) -> str:
    """Return the measure of a metric."""
    return next(measure for measure, known in MEASURES.items() if known.name == metric)


@pytest.mark.parametrize("case", CASES)
def test_canonical_page(case: str) -> None:
    """Each is on the canonical page too."""
    call, metric, *_ = CASES[case]
    provider = MeterProvider([PrometheusReader()])
    with capture(meter_provider=provider):
        call()
        page = otel_llm.generate_latest().decode()
    provider.shutdown()

    assert f"# TYPE {metric.replace('.', '_')}" in page


def test_otlp(seen: Seen) -> None:
    """OTLP can carry each of them, whole numbers as such."""
    for call, *_ in CASES.values():
        call()
    data = seen._reader.get_metrics_data()
    assert data is not None

    (scope,) = encode_metrics(data).resource_metrics[0].scope_metrics
    sent = {metric.name: metric for metric in scope.metrics}
    assert {metric for _, metric, *_ in CASES.values()} == sent.keys()
    for name, metric in sent.items():
        kind = MEASURES[measure_of(name)].kind
        points = getattr(metric, {"histogram": "histogram", "gauge": "gauge"}.get(kind, "sum")).data_points
        assert kind == "histogram" or {"as_int"} == {point.WhichOneof("value") for point in points}
        assert metric.sum.is_monotonic is (kind == "counter")


def test_tokens(seen: Seen) -> None:
    """Tokens are counted by kind, on the pages beside those of calls; what is not given is not counted."""
    otel_llm.record_tokens("m", 3, 4, provider="openai", cache_read_tokens=1, reasoning_tokens=2)
    otel_llm.record_tokens("m", input_tokens=10, cache_write_tokens=0)
    otel_llm.record_tokens()

    whole = {"gen_ai.request.model": "m", "gen_ai.provider.name": "openai"}
    assert [
        ({**whole, "otel_llm.token.kind": "input"}, 3),
        ({"gen_ai.request.model": "m", "otel_llm.token.kind": "input"}, 10),
        ({**whole, "otel_llm.token.kind": "output"}, 4),
        ({**whole, "otel_llm.token.kind": "cache_read"}, 1),
        ({"gen_ai.request.model": "m", "otel_llm.token.kind": "cache_write"}, 0),
        ({**whole, "otel_llm.token.kind": "reasoning"}, 2),
    ] == values(seen, "otel_llm.client.tokens")
    assert {
        'llm_tokens_total{model="m",type="prompt"}': 13,
        'llm_tokens_total{model="m",type="completion"}': 4,
    } == rows("local_llm", "llm_tokens_total")
    assert {
        'llm_tokens_used{provider="openai",token_type="input"}': 3,
        'llm_tokens_used{provider="unknown",token_type="input"}': 10,
        'llm_tokens_used{provider="openai",token_type="output"}': 4,
        'llm_tokens_used{provider="openai",token_type="total"}': 7,
        'llm_tokens_used{provider="unknown",token_type="total"}': 10,
    } == rows("aegis", "llm_tokens_used{")


def test_whole_numbers_stay_whole(seen: Seen) -> None:
    """Counts are sent as integers, as the instruments declare them, at any size."""
    otel_llm.set_memory_usage("m", 2**53 + 1)
    otel_llm.record_cache_hit()
    otel_llm.record_tokens("m", 2**63 - 1)
    otel_llm.record_tokens("m", 2**63 - 1)

    found = [point["value"] for point in seen.metrics]
    assert sorted([2**53 + 1, 1, 2**63 - 1]) == sorted(found)
    assert {int} == {type(value) for value in found}


@pytest.mark.parametrize(
    ("told", "shown", "error_class"),
    [
        ("timeout", "timeout", ErrorClass.TIMEOUT),
        ("budget_exceeded", "budget_exceeded", ErrorClass.BUDGET_EXCEEDED),
        ("429", "429", ErrorClass.RATE_LIMIT),
        ("418", "418", ErrorClass.API_ERROR),
        ("9" * 5000, "9" * 5000, ErrorClass.UNKNOWN),
        ("invalid_api_key", "invalid_api_key", ErrorClass.AUTH),
        ("RateLimitError", "RateLimitError", ErrorClass.RATE_LIMIT),
        ("openai.APITimeoutError", "openai.APITimeoutError", ErrorClass.TIMEOUT),
        ("out of memory", "out of memory", ErrorClass.UNKNOWN),
        (ConnectionResetError, "ConnectionResetError", ErrorClass.NETWORK),
        (TimeoutError(), "TimeoutError", ErrorClass.TIMEOUT),
        (KeyError, "KeyError", ErrorClass.UNKNOWN),
    ],
)
def test_classes_of_errors(told: Any, shown: str, error_class: str) -> None:
    """An error that is told has the class that an exception of that name would have, and shows the name as given."""
    assert (shown, shown, error_class) == failure_told(told)


def test_labels_of_the_context(seen: Seen) -> None:
    """Labels of the context count where a dialect asks for them; what is given wins over them."""
    with otel_llm.labels(graph="g", container="web", priority="low", colour="red"):
        otel_llm.record_error("x", model="m")
        otel_llm.record_queue_request(priority="high")
        otel_llm.record_queue_request()

    assert {'tinyllm_errors_total{error_type="x",graph="g",model="m"}': 1} == rows("tinyllm", "tinyllm_errors")
    assert {'llm_inference_errors_total{container="web",error_type="x",model="m"}': 1} == rows(
        "ollama_exporter", "llm_inference_errors"
    )
    assert {
        'tinyllm_queue_requests_total{priority="high"}': 1,
        'tinyllm_queue_requests_total{priority="low"}': 1,
    } == rows("tinyllm", "tinyllm_queue_requests_total")
    assert [({"error.type": "x", "gen_ai.request.model": "m"}, 1)] == values(seen, "otel_llm.errors")


def test_what_is_so_at_present_is_told_once(seen: Seen) -> None:
    """The size of a queue is the last one told, though other labels of the context were there before."""
    otel_llm.set_queue_size("m", 5)
    with otel_llm.labels(graph="g", client_id="c"):
        otel_llm.set_queue_size("m", 3)
        otel_llm.set_circuit_breaker_state("open", model="m")
    otel_llm.set_circuit_breaker_state("closed", model="m")

    assert [({"gen_ai.request.model": "m"}, 3)] == values(seen, "otel_llm.queue.size")
    assert {'llm_queue_size{model="m"}': 3} == rows("local_llm", "llm_queue_size")
    assert [({"gen_ai.request.model": "m"}, 0)] == values(seen, "otel_llm.circuit_breaker.state")


def test_the_newest_of_a_gauge(seen: Seen) -> None:
    """Of gauges that only a dialect tells apart, the newest is the point of the metric."""
    with otel_llm.labels(container="a"):
        otel_llm.set_memory_usage("m", 1)
    with otel_llm.labels(container="b"):
        otel_llm.set_memory_usage("m", 2)
    with otel_llm.labels(container="a"):
        otel_llm.set_memory_usage("m", 3)

    assert [({"gen_ai.request.model": "m"}, 3)] == values(seen, "otel_llm.memory.usage")
    assert [3, 2] == list(rows("ollama_exporter", "llm_memory").values())


def test_model_info_replaces(seen: Seen) -> None:
    """What is said of a model takes the place of what was said of it before, in its own container only."""
    otel_llm.set_model_info("m", version="1", size="4GB")
    with otel_llm.labels(container="a"):
        otel_llm.set_model_info("m", version="1")
    otel_llm.set_model_info("m", version="2")
    otel_llm.set_model_info("m", version="2")
    otel_llm.set_model_info("n", version="1")

    assert [("m", "1"), ("m", "2"), ("n", "1")] == sorted(
        [
            (each["gen_ai.request.model"], each["otel_llm.model.version"])
            for each, _ in values(seen, "otel_llm.model.info")
        ]
    )
    assert 3 == len(rows("ollama_exporter", "llm_model_info"))


def test_model_info_and_calls(seen: Seen) -> None:
    """What is said of a model takes the place of what its calls tell: one row for each, which a query can join."""
    for model in ("m", "n"):
        with otel_llm.track_inference(model, base_url="http://gpu"):
            pass
    otel_llm.set_model_info("m", version="1", base_url="http://gpu")

    assert [
        'base_url="http://gpu",model="m",version="1"',
        'base_url="http://gpu",model="n",version="unknown"',
    ] == sorted(row.partition("{")[2].rstrip("}") for row in rows("local_llm", "llm_model_info"))


def test_cap() -> None:
    """Beyond the cap everything is in one series more, in the metric and on the page, and is counted as folded."""
    with capture(max_series=3) as seen:
        for number in range(10):
            otel_llm.record_cache_hit(f"c{number}")

        assert 10 == sum(value for _, value in values(seen, "otel_llm.cache.hits"))
        assert ({"otel.metric.overflow": True}, 7) == values(seen, "otel_llm.cache.hits")[-1]
        assert [7] == [value for _, value in values(seen, "otel_llm.internal.folded")]
        assert [1, 1, 1, 7] == list(rows("tinyllm", "tinyllm_cache_hits").values())


def test_exemplars(seen: Seen) -> None:
    """A time that is told inside a span has it as exemplar."""
    tracer = seen.tracer_provider.get_tracer("app")
    with tracer.start_as_current_span("app") as span:
        otel_llm.record_queue_wait(0.1)

    (point,) = seen.points("otel_llm.queue.wait.duration")
    assert [span.get_span_context().span_id] == [exemplar["span_id"] for exemplar in point["exemplars"]]
    assert trace.get_current_span().get_span_context().span_id == 0


def test_text_that_nobody_can_send(seen: Seen) -> None:
    """A lone surrogate, which OTLP cannot carry, becomes a question mark; a string enum is its value."""
    otel_llm.record_cache_hit("a\ud800b")

    assert [({"otel_llm.cache.type": "a?b"}, 1)] == values(seen, "otel_llm.cache.hits")


def test_long_values() -> None:
    """What is too long to tell series apart is cut before it is kept, so that the cap is one of memory, too."""
    with capture(max_series=3) as seen:
        for end in "abcde":
            otel_llm.record_cache_hit("c" * 1024 + end)
            otel_llm.set_memory_usage("m" * 1024 + end, ord(end), memory_type="t" * 1024 + end)
            otel_llm.record_tokens("m" * 1024 + end, 1, provider="p" * 1024 + end)

        assert [({"otel_llm.cache.type": "c" * 1024}, 5)] == values(seen, "otel_llm.cache.hits")
        assert [ord("e")] == [value for _, value in values(seen, "otel_llm.memory.usage")]
        assert [5] == [value for _, value in values(seen, "otel_llm.client.tokens")]
        assert [] == values(seen, "otel_llm.internal.folded")


# before, after and without


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing instrumented so far, as in a new process."""
    monkeypatch.setattr(runtime, "was_on", False)
    monkeypatch.setattr(telling, "_warned", False)


@pytest.mark.usefixtures("fresh")
def test_before_instrument(caplog: pytest.LogCaptureFixture) -> None:
    """Before anything is instrumented nothing is counted, which the log says once; arguments are checked even so."""
    with caplog.at_level(logging.DEBUG):
        otel_llm.record_cache_hit()
        otel_llm.set_queue_size("m", 1)
        with otel_llm.track_step("x"):
            pass
    with pytest.raises(ValueError):
        otel_llm.set_circuit_breaker_state("ajar")

    assert [
        (
            "otel_llm: record_cache_hit() was called before otel_llm.instrument(): "
            "what this and other functions tell until then is lost"
        )
    ] == caplog.messages
    with capture() as seen:
        assert [] == seen.metrics


@pytest.mark.usefixtures("fresh")
def test_switched_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where OpenTelemetry is switched off, nothing is counted, in silence, before and after `instrument()`."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    otel_llm.record_cache_hit()
    with otel_llm.instrument(), otel_llm.track_step("x"):
        otel_llm.record_queue_wait(1)

    assert [] == caplog.messages


@pytest.mark.usefixtures("fresh")
def test_after_uninstrument(caplog: pytest.LogCaptureFixture) -> None:
    """After `uninstrument()` nothing is counted, in silence."""
    with capture():
        pass
    otel_llm.record_cache_hit()

    assert [] == caplog.messages


@pytest.mark.usefixtures("quiet")
def test_faults(seen: Seen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of ours is counted and told in the log once, and no function raises it."""

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("ours")

    for name in ("add", "put", "distribute"):
        monkeypatch.setattr(Measures, name, fail)
    for call, *_ in CASES.values():
        call()
    otel_llm.record_tokens("m", 1)
    for name in ("begin_inside",):
        monkeypatch.setattr(type(runtime.telemetry().spans), name, fail)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    with otel_llm.track_workflow("w"), otel_llm.track_step("s"):
        pass

    assert {"manual": len(CASES) + 3} == faults.counts
    assert 1 == len(caplog.messages)


# at once


def test_threads(seen: Seen) -> None:
    """What many threads tell at once is all there."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(4000):
            pool.submit(otel_llm.record_cache_hit, f"c{number % 5}")
        for _ in range(1000):
            pool.submit(otel_llm.record_queue_wait, 1)

    assert [800] * 5 == [value for _, value in values(seen, "otel_llm.cache.hits")]
    assert [({}, (1000, 1000.0))] == values(seen, "otel_llm.queue.wait.duration")


@pytest.fixture
def handle() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Say what a signal handler does."""
    before = signal.getsignal(signal.SIGALRM)

    def use(do: Callable[[], None]) -> None:
        def handler(number: int, frame: object) -> None:
            do()

        signal.signal(signal.SIGALRM, handler)

    yield use
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_signal_handlers(seen: Seen, handle: Callable[[Callable[[], None]], None]) -> None:
    """A signal handler that tells something in the middle of telling loses nothing, and blocks nothing."""
    done = fired = 0

    def tell() -> None:
        otel_llm.record_cache_hit("x")
        otel_llm.record_queue_wait(1)

    def fire() -> None:
        nonlocal fired
        tell()
        fired += 1
        signal.setitimer(signal.ITIMER_REAL, 0.0003)

    handle(fire)
    signal.setitimer(signal.ITIMER_REAL, 0.0003)
    while fired < 300:
        tell()
        done += 1
    signal.setitimer(signal.ITIMER_REAL, 0)

    assert [({"otel_llm.cache.type": "x"}, done + fired)] == values(seen, "otel_llm.cache.hits")
    assert [({}, (done + fired, done + fired))] == values(seen, "otel_llm.queue.wait.duration")
    (count, _) = rows("tinyllm", "tinyllm_queue_wait").values()
    assert done + fired == count


def test_a_signal_inside_of_the_sdk(
    seen: Seen, handle: Callable[[Callable[[], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler that interrupts the SDK while it holds a lock does not wait for that lock for ever."""

    def too_late() -> None:
        raise TimeoutError

    def interrupted(bounds: Any, value: float) -> int:
        monkeypatch.setattr(aggregation, "bisect_left", bisect_left)
        otel_llm.record_queue_wait(2)
        return bisect_left(bounds, value)

    handle(too_late)
    signal.alarm(10)
    monkeypatch.setattr(aggregation, "bisect_left", interrupted)
    otel_llm.record_queue_wait(1)
    signal.alarm(0)

    assert [({}, (2, 3))] == values(seen, "otel_llm.queue.wait.duration")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks(seen: Seen, tmp_path: Path) -> None:
    """A child that was forked while another thread told something tells on, and its parent does not see it."""
    telemetry = runtime.telemetry()
    assert telemetry is not None
    otel_llm.record_cache_hit()
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with telemetry.ledger.measures._lock:
            held.set()
            let_go.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)
            otel_llm.record_cache_hit()
            code = (
                0
                if rows("tinyllm", "tinyllm_cache_hits") == {'tinyllm_cache_hits_total{cache_type="general"}': 2}
                else 2
            )
        finally:
            os._exit(code)
    let_go.set()
    holder.join()

    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert {'tinyllm_cache_hits_total{cache_type="general"}': 1} == rows("tinyllm", "tinyllm_cache_hits")


def test_a_row_that_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a signal handler tells while a series begins is not lost."""
    told = Measures(10, {})
    facts = Facts("", "")
    made = measures._Row

    def interrupted(buckets: int) -> Any:
        monkeypatch.setattr(measures, "_Row", made)
        told.add("cache_hits", facts)
        return made(buckets)

    monkeypatch.setattr(measures, "_Row", interrupted)
    told.add("cache_hits", facts)

    assert [2] == [each.value for _, each in told.told()["cache_hits"]]


def test_cheap_to_import() -> None:
    """The functions bring in no page and no framework."""
    code = "import sys, otel_llm; print(*sorted({'prometheus_client', 'anyio', 'trio', 'asyncio'} & set(sys.modules)))"

    def loaded(code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout

    assert {"anyio", "trio"}.isdisjoint(loaded(code).split())
    assert "prometheus_client" not in loaded(code).split()
