"""Files in a directory that is open: written whole or not at all, and opened only if nobody else has put them there."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import IO

UNFINISHED = ".unfinished"
"""How the name of a file ends that is being written."""
LOCK = "lock"


def _opener(directory: int) -> Callable[[str, int], int]:
    """Return what opens files in a directory: plain ones of this user or root, whatever somebody has put there."""

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600, dir_fd=directory)
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.geteuid()):
            return descriptor
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "it is no file of this user", name)

    return opener


def open_file(directory: int, name: str, mode: str) -> IO[bytes]:
    """Open a file.

    Raises:
        OSError: it cannot be opened, or is none of this user or root.
    """
    return open(name, mode, opener=_opener(directory))


def touch(directory: int, name: str) -> None:
    """Make a file if it is not there."""
    with open_file(directory, name, "ab"):
        pass


def remove(directory: int, name: str) -> None:
    """Remove a file if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def write(directory: int, name: str, suffix: str, data: bytes) -> None:
    """Write a file, in place of the one that is there.

    Raises:
        OSError: it cannot be written; the one that is there stays as it was.
    """
    unfinished = f"{name}{UNFINISHED}"
    try:
        try:
            file = open_file(directory, unfinished, "xb")
        except FileExistsError:  # left by a crash, or in our way
            remove(directory, unfinished)
            file = open_file(directory, unfinished, "xb")
        with file:
            # ext4 sends a file to the disk, while others wait, where it replaces another one and has no blocks yet.
            with suppress(OSError, AttributeError):
                os.posix_fallocate(file.fileno(), 0, len(data))
            file.write(data)
        os.replace(unfinished, f"{name}{suffix}", src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            remove(directory, unfinished)
        raise


@contextmanager
def locked(directory: int, patience: float) -> Generator[bool]:
    """Hold the lock, if it can be had within some seconds: a process that is stopped may have it for ever."""
    import fcntl

    until = time.monotonic() + patience
    with open_file(directory, LOCK, "ab") as file:
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


def listed(directory: int) -> list[str]:
    """Return the names of all files."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]
