"""Every function of the drop-ins does what it did to the metrics of the originals."""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import prometheus_client
import pytest

import otel_llm
from tests.by_hand import drop_in, rows
from tests.dialects.originals import ORIGINALS, SPELLINGS
from tests.dialects.test_golden import _differences, _lines

NUMBER = 3000
MODELS, GRAPHS, ERRORS = ("llama", "qwen", 'a "b"'), ("main", "side"), (KeyError, TimeoutError, ValueError)


class _Clock:
    """Stands in for the clock of a drop-in."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class _Metrics:
    """The metrics of an original, by their names."""

    def __init__(self, dialect: str) -> None:
        self.registry = ORIGINALS[dialect]().registry

    def __getattr__(self, name: str) -> Any:
        return self.registry._names_to_collectors[name]


Step = tuple[Callable[[Any], object], Callable[[_Metrics], object]]
"""What the drop-in is called with, and what the original did."""


def _block(block: Any, clock: _Clock, seconds: float, error: type[Exception] | None) -> None:
    """Run a block that takes some time and may fail; what it raises must come out."""
    if error is None:
        with block:
            clock.now += seconds
        return
    raised = error()

    def fail() -> None:
        with block:
            clock.now += seconds
            raise raised

    with pytest.raises(error) as caught:
        fail()
    assert caught.value is raised


def _local_llm(pick: random.Random, clock: _Clock) -> Step:
    model, size = pick.choice(MODELS), pick.randrange(100)
    match pick.choice(["inference", "limit", "error", "tokens", "queue", "info"]):
        case "inference":
            seconds, error = pick.choice([0.05, 0.5, 7.0, 500.0]), pick.choice([None, *ERRORS])

            def tracked(metrics: _Metrics) -> None:
                metrics.llm_active_connections.labels(model=model).inc()
                if error is not None:
                    metrics.llm_error_total.labels(error_type=error.__name__).inc()
                metrics.llm_inference_latency_seconds.labels(model=model).observe(seconds)
                status = "success" if error is None else "error"
                metrics.llm_inference_requests_total.labels(model=model, status=status).inc()
                metrics.llm_active_connections.labels(model=model).dec()

            def track(module: Any) -> None:
                there = pick.choice([module, module.get_metrics_collector()])
                _block(there.track_inference(model), clock, seconds, error)

            return track, tracked
        case "limit":
            return lambda module: module.record_rate_limit(
                model
            ), lambda metrics: metrics.llm_rate_limit_hits_total.labels(client_id=model).inc()
        case "error":
            return lambda module: module.get_metrics_collector().record_error(
                model
            ), lambda metrics: metrics.llm_error_total.labels(error_type=model).inc()
        case "tokens":
            return lambda module: module.record_tokens(
                model, prompt_tokens=size, completion_tokens=2
            ), lambda metrics: (
                metrics.llm_tokens_total.labels(model=model, type="prompt").inc(size),
                metrics.llm_tokens_total.labels(model=model, type="completion").inc(2),
            )
        case "queue":
            return lambda module: module.get_metrics_collector().set_queue_size(
                model, size
            ), lambda metrics: metrics.llm_queue_size.labels(model=model).set(size)
        case _:
            return lambda module: module.get_metrics_collector().set_model_info(
                model, "1", "u"
            ), lambda metrics: metrics.llm_model_info_info.labels(model, "1", "u").info({})


def _aegis(pick: random.Random, clock: _Clock) -> Step:
    provider, task, number = pick.choice(MODELS), pick.choice(GRAPHS), pick.choice([0, 0.05, 3, 70.5])
    match pick.choice(["request", "error", "budget", "attribute"]):
        case "request":
            split = pick.choice(
                [{}, {"tokens_input": 3}, {"tokens_output": 4}, {"tokens_input": 0, "tokens_output": 9}]
            )

            def requested(metrics: _Metrics) -> None:
                metrics.llm_requests_total.labels(provider=provider, task_type=task, model="m").inc()
                metrics.llm_latency_seconds.labels(provider=provider, task_type=task).observe(number)
                metrics.llm_cost_usd.labels(provider=provider).inc(number)
                metrics.llm_tokens_used.labels(provider=provider, token_type="total").inc(11)
                for key, tokens in split.items():
                    metrics.llm_tokens_used.labels(provider=provider, token_type=key[7:]).inc(tokens)

            return (
                lambda module: module.track_llm_request(
                    provider, "m", task, tokens_used=11, cost_usd=number, latency_seconds=number, **split
                ),
                requested,
            )
        case "error":
            return lambda module: module.track_llm_error(
                provider, task, "timeout"
            ), lambda metrics: metrics.llm_errors_total.labels(
                provider=provider, task_type=task, error_type="timeout"
            ).inc()
        case "budget":
            limit = pick.choice([0, 1, 100.0])
            left = max(0, limit - number) if limit else -1

            return lambda module: module.update_budget_metrics(provider, number, limit), lambda metrics: (
                metrics.monthly_spend_usd.labels(provider=provider).set(number),
                metrics.monthly_budget_remaining_usd.labels(provider=provider).set(left),
            )
        case _:
            name = pick.choice(["llm_cost_usd", "llm_requests_total", "monthly_spend_usd", "llm_latency_seconds"])

            def use(module: Any) -> None:
                metric = getattr(module, name)
                if name == "llm_requests_total":
                    metric.labels(provider, task, "m").inc(2)
                elif name == "llm_latency_seconds":
                    metric.labels(provider=provider, task_type=task).observe(number)
                else:
                    verb = metric.labels(provider)
                    verb.set(number) if name == "monthly_spend_usd" else verb.inc(number)

            return use, use


def _tinyllm(pick: random.Random, clock: _Clock) -> Step:
    model, graph, seconds = pick.choice([None, *MODELS]), pick.choice([None, *GRAPHS]), pick.choice([0.0005, 0.3, 90.0])
    error = pick.choice([None, *ERRORS])
    given = {key: value for key, value in (("model", model), ("graph", graph)) if value is not None}
    shown = {"model": "unknown", "graph": "unknown", **given}
    of_model = {key: value for key, value in given.items() if key == "model"}
    shown_model = {"model": shown["model"]}
    of_graph = {key: value for key, value in given.items() if key == "graph"}
    shown_graph = {"graph": shown["graph"]}

    def timed(name: str, method: str, labels: dict[str, str], kept: dict[str, str], active: bool = False) -> Step:
        def tracked(metrics: _Metrics) -> None:
            if active:
                metrics.tinyllm_active_requests.labels(**kept).inc()
            if counted := getattr(metrics, f"tinyllm_{name}_executions_total", None) if name in "node graph" else None:
                counted.labels(**kept).inc()
            family = {
                "node": "node_execution_duration_seconds",
                "graph": "graph_execution_duration_seconds",
                "request": "request_latency_seconds",
                "load": "model_load_duration_seconds",
            }[name]
            getattr(metrics, f"tinyllm_{family}").labels(**kept).observe(seconds)
            if active:
                metrics.tinyllm_active_requests.labels(**kept).dec()

        return lambda module: _block(getattr(collector(module), method)(**labels), clock, seconds, error), tracked

    def collector(module: Any) -> Any:
        return pick.choice([module.MetricsCollector, module.get_metrics_collector])()

    def calls(method: str, *arguments: Any, **named: Any) -> Callable[[Any], object]:
        return lambda module: getattr(collector(module), method)(*arguments, **named)

    def counts(name: str, verb: str = "inc", *arguments: float, **labels: str) -> Callable[[_Metrics], object]:
        def count(metrics: _Metrics) -> None:
            metric = getattr(metrics, f"tinyllm_{name}")
            getattr(metric.labels(**labels) if labels else metric, verb)(*arguments)

        return count

    node = {"node": pick.choice(MODELS)}
    priority = pick.choice([{}, {"priority": "high"}])
    cache = pick.choice([{}, {"cache_type": "disk"}])
    state = pick.choice(["closed", "half-open", "open"])
    steps: list[Step] = [
        (
            calls("increment_request_count", **given, request_type="stream"),
            counts("requests_total", **shown, request_type="stream"),
        ),
        (calls("increment_request_count", **given), counts("requests_total", **shown, request_type="generate")),
        timed("request", "track_request_latency", given, shown, active=True),
        (
            calls("record_tokens", 3, 4, **given),
            lambda metrics: (
                counts("tokens_input_total", "inc", 3, **shown)(metrics),
                counts("tokens_output_total", "inc", 4, **shown)(metrics),
            ),
        ),
        (calls("increment_error_count", "timeout", **given), counts("errors_total", error_type="timeout", **shown)),
        (
            calls("update_circuit_breaker_state", state, **of_model),
            counts("circuit_breaker_state", "set", ("closed", "half-open", "open").index(state), **shown_model),
        ),
        (
            calls("increment_circuit_breaker_failures", **of_model),
            counts("circuit_breaker_failures_total", **shown_model),
        ),
        timed("load", "track_model_load", of_model, shown_model),
        (
            calls("increment_node_execution_count", **node, **of_graph),
            counts("node_executions_total", **node, **shown_graph),
        ),
        timed("node", "track_node_execution", {**node, **of_graph}, {**node, **shown_graph}),
        (
            calls("increment_node_error_count", **node, error_type="timeout", **of_graph),
            counts("node_errors_total", **node, error_type="timeout", **shown_graph),
        ),
        (calls("increment_graph_execution_count", **of_graph), counts("graph_executions_total", **shown_graph)),
        timed("graph", "track_graph_execution", of_graph, shown_graph),
        (calls("increment_cache_hit", **cache), counts("cache_hits_total", **{"cache_type": "general", **cache})),
        (calls("increment_cache_miss", **cache), counts("cache_misses_total", **{"cache_type": "general", **cache})),
        (
            calls("record_rate_limit_wait", seconds, **of_model),
            counts("rate_limit_wait_seconds", "observe", seconds, **shown_model),
        ),
        (calls("increment_memory_operation", "add"), counts("memory_operations_total", operation_type="add")),
        (calls("update_queue_size", 7, **priority), counts("queue_size", "set", 7, **{"priority": "all", **priority})),
        (
            calls("record_queue_wait_time", seconds, **priority),
            counts("queue_wait_time_seconds", "observe", seconds, **{"priority": "normal", **priority}),
        ),
        (
            calls("increment_queue_request", **priority),
            counts("queue_requests_total", **{"priority": "normal", **priority}),
        ),
        (calls("increment_queue_rejected"), counts("queue_requests_rejected_total")),
        (calls("update_active_workers", 3), counts("queue_active_workers", "set", 3)),
    ]
    return pick.choice(steps)


STEPS: Mapping[str, Callable[[random.Random, _Clock], Step]] = {
    "local_llm": _local_llm,
    "aegis": _aegis,
    "tinyllm": _tinyllm,
}


@pytest.mark.parametrize("dialect", STEPS)
@pytest.mark.parametrize("seed", range(3))
def test_effects(dialect: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any sequence of calls, the page of the dialect is the one that the original's metrics write."""
    module, metrics, clock = drop_in(dialect), _Metrics(dialect), _Clock()
    if hasattr(module, "time"):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    pick = random.Random(seed)
    for number in range(NUMBER):
        ours, theirs = STEPS[dialect](pick, clock)
        ours(module)
        theirs(metrics)
        if number in (0, 10, NUMBER - 1):
            found = _lines(otel_llm.generate_latest(dialect), {})
            wanted = _lines(prometheus_client.generate_latest(metrics.registry), SPELLINGS[dialect])
            assert [] == _differences(
                *[
                    {key: value for key, value in each.items() if not key.startswith("tinyllm_system_info{")}
                    for each in (wanted, found)
                ]
            )


SIGNATURES = {
    "local_llm": {
        "LocalLLMMetricsCollector": "(port=9090, host='0.0.0.0', enable_metrics=True)",
        "LocalLLMMetricsCollector.start": "(self)",
        "LocalLLMMetricsCollector.track_inference": "(self, model)",
        "LocalLLMMetricsCollector.record_rate_limit": "(self, client_id)",
        "LocalLLMMetricsCollector.record_error": "(self, error_type)",
        "LocalLLMMetricsCollector.record_tokens": "(self, model, prompt_tokens, completion_tokens)",
        "LocalLLMMetricsCollector.set_queue_size": "(self, model, size)",
        "LocalLLMMetricsCollector.set_model_info": "(self, model_name, version, base_url)",
        "get_metrics_collector": "(port=9090, enable_metrics=True)",
        "start_metrics_server": "(port=9090, enable_metrics=True, host=None)",
        "track_inference": "(model)",
        "record_rate_limit": "(client_id)",
        "record_error": "(error_type)",
        "record_tokens": "(model, prompt_tokens, completion_tokens)",
    },
    "aegis": {
        "track_llm_request": "(provider, model, task_type, tokens_used, cost_usd, latency_seconds, tokens_input=None, "
        "tokens_output=None)",
        "track_llm_error": "(provider, task_type, error_type)",
        "update_budget_metrics": "(provider, monthly_spending, budget_limit)",
    },
    "tinyllm": {
        "MetricsCollector": "()",
        "get_metrics_collector": "()",
        "start_metrics_server": "(port=9090, addr='0.0.0.0')",
        "MetricsCollector.increment_request_count": "(self, model='unknown', graph='unknown', request_type='generate')",
        "MetricsCollector.record_tokens": "(self, input_tokens, output_tokens, model='unknown', graph='unknown')",
        "MetricsCollector.increment_error_count": "(self, error_type, model='unknown', graph='unknown')",
        "MetricsCollector.update_circuit_breaker_state": "(self, state, model='unknown')",
        "MetricsCollector.update_queue_size": "(self, size, priority='all')",
        "MetricsCollector.record_queue_wait_time": "(self, wait_time, priority='normal')",
    },
}


@pytest.mark.parametrize(
    ("dialect", "name"), [(dialect, name) for dialect, each in SIGNATURES.items() for name in each]
)
def test_signatures(dialect: str, name: str) -> None:
    """Functions and methods take what those of the originals take, in their order and with their defaults."""
    function: Any = drop_in(dialect)
    for part in name.split("."):
        function = getattr(function, part)
    signature = inspect.signature(function)
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]

    assert SIGNATURES[dialect][name] == str(signature.replace(parameters=bare, return_annotation=signature.empty))


def test_what_is_unknown() -> None:
    """An unknown state of a circuit breaker, which the original took for a closed one, is an error."""
    with pytest.raises(ValueError, match=r"state='half_open': expected one of closed, half-open, open$"):
        drop_in("tinyllm").get_metrics_collector().update_circuit_breaker_state("half_open")


def test_from_the_start() -> None:
    """What has no labels is 0 before anything is told."""
    drop_in("tinyllm")

    assert 0.0 == prometheus_client.REGISTRY.get_sample_value("tinyllm_queue_requests_rejected_total")
    assert 0.0 == prometheus_client.REGISTRY.get_sample_value("tinyllm_queue_active_workers")


def test_interrupted() -> None:
    """What is no `Exception` is no error, as in the original; it is raised, and the request is no longer active."""
    with pytest.raises(KeyboardInterrupt), drop_in("local_llm").track_inference("m"):
        raise KeyboardInterrupt

    page = rows(otel_llm.generate_latest("local_llm"))
    assert 1.0 == page['llm_inference_requests_total{model="m",status="success"}']
    assert 0.0 == page['llm_active_connections{model="m"}']


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("dialect", "function", "active"),
    [
        ("local_llm", "track_inference", "llm_active_connections"),
        ("tinyllm", "track_request_latency", "tinyllm_active_requests"),
    ],
)
def test_a_fork_inside(dialect: str, function: str, active: str) -> None:
    """A child that was forked inside of a block has nothing under way, and is not below that when it leaves it."""
    with getattr(drop_in(dialect).get_metrics_collector(), function)("m"):
        child = os.fork()
    shown = set(rows(otel_llm.generate_latest(dialect), active).values())
    if child == 0:
        os._exit(0 if shown == {0.0} else 1)
    assert ({0.0}, 0) == (shown, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def test_tokens_that_are_none() -> None:
    """The total of AEGIS' tokens is always counted, and is an error where it is none."""
    with pytest.raises(TypeError):
        drop_in("aegis").track_llm_request("openai", "m", "extraction", None, 0.0, 1.0, 1, 2)


def test_models_that_change() -> None:
    """What Genesis tells of a model takes the place of what was told of it."""
    collector = drop_in("local_llm").get_metrics_collector()
    for version in ("1", "2"):
        collector.set_model_info("m", version, "u")
        collector.set_model_info("n", version, "u")

    assert {f'llm_model_info{{base_url="u",model="{model}",version="2"}}' for model in "mn"} == set(
        rows(otel_llm.generate_latest("local_llm"), "llm_model_info")
    )


def test_disabled() -> None:
    """A collector that is not to collect does nothing but run its blocks, and serves nothing."""
    module = drop_in("local_llm")
    collector = module.LocalLLMMetricsCollector(enable_metrics=False)
    ran: list[int] = []
    with collector.track_inference("m"):
        ran.append(1)
    collector.start()
    collector.record_rate_limit("c")
    collector.record_error("e")
    collector.record_tokens("m", 1, 1)
    collector.set_queue_size("m", 1)
    collector.set_model_info("m", "1", "u")

    assert [1] == ran
    assert {} == rows(otel_llm.generate_latest("local_llm"))
    assert collector._server_started is False


def test_singletons() -> None:
    """There is one collector, made by whoever asks first."""
    tinyllm, local_llm = drop_in("tinyllm"), drop_in("local_llm")

    assert tinyllm.MetricsCollector() is tinyllm.MetricsCollector() is tinyllm.get_metrics_collector()
    collector = local_llm.get_metrics_collector(port=9191, enable_metrics=False)
    assert collector is local_llm.get_metrics_collector(port=1)
    assert (9191, "0.0.0.0", False) == (collector.port, collector.host, collector.enable_metrics)


def test_cardinality() -> None:
    """Beyond a thousand label sets, a request is one of an ``other`` model and graph; it is told how many are."""
    module = drop_in("tinyllm")
    metrics = module.get_metrics_collector()
    assert {"metrics": {}, "total_label_combinations": 0, "max_cardinality": 1000} == metrics.get_cardinality_stats()
    for number in range(10_000):
        metrics.increment_request_count(f"m{number}", "g", ("generate", "stream")[number % 2])
    metrics.increment_request_count("m0", "g")

    stats = {
        "metrics": {"requests_total": {"cardinality": 1000, "dropped": 9000}},
        "total_label_combinations": 1000,
        "max_cardinality": 1000,
    }
    assert stats == metrics.get_cardinality_stats()
    summary = metrics.get_metrics_summary()
    assert stats == summary["cardinality_stats"]
    assert ("prometheus", "default") == (summary["collector"], summary["registry"])
    assert len(list(prometheus_client.REGISTRY.collect())) == summary["metrics_count"]
    page = rows(otel_llm.generate_latest("tinyllm"), "tinyllm_requests_total")
    assert 1002 == len(page)
    assert 10_001.0 == sum(page.values())
    assert 4500.0 == page['tinyllm_requests_total{graph="other",model="other",request_type="stream"}']


def test_cardinality_of_request_types() -> None:
    """A label that goes on having new values beyond that has an end, too."""
    metrics = drop_in("tinyllm").get_metrics_collector()
    for number in range(5000):
        metrics.increment_request_count(f"m{number}", "g", f"t{number}")

    page = rows(otel_llm.generate_latest("tinyllm"), "tinyllm_requests_total")
    assert 2001 == len(page)
    assert 5000.0 == sum(page.values())


def test_reset(caplog: pytest.LogCaptureFixture) -> None:
    """After a reset, everything that was told by the functions is as at the start, and what others told is there."""
    metrics = drop_in("tinyllm").get_metrics_collector()
    start = rows(otel_llm.generate_latest("tinyllm"))
    otel_llm.family("tinyllm_cache_hits_total").labels("mine").inc()
    metrics.increment_request_count()
    metrics.record_queue_wait_time(3)
    metrics.increment_queue_rejected()
    metrics.update_active_workers(3)
    metrics.reset_metrics()

    assert {**start, 'tinyllm_cache_hits_total{cache_type="mine"}': 1.0} == rows(otel_llm.generate_latest("tinyllm"))
    assert ["otel_llm: the metrics of TinyLLM's functions are reset"] == [each.getMessage() for each in caplog.records]
    metrics.increment_request_count()
    assert 1 == metrics.get_cardinality_stats()["total_label_combinations"]


def test_threads() -> None:
    """Functions lose nothing in threads, and blocks do not mix up what is under way."""
    module = drop_in("local_llm")

    def work(thread: int) -> None:
        for _ in range(300):
            with module.track_inference(f"m{thread % 3}"):
                module.record_tokens("m", 1, 2)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    page = rows(otel_llm.generate_latest("local_llm"))
    assert 2400.0 == sum(value for key, value in page.items() if key.startswith("llm_inference_requests_total"))
    assert 2400.0 == page['llm_tokens_total{model="m",type="prompt"}']
    assert {0.0} == {value for key, value in page.items() if key.startswith("llm_active")}
