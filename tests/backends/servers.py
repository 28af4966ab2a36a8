"""Find the real servers and run them: each on free loopback ports, ready when its `with` begins, gone when it ends."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from . import tiny_model
from .build import backends_dir
from .sink import OtlpSink

__all__ = [
    "Collector",
    "Died",
    "Missing",
    "Ollama",
    "OtlpSink",
    "Prometheus",
    "collector",
    "fetch",
    "find",
    "ollama",
    "prometheus",
    "wait_until",
]

BINARIES = {"ollama": "ollama", "collector": "otelcol", "prometheus": "prometheus", "promtool": "promtool"}
MODEL = "tiny"
NUM_PREDICT = 24

# loopback is never behind a proxy, whatever the environment says
_opener = build_opener(ProxyHandler({}))
_T = TypeVar("_T")


class Missing(Exception):
    """Something a server needs is not installed; the message says how to get it."""


class Died(Exception):
    """A server ended or never became ready; the message ends with the last lines of its log."""


def find(name: str) -> Path:
    """Return the binary of a server: the one built for the tests, or else the one on PATH."""
    binary = BINARIES[name]
    if (built := backends_dir() / "bin" / binary).is_file():
        return built
    if found := shutil.which(binary):
        return Path(found)
    raise Missing(f"the {name} binary is neither in {built.parent} nor on PATH: run 'make backends' (needs Go)")


@dataclass(frozen=True)
class Ollama:
    """A running Ollama that has one model, named `model`."""

    url: str
    log: Path
    model: str = MODEL

    def log_text(self) -> str:
        """Return what the server has logged so far."""
        return self.log.read_text()


@dataclass(frozen=True)
class Collector:
    """A running Collector: OTLP comes in at `grpc` and `http`, metrics go out at `prometheus_url`, everything is in its log."""

    grpc: str
    http: str
    prometheus_url: str
    log: Path

    def log_text(self) -> str:
        """Return what the server has logged so far, with every span, metric and log record it was sent."""
        return self.log.read_text()


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str
    log: Path

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate an expression now, and return each series with its labels and value."""
        data = fetch(f"{self.url}/api/v1/query?{urlencode({'query': expression})}")["data"]
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def targets(self) -> list[dict[str, Any]]:
        """Return the targets it scrapes, as its API tells them (`scrapeUrl`, `health`, `lastError` and so on)."""
        active: list[dict[str, Any]] = fetch(f"{self.url}/api/v1/targets")["data"]["activeTargets"]
        return active

    def wait_for(self, expression: str, timeout: float = 30) -> list[tuple[dict[str, str], float]]:
        """Evaluate an expression until it yields something."""
        return wait_until(lambda: self.query(expression), timeout, f"{expression!r} to yield something")

    def log_text(self) -> str:
        """Return what the server has logged so far."""
        return self.log.read_text()


@contextmanager
def ollama(work_dir: Path) -> Generator[Ollama]:
    """Run Ollama with the tiny model; all it writes stays in the folder."""
    binary = find("ollama")
    if absent := [name for name in ("gguf", "numpy") if importlib.util.find_spec(name) is None]:
        raise Missing(f"the tiny model needs {' and '.join(absent)}: run 'pip install gguf'")
    url = f"http://{address()}"
    environment = {
        "HOME": str(work_dir),
        "OLLAMA_HOST": url,
        "OLLAMA_MODELS": str(work_dir / "models"),
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_KEEP_ALIVE": "-1",
    }
    log = work_dir / "ollama.log"
    with running([str(binary), "serve"], log, environment, lambda: answers(f"{url}/api/version")):
        create_model(url, work_dir / "tiny.gguf")
        yield Ollama(url, log)


def create_model(url: str, file: Path) -> None:
    """Give Ollama the tiny model, as `ollama create` does for a Modelfile of `FROM` and `PARAMETER num_predict`."""
    tiny_model.write(file)
    content = file.read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    fetch(f"{url}/api/blobs/{digest}", content)
    recipe = {"model": MODEL, "files": {file.name: digest}, "parameters": {"num_predict": NUM_PREDICT}, "stream": False}
    fetch(f"{url}/api/create", recipe)


@contextmanager
def collector(work_dir: Path, forward_to: str | None = None) -> Generator[Collector]:
    """Run a Collector; it has exported what it was sent when it answers, since nothing in it batches or queues."""
    binary = find("collector")
    grpc, http, page = address(), address(), address()
    exporters: dict[str, Any] = {
        "debug": {"verbosity": "detailed"},
        "prometheus": {"endpoint": page, "enable_open_metrics": True},
    }
    everywhere = ["debug"]
    if forward_to is not None:
        exporters["otlp_http"] = {
            "endpoint": forward_to,
            "encoding": "json",
            "sending_queue": {"enabled": False},
            "retry_on_failure": {"enabled": False},
        }
        everywhere.append("otlp_http")
    config = {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": grpc}, "http": {"endpoint": http}}}},
        "exporters": exporters,
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                "traces": {"receivers": ["otlp"], "exporters": everywhere},
                "metrics": {"receivers": ["otlp"], "exporters": [*everywhere, "prometheus"]},
                "logs": {"receivers": ["otlp"], "exporters": everywhere},
            },
        },
    }
    log = work_dir / "collector.log"
    command = [str(binary), f"--config={written(work_dir / 'collector.yaml', config)}"]
    with running(command, log, {}, lambda: "Everything is ready" in log.read_text()):
        yield Collector(f"http://{grpc}", f"http://{http}", f"http://{page}/metrics", log)


@contextmanager
def prometheus(
    work_dir: Path, targets: Sequence[str | Mapping[str, Any]], scrape_interval: str = "1s"
) -> Generator[Prometheus]:
    """Run Prometheus.

    Args:
        work_dir: The folder for its configuration, data and log.
        targets: What to scrape: "host:port" for that place's `/metrics`, or a mapping with "target": "host:port" and
            whatever else belongs in a scrape configuration, such as "metrics_path" or "job_name".
        scrape_interval: The time between two scrapes, which is also their time limit.
    """
    binary = find("prometheus")
    place = address()
    config = {
        "global": {"scrape_interval": scrape_interval, "scrape_timeout": scrape_interval},
        "scrape_configs": [scrape_config(target) for target in targets],
    }
    command = [
        str(binary),
        f"--config.file={written(work_dir / 'prometheus.yaml', config)}",
        f"--storage.tsdb.path={work_dir / 'data'}",
        f"--web.listen-address={place}",
        "--web.enable-otlp-receiver",
        "--scrape.discovery-reload-interval=100ms",  # not 5 s until the first scrape
        "--enable-feature=exemplar-storage",
    ]
    log = work_dir / "prometheus.log"
    with running(command, log, {}, lambda: answers(f"http://{place}/-/ready")):
        yield Prometheus(f"http://{place}", log)


def scrape_config(target: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return the scrape configuration of one target, in a job of its own."""
    settings = {"target": target} if isinstance(target, str) else dict(target)
    place = settings.pop("target")
    job = f"{place}{settings.get('metrics_path', '')}"
    return {"job_name": job, "static_configs": [{"targets": [place]}], **settings}


def written(path: Path, config: dict[str, Any]) -> Path:
    """Write a configuration as JSON, which is YAML too."""
    path.write_text(json.dumps(config, indent=2))
    return path


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str], ready: Callable[[], bool], timeout: float = 60
) -> Generator[None]:
    """Run a server until the block ends, having waited until it is ready."""
    # nothing of the caller's environment: an OTEL_ or OLLAMA_ variable meant for a test would change the server too
    bare = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            env={**bare, **environment},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + timeout
        while not ready() or server.poll() is not None:
            if server.poll() is not None:
                raise Died(f"{command[0]} ended with {server.returncode}, its log {log} ends with:\n{tail(log)}")
            if time.monotonic() > end:
                raise Died(f"{command[0]} was not ready after {timeout} s, its log {log} ends with:\n{tail(log)}")
            time.sleep(0.02)
        yield
    finally:
        stop(server)


def stop(server: subprocess.Popen[bytes], patience: float = 10) -> None:
    """End a server politely, then for certain, along with anything it left behind in its own process group."""
    server.terminate()
    try:
        server.wait(patience)
    except subprocess.TimeoutExpired:
        pass
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def tail(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def address() -> str:
    """Return a loopback address with a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def answers(url: str) -> bool:
    """Tell whether a URL answers well."""
    try:
        with _opener.open(url, timeout=5):
            return True
    except HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


def fetch(url: str, body: object = None, headers: Mapping[str, str] | None = None, timeout: float = 60) -> Any:
    """Get a URL, or post to it: bytes as they are, anything else as JSON; return the answer, decoded where it is JSON."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    kind = "application/octet-stream" if data is body else "application/json"
    request = Request(url, data, {"Content-Type": kind, **(headers or {})})
    try:
        with _opener.open(request, timeout=timeout) as response:
            content = response.read()
            is_json = response.headers.get_content_type() == "application/json"
    except HTTPError as error:
        with error:
            error.add_note(error.read().decode(errors="replace"))
        raise
    return json.loads(content) if is_json else content.decode()


def wait_until(get: Callable[[], _T], timeout: float = 30, what: str = "the condition") -> _T:
    """Call a function until it returns something true, and return that."""
    end = time.monotonic() + timeout
    while not (result := get()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(0.05)
    return result
