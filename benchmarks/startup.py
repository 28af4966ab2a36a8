"""What ``import otel_llm`` takes in a process that has the OTel SDK and wrapt already, one new process each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from statistics import median, quantiles

from benchmarks.measure import Estimate

_CHILD = """
import sys, time
import opentelemetry.sdk.trace, opentelemetry.sdk.metrics, wrapt
start = time.process_time_ns()
{statement}
print((time.process_time_ns() - start) / 1e6)
"""


STATEMENTS = (
    "import otel_llm",
    """
import otel_llm
tracer_provider, meter_provider = opentelemetry.sdk.trace.TracerProvider(), opentelemetry.sdk.metrics.MeterProvider()
otel_llm.instrument(tracer_provider=tracer_provider, meter_provider=meter_provider, serve=False)
""",
)
"""The import alone, and with the turning on, providers included."""


def milliseconds(statements: Sequence[str], processes: int) -> list[Estimate]:
    """Return processor time of each statement after the imports that it is compared with, in turns."""
    times: list[list[float]] = [[] for _ in statements]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for turn in range(processes + 1):
        for statement, found in zip(statements, times, strict=True):
            line = [sys.executable, "-c", _CHILD.format(statement=statement)]
            done = subprocess.run(line, check=True, capture_output=True, text=True, env=environ)
            if turn:  # the first one compiles
                found.append(float(done.stdout))
    return [_median(found) for found in times]


def _median(found: list[float]) -> Estimate:
    low, _, high = quantiles(found, n=4)
    return Estimate(median(found), 1.57 * (high - low) / len(found) ** 0.5)
