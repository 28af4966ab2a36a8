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
from threading import RLock, Thread, get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_llm import faults, forked
from otel_llm.prometheus.multiprocess import processes
from otel_llm_semconv import environment as variables

if TYPE_CHECKING:
    from otel_llm.prometheus.multiprocess.directory import Directory
    from otel_llm.prometheus.multiprocess.worker import Shared
    from otel_llm.state import State

__all__ = ["claim", "close", "expect", "first", "held", "hold", "pending", "release", "shared", "start", "stop"]

Claim = Callable[[bool], bool]
"""Tries to get something and returns whether there is nothing more to try; told whether it is for the last time."""

SUPPORTED = hasattr(os, "fork")
_PATIENCE = 2.0
"""Seconds that a claim waits for somebody who says what to share."""


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
_expected: str | None = None
"""The one that is about to be given."""
_shared: Shared | None = None
_claims: list[Claim] = []
"""What is claimed while it is not known yet whether this is a worker."""
_otherwise: Callable[[], Sources] | None = None
"""Tells what to share if nobody else does, while there are claims."""
_ports: set[int] = set()
"""Those that this process has."""
_watch: Thread | None = None
_undo: Callable[[], None] | None = None
"""Takes our function off uvicorn's server."""


def unfit(directory: str) -> str | None:
    """Make a directory if it is not there, and return why processes cannot share it, if they cannot."""
    if not SUPPORTED:
        return "processes share what they count on POSIX systems only"
    from otel_llm.prometheus.multiprocess.directory import EXPECTED, unfit

    wrong = unfit(Path(directory).absolute())
    return None if wrong is None else f"expected {EXPECTED}; it {wrong}"


def expect(directory: str | None) -> None:
    """Get ready to share, before there is anything to share.

    Args:
        directory: the one that is given, for which `unfit` returns None.
    """
    global _expected
    _expected = directory


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
    if SUPPORTED:
        with _lock:
            _start(None if directory is None else Path(directory).absolute(), Sources(state, families, max_series))


def _start(path: Path | None, sources: Sources) -> None:
    global _sources, _given, _shared, _watch, _otherwise
    if _shared is not None and path != _given:
        _claims.extend(_shared.claims)
        _shared.close()
        _shared = None
    _sources, _given, _otherwise = sources, path, None
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
        # The master of workers has some later.
        _try_claims(last=not processes.gunicorn())


def stop() -> None:
    """Share no more; what was counted until now goes on counting."""
    global _expected, _sources, _undo, _otherwise
    _sources = None
    _expected = None
    _otherwise = None
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


def claim(attempt: Claim, otherwise: Callable[[], Sources]) -> bool:
    """Try to get what only one of several processes can have, again and again, in the background.

    Args:
        attempt: tries it; it raises nothing.
        otherwise: tells what to share if nobody else does so in time.

    Returns:
        Whether it will be tried: not where this is the only process.
    """
    global _otherwise
    known = shared()
    if known is not None:
        known.claims.append(attempt)
    elif pending():
        _claims.append(attempt)
        if _sources is None and _otherwise is None:
            _otherwise = otherwise
            Thread(target=_wait, name="otel_llm workers", daemon=True).start()
    else:
        return False
    return True


def hold(port: int) -> None:
    """Tell the other processes that this one has a port."""
    _ports.add(port)
    if _shared is not None:
        _shared.hold(port)


def release(port: int) -> None:
    """Tell the other processes that this one has a port no more."""
    _ports.discard(port)
    if _shared is not None:
        _shared.release(port)


def held(port: int) -> bool:
    """Whether this process or another one with which it shares has a port."""
    known = shared()
    return port in _ports or (known is not None and known.directory.held(port))


def first(trouble: str) -> bool:
    """Whether none of the processes has told of some trouble yet; from now on, one has.

    Args:
        trouble: a word for it.
    """
    known = shared()
    return known is None or known.directory.first(trouble)


def pending() -> bool:
    """Whether this is one of several processes, as far as one can know, and does not share yet."""
    return _watch is not None or (_sources is None and _likely())


def _likely() -> bool:
    if not SUPPORTED:
        return False
    given = os.environ.get(variables.OTEL_LLM_MULTIPROC_DIR, "").strip()
    return bool(_expected or given) or processes.gunicorn() or processes.undecided() or processes.master() is not None


@faults.guarded
def close() -> None:
    """Write for the last time, while everything can still be read."""
    if _shared is not None:
        _shared.close()


def _try_claims(*, last: bool = False) -> None:
    _claims[:] = [attempt for attempt in _claims if not attempt(last) and not last]


@faults.guarded
def _wait() -> None:
    """Wait for somebody who says what to share."""
    time.sleep(_PATIENCE)
    _go_ahead()


def _go_ahead() -> None:
    """Share what there is, if there are claims and nobody has said what to share."""
    with _lock:
        if _otherwise is not None:
            from otel_llm import config

            sources, settings = _otherwise(), config.resolve_or_default()
            directory = _expected or settings.multiproc_dir
            _start(Path(directory).absolute() if directory else None, sources._replace(max_series=settings.max_series))


def _begin(found: Shared) -> None:
    """Start to share, and have it write once more where a process ends without what is registered with `atexit`."""
    global _undo
    _try_claims()
    found.claims += _claims
    found.ports |= _ports
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
        _try_claims(last=True)


def _before_fork() -> None:
    """Keep what has been counted: a child goes on from there, and shows what it adds."""
    global _shared
    _go_ahead()
    if _sources is None:
        return
    known = shared()
    own = processes.identity(os.getpid())
    if known is None and own is not None and processes.gunicorn():
        from otel_llm.prometheus.multiprocess.worker import Shared

        known = _shared = Shared(_directory(processes.directory_of(own), own, own=True), _sources)
    if known is not None:
        known.at_fork[get_ident()] = known.take()


def _after_in_parent() -> None:
    if _shared is not None and _shared.at_fork.pop(get_ident(), None) is not None and not _shared.started:
        _begin(_shared)


def _leave_to_parent() -> None:
    global _lock, _shared, _watch, _otherwise
    _lock = RLock()
    _watch = None
    _otherwise = None
    _ports.clear()
    parents, _shared = _shared, None
    if parents is not None and _sources is not None:
        parents.forget()
        _shared = parents.child()


def _go_on() -> None:
    if _shared is not None:
        _begin(_shared)


if SUPPORTED:
    forked.around(before=_before_fork, after_in_parent=_after_in_parent)
    forked.in_child(renew=_leave_to_parent, begin=_go_on)
