"""What a block costs that an application tracks by hand: `track_inference` around nothing, with tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import otel_llm
from benchmarks import providers
from benchmarks.floor import Floor, Recorded
from benchmarks.measure import Contestant, added, batch, estimate, ratio, rounds, time_of
from benchmarks.report import Line

_CALLS = 200
RATIO = 1.25
"""The most that a block may cost, by what the OpenTelemetry SDK takes for the same telemetry."""


def _nothing() -> None:
    pass


def _block() -> None:
    with otel_llm.track_inference("gpt-4o-mini", provider="openai") as call:
        call.input_tokens, call.output_tokens = 172, 96


def lines(number: int, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """Measure a block against the same telemetry made by hand with the SDK."""
    name = "track_inference by hand"
    if not wanted(name):
        return
    known = Recorded.by(_block)
    handle = providers.instrument()
    try:
        tracer_provider, meter_provider = providers.recording()
        floor = Floor(known, tracer_provider.get_tracer("floor"), meter_provider.get_meter("floor")).around(_nothing)
        runs = {"bare": _nothing, "again": _nothing, "floor": floor, "ours": _block}
        contestants = [Contestant(lambda: None, batch(run), {who: (batch(run), _CALLS)}) for who, run in runs.items()]
        found = rounds(contestants, number)
    finally:
        handle.uninstrument()
    yield Line(
        name,
        "us/block",
        *estimate(added("ours"), found),
        bare=time_of("bare")(found),
        noise=added("again")(found),
        floor=added("floor")(found),
        wall=added("ours", "wall")(found),
        ratio=estimate(ratio(added("ours"), added("floor")), found),
        target=RATIO,
    )
