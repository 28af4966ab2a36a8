"""Growth of a process over many calls, in bytes per call.

``python -m benchmarks.memory CONTESTANT SCENARIO CALLS`` measures one of them in a process of its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from statistics import linear_regression

_SAMPLES = 100
_SETTLED = 0.5
"""Part of the calls after which caches are full and growth is growth."""


def run(jobs: list[tuple[str, str, int]]) -> list[float]:
    """Return bytes per call of each job, all jobs side by side: nothing is timed here."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.memory", contestant, scenario, str(calls)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for contestant, scenario, calls in jobs
    ]
    found: list[float] = []
    for process in processes:
        output, _ = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        found.append(float(output))
    return found


def resident() -> int:
    """Return the bytes of this process in memory; where the system does not tell, the most there have been."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * resource.getpagesize()


def growth(contestant: str, scenario: str, calls: int) -> float:
    """Make the calls and return the slope of memory over them, in bytes per call."""
    from benchmarks import providers, scenarios

    if contestant == "ours":
        providers.instrument()
    call = {"chat": scenarios.chat, "abandoned": scenarios.abandoned}[scenario]
    done: list[float] = []
    bytes_: list[float] = []
    for _ in range(_SAMPLES):
        for _ in range(calls // _SAMPLES):
            call()
        done.append(len(done) * (calls // _SAMPLES))
        bytes_.append(resident())
    settled = int(_SAMPLES * _SETTLED)
    return linear_regression(done[settled:], bytes_[settled:]).slope


if __name__ == "__main__":
    print(growth(sys.argv[1], sys.argv[2], int(sys.argv[3])))
