"""One scrape of a worker, which shows what eight of them have counted.

``python -m benchmarks.prefork DIRECTORY MODELS`` is one worker, which makes a call for each line that it reads.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

import otel_llm
from benchmarks import stub
from benchmarks.measure import Estimate
from benchmarks.report import Line
from otel_llm.prometheus import PrometheusReader

WORKERS = 8
MODELS = 5
"""Models that each worker calls; each makes about eighty lines of the canonical page."""
LONGEST = 20
"""The most milliseconds that a scrape may take."""


class Worker:
    """A worker, in this process."""

    def __init__(self, directory: str, models: int) -> None:
        self._provider = MeterProvider([PrometheusReader(registry=CollectorRegistry())], shutdown_on_exit=False)
        otel_llm.instrument(
            tracer_provider=TracerProvider(), meter_provider=self._provider, serve=False, multiproc_dir=directory
        )
        self._models = models
        self._calls = 0
        for _ in range(models):
            self.call()

    def call(self) -> None:
        """Make a call of the next model."""
        create: Any = stub.client.chat.completions.create
        create(model=f"model-{self._calls % self._models}", messages=[{"role": "user", "content": "Hi"}])
        self._calls += 1

    def close(self) -> None:
        """Leave nothing behind."""
        otel_llm.uninstrument()
        self._provider.shutdown()


class Workers:
    """As many workers, of which one is this process and the others are asked by it."""

    def __init__(self, models: int) -> None:
        self._directory = TemporaryDirectory()
        shared = str(Path(self._directory.name, "shared"))
        self._own = Worker(shared, models)
        line = [sys.executable, "-m", "benchmarks.prefork", shared, str(models)]
        self._others = [
            subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(WORKERS - 1)
        ]
        self._wait()
        time.sleep(1)

    def _wait(self) -> None:
        for other in self._others:
            _file(other.stdout).readline()

    def call(self) -> None:
        """Have each of them make a call, so that each has something to tell."""
        for other in self._others:
            _file(other.stdin).write(b"\n")
            _file(other.stdin).flush()
        self._own.call()
        self._wait()

    def close(self) -> None:
        """Leave nothing behind."""
        for other in self._others:
            _file(other.stdin).close()
            other.wait()
            _file(other.stdout).close()
        self._own.close()
        self._directory.cleanup()


def _file(file: IO[bytes] | None) -> IO[bytes]:
    assert file is not None
    return file


def lines(number: int, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """Measure scrapes in this many rounds, by the wall clock: the others work for it, too."""
    name = f"prefork scrape of {WORKERS} workers"
    if not wanted(name):
        return
    workers = Workers(MODELS)
    try:
        for kind, page in (("canonical page", None), ("dialect page", "aegis")):
            times = sorted([_time(workers, page) for _ in range(number)])
            middle = times[len(times) // 2]
            spread = (times[3 * len(times) // 4] - times[len(times) // 4]) / 2
            found = Estimate(middle, 1.57 * spread / len(times) ** 0.5)
            yield Line(f"{name}, {kind}", "ms", *found, target=LONGEST)
    finally:
        workers.close()


def _time(workers: Workers, page: str | None) -> float:
    workers.call()
    begun = time.perf_counter()
    otel_llm.generate_latest(page)
    return (time.perf_counter() - begun) * 1e3


if __name__ == "__main__":
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    print(flush=True)
    while sys.stdin.buffer.readline():
        worker.call()
        print(flush=True)
    worker.close()
