"""The files that processes share: one snapshot of each, and one of all that are gone.

    <process>.snapshot    what it has counted, written anew and renamed each time
    <process>.socket      where it can be asked to write it now
    <process>.root        a process whose group this is; the directory starts empty when none of them is left
    <port>.port           which process has a port
    <trouble>.told        something that one process has told in the log for all
    dead.snapshot         what processes that are gone had counted, and which these are
    lock                  held by the one that moves files of the dead there

A process that is in ``dead.snapshot`` does not count by its own file, so that a crash in between does no harm. Who
reads takes the files first and then ``dead.snapshot``, and so misses nobody without a lock.

Whoever may write there could put anything there, and other users could put anything in the way of a directory among the
temporary files. So the directory must be this user's; nothing is followed that is a link; nothing is given away; and of
directories that servers have left, only files with names of ours are removed.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import time
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from otel_llm.prometheus.multiprocess import files, processes
from otel_llm.prometheus.multiprocess.arithmetic import add_families, add_states
from otel_llm.prometheus.multiprocess.snapshot import Snapshot, decode, encode
from otel_llm.state import Facts, State

logger = logging.getLogger("otel_llm")

SNAPSHOT = ".snapshot"
SOCKET = ".socket"
_ROOT = ".root"
_PORT = ".port"
_TOLD = ".told"
_DEAD = "dead"
_OUR_FILE = re.compile(
    r"(dead|\d{1,10}-\d+(-\w+)*)\.(snapshot|socket|root|unfinished)"
    r"|\d{1,5}\.(port|unfinished)|[a-z0-9]+\.told|lock",
    re.ASCII,
)
"""Names of the files that are made here; all others are somebody else's, and stay as they are."""
_OUR_DIRECTORY = re.compile(r"(\d{1,10}-\d+)-(\d+)", re.ASCII)
"""Name of a directory of one server: its first process, and the namespace of that."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC if os.name == "posix" else 0
_LONGEST_NAME = 255
_LARGEST = 1 << 26
"""Bytes of a file that is read."""
_DEAD_SHARE = 10
"""How many times as many series as one process may have those that are gone may have together."""
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)
"""What says nothing of a file: who cannot read it now may be able to later, and must not go on without it."""
_LONGEST_READ = 60.0
"""Seconds after which no reader can be left that saw a file which is gone."""

EXPECTED = "a directory that belongs to this user, and to which nobody else can write"
"""What processes can share."""

_ANOTHER_USER = "this was another user before the fork; start the server as the user of the workers, or do not preload"

_told: set[str] = set()


def tell(trouble: str, why: object = None) -> None:
    """Log what is wrong, once however often it happens, and for whatever reason."""
    if trouble not in _told and len(_told) < 100:
        _told.add(trouble)
        logger.warning("otel_llm: %s", trouble if why is None else f"{trouble}: {why}")


def prepare(path: Path, *, own: bool = False) -> None:
    """Make the directory if it is not there.

    Args:
        path: where it is to be.
        own: whether nobody else may even read it.

    Raises:
        ValueError: it cannot be made, is none, is not ours, or others may write to it.
    """
    wrong = unfit(path, own=own)
    if wrong is not None:
        raise ValueError(f"{path} {wrong}; expected {EXPECTED}")


def unfit(path: Path, *, own: bool = False) -> str | None:
    """Make the directory if it is not there, and return what keeps us from sharing it, if something does."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        wrong = _wrong(path.lstat(), own=own)
    except FileExistsError:
        return "is no directory"
    except (OSError, ValueError) as error:  # ValueError: there is a zero byte in its name
        return f"cannot be made: {error.strerror if isinstance(error, OSError) else error}"
    if wrong is not None:
        return wrong
    effective = os.access in os.supports_effective_ids
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK, effective_ids=effective):
        return "cannot be written to and read"
    return None


def _wrong(found: os.stat_result, *, own: bool) -> str | None:
    """Return what is wrong with a directory; root trusts no other user's either."""
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is no directory"
    if os.geteuid() != found.st_uid:
        return "belongs to another user"
    if stat.S_IMODE(found.st_mode) & (0o077 if own else 0o022):
        return "can be read by others" if own else "can be written to by others"
    return None


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
        self._user = os.geteuid()
        self._read: dict[str, tuple[bytes, Snapshot]] = {}
        self._full = False
        """Whether no more can be moved to the dead."""

    def join(self) -> None:
        """Make the directory if it is not there, and leave nothing in it of groups that are gone.

        Raises:
            ValueError: it is not as `EXPECTED`.
            OSError: it cannot be used.
        """
        if self._own:
            prepare(self.path.parent, own=True)
            prepare(self.path, own=True)
            with self.opened() as directory:
                files.touch(directory, f"{self.path.name}{_ROOT}")
            _tidy_up(self.path.parent)
            return
        prepare(self.path)
        with self.opened() as directory, files.locked(directory, 2.0) as held:
            if held and not _inhabited(directory):
                for name in files.listed(directory):
                    if name != files.LOCK and _OUR_FILE.fullmatch(name):
                        files.remove(directory, name)
            files.touch(directory, f"{self._root}{_ROOT}")

    def has(self, name: str, suffix: str = SNAPSHOT) -> bool:
        """Whether a file of a process is there: somebody may have tidied up."""
        try:
            with self.opened() as directory:
                os.stat(f"{name}{suffix}", dir_fd=directory, follow_symlinks=False)
        except OSError:
            return False
        return True

    def running(self) -> list[str]:
        """Return the processes that can be asked, by their age."""
        with self.opened() as directory:
            return [name for name in _names(directory, SOCKET) if processes.running(name)]

    def write(self, name: str, data: bytes) -> None:
        """Write the snapshot of a process.

        Raises:
            OSError: it cannot be written; the last one is left as it was.
        """
        with self.opened() as directory:
            files.write(directory, name, SNAPSHOT, data)

    def hold(self, port: int, name: str) -> None:
        """Tell the others that a process has a port.

        Raises:
            OSError: it cannot be written.
        """
        if self._holder(port) != name:
            with self.opened() as directory:
                files.write(directory, f"{port}", _PORT, name.encode())
                files.remove(directory, f"{port}{_TOLD}")

    def release(self, port: int, name: str) -> None:
        """Tell the others that a process has a port no more."""
        if self._holder(port) == name:
            with self.opened() as directory:
                files.remove(directory, f"{port}{_PORT}")

    def held(self, port: int) -> bool:
        """Whether a process of the group has a port."""
        return processes.alive(self._holder(port))

    def _holder(self, port: int) -> str:
        try:
            with self.opened() as directory, files.open_file(directory, f"{port}{_PORT}", "rb") as file:
                return str(file.read(_LONGEST_NAME).decode())
        except (OSError, ValueError):
            return ""

    def first(self, trouble: str) -> bool:
        """Whether no process has told of some trouble yet; from now on, one has."""
        try:
            with self.opened() as directory, files.open_file(directory, f"{trouble}{_TOLD}", "xb"):
                pass
        except FileExistsError:
            return False
        except OSError:  # then each tells it
            pass
        return True

    def read(self, own: str) -> tuple[Snapshot | None, list[tuple[str, Snapshot]]]:
        """Return what is left of the dead, and the snapshots of the others by their age.

        Args:
            own: process whose snapshot is not wanted.

        Raises:
            OSError: one cannot be read now; a sum without it would be too low.
        """
        found: list[tuple[str, Snapshot]] = []
        with self.opened() as directory:
            names = _names(directory)
            for gone in self._read.keys() - {_DEAD, *names}:
                self._read.pop(gone, None)
            for name in names:
                snapshot = self._load(directory, name) if name != own else None
                if snapshot is not None:
                    found.append((name, snapshot if processes.alive(name) else snapshot.remains()))
            dead = self._load(directory, _DEAD)
        if dead is None:
            return None, found
        return dead, [(name, snapshot) for name, snapshot in found if name not in dead.merged]

    def compact(self, like: State, max_series: int) -> None:
        """Move what the dead had counted into one file.

        Raises:
            OSError: it cannot be written, or something not be read now; then nothing is removed.
        """
        if self._full:
            return
        with self.opened() as directory:
            names = {*_names(directory), *_names(directory, SOCKET)}
            gone = sorted([name for name in names if not processes.alive(name)], key=age)
            if gone:
                with files.locked(directory, 0.0) as held:
                    if held:
                        self._move(directory, gone, names.difference(gone), like, max_series)

    def _move(self, directory: int, gone: list[str], living: Collection[str], like: State, max_series: int) -> None:
        self._read.pop(_DEAD, None)
        dead = self._load(directory, _DEAD)
        known: Mapping[str, float] = {} if dead is None else dead.merged
        now = time.monotonic()
        loaded = {name: self._load_all(directory, name) for name in gone if name not in known}
        fresh = [snapshot.remains() for snapshot in loaded.values() if snapshot is not None]
        if fresh:
            others = [self._load_all(directory, name) for name in living]
            merged = {name: at for name, at in known.items() if now - at < _LONGEST_READ or name in gone}
            whole = _added(
                fresh if dead is None else [dead, *fresh],
                [snapshot for snapshot in others if snapshot is not None],
                like,
                max_series * _DEAD_SHARE,
            )
            whole.merged = {**merged, **dict.fromkeys(loaded, now)}
            data = encode(whole)
            if len(data) > _LARGEST:  # nobody would read it
                self._full = True
                return
            files.write(directory, _DEAD, SNAPSHOT, data)
        for name in gone:
            self._read.pop(name, None)
            for suffix in (SNAPSHOT, SOCKET, files.UNFINISHED):
                with suppress(OSError):
                    files.remove(directory, f"{name}{suffix}")

    def touch(self) -> None:
        """Tell those who tidy up directories of temporary files that these are in use."""
        with self.opened() as directory:
            for name in filter(_OUR_FILE.fullmatch, files.listed(directory)):
                with suppress(OSError):
                    os.utime(name, dir_fd=directory, follow_symlinks=False)
        for path in (self.path.parent, self.path) if self._own else ():
            with suppress(OSError):
                os.utime(path)

    @contextmanager
    def opened(self) -> Generator[int]:
        """Open the directory if it is still as `EXPECTED`; files in it are opened relative to that.

        Raises:
            OSError: it is not.
        """
        if os.geteuid() != self._user:
            raise PermissionError(errno.EPERM, _ANOTHER_USER, str(self.path))
        directory = os.open(self.path, _DIRECTORY)
        try:
            wrong = _wrong(os.fstat(directory), own=self._own)
            if wrong is not None:
                raise PermissionError(errno.EPERM, f"it {wrong}", str(self.path))
            yield directory
        finally:
            os.close(directory)

    def _load(self, directory: int, name: str) -> Snapshot | None:
        """Return a snapshot; what has not changed is not decoded again.

        Raises:
            OSError: it cannot be read now.
        """
        path = f"{self.path}{os.sep}{name}{SNAPSHOT}"
        try:
            with files.open_file(directory, f"{name}{SNAPSHOT}", "rb") as file:
                # Room for the largest would cost more than all the rest.
                data = file.read(min(os.fstat(file.fileno()).st_size, _LARGEST) + 1)
        except OSError as error:
            if error.errno in PASSING:
                raise
            if not isinstance(error, FileNotFoundError):  # else it is moved to the dead by now, most likely
                tell(f"{path} does not count", error.strerror)
            self._read.pop(name, None)
            return None
        if len(data) > _LARGEST:
            tell(f"{path} does not count", "it is too large")
            return None
        known = self._read.get(name)
        if known is not None and known[0] == data:
            return known[1]
        try:
            snapshot = decode(data)
        except ValueError as error:
            tell(f"{path} does not count", error)
            return None
        snapshot.path = path
        self._read[name] = data, snapshot
        return snapshot

    def _load_all(self, directory: int, name: str) -> Snapshot | None:
        """Return a snapshot of which both halves can be read."""
        snapshot = self._load(directory, name)
        try:
            return snapshot if snapshot is None or (snapshot.state and snapshot.families) else None
        except ValueError as error:
            tell(f"{self.path / name}{SNAPSHOT} does not count", error)
            return None


def _added(parts: list[Snapshot], living: list[Snapshot], like: State, max_series: int) -> Snapshot:
    """Add up what is left of the dead; what the living have, too, keeps its row, which would fall without."""
    cells: set[Facts | str] = set()
    for snapshot in living:
        state = snapshot.state
        cells.update([facts for facts, _ in state.cells])
        cells.update([facts for told in state.measures.values() for facts, _ in told])
        cells.update([labels for told in state.by_hand.values() for labels, _ in told])
    rows = {
        (family.name, labels)
        for snapshot in living
        for family in snapshot.families.families
        for labels, _ in family.series
    }
    state = add_states([part.state for part in parts], like, max_series, cells)
    return Snapshot(state, add_families([part.families for part in parts], max_series, rows))


def _tidy_up(path: Path) -> None:
    """Remove directories of servers that are gone, of which this process can tell."""
    parent = os.open(path, _DIRECTORY)
    try:
        for name in files.listed(parent):
            ours = _OUR_DIRECTORY.fullmatch(name)
            if ours and ours[2] == str(processes.namespace()) and not processes.alive(name):
                with suppress(OSError):
                    _remove_directory(parent, name)
    finally:
        os.close(parent)


def _remove_directory(parent: int, name: str) -> None:
    """Remove a directory that a server has made, if none of its processes is left and nothing else is in it."""
    directory = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        names = files.listed(directory)
        marker = f"{name}{_ROOT}"
        if _wrong(os.fstat(directory), own=True) or marker not in names or _inhabited(directory):
            return
        for each in names:
            if each != marker and _OUR_FILE.fullmatch(each):
                files.remove(directory, each)
        if files.listed(directory) == [marker]:
            files.remove(directory, marker)
            os.rmdir(name, dir_fd=parent)
    finally:
        os.close(directory)


def _inhabited(directory: int) -> bool:
    """Whether a process is left whose group a directory is, or that has written to it."""
    return any(
        _suffix(name) in (SNAPSHOT, SOCKET, _ROOT) and processes.alive(name.rpartition(".")[0])
        for name in files.listed(directory)
    )


def _names(directory: int, suffix: str = SNAPSHOT) -> list[str]:
    """Return the processes that have a file, by their age."""
    ours = [name for name in files.listed(directory) if _suffix(name) == suffix and _OUR_FILE.fullmatch(name)]
    return sorted([name.removesuffix(suffix) for name in ours if name != f"{_DEAD}{suffix}"], key=age)


def _suffix(name: str) -> str:
    stem, dot, end = name.rpartition(".")
    return dot + end if stem else ""


def age(name: str) -> tuple[int, str]:
    """Return what processes are sorted by: when they began."""
    began = name.split("-")[1:2]
    return int(began[0]) if began and began[0].isdecimal() else 0, name
