"""Workers of real servers: one scrape of one port shows the sum."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.prefork.deployment import deployed, eventually

pytest.importorskip("gunicorn")
pytest.importorskip("uvicorn")
pytest.importorskip("uvicorn_worker")

KINDS = ("gunicorn", "uvicorn", "gunicorn with uvicorn", "zero-code", "zero-code uvicorn")


@pytest.mark.parametrize("kind", KINDS)
def test_sum(kind: str, tmp_path: Path) -> None:
    """Whichever worker is asked, on the port of the page or in the application, a page shows the calls of all."""
    with deployed(kind, tmp_path, PREFORK_ZERO_CODE="1" if kind.startswith("zero-code") else "") as server:
        server.workers(2)
        assert {*[server.call() for _ in range(20)]} <= server.workers(2)
        assert [20.0] * 4 == [server.asked() for _ in range(4)]
        assert [20.0] * 4 == [server.asked("llmbackend") for _ in range(4)]
        assert 20.0 == server.scraped()
        assert 20.0 == server.scraped("aegis")


def test_recycled(tmp_path: Path) -> None:
    """Nothing is lost or counted twice while gunicorn replaces its workers one after the other."""
    with deployed("gunicorn", tmp_path, "--max-requests", "12", "--max-requests-jitter", "6", workers=3) as server:
        seen: set[int] = set()
        calls = 0
        while len(seen) < 6 or calls < 60:
            seen.add(server.call())
            calls += 1
            assert float(calls) == server.scraped(None if calls % 2 else "aegis")
        assert float(calls) == server.asked()


@pytest.mark.parametrize("kind", ["uvicorn", "gunicorn with uvicorn", "gunicorn"])
def test_told_to_end(kind: str, tmp_path: Path) -> None:
    """What a worker has counted just before it is told to end is on the page."""
    with deployed(kind, tmp_path) as server:
        server.workers(2)
        for calls in (3, 6, 9):
            last = 0
            for _ in range(3):
                last = server.call()
            os.kill(last, signal.SIGTERM)
            eventually(lambda gone=last: not Path(f"/proc/{gone}/status").exists())  # type: ignore[misc]
            assert float(calls) == server.scraped()
            assert float(calls) == server.asked("aegis")


@pytest.mark.parametrize("kind", ["gunicorn", "uvicorn"])
def test_killed(kind: str, tmp_path: Path) -> None:
    """A page never shows less than before when workers are killed during the load; it lacks one interval at most."""
    with deployed(kind, tmp_path) as server:
        server.workers(2)
        shown, lost, calls = 0.0, 0, 0
        for round in range(4):
            begun = time.monotonic()
            recent: list[tuple[float, int]] = []
            while time.monotonic() < begun + 2.0:
                recent.append((time.monotonic(), server.call()))
                calls += 1
                if calls % 5 == 0:
                    now = server.scraped()
                    assert shown <= now
                    shown = now
            if round % 2:
                shown = server.scraped()
                recent.clear()
            victim = server.call() if round % 2 == 0 else int(server.get("/"))
            calls += round % 2 == 0
            killed = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            lost += sum(1 for at, process in recent if process == victim and at > killed - 2.0) + (round % 2 == 0)
            now = server.scraped()
            assert shown <= now
            assert calls - lost <= now <= calls
            shown = now
            server.workers(2)


def test_stopped(tmp_path: Path) -> None:
    """A worker that stands still holds up no scrape, and counts with what it has written."""
    with deployed("gunicorn", tmp_path, "--timeout", "300") as server:
        workers = server.workers(2)
        for _ in range(10):
            server.call()
        assert 10.0 == server.scraped()
        holder = _holder(server.page_port, workers)
        (other,) = workers - {holder}
        os.kill(other, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            assert 10.0 == server.scraped()
            assert time.monotonic() - begun < 2.0
        finally:
            os.kill(other, signal.SIGCONT)


def test_port_goes_on(tmp_path: Path) -> None:
    """When the worker that serves the page is gone, another one does."""
    with deployed("gunicorn", tmp_path, workers=3) as server:
        workers = server.workers(3)
        server.call()
        assert 1.0 == server.scraped()
        os.kill(_holder(server.page_port, workers), signal.SIGKILL)
        assert 1.0 == server.scraped()


def test_before_the_fork(tmp_path: Path) -> None:
    """What the master counts before it has workers is counted once, however many there are and will be."""
    with deployed("gunicorn", tmp_path, "--preload", workers=3, PREFORK_AT_IMPORT="5") as server:
        workers = server.workers(3)
        assert 5.0 == server.scraped() == server.asked("llmbackend")
        for _ in range(12):
            server.call()
        assert [17.0] * 3 == [server.scraped(), server.asked(), server.asked("aegis")]
        os.kill(workers.pop(), signal.SIGTERM)
        eventually(lambda: len(server.workers(3) - workers) > 0)
        assert [17.0] * 3 == [server.scraped(), server.asked(), server.asked("aegis")]


def test_next_deployment(tmp_path: Path) -> None:
    """A server that is started anew begins at zero in the same directory, and leaves nothing of the last one there."""
    shared = tmp_path / "shared"
    for _ in range(2):
        with deployed("gunicorn", tmp_path, OTEL_LLM_MULTIPROC_DIR=str(shared)) as server:
            server.workers(2)
            for _ in range(5):
                server.call()
            assert [5.0, 5.0] == [server.scraped(), server.asked("aegis")]
            roots = [path for path in shared.iterdir() if path.suffix == ".root"]
            assert [f"{server.process.pid}"] == [root.name.partition("-")[0] for root in roots]


def _holder(port: int, workers: set[int]) -> int:
    """Return the worker that listens on a port."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_, inode = line.split()[:10]
        if state == "0A" and int(local.partition(":")[2], 16) == port:
            for worker in workers:
                links = [link.readlink() for link in Path(f"/proc/{worker}/fd").iterdir() if link.is_symlink()]
                if Path(f"socket:[{inode}]") in links:
                    return worker
    raise AssertionError(f"nobody of {workers} listens on {port}")
