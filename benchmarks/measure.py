"""Rounds: each contestant does a short batch, in another order each round; a figure is the median over the rounds.

Processor time is what counts, because other processes share the machine; the wall clock is kept beside it. The garbage
collector runs as it would in an application, each batch beginning soon after a collection.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import repeat
from statistics import median
from time import perf_counter_ns, process_time_ns
from typing import NamedTuple

_RESAMPLES = 200


class Time(NamedTuple):
    """Microseconds of one call."""

    cpu: float
    wall: float


Batch = Callable[[int], Time]
"""Do this many calls and say how long one took."""
Round = dict[str, Time]
"""One batch of each contestant."""


def batch(call: Callable[[], object]) -> Batch:
    """Return batches of a plain function."""

    def run(calls: int) -> Time:
        wall, cpu = perf_counter_ns(), process_time_ns()
        for _ in repeat(None, calls):
            call()
        return Time((process_time_ns() - cpu) / calls / 1e3, (perf_counter_ns() - wall) / calls / 1e3)

    return run


_loop = asyncio.new_event_loop()


def abatch(call: Callable[[], Awaitable[object]]) -> Batch:
    """Return batches of a coroutine function, all on the same loop."""

    async def arun(calls: int) -> Time:
        wall, cpu = perf_counter_ns(), process_time_ns()
        for _ in repeat(None, calls):
            await call()
        return Time((process_time_ns() - cpu) / calls / 1e3, (perf_counter_ns() - wall) / calls / 1e3)

    return lambda calls: _loop.run_until_complete(arun(calls))


def batch_in_loop(call: Callable[[], object]) -> Batch:
    """Return batches of a plain function that is called inside a running loop."""
    run = batch(call)

    async def arun(calls: int) -> Time:
        return run(calls)

    return lambda calls: _loop.run_until_complete(arun(calls))


class Contestant(NamedTuple):
    """One of those who take turns."""

    prepare: Callable[[], object]
    warm_up: Batch
    batches: dict[str, tuple[Batch, int]]
    """What is timed, and how many calls of it, by the name under which a round keeps it."""


def rounds(contestants: Sequence[Contestant], number: int) -> list[Round]:
    """Let the contestants take turns, in another order each round."""
    order = list(contestants)
    random_order = random.Random(1)
    found: list[Round] = []
    gc.collect()
    gc.freeze()
    try:
        for turn in range(number):
            if turn % 2:
                order.reverse()
            else:
                random_order.shuffle(order)
            found.append({})
            for prepare, warm_up, batches in order:
                prepare()
                warm_up(2)
                for name, (run, calls) in batches.items():
                    gc.collect()
                    warm_up(1)
                    found[-1][name] = run(calls)
    finally:
        gc.unfreeze()
    return found


Figure = Callable[[Sequence[Round]], float]
"""Makes one number of many rounds."""


class Estimate(NamedTuple):
    """A figure and how far it may be off: half of the 95 % interval, by resampling the rounds."""

    value: float
    spread: float


def estimate(figure: Figure, found: Sequence[Round]) -> Estimate:
    """Return the figure of these rounds and its spread."""
    choices = random.Random(1).choices
    resampled = sorted([figure(choices(found, k=len(found))) for _ in range(_RESAMPLES)])
    low, high = resampled[_RESAMPLES // 40], resampled[-1 - _RESAMPLES // 40]
    return Estimate(figure(found), (high - low) / 2)


def time_of(name: str, clock: str = "cpu") -> Figure:
    """Microseconds of this contestant's call."""
    return lambda found: median([getattr(round[name], clock) for round in found])


def added(name: str, clock: str = "cpu", bare: str = "bare") -> Figure:
    """Microseconds that this contestant's call takes over the bare one of the same round."""
    return lambda found: median([getattr(round[name], clock) - getattr(round[bare], clock) for round in found])


def ratio(one: Figure, other: Figure) -> Figure:
    """One figure in terms of another, of the same rounds."""
    return lambda found: one(found) / other(found)
