"""The canonical page, ours and the upstream reader's of the same provider.

``python -m benchmarks.pages CONTESTANT LINES`` measures the memory of one page in a process of its own.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import (
    CollectorRegistry,
    generate_latest,
    make_wsgi_app,  # pyright: ignore[reportUnknownVariableType]
)

import otel_llm
from benchmarks import stub
from benchmarks.measure import Contestant, Estimate, Round, batch, estimate, rounds, time_of
from benchmarks.report import Line
from otel_llm.prometheus import PrometheusReader
from otel_llm.prometheus.reader import page
from otel_llm.prometheus.writer import text

LINES = 10_000
MANY = 100_000
QUARTER, THIRD = 1 / 4, 1 / 3
"""The most that our page may take of time and of memory, by what the upstream reader's takes."""

_LINES_OF_A_MODEL = 76
"""How many lines calls of one more model make, about."""

_LINES_OF_A_HISTOGRAM = 18
"""With the boundaries that the SDK has of itself."""

Fill = Callable[[MeterProvider, int], None]


class Pages:
    """Readers of one provider: ours, upstream's and one that shows nothing."""

    def __init__(self, fill: Fill, lines: int) -> None:
        self.theirs, self._ours = CollectorRegistry(), CollectorRegistry()
        self._sdk = InMemoryMetricReader()
        # The cap is the one thing that would make the two pages differ.
        own = PrometheusReader(registry=self._ours, max_series=10**6)
        self._provider = MeterProvider([own, self._sdk], shutdown_on_exit=False)
        if fill is calls:
            otel_llm.instrument(tracer_provider=TracerProvider(), meter_provider=self._provider, serve=False)
        # A reader of upstream's that was there before would be made to show our page.
        self._provider.add_metric_reader(PrometheusMetricReader(registry=self.theirs))
        fill(self._provider, lines)

    def upstream(self) -> bytes:
        """Return the page of upstream's."""
        return generate_latest(self.theirs)

    def own(self) -> bytes:
        """Return our page."""
        return text(page(self._ours))

    def collect(self) -> None:
        """Have the SDK collect, which both pages begin with."""
        self._sdk.collect()

    def collected(self, *request: object) -> list[bytes]:
        """Answer a request with nothing, after the SDK has collected."""
        self.collect()
        return []

    def close(self) -> None:
        """Leave nothing behind."""
        otel_llm.uninstrument()
        self._provider.shutdown()


def _attributes(number: int) -> dict[str, str | int]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": f"model-{number}",
        "server.address": "api.openai.com",
        "server.port": 443,
    }


def calls(provider: MeterProvider, lines: int) -> None:
    """Make instrumented calls, each of another model; every fifth is streamed as well."""
    create: Any = stub.client.chat.completions.create
    messages = [{"role": "user", "content": "Hi"}]
    for number in range(lines // _LINES_OF_A_MODEL):
        create(model=f"model-{number}", messages=messages)
        if number % 5 == 0:
            for _ in create(model=f"model-{number}", messages=messages, stream=True, max_tokens=10):
                pass


def _meters(provider: MeterProvider) -> list[Meter]:
    return [
        provider.get_meter(f"scope{number}", "1.0", "https://opentelemetry.io/schemas/1.37.0") for number in range(5)
    ]


def counters(provider: MeterProvider, lines: int) -> None:
    """Count."""
    for number, meter in enumerate(_meters(provider)):
        counter = meter.create_counter(f"counter.{number}")
        for series in range(lines // 5):
            counter.add(series, _attributes(series))


def histograms(provider: MeterProvider, lines: int) -> None:
    """Record."""
    meters = _meters(provider)
    for number, meter in enumerate(meters):
        histogram = meter.create_histogram(f"histogram.{number}", "s")
        for series in range(lines // len(meters) // _LINES_OF_A_HISTOGRAM):
            histogram.record(series, _attributes(series))


def observed(provider: MeterProvider, lines: int) -> None:
    """Have counters observed, the same attributes each time."""
    attributes = [_attributes(series) for series in range(lines // 5)]

    def observe(options: CallbackOptions) -> list[Observation]:
        return [Observation(number, one) for number, one in enumerate(attributes)]

    for number, meter in enumerate(_meters(provider)):
        meter.create_observable_counter(f"observed.{number}", [observe])


_FILLS: dict[str, Fill] = {"canonical page": calls, "page of counters": counters, "page of observed counters": observed}


def lines(number: int, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """Measure pages in this many rounds: bare is what the SDK takes of it, floor is upstream's page."""
    for page_, fill in _FILLS.items():
        name = f"{page_}, {LINES:,} lines"
        if wanted(name):
            pages = Pages(fill, LINES)
            takes: dict[str, Callable[[], object]] = {"sdk": pages.collect, "theirs": pages.upstream, "ours": pages.own}
            contestants = [Contestant(lambda: None, batch(run), {one: (batch(run), 1)}) for one, run in takes.items()]
            found = rounds(contestants, number)
            pages.close()
            ours = estimate(time_of("ours"), found)
            yield Line(
                name,
                "ms/page",
                ours.value / 1e3,
                ours.spread / 1e3,
                bare=time_of("sdk")(found) / 1e3,
                floor=time_of("theirs")(found) / 1e3,
                wall=time_of("ours", "wall")(found) / 1e3,
                ratio=estimate(_by_round, found),
                target=QUARTER if fill is calls else None,
            )
    name = f"memory, canonical page, {MANY:,} lines"
    if wanted(name):
        sdk, theirs, most = _memory()
        compared = Estimate(most / theirs, 0)
        yield Line(name, "B/line", most, bare=sdk, floor=theirs, ratio=compared, target=THIRD)


def _by_round(found: Sequence[Round]) -> float:
    return median([round["ours"].cpu / round["theirs"].cpu for round in found])


def _memory() -> list[float]:
    """Return bytes per line of the SDK, of upstream's page and of ours."""
    found: list[float] = []
    for one in ("sdk", "theirs", "ours"):
        arguments = [sys.executable, "-m", "benchmarks.pages", one, str(MANY)]
        found.append(float(subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True).stdout))
    return found


def peak(contestant: str, lines: int) -> float:
    """Return the most bytes that two answers to Prometheus take beyond what the SDK has kept before, per line."""
    pages = Pages(calls, lines)
    make_theirs: Any = make_wsgi_app  # pyright: ignore[reportUnknownVariableType]
    shown: dict[str, Any] = {
        "sdk": pages.collected,
        "theirs": make_theirs(pages.theirs),
        "ours": otel_llm.make_wsgi_app(),
    }
    request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "SCRIPT_NAME": "", "HTTP_ACCEPT_ENCODING": "gzip"}
    gc.collect()
    tracemalloc.start()
    for _ in range(2):
        for _ in shown[contestant](dict(request), _begun):
            pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / pages.own().count(b"\n")


def _begun(status: str, headers: object) -> None:
    assert status == "200 OK", status


if __name__ == "__main__":
    print(peak(sys.argv[1], int(sys.argv[2])))
