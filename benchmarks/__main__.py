"""``python -m benchmarks [--quick] [--only WORD] [--json FILE]``: measure, and print one table."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
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
from benchmarks import memory, providers, scenarios, startup, stub
from benchmarks.contestants import Swap
from benchmarks.floor import Floor
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
from otel_llm.testing import capture
from otel_llm_openai import OpenAIInstrumentor

RATIO = 1.25
"""The most that ours may add to a plain call, by what the floor adds."""
PER_CHUNK = 0.2
"""The most microseconds per chunk of a stream."""
IMPORT = 40
"""The most milliseconds of the import."""
GROWTH = 20
"""The most bytes per call."""


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


FULL = Sizes(150, 15, 120, (50, 1_000), (50, 5_000), 15, 100_000, 10_000)
QUICK = Sizes(15, 10, 8, (50, 500), (50, 2_000), 3, 3_000, 1_000)


class Setting(NamedTuple):
    """One way to be instrumented, and a tracer and meter for the floor that are like it."""

    swap: Swap
    tracer: Tracer
    meter: Meter


@contextmanager
def setting(instrument: Callable[[], object], tracer: Tracer, meter: Meter) -> Iterator[Setting]:
    """Instrument for a while, and leave the bare client in place."""
    swap = Swap(instrument)
    try:
        yield Setting(swap, tracer, meter)
    finally:
        swap.into(instrumented=True)
        otel_llm.uninstrument()


def recorded(call: Callable[[], object], tracer: Tracer, meter: Meter) -> Floor:
    """Return the floor of a call, from what ours records for it."""
    with capture() as seen:
        call()
        return Floor(seen, tracer, meter)


def contest(
    setting: Setting, number: int, batches: Callable[[bool], dict[str, tuple[Batch, int]]]
) -> list[Round]:
    """Let bare, bare again, floor and ours take turns."""


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smoke run: few rounds, noisy figures")
    parser.add_argument("--only", metavar="WORD", help="figures whose name has this word")
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the figures")
    arguments = parser.parse_args()
