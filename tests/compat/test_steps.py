"""Moving over in two steps, with real calls: first functions feed what they fed, then calls do; nothing is twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import openai
import prometheus_client
import pytest

import otel_llm
from otel_llm import config, serving
from otel_llm.config import Settings, resolve, resolve_or_default
from otel_llm.context import current_context, labels_of
from otel_llm.prometheus import by_hand, verbs
from otel_llm.prometheus.dialects import load
from otel_llm.state import place
from otel_llm.testing import capture
from otel_llm.testing.server import Reply, ScriptedServer
from tests.by_hand import drop_in, rows
from tests.documentation import quoted, table_rows

MODEL = "gpt-5"


def _call(server: ScriptedServer, *, fail: bool = False) -> None:
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client:
        if fail:
            server.script(Reply(status=500, body=b"{}"))
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "?"}])


def _local_llm(module: Any, server: ScriptedServer) -> None:
    """Do as an application of Genesis does, around a real call."""
    with module.track_inference(MODEL):
        _call(server)
    with pytest.raises(openai.InternalServerError), module.track_inference(MODEL):
        _call(server, fail=True)
    module.record_tokens(MODEL, 1000, 2000)
    module.record_rate_limit("c")
    module.record_error("mine")
    module.get_metrics_collector().set_queue_size(MODEL, 4)
    module.get_metrics_collector().set_model_info(MODEL, "5", "told")


def _aegis(module: Any, server: ScriptedServer) -> None:
    """Do as AEGIS does."""
    _call(server)
    module.track_llm_request("openai", MODEL, "generation", 3000, 0.25, 70, 1000, 2000)
    with pytest.raises(openai.InternalServerError):
        _call(server, fail=True)
    module.track_llm_error("openai", "generation", "budget_exceeded")
    module.llm_errors_total.labels("openai", "generation", "mine").inc()
    module.update_budget_metrics("openai", 5, 20)


def _tinyllm(module: Any, server: ScriptedServer) -> None:
    """Do as TinyLLM does."""
    metrics = module.get_metrics_collector()
    metrics.increment_request_count(MODEL, "main")
    with metrics.track_graph_execution("main"), metrics.track_request_latency(MODEL, "main"):
        _call(server)
    metrics.record_tokens(1000, 2000, MODEL, "main")
    metrics.increment_error_count("mine", MODEL, "main")
    with metrics.track_model_load(MODEL):
        pass
    metrics.update_queue_size(4)
    metrics.increment_cache_hit()


SCENARIOS: dict[str, Callable[[Any, ScriptedServer], None]] = {
    "local_llm": _local_llm,
    "aegis": _aegis,
    "tinyllm": _tinyllm,
}

COUNTS = {
    "local_llm": "llm_inference_requests_total",
    "aegis": "llm_requests_total",
    "tinyllm": "tinyllm_requests_total",
}


def _families(page: bytes, dialect: str) -> dict[str, dict[str, float]]:
    """Return the samples that have a value, by family."""
    found = {key: value for key, value in rows(page).items() if value and "_bucket" not in key and "_sum" not in key}
    return {
        spec.name: {
            key: value
            for key, value in found.items()
            if key.partition("{")[0] in (spec.sample_names - {*spec.spellings[1:]})
        }
        for spec in load(dialect).families
    }


def _of_calls(dialect: str) -> set[str]:
    """Return the families that calls can feed."""
    return {spec.name for spec in load(dialect).families if any(row.columns for row in spec.rows)}


def _without(server: ScriptedServer, dialect: str, *, calls: bool) -> dict[str, dict[str, float]]:
    """Return the page that there is without a drop-in, of the calls of the scenario or of none."""
    if calls:
        # What TinyLLM's blocks say to the calls inside.
        with otel_llm.labels(**({"graph": "main"} if dialect == "tinyllm" else {})):
            SCENARIOS[dialect](_Nothing(), server)
    return _families(otel_llm.generate_latest(dialect), dialect)


class _Nothing:
    """Stands in for a drop-in whose functions do nothing at all."""

    def __getattr__(self, name: str) -> Any:
        return self._block if name.startswith("track_") and "llm_" not in name else self

    @contextmanager
    def _block(self, *_: object) -> Generator[None]:
        yield

    def __call__(self, *_: object) -> _Nothing:
        return self


@pytest.mark.parametrize("dialect", SCENARIOS)
def test_first_step(dialect: str, server: ScriptedServer) -> None:
    """With the import changed, what functions fed they alone feed; other families and other dialects, calls do."""
    with capture():
        SCENARIOS[dialect](drop_in(dialect), server)
        shown = _families(otel_llm.generate_latest(dialect), dialect)
        others = {name: _families(otel_llm.generate_latest(name), name) for name in SCENARIOS if name != dialect}

    of_process = shown.pop("tinyllm_system_info", None)
    assert _EXPECTED_FIRST[dialect] == {key: value for each in shown.values() for key, value in each.items()}
    # It has no function.
    assert dialect != "tinyllm" or of_process
    # The calls that succeeded are there, in the dialects whose functions nobody has imported.
    for name, each in others.items():
        assert sum(each[COUNTS[name]].values()) == (2 if name != "aegis" and dialect != "tinyllm" else 1), name


_EXPECTED_FIRST = {
    "local_llm": {
        'llm_inference_requests_total{model="gpt-5",status="success"}': 1.0,
        'llm_inference_requests_total{model="gpt-5",status="error"}': 1.0,
        'llm_inference_latency_seconds_count{model="gpt-5"}': 2.0,
        'llm_rate_limit_hits_total{client_id="c"}': 1.0,
        'llm_queue_size{model="gpt-5"}': 4.0,
        'llm_error_total{error_type="InternalServerError"}': 1.0,
        'llm_error_total{error_type="mine"}': 1.0,
        'llm_tokens_total{model="gpt-5",type="prompt"}': 1000.0,
        'llm_tokens_total{model="gpt-5",type="completion"}': 2000.0,
        'llm_model_info{base_url="told",model="gpt-5",version="5"}': 1.0,
    },
    "aegis": {
        'llm_requests_total{model="gpt-5",provider="openai",task_type="generation"}': 1.0,
        'llm_latency_seconds_count{provider="openai",task_type="generation"}': 1.0,
        'llm_cost_usd{provider="openai"}': 0.25,
        'llm_tokens_used{provider="openai",token_type="total"}': 3000.0,
        'llm_tokens_used{provider="openai",token_type="input"}': 1000.0,
        'llm_tokens_used{provider="openai",token_type="output"}': 2000.0,
        'llm_errors_total{error_type="budget_exceeded",provider="openai",task_type="generation"}': 1.0,
        'llm_errors_total{error_type="mine",provider="openai",task_type="generation"}': 1.0,
        'monthly_budget_remaining_usd{provider="openai"}': 15.0,
        'monthly_spend_usd{provider="openai"}': 5.0,
    },
    "tinyllm": {
        'tinyllm_requests_total{graph="main",model="gpt-5",request_type="generate"}': 1.0,
        'tinyllm_request_latency_seconds_count{graph="main",model="gpt-5"}': 1.0,
        'tinyllm_tokens_input_total{graph="main",model="gpt-5"}': 1000.0,
        'tinyllm_tokens_output_total{graph="main",model="gpt-5"}': 2000.0,
        'tinyllm_errors_total{error_type="mine",graph="main",model="gpt-5"}': 1.0,
        'tinyllm_model_load_duration_seconds_count{model="gpt-5"}': 1.0,
        'tinyllm_graph_executions_total{graph="main"}': 1.0,
        'tinyllm_graph_execution_duration_seconds_count{graph="main"}': 1.0,
        'tinyllm_cache_hits_total{cache_type="general"}': 1.0,
        'tinyllm_queue_size{priority="all"}': 4.0,
    },
}


@pytest.mark.parametrize("when", ["keyword before", "keyword after", "variable"])
@pytest.mark.parametrize("dialect", SCENARIOS)
def test_second_step(dialect: str, when: str, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``calls``, every family that calls can feed is as without a drop-in; functions feed the others as before."""
    with capture():
        without = _without(server, dialect, calls=True)
    if when == "variable":
        monkeypatch.setenv("OTEL_LLM_COMPAT", "calls")
    module = drop_in(dialect) if when == "keyword after" else None
    with capture(**({} if when == "variable" else {"compat": "calls"})):
        module = module or drop_in(dialect)
        SCENARIOS[dialect](module, server)
        shown = _families(otel_llm.generate_latest(dialect), dialect)

    fed = _of_calls(dialect)
    assert fed
    assert {name: without[name] for name in fed} == {name: shown[name] for name in fed}
    first = _EXPECTED_FIRST[dialect]
    rest = {key: value for name in shown.keys() - fed for key, value in shown[name].items()}
    assert rest == {key: value for key, value in first.items() if key in rest}
    assert rest.keys() == {
        key for key in first if not any(key.startswith((f"{name}{{", f"{name}_count")) for name in fed)
    }


def test_metrics_that_are_kept() -> None:
    """Who keeps a label set of a module's metric feeds nothing more with it from the second step on."""
    module = drop_in("aegis")
    kept = module.llm_requests_total.labels("openai", "generation", MODEL)
    kept.inc()
    with capture(compat="calls"):
        kept.inc(10)
        module.llm_cost_usd.labels("openai").inc()
        page = rows(otel_llm.generate_latest("aegis"))

    assert 1.0 == page[f'llm_requests_total{{model="{MODEL}",provider="openai",task_type="generation"}}']
    assert 1.0 == page['llm_cost_usd{provider="openai"}']


def test_blocks_run() -> None:
    """In the second step, blocks still run, and raise what is raised in them."""
    module = drop_in("local_llm")
    with capture(compat="calls"):
        with pytest.raises(KeyError), module.track_inference(MODEL):
            raise KeyError
        assert {} == rows(otel_llm.generate_latest("local_llm"))


@pytest.mark.parametrize("block", ["track_graph_execution", "track_request_latency", "track_node_execution"])
def test_graphs_of_calls(server: ScriptedServer, block: str) -> None:
    """In the second step, calls made in a block of TinyLLM's that names a graph are calls of that graph."""
    collector = drop_in("tinyllm").get_metrics_collector()
    names = {"node": "router"} if block == "track_node_execution" else {}
    with capture(compat="calls"):
        with getattr(collector, block)(**names, graph="support"):
            _call(server)
        with getattr(collector, block)(**names):
            _call(server)
        page = rows(otel_llm.generate_latest("tinyllm"))

    assert [1.0, 1.0] == [
        page[f'tinyllm_requests_total{{graph="{graph}",model="{MODEL}",request_type="generate"}}']
        for graph in ("support", "unknown")
    ]


def test_a_step_in_a_block() -> None:
    """A block that is open while the second step ends took nothing, and takes nothing back."""
    module = drop_in("local_llm")
    with capture(compat="calls"):
        block = module.track_inference(MODEL)
        block.__enter__()
    with capture():
        block.__exit__(None, None, None)
        page = rows(otel_llm.generate_latest("local_llm"), "llm_active")

    assert set() == {value for value in page.values() if value}


@pytest.mark.parametrize("step", ["functions", "calls"])
def test_graphs_of_generators(step: str) -> None:
    """In the first step the context of the code is what it was; in the second the graph is in it."""
    collector = drop_in("tinyllm").get_metrics_collector()
    with capture(compat="calls" if step == "calls" else None), collector.track_graph_execution("support"):
        assert (step == "calls") is bool(labels_of(current_context.get()))


def test_nobody_sees_calls(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where calls are to feed what they can and nobody sees them, one warning says that nothing does."""
    monkeypatch.setattr(verbs, "_warned", False)
    monkeypatch.setattr(serving, "shown", None)
    monkeypatch.setenv("OTEL_LLM_COMPAT", "calls")
    module = drop_in("aegis")
    module.llm_cost_usd.labels("openai").inc()
    assert [] == caplog.records
    for _ in range(3):
        module.track_llm_error("openai", "generation", "timeout")
    (told,) = [each.getMessage() for each in caplog.records]
    assert "OTEL_LLM_COMPAT=calls: calls are to feed the families that they can, which stay empty until" in told


def test_by_hand_goes_on() -> None:
    """`family` adds to what calls feed in either step."""
    drop_in("local_llm")
    for compat in (None, "calls"):
        with capture(compat=compat):
            otel_llm.family("llm_error_total").labels("mine").inc()
    with capture():
        assert {'llm_error_total{error_type="mine"}': 2.0} == rows(otel_llm.generate_latest("local_llm"))


@pytest.mark.parametrize("compat", ["call", "", "functions", 3, True])
def test_wrong_values(compat: Any) -> None:
    """There is one value; anything else is one `ValueError` that says which."""
    with pytest.raises(ValueError, match=rf"^compat={compat!r}: expected calls$"):
        otel_llm.instrument(compat=compat, serve=False)


def test_settings(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Keyword and variable, in any case; a wrong variable is an error, or told where nobody could catch it."""
    monkeypatch.setattr(config, "_told", set[str]())
    assert Settings().compat is None
    assert "calls" == resolve(compat="Calls").compat == resolve(environ={"OTEL_LLM_COMPAT": " CALLS "}).compat
    assert resolve(environ={"OTEL_LLM_COMPAT": ""}).compat is None
    with pytest.raises(ValueError, match=r"^OTEL_LLM_COMPAT='all': expected calls$"):
        resolve(environ={"OTEL_LLM_COMPAT": "all"})
    with caplog.at_level(logging.ERROR):
        assert resolve_or_default({"OTEL_LLM_COMPAT": "all"}).compat is None
        monkeypatch.setenv("OTEL_LLM_COMPAT", "all")
        drop_in("aegis").track_llm_error("openai", "generation", "timeout")
    assert ["otel_llm: OTEL_LLM_COMPAT='all': expected calls; the default is used"] == [
        each.getMessage() for each in caplog.records
    ]
    assert 1.0 == prometheus_client.REGISTRY.get_sample_value(
        "llm_errors_total", {"provider": "openai", "task_type": "generation", "error_type": "timeout"}
    )


@pytest.mark.parametrize("dialect", SCENARIOS)
def test_the_table_of_the_second_step(dialect: str) -> None:
    """The documentation says which families calls feed in the second step, and which have no function."""
    drop_in(dialect)
    fed = {fed.name for fed in load(dialect).families if place(dialect, fed.name) in by_hand.uncounted()}
    (cell,) = [cells[1] for cells in table_rows("docs/drop-in.md", "**Then,") if quoted(cells[0]) == [dialect]]
    named = set(quoted(cell))

    assert named == (_of_calls(dialect) & fed if dialect != "local_llm" else fed - _of_calls(dialect))
    assert ({"tinyllm_system_info"} if dialect == "tinyllm" else set()) == {
        spec.name for spec in load(dialect).families if spec.name not in fed
    }
