"""The pages are well formed, lose nothing under load, and nobody waits for them."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import parser

import otel_llm
from otel_llm import serving
from otel_llm.prometheus import PrometheusReader
from otel_llm.testing.answers import answer
from tests.promql.servers import Binaries, Process, scenario

DIALECTS = ("local_llm", "aegis", "ollama_exporter", "tinyllm", "llmbackend")
PAGES = ("", "/genai", *(f"/{dialect}" for dialect in DIALECTS))
AS_WRITTEN = {"llm_cost_usd", "llm_tokens_used", "llm_estimated_cost_usd"}
"""Counters that their systems spell without `_total`."""
OPENMETRICS = {
    "Prometheus 2.42": (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    ),
    "Prometheus 3": (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
        "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
        "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    ),
}
CALLS, THREADS = 1280, 8
MODELS = 1200
"""Enough for pages of more than 20,000 lines."""
LINES = 20_000

_opener = build_opener(ProxyHandler({}))


def _get(url: str, accept: str = "") -> tuple[str, str]:
    with _opener.open(Request(url, headers={"Accept": accept} if accept else {}), timeout=60) as response:
        return response.headers["content-type"], response.read().decode()


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    """A process that has made every kind of call, and has some in flight."""
    with scenario() as process:
        process.do("round")
        process.do("held")
        yield process


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page or "/")
def test_lint(page: str, process: Process, binaries: Binaries) -> None:
    """`promtool` reads every page, and has nothing against it but the spellings that the systems chose."""
    _, text = _get(process.page + page)

    done = subprocess.run(
        [binaries.promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )

    told = (done.stdout + done.stderr).splitlines()
    assert set() == {line for line in told if line.partition(" ")[0] not in AS_WRITTEN}
    assert all(line.endswith('counter metrics should have "_total" suffix') for line in told)
    assert bool(told) == bool(done.returncode)


@pytest.mark.parametrize("accept", OPENMETRICS.values(), ids=OPENMETRICS)
@pytest.mark.parametrize("page", ["", "/genai"], ids=["main", "genai"])
def test_canonical_page_is_openmetrics(page: str, accept: str, process: Process) -> None:
    """Who asks for OpenMetrics as Prometheus does gets a canonical page that the strict parser reads."""
    content_type, text = _get(process.page + page, accept)

    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    strict: Any = parser
    families = {family.name: family for family in strict.text_string_to_metric_families(text)}
    assert "histogram" == families["gen_ai_client_operation_duration_seconds"].type


@pytest.mark.parametrize("accept", OPENMETRICS.values(), ids=OPENMETRICS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_are_text(dialect: str, accept: str, process: Process) -> None:
    """The page of a dialect is text format 0.0.4 whoever asks: its counters may have no `_total`."""
    content_type, text = _get(f"{process.page}/{dialect}", accept)

    assert content_type.startswith("text/plain; version=0.0.4")
    assert "# EOF" not in text


# under load


Samples = dict[str, float]
"""Values by series, as the page spells it."""


def _samples(text: str) -> Samples:
    samples: Samples = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        series, value = line.rsplit(" ", 1)
        assert series not in samples, f"{series} is there twice"
        samples[series] = float(value)
    return samples


def _cumulative(text: str) -> set[str]:
    """Return the names of samples that can only grow."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    suffixes = {"counter": ("",), "histogram": ("_bucket", "_count", "_sum")}
    return {name + suffix for name, kind in kinds.items() for suffix in suffixes.get(kind, ())}


def _check(samples: Samples) -> None:
    """Make sure that the histograms of a page are consistent: buckets that never fall, the last one being the count."""
    buckets: dict[str, list[float]] = {}
    for series, value in samples.items():
        name, _, labels = series.partition("{")
        if name.endswith("_bucket"):
            without = re.sub(r',?le="[^"]*"', "", labels).lstrip(",")
            buckets.setdefault(f"{name.removesuffix('_bucket')}_count{{{without}", []).append(value)
    for count, cumulative in buckets.items():
        assert sorted(cumulative) == cumulative, count
        assert samples[count.removesuffix("{}")] == cumulative[-1], count


def test_nothing_is_lost_or_doubled_under_load() -> None:
    """Threads make calls while all pages are scraped: no page is torn, no counter falls, the totals are true."""
    problems: list[BaseException] = []
    scrapes = dict.fromkeys(PAGES[1:], 0)
    over = threading.Event()

    def scrape(page: str) -> None:
        before: Samples = {}
        try:
            while not over.is_set():
                _, text = _get(url + page)
                samples, grow = _samples(text), _cumulative(text)
                _check(samples)
                fallen = {
                    series
                    for series, value in before.items()
                    if series.partition("{")[0] in grow and samples.get(series, -1) < value
                }
                assert set() == fallen
                before = samples
                scrapes[page] += 1
        except BaseException as problem:
            problems.append(problem)

    with scenario() as process:
        url = process.page
        scrapers = [threading.Thread(target=scrape, args=(page,)) for page in scrapes]
        for scraper in scrapers:
            scraper.start()
        process.do(f"{CALLS} {THREADS}")
        over.set()
        for scraper in scrapers:
            scraper.join()
        pages = {page: _samples(_get(url + page)[1]) for page in scrapes}

    assert [] == problems
    assert min(scrapes.values()) >= 3

    def total(page: str, name: str, label: str = "") -> float:
        return sum(
            value for series, value in pages[page].items() if series.partition("{")[0] == name and label in series
        )

    assert {CALLS} == {
        total("/genai", "gen_ai_client_operation_duration_seconds_count"),
        total("/local_llm", "llm_inference_requests_total"),
        total("/local_llm", "llm_inference_latency_seconds_count"),
        total("/aegis", "llm_requests_total"),
        total("/aegis", "llm_latency_seconds_count"),
        total("/ollama_exporter", "llm_inference_latency_seconds_count"),
        total("/tinyllm", "tinyllm_requests_total"),
        total("/tinyllm", "tinyllm_request_latency_seconds_count"),
        total("/llmbackend", "llm_requests_total"),
        total("/llmbackend", "llm_request_duration_seconds_count"),
    }
    assert {CALLS * 14} == {
        total("/local_llm", "llm_tokens_total"),
        total("/aegis", "llm_tokens_used", '"total"'),
        total("/aegis", "llm_tokens_used_total", '"total"'),
        total("/ollama_exporter", "llm_tokens_generated_total"),
        total("/llmbackend", "llm_tokens_total", '"total"'),
    }
    assert CALLS * 6 == total("/tinyllm", "tinyllm_tokens_input_total")
    assert CALLS * 8 == total("/tinyllm", "tinyllm_tokens_output_total")
    assert 1 + CALLS // 4 == sum(
        series.startswith("llm_inference_latency_seconds_count") for series in pages["/local_llm"]
    )


# nobody waits


def _answered(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=answer("POST", "/chat/completions", {"model": "m", "messages": []}, 1))


@pytest.fixture
def call() -> Iterator[Callable[[str], None]]:
    """A function that calls a model; there are pages of more than 20,000 lines already."""
    reader = PrometheusReader(registry=CollectorRegistry(), max_series=10 * MODELS)
    providers: Any = {"meter_provider": MeterProvider([reader]), "tracer_provider": TracerProvider()}
    transport = httpx.MockTransport(_answered)
    with (
        otel_llm.instrument(**providers, serve=False, max_series=10 * MODELS),
        httpx.Client(base_url="http://127.0.0.1:9/v1", transport=transport) as client,
    ):

        def call(model: str) -> None:
            client.post("/chat/completions", json={"model": model, "messages": []})

        for number in range(MODELS):
            call(f"model-{number}")
        yield call


class Released:
    """A lock that lets somebody do something each time that a thread has let go of it."""

    def __init__(self, lock: Any, thread: threading.Thread, then: Callable[[], None]) -> None:
        self._lock, self._thread, self._then = lock, thread, then

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, *raised: Any) -> None:
        self._lock.__exit__(*raised)
        if threading.current_thread() is self._thread:
            self._then()


def test_the_ledger_is_free_during_a_scrape(call: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape lets go of the ledger again and again, and each time a call with a new model gets through at once."""
    assert serving.shown is not None
    ended: list[bool] = []

    def one_call() -> None:
        caller = threading.Thread(target=call, args=(f"new-{len(ended)}",))
        caller.start()
        caller.join(30)
        ended.append(not caller.is_alive())

    pages: list[bytes] = []
    scrape = threading.Thread(target=lambda: pages.append(otel_llm.generate_latest("llmbackend")))
    ledger = serving.shown.ledger
    monkeypatch.setattr(ledger, "_lock", Released(ledger._lock, scrape, one_call))
    scrape.start()
    scrape.join()

    assert all(ended)
    assert len(ended) >= MODELS // 64
    assert pages[0].count(b"\n") >= LINES
    monkeypatch.undo()
    shown = otel_llm.generate_latest("llmbackend").decode()
    assert len(ended) == len(re.findall(r'^llm_request_duration_seconds_count\{.*"new-', shown, re.MULTILINE))


@pytest.mark.parametrize("page", ["llmbackend", "genai"])
def test_new_label_sets_do_not_wait(page: str, call: Callable[[str], None]) -> None:
    """During a scrape of a page of 20,000 lines, calls with new models begin and end."""
    assert otel_llm.generate_latest(page).count(b"\n") >= LINES
    within = made = scrapes = 0
    while within < 5 and scrapes < 30:
        begun, over = threading.Event(), threading.Event()

        def scrape(begun: threading.Event = begun, over: threading.Event = over) -> None:
            begun.set()
            otel_llm.generate_latest(page)
            over.set()

        scraper = threading.Thread(target=scrape)
        scraper.start()
        begun.wait()
        scrapes += 1
        while within < 5 and not over.is_set():
            call(f"new-{made}")
            made += 1
            within += not over.is_set()
        scraper.join()

    assert 5 == within
