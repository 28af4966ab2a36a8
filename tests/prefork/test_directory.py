"""The files that processes share: nothing is lost, nothing counts twice, whatever dies when."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_llm.prometheus.families import Family, Series
from otel_llm.prometheus.multiprocess import Sources, files, processes
from otel_llm.prometheus.multiprocess import directory as directories
from otel_llm.prometheus.multiprocess.directory import Directory, prepare
from otel_llm.prometheus.multiprocess.snapshot import Families, Snapshot, encode
from otel_llm.prometheus.multiprocess.worker import Shared
from otel_llm.state import Facts, State, Totals
from tests.prefork.deployment import eventually

FACTS = Facts("chat", "openai")
NOBODY = 65534
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
        patch.setattr(os, "unlink", keep)
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

    def interrupted(self: Directory, opened: int, name: str) -> Snapshot | None:
        if self is directory and name == "1-1-b":
            other.compact(EMPTY, 2000)
        return load(self, opened, name)

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
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            directory.compact(EMPTY, 2000)
    assert 1 == _sum(directory)
    assert [] == list(directory.path.glob("*.unfinished"))
    directory.compact(EMPTY, 2000)
    assert 1 == _sum(directory)


@pytest.mark.parametrize("unreadable", ["1-1-b", "dead"])
def test_no_descriptors_left(unreadable: str, directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read for now is not taken for gone: neither is it removed, nor is a sum without it returned."""
    directory.write("1-1-a", _counted(1))
    directory.compact(EMPTY, 2000)
    directory.write("1-1-b", _counted(2))
    original = files.open_file

    def without(opened: int, name: str, mode: str) -> Any:
        if name == f"{unreadable}.snapshot":
            raise OSError(errno.EMFILE, "Too many open files")
        return original(opened, name, mode)

    with monkeypatch.context() as patch:
        patch.setattr(files, "open_file", without)
        for _ in range(2):
            with pytest.raises(OSError, match="Too many"):
                directory.compact(EMPTY, 2000)
            with pytest.raises(OSError, match="Too many"):
                _sum(directory)
    assert 3 == _sum(directory)
    directory.compact(EMPTY, 2000)
    assert 3 == _sum(directory)


def test_too_many_dead(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the dead have had is moved to no file that is too large to be read."""
    for number in range(3):
        directory.write(f"1-1-{number}", _counted(1))
        monkeypatch.setattr(directories, "_LARGEST", len(_counted(1)) + 1)
        directory.compact(EMPTY, 2000)
        assert number + 1 == _sum(directory)


def _hostile(facts: str = "", totals: str = "", bounds: str = "[1.0]", families: str = "[[],[],[]]") -> bytes:
    facts = facts or '["chat","p",null,null,null,null,null,null,false,[],null,false]'
    totals = totals or "[1,1.0,[1,0],1,1,null,null,null,null,null,0.0,0.0,{}]"
    return f'[1,{{}}]\n[{{"duration":{bounds}}},[],[[{facts},{totals}]],{{}},"shop"]\n{families}'.encode()


def _hostile_families(
    name: str = "a", kind: str = "counter", labels: str = '"m=\\"1\\""', value: str = "1", times: str = "[]"
) -> bytes:
    return _hostile(families=f'[[[1.0]],[["{name}","h","{kind}","",false,[[{labels},{value}]]]],{times}]')


HOSTILE = {
    "no list": b"5\n[]\n[]",
    "deep head": b"[" * 100_000 + b"\n[]\n[]",
    "deep": b"[1,{}]\n" + b"[" * 100_000 + b"\n[]",
    "merged is a number": b"[1,5]\n[]\n[]",
    "merged at no time": b'[1,{"1-1":"x"}]\n[]\n[]',
    "no bounds": _hostile().replace(b'{"duration":[1.0]}', b"{}"),
    "falling bounds": _hostile(bounds="[2,1]", totals="[1,1.0,[1,0,0],1,1,null,null,null,null,null,0.0,0.0,{}]"),
    "bounds of text": _hostile(bounds='["x"]'),
    "unhashable": _hostile('["chat","p",{},null,null,null,null,null,false,[],null,false]'),
    "facts too short": _hostile('["chat","p"]'),
    "label is a number": _hostile('["chat","p",null,null,null,null,null,null,false,[["a",1]],null,false]'),
    "port is text": _hostile('["chat","p",null,null,null,"x",null,null,false,[],null,false]'),
    "failure is text": _hostile('["chat","p",null,null,null,null,null,null,false,[],"x",false]'),
    "calls are text": _hostile(totals='["x",1.0,[1,0],1,1,null,null,null,null,null,0.0,0.0,{}]'),
    "too large": _hostile(totals=f"[1,1{'0' * 400},[1,0],1,1,null,null,null,null,null,0.0,0.0,{{}}]"),
    "counts are too many": _hostile(totals="[1,1.0,[1,0,0],1,1,null,null,null,null,null,0.0,0.0,{}]"),
    "counts are none": _hostile(totals="[1,1.0,[NaN,0],1,1,null,null,null,null,null,0.0,0.0,{}]"),
    "unknown distribution": _hostile(totals='[1,1.0,[1,0],1,1,null,null,null,null,null,0.0,0.0,{"x":[[1],1]}]'),
    "name with lines": _hostile_families(name="a\\nb 1"),
    "unknown kind": _hostile_families(kind="x"),
    "labels with lines": _hostile_families(labels='"m=\\"1\\"} 5\\nb 7"'),
    "labels are a number": _hostile_families(labels="5"),
    "value is text": _hostile_families(value='"1"'),
    "counter is a histogram": _hostile_families(value="[0,[1],1.0,{}]"),
    "histogram without bounds": _hostile_families(kind="histogram", value="[7,[1],1.0,{}]"),
    "histogram with more counts": _hostile_families(kind="histogram", value="[0,[1,2],1.0,{}]"),
    "unhashable times": _hostile_families(times="[[[],[],1]]"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("alive", [False, True])
def test_hostile(
    name: str, alive: bool, directory: Directory, sleeper: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a file has in it, all others count, on each page, and one line in the log tells of it."""
    directories._told.clear()
    own = Shared(directory, Sources(lambda: EMPTY, list))
    path = directory.path / f"{_name(sleeper) if alive else '1-1-a'}.snapshot"
    path.write_bytes(HOSTILE[name])
    directory.write("1-1-b", _counted(2))
    own.write()
    for _ in range(2):
        assert 2 <= sum(totals.calls for _, totals in own.state().cells) <= 3
        assert [] == own.families()
    directory.compact(EMPTY, 2000)
    assert 2 <= sum(totals.calls for _, totals in own.state().cells) <= 3
    assert [] == own.families()
    assert 1 == len([record for record in caplog.records if f"{path.name} does not count" in record.message])


@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "socket", "large", "of another user"])
def test_no_files(kind: str, directory: Directory, caplog: pytest.LogCaptureFixture) -> None:
    """What is no plain file of ours is not waited for and not followed."""
    directories._told.clear()
    path = directory.path / "1-1-a.snapshot"
    target = directory.path.parent / "target"
    target.write_bytes(_counted(5))
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to(target)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        case "large":
            with path.open("wb") as file:
                file.truncate((1 << 26) + 1)
        case _:
            if os.geteuid() != 0:
                pytest.skip("only root can make files of other users")
            path.write_bytes(_counted(5))
            os.chown(path, NOBODY, NOBODY)
    directory.write("1-1-b", _counted(2))
    assert 2 == _sum(directory)
    directory.compact(EMPTY, 2000)
    assert 2 == _sum(directory)
    assert 1 == len([record for record in caplog.records if "1-1-a.snapshot does not count" in record.message])
    assert target.exists()


def test_links_in_the_way(directory: Directory) -> None:
    """Nothing is opened, written, given away or removed that a link points to."""
    target = directory.path.parent / "target"
    target.write_text("secret")
    found = target.stat()
    (directory.path / "lock").unlink()
    for name in ("lock", "1-1-b.unfinished", "1-1-b.snapshot", "7.port", "7.unfinished", "native.told", "1-1.root"):
        (directory.path / name).symlink_to(target)
    directory.write("1-1-b", _counted(2))
    directory.hold(7, "1-1-b")
    assert not directory.first("native")
    with pytest.raises(OSError, match="symbolic link"):
        directory.compact(EMPTY, 2000)
    with pytest.raises(OSError, match="symbolic link"):
        directory.join()
    assert "secret" == target.read_text()
    assert (found.st_uid, found.st_mtime_ns, found.st_ctime_ns) == (
        target.stat().st_uid,
        target.stat().st_mtime_ns,
        target.stat().st_ctime_ns,
    )


@pytest.mark.parametrize("kind", ["link", "open to readers", "of another user"])
def test_taken_place(kind: str, tmp_path: Path) -> None:
    """A directory that somebody has put where ours would be is neither used nor tidied up."""
    own, here = processes.identity(os.getpid()), processes.namespace()
    assert own is not None
    place = tmp_path / "otel-llm"
    victim = tmp_path / "victim" if kind == "link" else place
    thing = victim / f"1-1-{here}"
    thing.mkdir(parents=True)
    (thing / f"1-1-{here}.root").touch()
    victim.chmod(0o700)
    if kind == "link":
        place.symlink_to(victim)
    elif kind == "open to readers":
        place.chmod(0o755)
    elif os.geteuid() == 0:
        os.chown(place, NOBODY, NOBODY)
    else:
        pytest.skip("only root can make files of other users")
    wrongs = {"link": "is a symbolic link", "open to readers": "can be read by others"}
    wrong = wrongs.get(kind, "belongs to another user")
    with pytest.raises(ValueError, match=f"/otel-llm {wrong}"):
        Directory(place / f"{own}-{here}", own, own=True).join()
    assert [thing] == list(victim.iterdir())
    assert thing.joinpath(f"1-1-{here}.root").exists()


def test_replaced(directory: Directory) -> None:
    """A directory that was replaced by a link after it was joined is not written to."""
    elsewhere = directory.path.parent / "elsewhere"
    directory.path.rename(elsewhere)
    directory.path.symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"Not a directory|symbolic link"):
        directory.write("1-1-b", _counted(2))
    assert not (elsewhere / "1-1-b.snapshot").exists()


def test_tidied_up_with_care(tmp_path: Path) -> None:
    """Only what a server of ours has left is removed, of this namespace: nothing by another name, no other file."""
    own, here = processes.identity(os.getpid()), processes.namespace()
    assert own is not None
    tmp_path.chmod(0o700)
    kept = [f"1-1-{here + 1}", "1-1", "Documents", f"1-2-{here}", f"1-3-{here}", f"1-4-{here}"]
    for name in (*kept, f"1-5-{here}"):
        (tmp_path / name).mkdir(mode=0o700)
        if name != f"1-2-{here}":  # there is nothing that says that it is ours
            (tmp_path / name / f"{name}.root").touch()
    (tmp_path / f"1-3-{here}" / "thesis").touch()
    (tmp_path / f"1-4-{here}").chmod(0o755)
    (tmp_path / f"1-2-{here}" / "old.snapshot").touch()
    Directory(tmp_path / f"{own}-{here}", own, own=True).join()
    assert {*kept, f"{own}-{here}"} == {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / f"1-3-{here}" / "thesis").exists()
    assert (tmp_path / f"1-2-{here}" / "old.snapshot").exists()


def test_cap_of_the_dead(directory: Directory, sleeper: subprocess.Popen[bytes]) -> None:
    """What the dead had beyond their cap is one; but what is on the page because of the living does not fall."""
    totals = Totals(1, 0.0, [1])

    def counted(*models: str) -> bytes:
        cells = [(Facts("chat", "openai", model), totals) for model in models]
        family = Family("a", "", "counter", series=[Series(f'm="{model}"', 1) for model in models])
        return encode(Snapshot(EMPTY._replace(cells=cells), Families([family])))

    directory.write(_name(sleeper), counted("shown"))
    for number in range(11):
        directory.write(f"1-{number + 1}-a", counted(f"{number}"))
        directory.compact(EMPTY, 1)
    directory.write("1-99-a", counted("shown"))
    directory.compact(EMPTY, 1)
    dead, _ = directory.read("nobody")
    assert dead is not None
    models = [facts.request_model for facts, _ in dead.state.cells if not facts.overflow]
    assert [*map(str, range(10)), "shown"] == models
    assert 12 == sum(totals.calls for _, totals in dead.state.cells)
    (family,) = dead.families.families
    assert 12 == len(family.series)
    assert 'm="shown"' == family.series[-1].labels


@pytest.mark.parametrize("written", [b"", b"[2,{}]\n[]\n[]", b"[1", b"\x00" * 100, b"[1,{}]\n[]\n[]"])
def test_unreadable(directory: Directory, written: bytes) -> None:
    """A file that is no snapshot, or one of another version, does not count and hurts nobody."""
    (directory.path / "1-1-a.snapshot").write_bytes(written)
    directory.write("1-1-b", _counted(2))
    if not written.startswith(b"[2,"):
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


def test_files_of_others(tmp_path: Path) -> None:
    """In a directory that is given, whatever else is there stays, by whatever name, and is not touched."""
    own = processes.identity(os.getpid())
    assert own is not None
    others = {
        "docker.socket",
        "db.root",
        "vm.snapshot",
        "app.port",
        "9464",
        "a-b.told",
        "x.unfinished",
        "vm-2024.snapshot",
    }
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    gone = Directory(tmp_path, "1-1", own=False)
    gone.join()
    gone.write("1-1-a", _counted(1))
    gone.hold(9464, "1-1-a")
    assert gone.first("9464")
    directory = Directory(tmp_path, own, own=False)
    directory.join()
    directory.touch()
    directory.compact(EMPTY, 2000)
    assert directory.read(own) == (None, [])
    assert directory.running() == []
    assert others | {"lock", f"{own}.root"} == {path.name for path in tmp_path.iterdir()}
    assert {1.0} == {(tmp_path / name).stat().st_mtime for name in others}


def test_groups_that_are_gone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """Directories that servers had for themselves are removed by the next one, but not while a worker is left."""
    own, other = processes.identity(os.getpid()), processes.identity(sleeper.pid)
    assert own is not None
    assert other is not None
    here = processes.namespace()
    gone, inhabited, living = tmp_path / f"1-1-{here}", tmp_path / f"1-2-{here}", tmp_path / f"{other}-{here}"
    for path in (gone, inhabited, living):
        path.mkdir(mode=0o700)
        (path / "1-1-a.snapshot").touch()
        (path / f"{path.name}.root").touch()
    (inhabited / f"{other}-7.snapshot").touch()
    tmp_path.chmod(0o700)
    Directory(tmp_path / f"{own}-{here}", own, own=True).join()
    assert {inhabited, living, tmp_path / f"{own}-{here}"} == set(tmp_path.iterdir())


def test_others_may_write(tmp_path: Path) -> None:
    """A directory that others may write to is refused, with a message that names it."""
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(ValueError, match=r"/open can be written to by others; expected a directory"):
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
    assert processes.running(name)
    sleeper.send_signal(signal.SIGSTOP)
    eventually(lambda: not processes.running(name))
    assert processes.alive(name)
    sleeper.send_signal(signal.SIGCONT)
    eventually(lambda: processes.running(name))


def test_memory(directory: Directory) -> None:
    """Who reads again and again keeps nothing of files that others have removed."""
    other = Directory(directory.path, "1-1", own=False)
    for number in range(5):
        directory.write(f"1-1-{number}", _counted(1))
        assert number + 1 == _sum(other)
        directory.compact(EMPTY, 2000)
    assert 5 == _sum(other)
    assert {"dead"} == set(other._read)
