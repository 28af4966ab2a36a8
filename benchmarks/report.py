"""The table of figures, and the machine they come from."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Estimate

_PACKAGES = ("otel-llm", "openai", "httpx2", "opentelemetry-sdk", "wrapt")


class Line(NamedTuple):
    """One line of the table; what does not apply is None."""

    name: str
    unit: str
    ours: float
    spread: float | None = None
    bare: float | None = None
    noise: float | None = None
    floor: float | None = None
    wall: float | None = None
    """What ours adds by the wall clock."""
    ratio: Estimate | None = None
    target: float | None = None
    """The most that `ratio`, where there is one, or else `ours` should be."""

    @property
    def verdict(self) -> str:
        """Whether the target is met, as far as the spread lets one say."""
        if self.target is None:
            return ""
        value, spread = (self.ours, self.spread or 0.0) if self.ratio is None else self.ratio
        if value <= self.target:
            return "ok"
        return "MISSED" if value - spread > self.target else "unclear"


def machine() -> str:
    """Return the machine and the versions in one line."""
    cpu = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    load = f"load {os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "load ?"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"{cpu}, {os.cpu_count()} cores, {load}; {platform.system()}; {python}; {packages}"


def table(lines: Sequence[Line]) -> str:
    """Return the lines as aligned text."""
    head = ("", "unit", "bare", "noise", "floor", "ours", "+-", "wall", "ours/floor", "+-", "target", "")
    rows = [head, *[_row(line) for line in lines]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _row(line: Line) -> tuple[str, ...]:
    digits = 3 if line.unit in ("us/chunk", "us/request") else 1
    ratio = line.ratio

    def number(value: float | None, digits: int = digits) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    return (
        line.name,
        line.unit,
        number(line.bare),
        number(line.noise),
        number(line.floor),
        number(line.ours),
        number(line.spread),
        number(line.wall),
        number(ratio and ratio.value, 2),
        number(ratio and ratio.spread, 2),
        "" if line.target is None else f"<= {line.target:g}",
        line.verdict,
    )


LEGEND = """\
"bare" is what a call takes without telemetry, the others what they add to it, in processor time: medians over rounds
in which all take turns. "noise" is bare once more, against itself; "floor" the same telemetry made by hand with the
OTel SDK; "wall" what ours adds by the wall clock; "+-" half of the 95 % interval. A stream loop is a stream without
the client's decoding, where the cost of a chunk can be told within a few hundredths; with the decoding the same steps
find the processor's caches full of other work. No HTTP spans: nothing goes over a network. Of a page, "floor" is that
of the upstream reader, "bare" what the SDK takes to collect, which is part of both; memory is the most at one time."""
