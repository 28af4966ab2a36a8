"""The port of the page: who has it, and what the log says of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import otel_llm
from otel_llm.prometheus import multiprocess
from otel_llm.prometheus.multiprocess import processes
from otel_llm.testing.server import ScriptedServer
from tests.prefork.deployment import Deployment, counted, deployed, eventually, free_port

pytest.importorskip("gunicorn")
pytest.importorskip("uvicorn")

ROOT = Path(__file__).parents[2]
TAKEN = "no worker of this server has the port"
LONG = 4.0
"""Seconds in which a worker that waits has made up its mind."""


@pytest.fixture(autouse=True)
def _stop(unset: None) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Share nothing beyond a test."""
    yield
    otel_llm.uninstrument()
    multiprocess.stop()
    multiprocess._shared = None


@pytest.mark.parametrize(
    ("kind", "arguments", "environ"),
    [
        ("gunicorn", (), {}),
        ("gunicorn", (), {"PREFORK_SERVE": "1"}),
        ("gunicorn", ("--preload",), {}),
        ("uvicorn", (), {}),
    ],
)
def test_stranger(kind: str, arguments: tuple[str, ...], environ: dict[str, str], tmp_path: Path) -> None:
    """A port that a stranger has is one line in the log for all workers, also of later ones; it is taken over."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        given: dict[str, Any] = {**environ, "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
        with deployed(kind, tmp_path, *arguments, told=[TAKEN], **given) as server:
            eventually(lambda: bool(server.told()))
            (line,) = server.told()
            assert f"127.0.0.1:{port}: [Errno 98] Address already in use" in line
            first = server.workers(2)
            os.kill(first.pop(), 15)
            eventually(lambda: len(server.workers(2) - first) > 0)
            time.sleep(LONG)
            stranger.close()
            server.call()
            server.page_port = port
            assert 1.0 == server.scraped()


def test_stranger_under_zero_code(tmp_path: Path) -> None:
    """Where the master wants the port before there are workers, that is one line, too."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = str(stranger.getsockname()[1])
        told = ["in use"]
        with deployed(
            "zero-code", tmp_path, told=told, PREFORK_ZERO_CODE="1", OTEL_EXPORTER_PROMETHEUS_PORT=port
        ) as server:
            server.workers(2)
            time.sleep(LONG)


def test_two_servers(tmp_path: Path) -> None:
    """The second of two servers says that it has no page; the first one, that has it, says nothing."""
    with deployed("gunicorn", tmp_path, workers=3) as first:
        first.workers(3)
        assert 0.0 == first.scraped()
        port = str(first.page_port)
        with deployed("gunicorn", tmp_path, told=[TAKEN], OTEL_EXPORTER_PROMETHEUS_PORT=port) as second:
            eventually(lambda: bool(second.told()))
            time.sleep(LONG)


@pytest.mark.parametrize("arguments", [(), ("--preload",)])
def test_siblings(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Workers that wait for one another say nothing, also when that one is replaced, or files are tidied up."""
    with deployed("gunicorn", tmp_path, *arguments, workers=3) as server:
        workers = server.workers(3)
        server.call()
        assert 1.0 == server.scraped()
        (marker,) = (tmp_path / "t").glob("*/*/*.port")
        marker.unlink()
        eventually(marker.exists)
        for worker in workers:
            os.kill(worker, 9)
        assert 1.0 == server.scraped()
        time.sleep(LONG)
        assert processes.alive(marker.read_text())


@pytest.mark.parametrize("arguments", [(), ("--preload",)])
def test_page_without_instrument(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """`serve_metrics()` alone shows the sum of what the readers of all workers have."""
    with deployed("gunicorn", tmp_path, *arguments, PREFORK_ONLY_THE_PAGE="1") as server:
        workers = server.workers(2)
        called: set[int] = set()
        calls = 0
        while called != workers:
            called.add(server.call())
            calls += 1
        time.sleep(LONG + multiprocess._PATIENCE)  # they wait for one another, and say nothing
        eventually(lambda: f" {calls}.0\n" in _line(server, "app_calls_total"))


def _line(server: Deployment, name: str) -> str:
    page = server.get("/metrics", port=server.page_port).splitlines(keepends=True)
    return "".join([line for line in page if line.startswith(name)])


def test_native_metrics(tmp_path: Path) -> None:
    """One line in the log tells which metrics of `prometheus_client` a page of workers leaves out."""
    with deployed("gunicorn", tmp_path, told=["several workers: shop_orders"], PREFORK_NATIVE="1") as server:
        server.workers(2)
        for _ in range(4):
            server.scraped()
            server.asked()
    with deployed("gunicorn", tmp_path, PREFORK_NATIVE="1", PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) as server:
        server.scraped()


@pytest.mark.parametrize("kind", ["zero-code", "zero-code uvicorn"])
def test_the_server_itself_has_the_page(kind: str, tmp_path: Path) -> None:
    """Without a change to the code the parent of the workers has the port; all that is told is what its page lacks."""
    told = ["several workers: shop_orders"]
    with deployed(kind, tmp_path, told=told, PREFORK_ZERO_CODE="1", PREFORK_NATIVE="1") as server:
        workers = server.workers(2)
        while {server.call() for _ in range(8)} != workers:
            pass
        time.sleep(LONG)
        assert server.asked() == server.scraped()


SIBLING = """
import os, sys, otel_llm, openai
handle = otel_llm.instrument(serve=sys.argv[1], dialects=("aegis",))
client = openai.OpenAI(base_url=os.environ["PREFORK_LLM"], api_key="none", max_retries=0)
client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "?"}])
print("ready", flush=True)
input()
"""


def test_turned_off(server: ScriptedServer, tmp_path: Path) -> None:
    """A worker that is turned off goes on counting with what it had, shows the sum of all, and leaves the port."""
    port, shared = free_port(), tmp_path / "shared"
    otel_llm.instrument(serve=f"127.0.0.1:{port}", multiproc_dir=shared)
    _call(server)
    environ = {**os.environ, "PREFORK_LLM": f"{server.url}/v1", "OTEL_LLM_MULTIPROC_DIR": str(shared)}
    line = [sys.executable, "-c", SIBLING, f"127.0.0.1:{port}"]
    with subprocess.Popen(line, env=environ, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sibling:
        assert sibling.stdout is not None
        assert b"ready\n" == sibling.stdout.readline()
        assert 2 == counted(otel_llm.generate_latest("aegis").decode(), "aegis")
        otel_llm.uninstrument()
        _call(server)
        pages = [otel_llm.generate_latest(name).decode() for name in ("genai", "aegis")]
        assert [2, 2] == [counted(pages[0], None), counted(pages[1], "aegis")]
        eventually(lambda: (shared / f"{port}.port").exists())
        eventually(lambda: (shared / f"{port}.port").read_text().startswith(f"{sibling.pid}-"))
        there = Deployment.__new__(Deployment)
        there.page_port, there.process = port, sibling
        assert [2, 2] == [there.scraped(), there.scraped("aegis")]
        sibling.communicate(b"\n", timeout=60)


def _call(server: ScriptedServer) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "?"}])


CHILD = """
import logging, multiprocessing, sys, time
import otel_llm

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
if __name__ == sys.argv[1]:
    otel_llm.instrument()

def child():
    handle = otel_llm.instrument()
    time.sleep(1)
    print(handle.url, flush=True)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
"""


@pytest.mark.parametrize("when", ["__mp_main__", "later"])
def test_child_that_is_no_worker(when: str, tmp_path: Path) -> None:
    """A child of `multiprocessing` that shares nothing says that the port is taken, as any process that is alone."""
    program = tmp_path / "program.py"
    program.write_text(CHILD)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        environ = {
            **os.environ,
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(stranger.getsockname()[1]),
            "OTEL_TRACES_EXPORTER": "none",
        }
        done = subprocess.run(
            [sys.executable, str(program), when], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
    line, url = done.stdout.splitlines()
    assert line.startswith("ERROR otel_llm: no Prometheus page on 127.0.0.1:")
    assert ("None", "") == (url, done.stderr)
