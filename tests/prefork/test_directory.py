"""The files that processes share: nothing is lost, nothing counts twice, whatever dies when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_llm.prometheus.multiprocess import processes
from otel_llm.prometheus.multiprocess.directory import Directory, prepare
from otel_llm.prometheus.multiprocess.snapshot import Families, Snapshot, encode
from otel_llm.state import Facts, State, Totals
from tests.prefork.deployment import eventually

FACTS = Facts("chat", "openai")
EMPTY = State({"duration": ()}, [], [], {}, "shop")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Another process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """A directory that this process has joined."""
    own = processes.identity(os.getpid())
    assert own is not None
    directory = Directory(tmp_path / "shared", own, own=False)
    directory.join()
    return directory


def _counted(calls: int) -> bytes:
    return encode(Snapshot(EMPTY._replace(cells=[(FACTS, Totals(calls, 0.0, [calls]))]), Families([])))


def _sum(directory: Directory) -> int:
    dead, others = directory.read("nobody")
    snapshots = [snapshot for _, snapshot in others] + ([] if dead is None else [dead])
    return sum(totals.calls for snapshot in snapshots for _, totals in snapshot.state.cells)


def _name(process: subprocess.Popen[bytes]) -> str:
    return f"{processes.identity(process.pid)}-1234"


def test_living(directory: Directory, sleeper: subprocess.Popen[bytes]) -> None:
    """The file of a process that lives stays as it is."""
    directory.write(_name(sleeper), _counted(3))
    directory.compact(EMPTY, 2000)
    assert [f"{_name(sleeper)}.snapshot"] == [path.name for path in directory.path.glob("*.snapshot")]
    assert 3 == _sum(directory)


def test_compact(directory: Directory, sleeper: subprocess.Popen[bytes]) -> None:
    """Files of the dead become one, again and again, and count as before."""
    directory.write("1-1-a", _counted(1))
    directory.write("1-1-b", _counted(2))
    directory.write(_name(sleeper), _counted(4))
    assert 7 == _sum(directory)
    directory.compact(EMPTY, 2000)
    assert 7 == _sum(directory)
    sleeper.kill()
    sleeper.wait()
    assert 7 == _sum(directory)
    directory.compact(EMPTY, 2000)
    assert 7 == _sum(directory)
    assert ["dead.snapshot"] == [path.name for path in directory.path.glob("*.snapshot")]
    assert [] == [*directory.path.glob("*.unfinished"), *directory.path.glob("*.socket")]


def test_crash_while_compacting(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who dies between the two steps, writing one file and removing the others, makes nothing count twice."""
    directory.write("1-1-a", _counted(1))
    directory.write("1-1-b", _counted(2))

    def keep(*_: object, **__: object) -> None:
        pass

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", keep)
        directory.compact(EMPTY, 2000)
    assert 3 == len(list(directory.path.glob("*.snapshot")))
    assert 3 == _sum(directory)
    directory.compact(EMPTY, 2000)
    assert 1 == len(list(directory.path.glob("*.snapshot")))
    assert 3 == _sum(directory)


def test_reading_meanwhile(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader whose files are moved to the dead while it reads misses none and counts none twice."""
    other = Directory(directory.path, "1-1", own=False)
    directory.write("1-1-a", _counted(1))
    directory.write("1-1-b", _counted(2))
    load = Directory._load

    def interrupted(self: Directory, name: str) -> Snapshot | None:
        if self is directory and name == "1-1-b":
            other.compact(EMPTY, 2000)
        return load(self, name)

    monkeypatch.setattr(Directory, "_load", interrupted)
    assert 3 == _sum(directory)
    assert not (directory.path / "1-1-a.snapshot").exists()


def test_stopped_with_the_lock(directory: Directory) -> None:
    """A process that stands still while it has the lock holds nobody up: only nothing is tidied up."""
    program = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'ab'); fcntl.lockf(lock, fcntl.LOCK_EX); print(flush=True);"
        "time.sleep(600)"
    )
    line = [sys.executable, "-c", program, str(directory.path / "lock")]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        directory.write("1-1-a", _counted(1))
        directory.compact(EMPTY, 2000)
        assert 1 == _sum(directory)
        assert (directory.path / "1-1-a.snapshot").exists()
        holder.kill()
    directory.compact(EMPTY, 2000)
    assert not (directory.path / "1-1-a.snapshot").exists()
    assert 1 == _sum(directory)


def test_full_disk(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the dead cannot be written, their own files stay."""
    directory.write("1-1-a", _counted(1))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            directory.compact(EMPTY, 2000)
    assert 1 == _sum(directory)
    assert [] == list(directory.path.glob("*.unfinished"))
    directory.compact(EMPTY, 2000)
    assert 1 == _sum(directory)


@pytest.mark.parametrize("written", [b"", b"[2,{}]\n[]\n[]", b"[1", b"\x00" * 100, b"[1,{}]\n[]\n[]"])
def test_unreadable(directory: Directory, written: bytes) -> None:
    """A file that is no snapshot, or one of another version, does not count and hurts nobody."""
    (directory.path / "1-1-a.snapshot").write_bytes(written)
    directory.write("1-1-b", _counted(2))
    if not written.startswith(b"[1,"):
        assert 2 == _sum(directory)
    directory.compact(EMPTY, 2000)
    assert 2 == _sum(directory)


def test_next_group(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """Who comes after all others are gone finds the directory empty; who comes before that joins them."""
    path = tmp_path / "shared"
    root = processes.identity(sleeper.pid)
    assert root is not None
    first = Directory(path, root, own=False)
    first.join()
    first.write("1-1-a", _counted(1))
    Directory(path, "1-1", own=False).join()
    assert 1 == _sum(first)
    sleeper.kill()
    sleeper.wait()
    own = processes.identity(os.getpid())
    assert own is not None
    Directory(path, own, own=False).join()
    assert 0 == _sum(first)
    assert [f"{own}.root"] == [each.name for each in path.glob("*.root")]


def test_groups_that_are_gone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """Directories that servers had for themselves are removed by the next one, but not while a worker is left."""
    own, other = processes.identity(os.getpid()), processes.identity(sleeper.pid)
    assert own is not None
    assert other is not None
    gone, inhabited, living = tmp_path / "1-1", tmp_path / "1-2", tmp_path / other
    for path in (gone, inhabited, living):
        path.mkdir(mode=0o700)
        (path / "1-1-a.snapshot").touch()
    (inhabited / f"{other}-7.snapshot").touch()
    tmp_path.chmod(0o700)
    Directory(tmp_path / own, own, own=True).join()
    assert {inhabited, living, tmp_path / own} == set(tmp_path.iterdir())


def test_others_may_write(tmp_path: Path) -> None:
    """A directory that others may write to is refused, with a message that names it."""
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(ValueError, match=r"others may write to .*/open"):
        prepare(path)


def test_private(directory: Directory) -> None:
    """Nobody else can read what is written."""
    directory.write("1-1-a", _counted(1))
    assert 0o700 == directory.path.stat().st_mode & 0o777
    assert {0o600} == {path.stat().st_mode & 0o777 for path in directory.path.iterdir() if path.name != "lock"}


def test_number_used_again(sleeper: subprocess.Popen[bytes]) -> None:
    """A process that has the number of an earlier one is not that one."""
    name = processes.identity(sleeper.pid)
    assert name is not None
    assert processes.alive(name)
    assert processes.alive(f"{name}-abcd")
    assert not processes.alive(f"{sleeper.pid}-1")
    sleeper.kill()
    sleeper.wait()
    assert not processes.alive(name)


def test_standing_still(sleeper: subprocess.Popen[bytes]) -> None:
    """A process that was stopped by a signal is there, and need not be asked."""
    name = processes.identity(sleeper.pid)
    assert name is not None
    assert not processes.stopped(name)
    sleeper.send_signal(signal.SIGSTOP)
    eventually(lambda: processes.stopped(name))
    assert processes.alive(name)
    sleeper.send_signal(signal.SIGCONT)
    eventually(lambda: not processes.stopped(name))


def test_memory(directory: Directory) -> None:
    """Who reads again and again keeps nothing of files that others have removed."""
    other = Directory(directory.path, "1-1", own=False)
    for number in range(5):
        directory.write(f"1-1-{number}", _counted(1))
        assert number + 1 == _sum(other)
        directory.compact(EMPTY, 2000)
    assert 5 == _sum(other)
    assert {"dead"} == set(other._read)
