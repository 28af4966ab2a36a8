"""Families that are fed by hand: the verbs of `prometheus_client`, on every page beside what calls feed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import prometheus_client
import prometheus_client.metrics
import pytest
from prometheus_client import CollectorRegistry, generate_latest

import otel_llm
from otel_llm.prometheus import by_hand
from otel_llm.prometheus.collector import DialectCollector
from otel_llm.prometheus.dialects import load, shipped
from otel_llm.prometheus.dialects.grammar import FamilySpec
from otel_llm.prometheus.multiprocess import arithmetic
from otel_llm.state import GROWING, NEWEST, PRESENT, Told
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import ScriptedServer
from tests.by_hand import rows, untold
from tests.dialects.test_golden import _differences, _lines

NAMES = [name for name in shipped() if name != "genai"]
FAMILIES = [pytest.param(name, spec, id=f"{name}-{spec.name}") for name in NAMES for spec in load(name).families]
MINE = """
[labels]
team = "label.team"
[[family]]
name = "answers"
type = "histogram"
help = "Answers"
labels = ["team"]
buckets = [1]
[[family]]
name = "seats_info"
type = "info"
help = "Seats"
labels = ["team"]
"""
TIMES = """
[[family]]
name = "times"
type = "histogram"
help = "What took how long"
rows.kind = { wait = "queue_wait", load = "model_load" }
buckets = [0.3, 0.9]

[[family]]
name = "all_total"
type = "counter"
help = "How many there were"
value = ["queue_wait", "model_load", "cache_hits"]
"""


@pytest.fixture(autouse=True)
def _untold(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    with untold(monkeypatch):
        yield


def _page(dialect: str, *prefixes: str) -> dict[str, float]:
    return rows(otel_llm.generate_latest(dialect), *prefixes)


def _original(spec: FamilySpec, registry: CollectorRegistry) -> Any:
    """Return the family as an application declares it with `prometheus_client`."""
    labels = (*spec.labels, *filter(None, [spec.row_label]))
    if spec.kind == "histogram":
        return prometheus_client.Histogram(spec.name, spec.help, labels, registry=registry, buckets=spec.buckets)
    kinds: dict[str, Callable[..., Any]] = {
        "counter": prometheus_client.Counter,
        "gauge": prometheus_client.Gauge,
        "info": prometheus_client.Info,
    }
    return kinds[spec.kind](spec.name.removesuffix("_info"), spec.help, labels, registry=registry)


def _feed(family: Any, spec: FamilySpec, random: random.Random) -> None:
    """Do at random what can be done with a family."""
    names = (*spec.labels, *filter(None, [spec.row_label]))
    values = tuple([random.choice(["a", "b", 'c"\n\\', "d e"]) for _ in names])
    by_name: dict[str, Any] = dict(zip(names, values, strict=True))
    child = family.labels(**by_name) if names and random.random() < 0.5 else family.labels(*values) if names else family
    amount = random.choice([1, 0, 2.5, 1e9, True])
    if spec.kind == "counter":
        with suppress(KeyError):
            random.choice([child.inc, lambda: child.inc(amount), child.count_exceptions()(_fail)])()
    elif spec.kind == "gauge":
        random.choice(
            [child.inc, lambda: child.dec(amount), lambda: child.set(amount), child.track_inprogress()(_pass)]
        )()
    elif spec.kind == "histogram":
        child.observe(random.choice([0.004, 0.25, 1, 7, 1000]))
    else:
        child.info({})


def _fail() -> None:
    raise KeyError


def _pass() -> None:
    pass


@pytest.mark.parametrize(("dialect", "spec"), FAMILIES)
def test_every_family_is_as_in_prometheus_client(dialect: str, spec: FamilySpec) -> None:
    """Whatever is told of a family, its page is the one that `prometheus_client` writes."""
    registry = CollectorRegistry()
    original, ours = _original(spec, registry), otel_llm.family(spec.name, dialect=dialect)
    for seed in range(300):
        _feed(original, spec, random.Random(seed))
        _feed(ours, spec, random.Random(seed))

    spellings = {name: spec.spellings for name in (spec.name, f"{spec.name}_total") if spec.kind == "counter"}
    theirs = _lines(generate_latest(registry), spellings)
    lines = _lines(otel_llm.generate_latest(dialect), {})
    found = {key: value for key, value in lines.items() if _name(key) in spec.sample_names}
    # What is known of the process is there without being told.
    found = {key: value for key, value in found.items() if "unknown_service" not in key}
    assert len(found) > 2
    assert [] == _differences(theirs, found)


def _name(key: str) -> str:
    return key.removeprefix("# HELP ").removeprefix("# TYPE ").partition("{")[0]


MISUSE: list[tuple[str, Callable[[Any], object]]] = [
    ("llm_cost_usd", lambda family: family.inc()),
    ("llm_cost_usd", lambda family: family.labels("a", "b")),
    ("llm_cost_usd", lambda family: family.labels(model="a")),
    ("llm_cost_usd", lambda family: family.labels("a", provider="a")),
    ("llm_cost_usd", lambda family: family.labels("a").labels("b")),
    ("llm_cost_usd", lambda family: family.labels("a").inc(-1)),
    ("llm_cost_usd", lambda family: family.labels("a").inc("1")),
    ("llm_cost_usd", lambda family: family.labels("a").dec()),
    ("monthly_spend_usd", lambda family: family.labels("a").set("x")),
    ("monthly_spend_usd", lambda family: family.labels("a").observe(1)),
    ("llm_latency_seconds", lambda family: family.observe(1)),
    ("llm_latency_seconds", lambda family: family.labels("a", "b").observe("x")),
    ("tinyllm_queue_active_workers", lambda family: family.labels("a")),
    ("tinyllm_system_info", lambda family: family.labels("a", "b", "c")),
    ("tinyllm_system_info", lambda family: family.labels(model="a")),
    ("tinyllm_system_info", lambda family: family.labels("a", "b").info({"app": "c"})),
    ("tinyllm_system_info", lambda family: family.labels("a", "b").info({"x": None})),
]


@pytest.mark.parametrize(("name", "misuse"), MISUSE)
def test_misuse(name: str, misuse: Callable[[Any], object]) -> None:
    """What `prometheus_client` refuses, it refuses here, too, with the same error; and nothing is told."""
    dialect = "tinyllm" if name.startswith("tinyllm") else "aegis"
    spec = next(each for each in load(dialect).families if each.name == name)
    raised: list[Exception] = []
    for family in (_original(spec, CollectorRegistry()), otel_llm.family(name)):
        with pytest.raises((ValueError, TypeError, AttributeError)) as error:
            misuse(family)
        raised.append(error.value)

    assert type(raised[0]) is type(raised[1])
    assert 0.0 == sum(_page(dialect, name).values()) or name == "tinyllm_system_info"


def test_one_object() -> None:
    """A family is the same object each time, in every spelling."""
    family = otel_llm.family("llm_cost_usd")

    assert family is otel_llm.family("llm_cost_usd_total") is otel_llm.family("llm_cost_usd", dialect="aegis")
    assert family is not otel_llm.family("llm_tokens_used")
    assert otel_llm.family("llm_estimated_cost_usd_total") is otel_llm.family("llm_estimated_cost_usd")
    assert otel_llm.family("tinyllm_requests") is otel_llm.family("tinyllm_requests_total")
    assert isinstance(family, prometheus_client.Counter)


@pytest.mark.parametrize(
    ("name", "dialect", "message"),
    [
        ("llm_requests_total", None, "name='llm_requests_total': expected dialect= one of aegis, llmbackend"),
        ("nobody", None, f"name='nobody': expected a family of {', '.join(NAMES)}"),
        ("nobody", "local_llm", "name='nobody': expected one of llm_inference_requests_total, "),
        ("llm_costs_usd", None, "name='llm_costs_usd': did you mean llm_cost_usd"),
        ("llm_estimated_cost", "llmbackend", "did you mean llm_estimated_cost_usd? expected one of"),
        ("llm_cost_usd", "aegsi", f"dialect='aegsi': expected one of {', '.join(NAMES)}, or the path of a file"),
        ("gen_ai_client_token_usage", "genai", f"dialect='genai': expected one of {', '.join(NAMES)}, or the path"),
        ("llm_cost_usd", "./none.toml", "cannot be read"),
    ],
)
def test_names(name: str, dialect: str | None, message: str) -> None:
    """A name that is no family, or a family of several dialects, is one `ValueError` that says which there are."""
    with pytest.raises(ValueError) as raised:
        otel_llm.family(name, dialect=dialect)

    assert message in str(raised.value)


def test_types() -> None:
    """A name must be a string, a dialect a string or a path."""
    untyped: Any = otel_llm.family
    with pytest.raises(TypeError, match=r"^otel_llm\.family: name must be a string, not int$"):
        untyped(3)
    with pytest.raises(TypeError, match=r"^otel_llm\.family: dialect must be the name of a dialect, or "):
        untyped("llm_cost_usd", dialect=3)


def test_own_files(tmp_path: Path) -> None:
    """A family of a file can be fed by its path at any time, and by its name where `instrument()` has the file."""
    file = tmp_path / "mine.toml"
    file.write_text(MINE, "utf-8")
    otel_llm.family("answers", dialect=file).labels("a").observe(0.5)
    with pytest.raises(ValueError, match="dialect='mine'"):
        otel_llm.family("answers", dialect="mine")

    with capture(dialects=[str(file)]):
        family = otel_llm.family("answers")
        assert family is otel_llm.family("answers", dialect="mine") is otel_llm.family("answers", dialect=str(file))
        family.labels(team="a").observe(3)
        otel_llm.family("seats_info").info({"team": "b"})
        page = _page("mine")

    assert page == {
        'answers_bucket{le="1.0",team="a"}': 1.0,
        'answers_bucket{le="+Inf",team="a"}': 2.0,
        'answers_count{team="a"}': 2.0,
        'answers_sum{team="a"}': 3.5,
        'seats_info{team="b"}': 1.0,
    }
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.toml").write_text(MINE.replace("[1]", "[2]"), "utf-8")
    with pytest.raises(ValueError, match="answers of mine: another file of that name has it otherwise"):
        otel_llm.family("answers", dialect=tmp_path / "other" / "mine.toml")


def test_several_things_in_one_family(tmp_path: Path) -> None:
    """Each row of a histogram is of a time of its own, and a counter says how many there were of all of them."""
    file = tmp_path / "times.toml"
    file.write_text(TIMES, "utf-8")
    with capture(dialects=[str(file)]):
        otel_llm.record_queue_wait(0.7)
        otel_llm.record_model_load("m", 0.7)
        otel_llm.record_model_load("m", 0.2)
        otel_llm.record_cache_hit()
        page = _page("times")

    assert page == {
        'times_bucket{kind="wait",le="0.3"}': 0.0,
        'times_bucket{kind="wait",le="0.9"}': 1.0,
        'times_bucket{kind="wait",le="+Inf"}': 1.0,
        'times_count{kind="wait"}': 1.0,
        'times_sum{kind="wait"}': 0.7,
        'times_bucket{kind="load",le="0.3"}': 1.0,
        'times_bucket{kind="load",le="0.9"}': 2.0,
        'times_bucket{kind="load",le="+Inf"}': 2.0,
        'times_count{kind="load"}': 2.0,
        'times_sum{kind="load"}': pytest.approx(0.9),
        "all_total": 4.0,
    }


def test_what_is_told_adds_to_calls(server: ScriptedServer) -> None:
    """Counters and histograms have both, a gauge that is told shows what was told, and other rows stay as they are."""
    with capture(), openai.OpenAI(base_url=server.base_url, api_key="none") as asking:
        asking.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "?"}])
        before = _page("tinyllm")
        otel_llm.family("tinyllm_requests_total").labels("gpt-5", "unknown", "generate").inc(2)
        otel_llm.family("tinyllm_requests_total").labels("mine", "unknown", "generate").inc()
        otel_llm.family("tinyllm_request_latency_seconds").labels("gpt-5", "unknown").observe(61)
        otel_llm.family("tinyllm_active_requests").labels("gpt-5", "unknown").inc()
        after = _page("tinyllm")

    changed = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key)}
    labels, le = '{graph="unknown",model="gpt-5"', '{graph="unknown",le="+Inf",model="gpt-5"}'
    assert changed == {
        f'tinyllm_requests_total{labels},request_type="generate"}}': 2.0,
        'tinyllm_requests_total{graph="unknown",model="mine",request_type="generate"}': 1.0,
        f"tinyllm_request_latency_seconds_bucket{le}": 1.0,
        f"tinyllm_request_latency_seconds_count{labels}}}": 1.0,
        f"tinyllm_request_latency_seconds_sum{labels}}}": pytest.approx(61),
        f"tinyllm_active_requests{labels}}}": 1.0,
    }


def test_every_way_to_a_page() -> None:
    """A collector in a registry, the page of the dialect and the main page have it, also before `instrument()`."""
    otel_llm.family("llm_cost_usd").labels("openai").inc(2)
    registry = CollectorRegistry()
    registry.register(DialectCollector("aegis"))

    for name in ("llm_cost_usd", "llm_cost_usd_total"):
        assert 2.0 == registry.get_sample_value(name, {"provider": "openai"})
        assert 2.0 == _page("aegis")[f'{name}{{provider="openai"}}']
    with capture(dialects=["aegis"]):
        assert 2.0 == rows(otel_llm.generate_latest())['llm_cost_usd{provider="openai"}']


def test_kinds() -> None:
    """How the values of several workers come to one depends on what the family shows."""
    otel_llm.family("tinyllm_requests_total").labels("a", "b", "c").inc()
    otel_llm.family("tinyllm_active_requests").labels("a", "b").inc()
    otel_llm.family("tinyllm_queue_size").labels("a").set(3)
    otel_llm.family("tinyllm_queue_active_workers").set(3)
    otel_llm.family("tinyllm_circuit_breaker_state").labels("a").set(2)
    otel_llm.family("tinyllm_system_info").info({"version": "1", "app": "a"})
    otel_llm.family("monthly_spend_usd").labels("a").set(3)

    kinds = {key.partition("/")[2]: told.kind for key, each in by_hand.told().items() for _, told in each}
    assert kinds == {
        "tinyllm_requests_total": GROWING,
        "tinyllm_active_requests": PRESENT,
        "tinyllm_queue_size": PRESENT,
        "tinyllm_queue_active_workers": PRESENT,
        "tinyllm_circuit_breaker_state": NEWEST,
        "tinyllm_system_info": NEWEST,
        "monthly_spend_usd": NEWEST,
    }


def test_infos() -> None:
    """An info keeps one row for each set of labels, however they are given."""
    info = otel_llm.family("llm_model_info", dialect="local_llm")
    info.info({"model": "a", "version": "1", "base_url": "u"})
    info.labels(model="b").info({"version": "1", "base_url": "u"})
    info.labels("b", "1").info({"base_url": "u"})
    info.labels("c", "2", "v").info({})

    assert _page("local_llm", "llm_model_info") == {
        'llm_model_info{base_url="u",model="a",version="1"}': 1.0,
        'llm_model_info{base_url="u",model="b",version="1"}': 1.0,
        'llm_model_info{base_url="v",model="c",version="2"}': 1.0,
    }
    with pytest.raises(ValueError, match="llm_model_info: labels model, size: expected model, version, base_url"):
        info.info({"model": "a", "size": "1"})
    with pytest.raises(ValueError, match="None"):
        info.info({"model": None, "version": "1", "base_url": "u"})


def test_infos_that_go() -> None:
    """What is told of a thing takes the place of what was told of it, and can be taken back."""
    info = otel_llm.family("llm_model_info", dialect="local_llm")
    for version, base_url in (("1", "u"), ("2", "u"), ("2", "v")):
        info.labels(model="a").info({"version": version, "base_url": base_url})
        info.labels(model="b").info({"version": version, "base_url": base_url})
    assert _page("local_llm", "llm_model_info") == {
        f'llm_model_info{{base_url="v",model="{model}",version="2"}}': 1.0 for model in "ab"
    }
    info.remove("a", "2", "v")
    info.remove("a", "2", "v")
    assert ['llm_model_info{base_url="v",model="b",version="2"}'] == list(_page("local_llm", "llm_model_info"))
    info.clear()
    assert {} == _page("local_llm", "llm_model_info")


def test_the_newest_of_all(seen: Seen) -> None:
    """Of gauges that are fed by functions, too, the newest value counts, whoever told it."""
    breaker = otel_llm.family("tinyllm_circuit_breaker_state").labels("m")
    for told in (lambda: breaker.set(2), lambda: otel_llm.set_circuit_breaker_state("closed", model="m")):
        told()
    assert {0.0} == set(_page("tinyllm", "tinyllm_circuit_breaker_state").values())
    breaker.set(1)
    assert {1.0} == set(_page("tinyllm", "tinyllm_circuit_breaker_state").values())


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no signals here")
def test_signal_handlers() -> None:
    """What a signal handler tells of a series in the midst of others that tell of it is not lost."""
    counter = otel_llm.family("llm_cost_usd").labels("openai")
    handled: list[None] = []

    def handle(number: int, frame: object) -> None:
        counter.inc()
        handled.append(None)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        until, told = time.monotonic() + 1.0, 0
        while time.monotonic() < until:
            counter.inc()
            told += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert len(handled) > 100
    assert {float(told + len(handled))} == set(_page("aegis", "llm_cost_usd{").values())


def test_a_signal_at_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a signal handler adds a label set while a known one is looked up, the known one stays."""
    counter = otel_llm.family("llm_cost_usd")
    monkeypatch.setattr(counter, "max_rows", 2)
    counter.labels("known").inc()
    look_up = prometheus_client.metrics.MetricWrapperBase.labels
    interrupted: list[None] = []

    def labels(self: Any, *values: object, **named: object) -> Any:
        if not interrupted and values == ("known",):
            interrupted.append(None)
            counter.labels("new").inc()
            counter.labels("beyond").inc()
        return look_up(self, *values, **named)

    monkeypatch.setattr(prometheus_client.metrics.MetricWrapperBase, "labels", labels)
    counter.labels("known").inc()

    assert _page("aegis", "llm_cost_usd{") == {
        'llm_cost_usd{provider="known"}': 2.0,
        'llm_cost_usd{provider="new"}': 1.0,
        'llm_cost_usd{provider="_overflow"}': 1.0,
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_gauges_that_were_set_before_a_fork() -> None:
    """By itself a child shows what its parent was told before the fork; beside it, only what it was told since."""
    otel_llm.family("tinyllm_queue_active_workers").set(8)
    queues = otel_llm.family("tinyllm_queue_size")
    queues.labels("high").inc(5)
    length = [3]
    queues.labels("low").set_function(lambda: length[0])
    otel_llm.family("tinyllm_active_requests").labels("m", "g").inc()
    child = os.fork()
    if child == 0:
        try:
            length.append(0)
            length[0] = 2
            queues.labels("high").inc()
            shown = _page("tinyllm")
            assert [8.0, 6.0, 2.0, 0.0] == [shown[series] for series in SET_BEFORE]
            own = {row: told for rows in by_hand.told().values() for row, told in rows}
            assert [0.0, 1.0, 2.0] == [arithmetic.own(own[labels]).value for labels in ("", HIGH, LOW)]
            otel_llm.family("tinyllm_queue_active_workers").set(4)
            (((_, told),),) = [by_hand.told()["tinyllm/tinyllm_queue_active_workers"]]
            assert 4.0 == arithmetic.own(told).value
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    shown = _page("tinyllm")
    assert [8.0, 5.0, 3.0, 1.0] == [shown[series] for series in SET_BEFORE]


HIGH, LOW = 'priority="high"', 'priority="low"'
SET_BEFORE = (
    "tinyllm_queue_active_workers",
    f"tinyllm_queue_size{{{HIGH}}}",
    f"tinyllm_queue_size{{{LOW}}}",
    'tinyllm_active_requests{graph="g",model="m"}',
)


@pytest.mark.parametrize("name", ["llm_cost_usd", "monthly_spend_usd", "llm_latency_seconds", "llm_model_info"])
def test_ten_thousand_label_values(name: str) -> None:
    """Beyond ``max_series`` there is one row for all others, and nothing is lost of what can be added up."""
    dialect = "local_llm" if name == "llm_model_info" else "aegis"
    with capture(max_series=100):
        family = otel_llm.family(name, dialect=dialect)
        for number in range(10_000):
            match name:
                case "llm_cost_usd":
                    family.labels(f"p{number}").inc(2)
                case "monthly_spend_usd":
                    family.labels(f"p{number}").set(number)
                case "llm_latency_seconds":
                    family.labels(f"p{number}", "chat").observe(1)
                case _:
                    family.info({"model": f"p{number}", "version": "1", "base_url": "u"})
        page = _page(dialect, f"{name}_count" if name == "llm_latency_seconds" else f"{name}{{")

    assert 101 == len(page)
    (beyond,) = [value for key, value in page.items() if "_overflow" in key]
    assert {"llm_cost_usd": 19_800.0, "monthly_spend_usd": 9999.0, "llm_latency_seconds": 9900.0}.get(name, 1) == beyond
    assert all(key.count("_overflow") in (0, key.count("=")) for key in page)


def test_max_series_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before `instrument()`, the environment says how many label sets there may be."""
    monkeypatch.setenv("OTEL_LLM_MAX_SERIES", "2")
    for number in range(5):
        otel_llm.family("llm_cost_usd").labels(number).inc()

    assert [1.0, 1.0, 3.0] == list(_page("aegis", "llm_cost_usd{").values())


def test_threads() -> None:
    """Nothing is lost where many threads feed the same rows and new ones while pages are made."""
    counter = otel_llm.family("llm_cost_usd")
    histogram = otel_llm.family("llm_latency_seconds")

    def feed(thread: int) -> None:
        for number in range(500):
            counter.labels(f"{number % 7}").inc()
            histogram.labels(f"{number % 5}", f"{thread}").observe(0.2)
            if number % 100 == 0:
                otel_llm.generate_latest("aegis")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(feed, range(8)))

    assert 4000.0 == sum(_page("aegis", "llm_cost_usd{").values())
    assert 4000.0 == sum(_page("aegis", "llm_latency_seconds_count").values())


def test_a_histogram_is_whole() -> None:
    """Whenever it is read, what a histogram counted is what it added up."""
    child = otel_llm.family("llm_latency_seconds").labels("a", "b")
    interval, read = sys.getswitchinterval(), list[Told]()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            feeding = pool.submit(lambda: [child.observe(1) for _ in range(30_000)])
            while not feeding.done():
                read += [told for told_by in by_hand.told().values() for _, told in told_by]
    finally:
        sys.setswitchinterval(interval)

    assert len(read) > 100
    assert [] == [told for told in read if told.value != sum(told.counts or ())]


def test_label_values_of_any_kind() -> None:
    """A value that is long or no text is printed as that of a call is; two that are then the same are one row."""
    family = otel_llm.family("llm_cost_usd")
    for value in ("x" * 2000, "x" * 3000, "\ud800", 'a"b\n'):
        family.labels(value).inc()

    assert _page("aegis", "llm_cost_usd{") == {
        f'llm_cost_usd{{provider="{"x" * 1024}"}}': 2.0,
        'llm_cost_usd{provider="?"}': 1.0,
        'llm_cost_usd{provider="a\\"b\\n"}': 1.0,
    }


def test_functions(quiet: None, caplog: pytest.LogCaptureFixture) -> None:
    """A gauge can ask a function; one that fails costs neither the page nor more than one line of the log."""
    seats = [3.0]
    gauge = otel_llm.family("monthly_spend_usd")
    gauge.labels("a").set_function(lambda: seats[0])
    gauge.labels("b").set_function(lambda: 1 / 0)
    gauge.labels("a").set(9)
    seats[0] = 4
    page = [_page("aegis", "monthly_spend_usd") for _ in range(2)][-1]

    assert 4.0 == page['monthly_spend_usd{provider="a"}']
    assert page['monthly_spend_usd{provider="b"}'] != page['monthly_spend_usd{provider="b"}']
    assert 1 == len([each for each in caplog.records if "your set_function failed" in each.getMessage()])


def test_removed() -> None:
    """Label sets can be removed, and are told anew after that."""
    family = otel_llm.family("llm_cost_usd")
    for provider in ("a", "b"):
        family.labels(provider).inc()
    family.remove("a")
    assert {'llm_cost_usd{provider="b"}': 1.0} == _page("aegis", "llm_cost_usd{")
    family.clear()
    assert {} == _page("aegis", "llm_cost_usd{")
    family.labels("a").inc()
    assert {'llm_cost_usd{provider="a"}': 1.0} == _page("aegis", "llm_cost_usd{")


def test_files_of_prometheus_client(tmp_path: Path) -> None:
    """With PROMETHEUS_MULTIPROC_DIR, nothing of ours is in its files, and our pages are right."""
    program = """
import otel_llm
otel_llm.family("llm_cost_usd").labels("a").inc(2)
otel_llm.family("llm_latency_seconds").labels("a", "b").observe(2)
otel_llm.family("monthly_spend_usd").labels("a").set(2)
print(otel_llm.generate_latest("aegis").decode())
"""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert "" == done.stderr
    assert 2.0 == rows(done.stdout)['llm_cost_usd{provider="a"}']
    assert 1.0 == rows(done.stdout)['llm_latency_seconds_count{provider="a",task_type="b"}']
    assert [] == list(tmp_path.iterdir())
