"""Several processes, one page: the workers of gunicorn and uvicorn, and whoever shares a directory.

Each process writes a snapshot of what it has counted into a directory, every second and whenever another one asks. Who
is scraped asks all others, and shows the sum. Under gunicorn and uvicorn this starts by itself, in a directory that is
named after the process whose workers they are; elsewhere with a directory that is given.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import RLock, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_llm import faults
from otel_llm.prometheus.multiprocess import processes
from otel_llm_semconv import environment as variables

if TYPE_CHECKING:
    from otel_llm.prometheus.multiprocess.directory import Directory
    from otel_llm.prometheus.multiprocess.worker import Shared
    from otel_llm.state import State

__all__ = ["claim", "close", "expect", "pending", "shared", "start", "stop"]

_SUPPORTED = hasattr(os, "fork")


class Sources(NamedTuple):
    """Where the numbers of this process come from."""

    state: Callable[[], State]
    families: Callable[[], Sequence[object]]
    """Those of our own are shared, not those of `prometheus_client`."""
    max_series: int = 2000


_lock = RLock()
_sources: Sources | None = None
_given: Path | None = None
"""The directory that is given."""
_expected = False
"""Whether one is about to be given."""
_shared: Shared | None = None
_claims: list[Callable[[], bool]] = []
"""What is claimed while it is not known yet whether this is a worker."""
_watch: Thread | None = None
_undo: Callable[[], None] | None = None
"""Takes our function off uvicorn's server."""


def expect(directory: str | os.PathLike[str] | None) -> None:
    """Get ready to share, before there is anything to share.

    Args:
        directory: the one that is given, which is made if it is not there.

    Raises:
        ValueError: it is not ours, others may write to it, or the system has no processes that could share it.
        OSError: it cannot be made.
    """
    global _expected
    _expected = directory is not None
    if directory is None:
        return
    if not _SUPPORTED:
        raise ValueError("multiproc_dir: processes share what they count on POSIX systems only")
    from otel_llm.prometheus.multiprocess.directory import prepare

    try:
        prepare(Path(directory).absolute())
    except (ValueError, OSError) as error:
        raise type(error)(f"multiproc_dir: {error}") from error


def start(
    directory: str | os.PathLike[str] | None,
    *,
    state: Callable[[], State],
    families: Callable[[], Sequence[object]],
    max_series: int = 2000,
) -> None:
    """Share what this process counts, if it is one of several; called again, it takes other sources.

    Args:
        directory: what the processes share; None leaves it to be found out whether this is a worker of a server.
        state: returns what dialects show of this process.
        families: returns the canonical families of this process; those of `prometheus_client` are left out.
        max_series: most series of a family, and most cells of a state.
    """
    global _sources, _given, _shared, _watch
    if not _SUPPORTED:
        return
    path = None if directory is None else Path(directory).absolute()
    if _shared is not None and path != _given:
        _shared.close()
        _shared = None
    _sources, _given = Sources(state, families, max_series), path
    # Who registers later is called earlier: by then, all calls have ended.
    atexit.unregister(close)
    atexit.register(close)
    if _shared is not None:
        _shared.go_on(_sources)
        _begin(_shared)
    elif shared() is not None:
        return
    elif processes.undecided():
        if _watch is None:
            _watch = Thread(target=_find_out, name="otel_llm workers", daemon=True)
            _watch.start()
    else:
        _try_claims()


def stop() -> None:
    """Share no more; what was counted until now goes on counting."""
    global _expected, _sources, _undo
    _sources = None
    _expected = False
    _claims.clear()
    undo, _undo = _undo, None
    if undo is not None:
        undo()
    if _shared is not None:
        _shared.claims.clear()
        _shared.close()


def shared() -> Shared | None:
    """Return this process as one of several; None if it is the only one."""
    global _shared
    if _sources is None or _shared is not None:
        return _shared if _sources is not None else None
    with _lock:
        directory = _find() if _shared is None else None
        if directory is not None:
            from otel_llm.prometheus.multiprocess.worker import Shared

            _shared = Shared(directory, _sources)
            _begin(_shared)
    return _shared


def claim(attempt: Callable[[], bool]) -> bool:
    """Try to get what only one of several processes can have, again and again, in the background.

    Args:
        attempt: tries it and returns whether there is nothing more to try; it raises nothing.

    Returns:
        Whether it will be tried: not where this is the only process.
    """
    known = shared()
    if known is not None:
        known.claims.append(attempt)
    elif pending():
        _claims.append(attempt)
    else:
        return False
    return True


def pending() -> bool:
    """Whether this is one of several processes, as far as one can know, and does not share yet."""
    return _watch is not None or (_sources is None and _likely())


def _likely() -> bool:
    if not _SUPPORTED:
        return False
    given = os.environ.get(variables.OTEL_LLM_MULTIPROC_DIR, "").strip()
    return _expected or bool(given) or processes.gunicorn() or processes.undecided() or processes.master() is not None


@faults.guarded
def close() -> None:
    """Write for the last time, while everything can still be read."""
    if _shared is not None:
        _shared.close()


def _try_claims() -> None:
    _claims[:] = [attempt for attempt in _claims if not attempt()]


def _begin(found: Shared) -> None:
    """Start to share, and have it write once more where a process ends without what is registered with `atexit`."""
    global _undo
    _try_claims()
    found.claims += _claims
    _claims.clear()
    found.start()
    if _undo is None:
        _undo = processes.at_the_end_of_uvicorn(_write)
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        _write_at_the_end(found)
        # A child that multiprocessing has just forked forgets this, and then calls what is registered here.
        util.register_after_fork(found, _write_at_the_end)


def _write_at_the_end(found: Shared) -> None:
    util: Any = sys.modules["multiprocessing.util"]
    if processes.parent() is not None and found is _shared:
        util.Finalize(None, _write, exitpriority=-100)


@faults.guarded
def _write() -> None:
    if _shared is not None:
        _shared.write()


def _find() -> Directory | None:
    """Return the directory of the processes of which this is one."""
    own = processes.identity(os.getpid())
    if own is None:
        return None
    server = processes.master()
    first = server if server is not None else processes.parent()
    root = (processes.identity(first) if first is not None else None) or own
    if _given is not None:
        return _directory(_given, root, own=False)
    if server is not None:
        return _directory(processes.directory_of(root), root, own=True)
    # Its workers may have named a directory after it.
    path = processes.directory_of(own)
    return _directory(path, own, own=True) if path.is_dir() else None


def _directory(path: Path, root: str, *, own: bool) -> Directory:
    from otel_llm.prometheus.multiprocess.directory import Directory

    return Directory(path, root, own=own)


def _find_out() -> None:
    """Wait until a child of `multiprocessing` knows what it is for."""
    global _watch
    until = time.monotonic() + 60
    while processes.undecided() and time.monotonic() < until:
        time.sleep(0.05)
    _watch = None
    if shared() is None:
        _try_claims()
        _claims.clear()


@faults.guarded
def _before_fork() -> None:
    """Keep what has been counted: a child goes on from there, and shows what it adds."""
    global _shared
    if _sources is None:
        return
    known = shared()
    own = processes.identity(os.getpid())
    if known is None and own is not None and processes.gunicorn():
        from otel_llm.prometheus.multiprocess.worker import Shared

        known = _shared = Shared(_directory(processes.directory_of(own), own, own=True), _sources)
    if known is not None:
        known.at_fork = known.take()


@faults.guarded
def _after_in_parent() -> None:
    if _shared is not None and _shared.at_fork is not None:
        _shared.at_fork = None
        if not _shared.started:
            _begin(_shared)


@faults.guarded
def _after_in_child() -> None:
    global _lock, _shared, _watch
    _lock = RLock()
    _watch = None
    parents, _shared = _shared, None
    if parents is not None and _sources is not None:
        parents.forget()
        _shared = parents.child()
        _begin(_shared)


if _SUPPORTED:
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
