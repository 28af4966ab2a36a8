"""Which processes live, and which of them are workers of one server."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_UNKNOWN = "0"
"""Start of a process where the system does not tell it."""


def identity(pid: int) -> str | None:
    """Return what tells a process from all others, later ones with its number among them; None if there is none."""
    began = _began(pid)
    return None if began is None else f"{pid}-{began[0]}"


def alive(name: str) -> bool:
    """Whether the process of an identity, or of a longer name that begins with one, is there."""
    return _state(name) is not None


def running(name: str) -> bool:
    """Whether the process of an identity is there, and not stopped until it is told to go on."""
    state = _state(name)
    return state is not None and state not in ("T", "t")


def _state(name: str) -> str | None:
    """Return the state of the process of an identity, nothing where the system does not tell it; None if it is gone."""
    pid, began = _split(name)
    now = _began(pid) if pid else None
    return now[1] if now is not None and (now[0] == began or _UNKNOWN in (now[0], began)) else None


def _split(name: str) -> tuple[int, str]:
    pid, _, rest = name.partition("-")
    return int(pid) if pid.isdecimal() else 0, rest.partition("-")[0]


def _began(pid: int) -> tuple[str, str] | None:
    """Return when a process began, in clock ticks since boot, and its state (``proc(5)``, fields 22 and 3)."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        state = fields[0].decode()
        return None if state in "ZX" else (fields[19].decode(), state)
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except PermissionError:
        return _UNKNOWN, ""
    except (OSError, OverflowError):
        return None
    return _UNKNOWN, ""


def directory_of(name: str) -> Path:
    """Return the directory that the workers of a server share.

    Args:
        name: identity of the server's first process.
    """
    import tempfile

    return Path(tempfile.gettempdir(), f"otel-llm-{os.geteuid()}", f"{name}-{namespace()}")


def namespace() -> int:
    """Return in which namespace numbers of processes are those of this one; 0 where the system has one only."""
    try:
        return (_PROC / "self" / "ns" / "pid").stat().st_ino
    except OSError:
        return 0


def gunicorn() -> bool:
    """Whether this is a process of a running gunicorn: its master or one of the workers."""
    return "gunicorn.arbiter" in sys.modules and os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")


def master() -> int | None:
    """Return the number of the process whose worker this is; None if this is no worker, as far as one can know.

    A worker of uvicorn is a child of `multiprocessing` that runs a function of uvicorn's. One of gunicorn has come out
    of a function of its master's, which is still running, or has signal handlers that belong to its worker.
    """
    child = sys.modules.get("multiprocessing.process")
    parent = child.parent_process() if child is not None else None
    if child is not None and parent is not None:
        target: Any = getattr(child.current_process(), "_target", None)
        return parent.pid if getattr(target, "__module__", "").startswith("uvicorn.") else None
    return _gunicorn_master() if gunicorn() else None


def parent() -> int | None:
    """Return the number of the process that `multiprocessing` made this one a child of."""
    child = sys.modules.get("multiprocessing.process")
    process = child.parent_process() if child is not None else None
    return None if process is None else process.pid


def undecided() -> bool:
    """Whether this is a child of `multiprocessing` that does not know yet what it is for."""
    child = sys.modules.get("multiprocessing.process")
    target = None if child is None else getattr(child.current_process(), "_target", None)
    return "--multiprocessing-fork" in sys.orig_argv and target is None


def at_the_end_of_uvicorn(do: Callable[[], None]) -> Callable[[], None] | None:
    """Have something done when a server of uvicorn's has answered its last request; return what undoes it.

    A server that was told to end by a signal ends its process with that signal, and nothing that is registered with
    `atexit` is called any more (``Server.capture_signals`` of uvicorn 0.29 and later).
    """
    module = sys.modules.get("uvicorn.server")
    if module is None:
        return None
    kind: Any = module.Server
    original = kind.shutdown

    @wraps(original)
    async def shutdown(*args: Any, **kwargs: Any) -> None:
        try:
            await original(*args, **kwargs)
        finally:
            do()

    def undo() -> None:
        if kind.shutdown is shutdown:
            kind.shutdown = original

    kind.shutdown = shutdown
    return undo


def _gunicorn_master() -> int | None:
    base = sys.modules.get("gunicorn.workers.base")
    kind: Any = getattr(base, "Worker", ())
    candidates: list[Any] = []
    if hasattr(signal, "SIGUSR1"):
        for number in (signal.SIGABRT, signal.SIGUSR1, signal.SIGWINCH):
            candidates.append(getattr(signal.getsignal(number), "__self__", None))
    threading: Any = sys.modules.get("threading")
    frame = sys._current_frames().get(threading.main_thread().ident) if threading is not None else None
    while frame is not None:
        if frame.f_code.co_name == "spawn_worker":
            candidates.append(frame.f_locals.get("worker"))
        frame = frame.f_back
    for worker in candidates:
        if isinstance(worker, kind) and worker.pid == os.getpid():
            master: int = worker.ppid
            return master
    return None
