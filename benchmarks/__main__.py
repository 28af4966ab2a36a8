"""``python -m benchmarks [--quick] [--only WORD] [--json FILE]``: measure, and print one table."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from opentelemetry import metrics, trace
from opentelemetry.metrics import Meter, NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Tracer

import otel_llm
from benchmarks import by_hand, dialects, memory, others, pages, prefork, providers, scenarios, startup, stub
from benchmarks.contestants import Swap
from benchmarks.floor import Floor, Recorded
from benchmarks.measure import (
    Batch,
    Contestant,
    Figure,
    Round,
    abatch,
    added,
    batch,
    batch_in_loop,
    estimate,
    ratio,
    rounds,
    time_of,
)
from benchmarks.report import LEGEND, Line, machine, table
from benchmarks.scenarios import Stream
from otel_llm_openai import OpenAIInstrumentor

RATIO = 1.25
"""The most that ours may add to a plain call, by what the floor adds."""
PER_CHUNK = 0.2
"""The most microseconds per chunk, over pure iteration: the loop alone, which repeats within a few hundredths."""
GET, POST = 0.1, 1
"""The most microseconds of a request by httpx that is no LLM call."""
IMPORT = 40
"""The most milliseconds of the import."""
GROWTH = 20
"""The most bytes by which each call makes the process grow, beyond the bare client."""


class Sizes(NamedTuple):
    """How much is done."""

    rounds: int
    calls: int
    """Calls of one batch."""
    stream_rounds: int
    lengths: tuple[int, int]
    """Chunks of the two streams that the cost of one chunk is fitted to."""
    loop_lengths: tuple[int, int]
    processes: int
    memory_calls: int
    memory_streams: int
    page_rounds: int


FULL = Sizes(120, 12, 80, (50, 400), (50, 3_000), 15, 100_000, 40_000, 40)
QUICK = Sizes(10, 8, 6, (50, 200), (50, 1_000), 3, 2_000, 800, 5)


class Case(NamedTuple):
    """One kind of call, in one or more lengths."""

    name: str
    make: Callable[[Any], Batch]
    calls: dict[str, tuple[Any, int]]
    """Calls and how many of them a batch has, by length."""


class Setting(NamedTuple):
    """One way to be instrumented, and a tracer and meter for a floor that is instrumented in the same way."""

    swap: Swap
    tracer: Tracer
    meter: Meter


@contextmanager
def setting(instrument: Callable[[], object], tracer: Tracer, meter: Meter) -> Generator[Setting]:
    """Instrument for a while, and leave the bare client behind."""
    swap = Swap(instrument)
    try:
        yield Setting(swap, tracer, meter)
    finally:
        swap.into(instrumented=True)
        otel_llm.uninstrument()


def recorded(case: Case) -> Recorded:
    """Return what ours records for one such call, to make the floor from."""
    call, _ = next(iter(case.calls.values()))
    run = case.make(call)
    return Recorded.by(lambda: run(1))


def contest(case: Case, known: Recorded | None, setting: Setting, number: int) -> list[Round]:
    """Let bare, bare again, floor and ours take turns; there is no floor where nothing is recorded."""

    def contestant(name: str, around: Callable[[Any], Any], *, instrumented: bool = False) -> Contestant:
        batches = {f"{name}{length}": (case.make(around(call)), calls) for length, (call, calls) in case.calls.items()}
        warm_up, _ = next(iter(batches.values()))
        return Contestant(lambda: setting.swap.into(instrumented), warm_up, batches)

    contestants = [
        contestant("bare", lambda call: call),
        contestant("again", lambda call: call),
        contestant("ours", lambda call: call, instrumented=True),
    ]
    if known is not None:
        floor = Floor(known, setting.tracer, setting.meter)
        contestants.append(contestant("floor", floor.aaround if case.make is abatch else floor.around))
    return rounds(contestants, number)


def line(name: str, found: list[Round], *, target: float | None = None, floor: bool = True) -> Line:
    """Return the line of a plain call."""
    return Line(
        name,
        "us/call",
        *estimate(added("ours"), found),
        bare=time_of("bare")(found),
        noise=added("again")(found),
        floor=added("floor")(found) if floor else None,
        wall=added("ours", "wall")(found),
        ratio=estimate(ratio(added("ours"), added("floor")), found) if floor else None,
        target=target,
    )


def stream_lines(name: str, found: list[Round], lengths: tuple[int, int], *, constant: bool) -> Iterator[Line]:
    """Return the line of a chunk, and that of a stream without its chunks."""
    short, long = lengths

    def per_chunk(name: str, clock: str = "cpu") -> Figure:
        def slope(round: Round) -> float:
            over: list[float] = [
                getattr(round[f"{name}{n}"], clock) - getattr(round[f"bare{n}"], clock) for n in lengths
            ]
            return (over[1] - over[0]) / (long - short)

        return lambda found: median([slope(round) for round in found])

    def per_stream(name: str, clock: str = "cpu") -> Figure:
        over = added(f"{name}{short}", clock, f"bare{short}")
        chunk = per_chunk(name, clock)
        return lambda found: over(found) - short * chunk(found)

    bare = median([(round[f"bare{long}"].cpu - round[f"bare{short}"].cpu) / (long - short) for round in found])
    yield Line(
        f"{name}, a chunk",
        "us/chunk",
        *estimate(per_chunk("ours"), found),
        bare=bare,
        noise=per_chunk("again")(found),
        floor=per_chunk("floor")(found),
        wall=per_chunk("ours", "wall")(found),
        target=None if constant else PER_CHUNK,
    )
    if constant:
        yield Line(
            f"{name}, without its chunks",
            "us/call",
            *estimate(per_stream("ours"), found),
            bare=time_of(f"bare{short}")(found) - short * bare,
            noise=per_stream("again")(found),
            floor=per_stream("floor")(found),
            wall=per_stream("ours", "wall")(found),
            ratio=estimate(ratio(per_stream("ours"), per_stream("floor")), found),
        )


def calls(sizes: Sizes, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """Measure every kind of plain call with everything recorded, and then the ways to record less."""
    cases = [
        Case(name, make, {"": (call, sizes.calls)})
        for name, make, call in (
            ("chat", batch, scenarios.chat),
            ("chat, async", abatch, scenarios.achat),
            ("chat, sync in a running loop", batch_in_loop, scenarios.chat),
            ("embeddings", batch, scenarios.embeddings),
            ("chat, error 400", batch, scenarios.refused),
            ("ollama chat", batch, others.chat),
            ("ollama chat, async", abatch, others.achat),
            ("chat by bare httpx", batch, others.raw_chat),
        )
    ]
    for case in cases:
        if wanted(case.name):
            known = recorded(case)
            with recording() as everything:
                found = contest(case, known, everything, sizes.rounds)
                # Without a client that parses the answer we have to.
                yield line(case.name, found, target=None if "bare httpx" in case.name else RATIO)
    chat = cases[0]
    known = recorded(chat)
    for name, instrumented, floor in (
        ("chat, sampled out, no metrics", sampled_out, True),
        ("chat, no SDK", no_sdk, True),
        ("chat, OTEL_SDK_DISABLED", disabled, False),
    ):
        if wanted(name):
            with instrumented() as less:
                yield line(name, contest(chat, known, less, sizes.rounds), floor=floor)


def passed_by(sizes: Sizes, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """Measure what an HTTP request that is no LLM call takes longer, in a client that sends nothing."""
    for name, make, call, target in (
        ("httpx GET, nothing sent", batch, others.GET.call, GET),
        ("httpx GET, async, nothing sent", abatch, others.GET.acall, GET),
        ("httpx POST, nothing sent", batch, others.UPLOAD.call, POST),
        ("httpx POST to the path of an API, nothing sent", batch, others.STRANGER.call, POST),
    ):
        if wanted(name):
            with others.sent_nowhere(), recording() as everything:
                case = Case(name, make, {"": (call, sizes.calls * 200)})
                found = contest(case, None, everything, sizes.rounds)
                yield Line(
                    name,
                    "us/request",
                    *estimate(added("ours"), found),
                    bare=time_of("bare")(found),
                    noise=added("again")(found),
                    wall=added("ours", "wall")(found),
                    target=target,
                )


def streams(sizes: Sizes, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """Measure streams: with all that the client does for a chunk, and the loop alone, where little noise is left."""
    kinds: tuple[tuple[str, tuple[int, int], Callable[[int], scenarios.AnyStream]], ...] = (
        ("stream", sizes.lengths, Stream),
        ("stream loop", sizes.loop_lengths, lambda length: Stream(length, stub.parsed_chunks(length))),
        ("ollama stream loop", sizes.loop_lengths, others.OllamaStream),
        ("bytes by bare httpx, loop", sizes.loop_lengths, others.RawStream),
    )
    for kind, lengths, stream in kinds:
        loop_alone = lengths is sizes.loop_lengths
        short, long = [stream(length) for length in lengths]
        for name, make, some in (
            (kind, batch, {str(short.length): (short.call, 3), str(long.length): (long.call, 1)}),
            (f"{kind}, async", abatch, {str(short.length): (short.acall, 3), str(long.length): (long.acall, 1)}),
        ):
            if wanted(name):
                case = Case(name, make, some)
                with others.nothing_decoded():
                    known = recorded(case)
                    with recording() as everything:
                        found = contest(case, known, everything, sizes.stream_rounds)
                yield from stream_lines(name, found, lengths, constant=not loop_alone)


@contextmanager
def recording() -> Generator[Setting]:
    """Record every span and every metric point."""
    tracer_provider, meter_provider = providers.recording()
    with setting(providers.instrument, tracer_provider.get_tracer("floor"), meter_provider.get_meter("floor")) as made:
        yield made


@contextmanager
def sampled_out() -> Generator[Setting]:
    """Record nothing: the sampler says no, and there are no metrics."""

    def instrument() -> None:
        otel_llm.instrument(
            tracer_provider=TracerProvider(sampler=ALWAYS_OFF), meter_provider=NoOpMeterProvider(), serve=False
        )

    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("floor")
    with setting(instrument, tracer, NoOpMeterProvider().get_meter("floor")) as made:
        yield made


@contextmanager
def no_sdk() -> Generator[Setting]:
    """Be instrumented by somebody who has set no provider, so that the API does nothing."""
    with setting(OpenAIInstrumentor().instrument, trace.get_tracer("floor"), metrics.get_meter("floor")) as made:
        yield made


@contextmanager
def disabled() -> Generator[Setting]:
    """Be switched off by the environment."""
    tracer_provider, meter_provider = providers.recording()
    os.environ["OTEL_SDK_DISABLED"] = "true"
    try:
        with setting(otel_llm.instrument, tracer_provider.get_tracer("off"), meter_provider.get_meter("off")) as made:
            yield made
    finally:
        del os.environ["OTEL_SDK_DISABLED"]


def process(sizes: Sizes, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """Measure what only a new process shows: the import, and growth."""
    if wanted("import otel_llm"):
        imported, instrumented = startup.milliseconds(startup.STATEMENTS, sizes.processes)
        yield Line("import otel_llm", "ms", *imported, target=IMPORT)
        yield Line("import and instrument()", "ms", *instrumented)
    for name, scenario, number in (
        ("memory, chat", "chat", sizes.memory_calls),
        ("memory, abandoned stream", "abandoned", sizes.memory_streams),
    ):
        if wanted(name):
            bare, ours = memory.run([("bare", scenario, number // 3), ("ours", scenario, number)])
            yield Line(name, "B/call", ours - bare, bare=bare, target=GROWTH)


def tracked(sizes: Sizes, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """Measure what applications track by hand."""
    yield from by_hand.lines(sizes.rounds, wanted)


def scrapes(sizes: Sizes, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """Measure what a scraper waits for."""
    yield from pages.lines(sizes.page_rounds, wanted)
    yield from dialects.lines(sizes.page_rounds, wanted)
    yield from prefork.lines(sizes.page_rounds, wanted)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what otel-llm costs.")
    parser.add_argument("--quick", action="store_true", help="smoke run: few rounds, noisy figures")
    parser.add_argument("--only", metavar="WORD", default="", help="only figures whose name has this word")
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the figures")
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("OTEL_", "OPENAI_"))]:
        del os.environ[name]
    sizes = QUICK if arguments.quick else FULL
    start = time.perf_counter()
    lines: list[Line] = []
    for measure in (calls, tracked, passed_by, streams, scrapes, process):
        for measured in measure(sizes, lambda name: arguments.only in name):
            print(f"{time.perf_counter() - start:4.0f} s  {measured.name}", file=sys.stderr, flush=True)
            lines.append(measured)
    print(machine(), "", table(lines), "", LEGEND, sep="\n")
    if arguments.json:
        figures = {measured.name: {**measured._asdict(), "verdict": measured.verdict} for measured in lines}
        arguments.json.write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
