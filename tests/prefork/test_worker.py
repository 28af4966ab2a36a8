"""One process of several, and what may go wrong with it."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import openai
import pytest
from prometheus_client import REGISTRY, Metric
from prometheus_client.registry import Collector

import otel_llm
from otel_llm.prometheus import multiprocess
from otel_llm.prometheus.families import INFINITY, Exemplar, Family, Histogram, Series
from otel_llm.prometheus.multiprocess import Sources, processes
from otel_llm.prometheus.multiprocess import directory as directories
from otel_llm.prometheus.multiprocess.arithmetic import add_families, add_states
from otel_llm.prometheus.multiprocess.directory import Directory
from otel_llm.prometheus.multiprocess.snapshot import Snapshot, decode, encode
from otel_llm.prometheus.multiprocess.worker import Shared
from otel_llm.prometheus.web.server import Page
from otel_llm.state import Facts, State, Told, Totals
from otel_llm.testing.server import Reply, ScriptedServer
from tests.prefork.deployment import counted, eventually, free_port


@pytest.fixture(autouse=True)
def _stop(monkeypatch: pytest.MonkeyPatch, unset: None) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Share nothing beyond a test."""
    monkeypatch.setattr(directories, "_told", set[str]())
    yield
    multiprocess.stop()
    multiprocess._shared = None


def _call(server: ScriptedServer, times: int = 1) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    for _ in range(times):
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "?"}])


def _shown(dialect: str | None = None) -> float:
    return counted(otel_llm.generate_latest(dialect).decode(), dialect)


def _shared() -> Shared:
    shared = multiprocess.shared()
    assert shared is not None
    return shared


def test_alone(server: ScriptedServer) -> None:
    """A process that is no worker shares nothing."""
    otel_llm.instrument(serve=False)
    assert multiprocess.shared() is None


def test_turned_off_and_on(server: ScriptedServer, tmp_path: Path) -> None:
    """What was counted before it was turned off counts once when it is on again."""
    for calls in (2, 4):
        otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "shared")
        _call(server, 2)
        assert calls == _shown() == _shown("aegis")
        otel_llm.uninstrument()
    assert 1 == len(list((tmp_path / "shared").glob("*.snapshot")))


@pytest.mark.parametrize("dialect", ["ollama_exporter", "tinyllm", "llmbackend", "local_llm"])
def test_nothing_in_flight(server: ScriptedServer, tmp_path: Path, dialect: str) -> None:
    """Gauges of what is in flight are 0 between calls, as in a process that is alone: alerts add them up."""
    pages: list[list[str]] = []
    for directory in (None, tmp_path / "shared"):
        otel_llm.instrument(serve=False, multiproc_dir=directory)
        _call(server)
        lines = otel_llm.generate_latest(dialect).decode().splitlines()
        pages.append([line for line in lines if "_active_" in line and not line.startswith("#")])
        otel_llm.uninstrument()
    assert pages[0] == pages[1]
    assert {"0.0"} == {line.rpartition(" ")[2] for line in pages[1]}


@pytest.mark.parametrize("share", ["_SHARE", "_SHARE_AT_REST"])
def test_dear_families(share: str, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long canonical families take, calls are soon on disk for dialects, and after a rest for all pages."""
    monkeypatch.setattr(f"otel_llm.prometheus.multiprocess.worker.{share}", 1e-9)
    otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "shared")
    path = tmp_path / "shared" / f"{_shared().name}.snapshot"

    def on_disk(calls: int) -> bool:
        snapshot = decode(path.read_bytes())
        if share == "_SHARE":
            return calls == sum(totals.calls for _, totals in snapshot.state.cells)
        duration = "gen_ai_client_operation_duration_seconds"
        found: Any = [family.series[0].value for family in snapshot.families.families if family.name == duration]
        return [calls] == [histogram.counts[-1] for histogram in found]

    eventually(path.exists)
    for calls in (1, 2, 3):
        _call(server)
        # Who asks for the page of a dialect has written half of it.
        otel_llm.generate_latest("aegis")
        eventually(partial(on_disk, calls))


def test_native_metrics(server: ScriptedServer, tmp_path: Path) -> None:
    """Metrics of `prometheus_client` are of one process: workers neither share nor even collect them."""
    collected: list[int] = []

    class Costly(Collector):
        def collect(self) -> list[Metric]:
            collected.append(1)
            return []

    costly = Costly()
    otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "shared")
    REGISTRY.register(costly)
    try:
        collected.clear()
        _call(server)
        assert 1 == _shown()
        time.sleep(1.5)
        assert b"process_" not in otel_llm.generate_latest()
    finally:
        REGISTRY.unregister(costly)
    assert [] == collected


def test_full_disk(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing can be written, calls go on, the page shows what is known, and the log says it once."""
    otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "shared")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        _call(server, 3)
        assert 3 == _shown() == _shown("aegis")
        assert 1 == len([each for each in caplog.records if "No space left" in each.getMessage()])
    _call(server)
    assert 4 == _shown()
    assert b'"gpt-5"' in next((tmp_path / "shared").glob("*.snapshot")).read_bytes()


def test_directory_removed(server: ScriptedServer, tmp_path: Path) -> None:
    """Where somebody removes the directory, it is made again."""
    otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "shared")
    _call(server)
    assert 1 == _shown()
    for path in (tmp_path / "shared").iterdir():
        path.unlink()
    (tmp_path / "shared").rmdir()
    _call(server)
    assert 2 == _shown()
    eventually(lambda: any((tmp_path / "shared").glob("*.socket")))


@pytest.mark.parametrize("suffix", ["*", ".snapshot", ".socket"])
def test_removed_while_idle(suffix: str, server: ScriptedServer, tmp_path: Path) -> None:
    """What somebody has tidied up is there again soon, though nothing new is counted."""
    path = tmp_path / "shared"
    otel_llm.instrument(serve=False, multiproc_dir=path)
    _call(server)
    name = _shared().name
    eventually(lambda: (path / f"{name}.socket").exists() and (path / f"{name}.snapshot").exists())
    assert 1 == _shown()
    if suffix == "*":
        shutil.rmtree(path)
    else:
        (path / f"{name}{suffix}").unlink()
    eventually(lambda: (path / f"{name}.snapshot").exists() and b'"gpt-5"' in (path / f"{name}.snapshot").read_bytes())
    eventually(lambda: _listening(path / f"{name}.socket"))
    assert 1 == _shown()


def _listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_models_of_several(server: ScriptedServer, tmp_path: Path) -> None:
    """Each worker has a cap of its own, so that nothing goes from the page when another one has a new model."""
    otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "shared", max_series=2)
    state = State({"duration": ()}, [], [], {}, "")
    cells = [(Facts("chat", "openai", f"other-{number}"), Totals(1, 0.0, [1])) for number in range(2)]
    younger = Shared(_shared().directory, multiprocess.Sources(lambda: state._replace(cells=cells), list, 2))
    younger.name = younger.name.rsplit("-", 1)[0] + "-younger"
    younger.write()
    shown = {"other-0", "other-1"}
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    for model in ("one", "two"):
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "?"}])
        shown.add(model)
        assert shown == {facts.request_model for facts, _ in _shared().state().cells}


def test_refused(tmp_path: Path) -> None:
    """A directory that others may write to is an error at the start."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ValueError, match=r"^multiproc_dir='.*/open': expected .*; it can be written to by others$"):
        otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "open")


def test_written_by_itself(server: ScriptedServer, tmp_path: Path) -> None:
    """What is counted is written without a scrape, too, and not again and again where nothing changes."""
    otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "shared")
    _call(server)
    shared = _shared()
    path = tmp_path / "shared" / f"{shared.name}.snapshot"
    eventually(lambda: path.exists() and b'"gpt-5"' in path.read_bytes())
    time.sleep(2.5)
    written = path.stat().st_mtime_ns
    time.sleep(2.5)
    assert written == path.stat().st_mtime_ns


def test_busy_sibling(server: ScriptedServer, tmp_path: Path) -> None:
    """A process that takes questions and never answers holds a scrape up for half a second in all."""
    otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "shared")
    _call(server)
    assert 1 == _shown("aegis")
    program = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(9)"
    line = [sys.executable, "-c", f"{program}; print(flush=True); time.sleep(600)"]
    busy: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(3):
            path = tmp_path / f"{len(busy)}"
            process = subprocess.Popen([*line, str(path)], stdout=subprocess.PIPE)
            busy.append(process)
            assert process.stdout is not None
            process.stdout.readline()
            path.rename(tmp_path / "shared" / f"{processes.identity(process.pid)}-1.socket")
        begun = time.monotonic()
        assert 1 == _shown("aegis")
        assert 0.4 < time.monotonic() - begun < 1.0
    finally:
        for process in busy:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_port_taken(server: ScriptedServer, tmp_path: Path) -> None:
    """A port that is taken hurts nobody: the page is served there as soon as it is free."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        handle = otel_llm.instrument(serve=f"127.0.0.1:{port}", multiproc_dir=tmp_path / "shared")
        assert f"http://127.0.0.1:{port}/metrics" == handle.url
    eventually(lambda: _listens(port))


def test_port_taken_alone(server: ScriptedServer) -> None:
    """For a process that is alone, it is an error."""
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        otel_llm.instrument(serve=f"127.0.0.1:{other.getsockname()[1]}")


def test_page_closed_while_it_waits(tmp_path: Path) -> None:
    """A page that is closed while another one has its port does not come back."""
    otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "shared")
    port = free_port()
    with Page("127.0.0.1", port):
        page = Page("127.0.0.1", port)
        assert page.served
        page.close()
        assert not page.served
    eventually(lambda: not _shared().claims)
    assert not _listens(port)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("value", [True, 1 << 1010, Decimal("1.5"), Fraction(1, 3)])
def test_values_of_others(value: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever an application has put into its own metrics, all that its process has counted is shared."""
    exemplars = {INFINITY: Exemplar("", value, 1.0)}
    families = [
        Family("a", "", "gauge", last=True, series=[Series("", value)]),
        Family("b_total", "", "counter", series=[Series("", value)]),
        Family("c", "", "histogram", series=[Series("", Histogram((INFINITY,), [1], value, exemplars))]),
    ]
    nothing = State({"duration": ()}, [], [], {}, "shop")
    directory = Directory(tmp_path / "shared", "1-1", own=False)
    one = Shared(directory, Sources(lambda: nothing, lambda: families))
    other = Shared(directory, Sources(lambda: nothing, list))
    one.write()
    other.write()
    assert one.families() == other.families()
    assert [float(value)] * 2 == [each.series[0].value for each in other.families()[:2]]
    assert not caplog.records


def test_tokens_of_a_server_that_lies(server: ScriptedServer, tmp_path: Path) -> None:
    """However large the sum of what servers tell gets, it is shared."""
    otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "shared")
    usage = {"prompt_tokens": (1 << 63) - 1, "completion_tokens": 1, "total_tokens": 1}
    for _ in range(3):
        server.script(Reply(json={"object": "chat.completion", "model": "m", "choices": [], "usage": usage}))
        _call(server)
    cells = decode(encode(_shared().take())).state.cells
    assert [3 * usage["prompt_tokens"]] == [totals.input_tokens for _, totals in cells]


def test_no_sum_falls(tmp_path: Path) -> None:
    """Sums are the same in whatever order processes are added up, so that none falls when one has gone."""
    facts = Facts("chat", "openai")
    random = Random(1)
    bounds = {"duration": (1.0,), "time_to_first_chunk": (1.0,)}
    snapshots: list[Snapshot] = []
    for _ in range(20):
        seconds, first = sum(random.random() for _ in range(9)), random.random()
        told = Totals(9, seconds, [9, 0], distributions={"time_to_first_chunk": ([9, 0], first)})
        by_hand = {"aegis llm_cost_usd": [('provider="openai"', Told(first / 3))]}
        state = State(bounds, [], [(facts, told)], {}, "shop", {"steps": [(facts, Told(seconds, [9, 0]))]}, by_hand)
        counted = Histogram((1.0, INFINITY), [9, 9], seconds)
        family = Family("gen_ai_client_operation_duration_seconds", "", "histogram", series=[Series("", counted)])
        directory = Directory(tmp_path, "1-1", own=False)
        taken = Shared(directory, Sources(lambda state=state: state, lambda family=family: [family])).take()  # type: ignore[misc]
        assert pytest.approx(seconds, abs=1e-6) == taken.state.cells[0][1].seconds
        snapshots.append(taken)

    sums: set[tuple[float, ...]] = set()
    for _ in range(50):
        random.shuffle(snapshots)
        state = add_states([each.state for each in snapshots], snapshots[0].state)
        ((_, totals),) = state.cells
        ((_, steps),) = state.measures["steps"]
        ((_, cost),) = state.by_hand["aegis llm_cost_usd"]
        (shown,) = add_families([each.families for each in snapshots]).families
        (value,) = [value for _, value in shown.series]
        assert isinstance(value, Histogram)
        assert value.sum is not None
        first = totals.distributions["time_to_first_chunk"][1]
        sums.add((totals.seconds, first, value.sum, steps.value, cost.value))
    assert 1 == len(sums)


def test_no_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where processes cannot ask each other, each reads what the other writes now and then, and takes over its port."""

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    class Refused(socket.socket):
        bind = refused

    monkeypatch.setattr(socket, "socket", Refused)
    tried: list[bool] = []

    def claim(last: bool) -> bool:
        tried.append(last)
        return True

    cells = [(Facts("chat", "openai"), Totals(1, 0.0, [1]))]
    nothing = State({"duration": ()}, [], cells, {}, "shop")
    shared = Shared(Directory(tmp_path / "shared", "1-1", own=False), Sources(lambda: nothing, list))
    shared.claims.append(claim)
    shared.start()
    try:
        eventually(lambda: list((tmp_path / "shared").glob("*.snapshot")) != [] and tried == [False])
    finally:
        shared.close()
    assert 1 == len([each for each in caplog.records if "not permitted" in each.getMessage()])


def test_two_forks_at_once(server: ScriptedServer, tmp_path: Path) -> None:
    """Each child knows what its parent had counted, though another thread's fork has ended in between."""
    otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "shared")
    _call(server)
    shared = _shared()
    multiprocess._before_fork()
    for hook in (multiprocess._before_fork, multiprocess._after_in_parent):
        thread = Thread(target=hook)
        thread.start()
        thread.join()
    child = shared.child()
    assert child.before is not None
    assert 1 == child.before.state.cells[0][1].calls
    multiprocess._after_in_parent()


def test_gauges(tmp_path: Path) -> None:
    """Of a gauge that shows its last value, the newest is shown; one that goes up and down is added up."""
    from otel_llm.prometheus.families import Family, Series
    from otel_llm.prometheus.multiprocess.directory import Directory

    own = processes.identity(os.getpid())
    assert own is not None
    state = State({"duration": ()}, [], [], {}, "")
    values: list[dict[str, int]] = [{}, {}]

    def families(number: int) -> list[Any]:
        return [
            Family(name, "", "gauge", series=[Series("", value)], last=name == "last")
            for name, value in values[number].items()
        ]

    def sources(number: int) -> multiprocess.Sources:
        return multiprocess.Sources(lambda: state, lambda: families(number))

    workers = [Shared(Directory(tmp_path / "shared", own, own=False), sources(number)) for number in range(2)]

    def shown() -> dict[str, Any]:
        for worker in workers:
            worker.write()
        pages = [{family.name: family.series[0].value for family in worker.families()} for worker in workers]
        assert pages[0] == pages[1]
        return pages[0]

    values[0] = {"last": 7, "active": 2}
    assert {"last": 7, "active": 2} == shown()
    values[1] = {"last": 3, "active": 4}
    assert {"last": 3, "active": 6} == shown()
    values[0] = {"last": 9, "active": 1}
    assert {"last": 9, "active": 5} == shown()
