"""What dialects cost: one update of the ledger, a page, and the memory of many series.

The floor of an update is `prometheus_client` counting the same calls, as the original of one of the dialects does; that
of a page and of memory is the upstream reader, with histograms of as many lines.
``python -m benchmarks.dialects CONTESTANT LINES`` measures the memory of one page in a process of its own.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from benchmarks.measure import Contestant, Estimate, Round, batch, estimate, rounds, time_of
from benchmarks.pages import Pages, histograms
from benchmarks.report import Line
from otel_llm.call import Call
from otel_llm.context import Labels
from otel_llm.ledger import Ledger
from otel_llm.prometheus import writer
from otel_llm.prometheus.dialects import bounds, bridge, label_names, load, shipped
from otel_llm.state import Columns

LINES = 10_000
MANY = 100_000
UPDATE = 1
"""The most microseconds of one update."""
TENTH, THIRD = 1 / 10, 1 / 3
"""The most that a page may take of time and of memory, by what the upstream reader's takes."""
_UPDATES = 2_000
_DIALECTS = tuple([name for name in shipped() if name != "genai"])


def _call(number: int, labels: Labels | None = None) -> Call:
    """Return a call that has ended, as an instrumentor leaves it."""
    call = Call()
    call.operation, call.provider = "chat", "openai"
    call.request_model, call.response_model = f"model-{number}", f"model-{number}-2026"
    call.server_address, call.server_port = "api.openai.com", 443
    call.base_url, call.endpoint = "https://api.openai.com/v1", "/v1/chat/completions"
    call.started_at, call.ended_at = 100.0, 100.7
    call.input_tokens, call.output_tokens, call.cache_read_tokens, call.reasoning_tokens = 10, 20, 0, 0
    call.labels = labels
    call.series = (call.operation, call.provider, call.request_model, call.response_model, "api.openai.com", 443)
    return call


def _ledger() -> Ledger:
    """Return a ledger that counts for all dialects but the canonical one, which a reader shows."""
    dialects = [load(name) for name in _DIALECTS]
    labels = label_names(dialects)
    return Ledger(10**6, Columns(bounds(dialects), labels.always, labels.on_failure))


class Original:
    """What seed 003 does for a call, with `prometheus_client`."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        labels = ("model", "graph")
        self._requests = Counter("requests", "", (*labels, "request_type"), registry=registry)
        self._latency = Histogram("latency", "", labels, registry=registry)
        self._active = Gauge("active", "", labels, registry=registry)
        self._input = Counter("input", "", labels, registry=registry)
        self._output = Counter("output", "", labels, registry=registry)

    def count(self, call: Call) -> None:
        """Count a call."""
        model = call.request_model
        self._active.labels(model, "support").inc()
        self._requests.labels(model, "support", "generate").inc()
        self._latency.labels(model, "support").observe(call.ended_at - call.started_at)
        self._input.labels(model, "support").inc(call.input_tokens or 0)
        self._output.labels(model, "support").inc(call.output_tokens or 0)
        self._active.labels(model, "support").dec()


def _updates(number: int) -> Line:
    ledger, original = _ledger(), Original()
    # A call that ends is still in the processor's caches, as few of them are here.
    calls = [_call(model, Labels({"graph": "support"})) for model in range(20)] * (_UPDATES // 20)

    def ours() -> None:
        begin, end = ledger.begin, ledger.end
        for call in calls:
            begin(call)
            end(call)

    def theirs() -> None:
        count = original.count
        for call in calls:
            count(call)

    takes: dict[str, Callable[[], object]] = {"ours": ours, "theirs": theirs}
    found = rounds([Contestant(lambda: None, batch(run), {one: (batch(run), 1)}) for one, run in takes.items()], number)
    taken = estimate(time_of("ours"), found)
    return Line(
        f"ledger, {len(_DIALECTS)} dialects",
        "us/update",
        taken.value / _UPDATES,
        taken.spread / _UPDATES,
        floor=time_of("theirs")(found) / _UPDATES,
        target=UPDATE,
    )


def _filled(dialect: str, lines: int) -> Ledger:
    """Return a ledger whose page in a dialect has this many lines, or a few more."""
    ledger, made, shown = _ledger(), 0, 0
    while shown < lines:
        for number in range(made, made + max(1, (lines - shown) // 30)):
            # Some dialects show no model, so labels that they do show are as many.
            call = _call(number, Labels(dict.fromkeys(("task_type", "backend", "graph", "container"), f"l{number}")))
            ledger.begin(call)
            ledger.end(call)
            made += 1
        shown = _page(dialect, ledger).count(b"\n")
    return ledger


def _page(dialect: str, ledger: Ledger) -> bytes:
    return writer.text(bridge.translate(load(dialect), ledger.state({}, "shop")))


def lines(number: int, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """Measure in this many rounds."""
    if wanted("ledger"):
        yield _updates(number)
    names = [name for name in _DIALECTS if wanted(f"page of {name}")]
    if names:
        upstream = Pages(histograms, LINES)
        ledgers = {name: _filled(name, LINES) for name in names}
        takes: dict[str, Callable[[], object]] = {"theirs": upstream.upstream}
        for name, ledger in ledgers.items():
            takes[name] = lambda name=name, ledger=ledger: _page(name, ledger)  # type: ignore[misc]
        contestants = [Contestant(lambda: None, batch(run), {one: (batch(run), 1)}) for one, run in takes.items()]
        found = rounds(contestants, number)
        upstream.close()
        for name, ledger in ledgers.items():
            more = _page(name, ledger).count(b"\n") / upstream_lines(upstream)
            ours = estimate(time_of(name), found)
            yield Line(
                f"page of {name}, {LINES:,} lines",
                "ms/page",
                ours.value / 1e3,
                ours.spread / 1e3,
                floor=time_of("theirs")(found) / 1e3,
                wall=time_of(name, "wall")(found) / 1e3,
                ratio=estimate(lambda found, name=name, more=more: _by_round(found, name) / more, found),  # type: ignore[misc]
                target=TENTH,
            )
    name = f"memory, page of tinyllm, {MANY:,} lines"
    if wanted(name):
        theirs, most = _memory()
        yield Line(name, "B/line", most, floor=theirs, ratio=Estimate(most / theirs, 0), target=THIRD)


def upstream_lines(upstream: Pages) -> int:
    """Return how many lines upstream's page has."""
    return upstream.upstream().count(b"\n")


def _by_round(found: Sequence[Round], name: str) -> float:
    return median([round[name].cpu / round["theirs"].cpu for round in found])


def _memory() -> list[float]:
    """Return bytes per line of upstream and of ours: the store and the page."""
    found: list[float] = []
    for one in ("theirs", "ours"):
        arguments = [sys.executable, "-m", "benchmarks.dialects", one, str(MANY)]
        found.append(float(subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True).stdout))
    return found


def peak(contestant: str, lines: int) -> float:
    """Return the most bytes that the store and two pages take together, per line."""
    gc.collect()
    tracemalloc.start()
    if contestant == "theirs":
        pages = Pages(histograms, lines)
        shown = max([pages.upstream().count(b"\n") for _ in range(2)])
    else:
        ledger = _filled("tinyllm", lines)
        shown = max([_page("tinyllm", ledger).count(b"\n") for _ in range(2)])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / shown


if __name__ == "__main__":
    print(peak(sys.argv[1], int(sys.argv[2])))
