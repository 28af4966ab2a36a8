"""A server with workers, started as its users start it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from otel_llm.testing.server import ScriptedServer

HERE = Path(__file__).parent
PATIENCE = 60.0
"""Seconds for what takes as long as it takes on a machine that does other things, too."""
COUNTED = {
    None: "gen_ai_client_operation_duration_seconds_count",
    "aegis": "llm_requests_total",
    "llmbackend": "llm_requests_total",
}
"""What counts calls on a page."""


class Deployment:
    """A running server.

    Args:
        command: its command line, with ``{port}`` for where it listens.
        environ: what it is told beside that.
        directory: for its temporary files.
    """

    def __init__(self, command: list[str], environ: Mapping[str, str], directory: Path) -> None:
        self.port, self.page_port = free_port(), free_port()
        self.log = directory / f"log-{self.port}"
        temporary = directory / "t"
        temporary.mkdir(exist_ok=True)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(self.page_port),
            "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")])),
            **environ,
        }
        with self.log.open("wb") as log:
            line = [part.format(port=self.port) for part in command]
            self.process = subprocess.Popen(line, env=environ, stdout=log, stderr=log, cwd=directory)

    def get(self, path: str, *, timeout: float = PATIENCE, port: int | None = None) -> str:
        """Return what it answers, whichever worker takes the request; waits for one that listens."""
        until = time.monotonic() + timeout
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=timeout) as response:
                    return str(response.read().decode())
            except (OSError, HTTPException):
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def call(self) -> int:
        """Have a worker make a call, and return its process."""
        return int(self.get("/call"))

    def scraped(self, dialect: str | None = None) -> float:
        """Return the calls on the page of the port that all workers have together."""
        return counted(self.get(f"/metrics/{dialect or 'genai'}", port=self.page_port), dialect)

    def asked(self, dialect: str | None = None) -> float:
        """Return the calls on the page that the application itself shows, in any worker."""
        return counted(self.get(f"/metrics/{dialect or 'genai'}"), dialect)

    def workers(self, number: int) -> set[int]:
        """Return the processes of the workers, when as many have answered."""
        found: set[int] = set()
        until = time.monotonic() + PATIENCE
        while len(found) < number:
            assert time.monotonic() < until, self.log.read_text()
            with ThreadPoolExecutor(8) as pool:
                found.update(map(int, pool.map(self.get, ["/"] * 16)))
        return found

    def told(self) -> list[str]:
        """Return what we have written to the log."""
        return [line for line in self.log.read_text().splitlines() if "otel_llm:" in line]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def deployed(
    kind: str, directory: Path, *arguments: str, workers: int = 2, told: Sequence[str] = (), **environ: str
) -> Generator[Deployment]:
    """Serve the application; at the end, its log has no other lines of ours than those that are told, once each."""
    with ScriptedServer() as llm:
        command = _command(kind, workers, arguments)
        deployment = Deployment(command, {"PREFORK_LLM": f"{llm.url}/v1", **environ}, directory)
        try:
            yield deployment
        finally:
            deployment.stop()
        log = deployment.log.read_text()
        lines = deployment.told()
        assert len(told) == len(lines), log
        assert all(any(one in line for line in lines) for one in told), log
        assert "Traceback" not in log, log


def _command(kind: str, workers: int, arguments: tuple[str, ...]) -> list[str]:
    gunicorn = ["-m", "gunicorn", "--no-control-socket", "--bind", "127.0.0.1:{port}", "--workers", str(workers)]
    uvicorn = ["-m", "uvicorn", "--no-access-log", "--port", "{port}", "--workers", str(workers)]
    if kind == "uvicorn":
        return [sys.executable, *uvicorn, *arguments, "app:asgi"]
    if kind == "gunicorn with uvicorn":
        return [sys.executable, *gunicorn, "-k", "uvicorn_worker.UvicornWorker", *arguments, "app:asgi"]
    start = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    if kind == "zero-code":
        return [start, sys.executable, *gunicorn, *arguments, "app:wsgi"]
    if kind == "zero-code uvicorn":
        return [start, sys.executable, *uvicorn, *arguments, "app:asgi"]
    return [sys.executable, *gunicorn, *arguments, "app:wsgi"]


def counted(page: str, dialect: str | None) -> float:
    """Return how many calls a page counts."""
    name = COUNTED[dialect]
    lines = [line for line in page.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    assert len(lines) == len({line.rpartition(" ")[0] for line in lines}), page
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)
