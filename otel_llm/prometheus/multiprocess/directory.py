"""The files that processes share: one snapshot of each, and one of all that are gone.

    <process>.snapshot    what it has counted, written anew and renamed each time
    <process>.socket      where it can be asked to write it now
    <process>.root        a process whose group this is; the directory starts empty when none of them is left
    dead.snapshot         what processes that are gone had counted, and which these are
    lock                  held by the one that moves files of the dead there

A process that is in ``dead.snapshot`` does not count by its own file, so that a crash in between does no harm. Who
reads takes the files first and then ``dead.snapshot``, and so misses nobody without a lock.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from otel_llm.prometheus.multiprocess import processes
from otel_llm.prometheus.multiprocess.arithmetic import add_families, add_states
from otel_llm.prometheus.multiprocess.snapshot import Snapshot, decode, encode
from otel_llm.state import State

logger = logging.getLogger("otel_llm")

SNAPSHOT = ".snapshot"
SOCKET = ".socket"
_ROOT = ".root"
_UNFINISHED = ".unfinished"
_DEAD = "dead"
_LONGEST_READ = 60.0
"""Seconds after which no reader can be left that saw a file which is gone."""

_told: set[str] = set()


def tell(trouble: str) -> None:
    """Log what is wrong, once however often it happens."""
    if trouble not in _told and len(_told) < 100:
        _told.add(trouble)
        logger.warning("otel_llm: %s", trouble)


def prepare(path: Path) -> None:
    """Make the directory if it is not there.

    Raises:
        ValueError: it is not ours, or others may write to it.
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if os.geteuid() not in (0, found.st_uid):
        raise ValueError(f"{path} belongs to another user; expected a directory of this process's own")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise ValueError(f"others may write to {path}; expected a directory that only its owner can write to")


class Directory:
    """The directory as one process sees it.

    Args:
        path: where it is.
        root: identity of the process whose group this is.
        own: whether the directory is that group's alone, and named after it.
    """

    def __init__(self, path: Path, root: str, *, own: bool) -> None:
        self.path = path
        self._root = root
        self._own = own
        self._read: dict[str, tuple[bytes, Snapshot]] = {}

    def join(self) -> None:
        """Make the directory if it is not there, and leave nothing in it of groups that are gone.

        Raises:
            ValueError: it is not ours, or others may write to it.
            OSError: it cannot be used.
        """
        if self._own:
            prepare(self.path.parent)
        prepare(self.path)
        if self._own:
            for path in list(self.path.parent.iterdir()):
                if not processes.alive(path.name) and not _inhabited(path):
                    shutil.rmtree(path, ignore_errors=True)
            return
        with self._locked(2.0) as held:
            if held and not _inhabited(self.path):
                for path in list(self.path.iterdir()):
                    if path.suffix in (SNAPSHOT, SOCKET, _ROOT, _UNFINISHED):
                        path.unlink(missing_ok=True)
            (self.path / f"{self._root}{_ROOT}").touch(0o600)
        self.give(self.path / f"{self._root}{_ROOT}")

    def living(self) -> list[str]:
        """Return the processes that can be asked, by their age."""
        return [name for name in self._names(SOCKET) if processes.alive(name)]

    def write(self, name: str, data: bytes) -> None:
        """Write the snapshot of a process.

        Raises:
            OSError: it cannot be written; the last one is left as it was.
        """
        unfinished = self.path / f"{name}{_UNFINISHED}"
        try:
            with open(unfinished, "wb", opener=_private) as file:
                file.write(data)
            self.give(unfinished)
            unfinished.replace(self.path / f"{name}{SNAPSHOT}")
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            raise

    def read(self, own: str) -> tuple[Snapshot | None, list[tuple[str, Snapshot]]]:
        """Return what is left of the dead, and the snapshots of the others by their age.

        Args:
            own: process whose snapshot is not wanted.
        """
        found: list[tuple[str, Snapshot]] = []
        names = self._names()
        for gone in self._read.keys() - {_DEAD, *names}:
            self._read.pop(gone, None)
        for name in names:
            snapshot = self._load(name) if name != own else None
            if snapshot is not None:
                found.append((name, snapshot if processes.alive(name) else snapshot.remains()))
        dead = self._load(_DEAD)
        if dead is None:
            return None, found
        return dead, [(name, snapshot) for name, snapshot in found if name not in dead.merged]

    def compact(self, like: State, max_series: int) -> None:
        """Move what the dead had counted into one file.

        Raises:
            OSError: it cannot be written; then nothing is removed.
        """
        names = {*self._names(), *self._names(SOCKET)}
        gone = sorted([name for name in names if not processes.alive(name)], key=age)
        if not gone:
            return
        with self._locked(0.0) as held:
            if not held:
                return
            self._read.pop(_DEAD, None)
            dead = self._load(_DEAD)
            known: Mapping[str, float] = {} if dead is None else dead.merged
            now = time.monotonic()
            loaded = {name: self._load_all(name) for name in gone if name not in known}
            fresh = [snapshot.remains() for snapshot in loaded.values() if snapshot is not None]
            if fresh:
                parts = fresh if dead is None else [dead, *fresh]
                kept = {name: at for name, at in known.items() if now - at < _LONGEST_READ or name in gone}
                state = add_states([part.state for part in parts], like, max_series)
                families = add_families([part.families for part in parts], max_series)
                self.write(_DEAD, encode(Snapshot(state, families, {**kept, **dict.fromkeys(loaded, now)})))
            for name in gone:
                self._read.pop(name, None)
                for suffix in (SNAPSHOT, SOCKET, _UNFINISHED):
                    with suppress(OSError):
                        (self.path / f"{name}{suffix}").unlink()

    def touch(self) -> None:
        """Tell those who tidy up directories of temporary files that these are in use."""
        for path in (self.path.parent, self.path, *self.path.iterdir()) if self._own else self.path.iterdir():
            with suppress(OSError):
                os.utime(path)

    def _names(self, suffix: str = SNAPSHOT) -> list[str]:
        names = [path.stem for path in self.path.iterdir() if path.suffix == suffix]
        return sorted([name for name in names if name != _DEAD], key=age)

    def _load(self, name: str) -> Snapshot | None:
        """Return a snapshot; what has not changed is not decoded again."""
        path = self.path / f"{name}{SNAPSHOT}"
        try:
            data = path.read_bytes()
        except OSError:  # moved to the dead by now, most likely
            self._read.pop(name, None)
            return None
        known = self._read.get(name)
        if known is not None and known[0] == data:
            return known[1]
        try:
            snapshot = decode(data)
        except ValueError as error:
            tell(f"{path} does not count: {error}")
            return None
        self._read[name] = data, snapshot
        return snapshot

    def _load_all(self, name: str) -> Snapshot | None:
        """Return a snapshot of which both halves can be read."""
        snapshot = self._load(name)
        try:
            return snapshot if snapshot is None or (snapshot.state and snapshot.families) else None
        except ValueError as error:
            tell(f"{name} does not count: {error}")
            return None

    def give(self, path: Path) -> None:
        """Let the owner of the directory have a file that root has made, as the master of workers that are not root."""
        if os.geteuid() == 0:
            owner = self.path.stat()
            os.chown(path, owner.st_uid, owner.st_gid)

    @contextmanager
    def _locked(self, patience: float) -> Generator[bool]:
        """Hold the lock, if it can be had within some seconds: a process that is stopped may have it for ever."""
        import fcntl

        until = time.monotonic() + patience
        with (self.path / "lock").open("ab") as file:
            self.give(self.path / "lock")
            while True:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    held = True
                except OSError:
                    held = False
                if held or time.monotonic() >= until:
                    break
                time.sleep(0.02)
            yield held


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _inhabited(path: Path) -> bool:
    """Whether a process is left whose group a directory is, or that has written to it."""
    try:
        files = list(path.iterdir())
    except OSError:
        return False
    return any(file.suffix in (SNAPSHOT, SOCKET, _ROOT) and processes.alive(file.stem) for file in files)


def age(name: str) -> tuple[int, str]:
    """Return what processes are sorted by: when they began."""
    began = name.split("-")[1:2]
    return int(began[0]) if began and began[0].isdecimal() else 0, name
