"""One process of several: it writes its snapshot, answers those who ask for it, and adds up those of all."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Event, RLock, Thread, get_ident
from typing import TYPE_CHECKING, TypeVar

from otel_llm import faults
from otel_llm.prometheus import shortcut
from otel_llm.prometheus.families import Family, Histogram, Series, parsed, spelled
from otel_llm.prometheus.multiprocess import processes
from otel_llm.prometheus.multiprocess.arithmetic import (
    add_families,
    add_states,
    by_facts,
    own,
    subtract_families,
    subtract_state,
)
from otel_llm.prometheus.multiprocess.directory import PASSING, SOCKET, Directory, age, tell
from otel_llm.prometheus.multiprocess.snapshot import (
    Families,
    Row,
    Snapshot,
    encode_families,
    encode_state,
    is_ours,
    join,
    plain,
)
from otel_llm.state import State, Told, Totals

if TYPE_CHECKING:
    from otel_llm.prometheus.multiprocess import Claim, Sources

T = TypeVar("T")

INTERVAL = 1.0
"""Seconds between two snapshots: what a process counts in that time is lost where it is killed."""
PATIENCE = 0.5
"""Seconds in which all others together have to answer a scrape; who does not counts with the last snapshot."""
_ALL, _STATE = b"a", b"s"
"""What is asked for."""
_TICK = 0.25
"""Seconds between two attempts to get what another process has."""
_SHARE, _SHARE_AT_REST = 0.2, 0.02
"""Of the time of a processor, what the dear half of snapshots may take: after calls, and where there were none."""
_GRID = float(1 << 20)
"""Parts of a second that sums are rounded to: as such they add up exactly in any order, up to 2**33 seconds. Else a sum
could fall by its last bit when a process is gone, which Prometheus would take for a new start."""
_TOUCH = 3600.0
_LONGEST_ADDRESS = 100
"""Bytes of the path of a socket (``unix(7)``: 108 on Linux, 104 elsewhere)."""


class Shared:
    """This process among those that one scrape adds up.

    Args:
        directory: what they share.
        sources: where the numbers of this one come from.
        before: what its parent had counted when it was forked.
        gauges: series that show their last value, and when they got it.
    """

    def __init__(
        self,
        directory: Directory,
        sources: Sources,
        before: Snapshot | None = None,
        gauges: dict[Row, tuple[object, float]] | None = None,
    ) -> None:
        own = processes.identity(os.getpid()) or f"{os.getpid()}-0"
        # The number after a call of exec is the same.
        self.name = f"{own}-{os.urandom(4).hex()}"
        self.directory = directory
        self.sources = sources
        self.before = before
        self.gauges = gauges or {}
        self.at_fork: dict[int, Snapshot] = {}
        """What this process had counted when it was about to fork, by the thread that does so."""
        self.claims: list[Claim] = []
        """What another process may have yet; tried until it returns True."""
        self.ports: set[int] = set()
        """Those that this process has."""
        self._families = b""
        """The canonical families as they were written last."""
        self._written = b""
        self._state_then = b""
        """What dialects showed when the canonical families were taken last."""
        self._taken_at = self._cost = 0.0
        """When that was, and what it took of a processor, in seconds."""
        self._lock = RLock()
        self._joined = False
        self._closed = False
        self._quiet = Event()
        self._listener: socket.socket | None = None
        self._thread = Thread(target=self._run, name="otel_llm workers", daemon=True)

    @property
    def started(self) -> bool:
        """Whether it writes and answers."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start to write and to answer; who asks from now on waits for what this process counts."""
        if not self.started and not self._closed:
            self._listen()
            self._thread.start()

    def state(self) -> State:
        """Return the state of all processes."""
        own, snapshots = self._gather(families=False)
        return add_states(_each(snapshots, lambda each: each.state), own.state)

    def families(self) -> list[Family]:
        """Return the canonical families of all processes."""
        _, snapshots = self._gather(families=True)
        return add_families(_each(snapshots, lambda each: each.families)).families

    def _gather(self, *, families: bool) -> tuple[Snapshot, list[Snapshot]]:
        """Ask the others for what they have, and return the own snapshot and all of them, what is gone first.

        What they show is on disk: no process that dies can make a sum fall. Takes `PATIENCE` where one is stuck.
        """
        with selectors.DefaultSelector() as answers:
            try:
                self._ask(answers, families=families)
                # While they are at it.
                own = self.write(families=families)
                self._hear(answers)
            finally:
                for key in list(answers.get_map().values()):
                    key.fileobj.close()  # type: ignore[union-attr]  # it is a socket
        if not self._joined:
            return own, [own]
        try:
            dead, others = self.directory.read(self.name)
        except OSError as error:
            if error.errno in PASSING:  # better no page than a sum that falls
                raise
            tell(f"workers cannot share what they count: {error}")
            return own, [own]
        parts = sorted([*others, (self.name, own)], key=lambda part: age(part[0]))
        snapshots = [snapshot for _, snapshot in parts]
        return own, snapshots if dead is None else [dead, *snapshots]

    def write(self, *, families: bool | None = True) -> Snapshot:
        """Write the snapshot of this process, if it has changed, and return it.

        Args:
            families: whether the canonical families are wanted, which take far longer than the rest; else they are
                those of the last time. None leaves it to what they cost, and whether there were calls since.
        """
        with self._lock:
            state = self.take_state()
            if self.before is not None:
                state = subtract_state(state, self.before.state)
            encoded = encode_state(state)
            if families is None:
                families = self._due(encoded)
            if families or not self._families:
                begun = time.thread_time()
                taken = self.take_families()
                if self.before is not None:
                    taken = subtract_families(taken, self.before.families)
                self._families = encode_families(taken)
                self._cost = time.thread_time() - begun
                self._taken_at, self._state_then = time.monotonic(), encoded
                own = Snapshot(state, taken)
            else:
                own = Snapshot(state, self._families)
            if self._closed:
                return own
            data = join(encoded, self._families)
            if data != self._written or not self.directory.has(self.name):
                try:
                    self._join()
                    self._put(data)
                except (OSError, ValueError) as error:
                    tell(f"workers cannot share what they count: {error}")
            return own

    def _due(self, state: bytes) -> bool:
        """Whether the canonical families are to be taken again, by what dialects show now and by what they cost."""
        share = _SHARE_AT_REST if state == self._state_then else _SHARE
        return time.monotonic() - self._taken_at >= self._cost / share

    def take(self) -> Snapshot:
        """Return what this process has, with what it had from its parent."""
        # What other threads count in the meantime would count twice after a fork: what takes long comes first.
        families: Families | bytes = self._families or Families([])
        if shortcut.current() is None:  # else this thread forks in the midst of a collection, and has locks of the SDK
            families = self.take_families()
        return Snapshot(self.take_state(), families)

    def take_state(self) -> State:
        """Return the half that pages of dialects are made of."""
        state = self.sources.state()
        return state._replace(
            cells=[(facts, _rounded(totals)) for facts, totals in by_facts(state.cells)],
            measures=_own(state.measures),
            by_hand=_own(state.by_hand),
        )

    def take_families(self) -> Families:
        """Return the half that the canonical page is made of."""
        families: list[Family] = []
        times: dict[Row, float] = {}
        now = time.monotonic()
        for family in self.sources.families():
            if not isinstance(family, Family):  # a native metric, which is not ours to share
                continue
            series = plain([_filled(one) if '=""' in one.labels else one for one in family.series])
            if family.kind == "histogram" and is_ours(family.name):
                series = [Series(labels, _with_rounded_sum(value)) for labels, value in series]
            families.append(family._replace(series=series, samples=None))
            if family.kind == "gauge" and family.last:
                for labels, value in series:
                    row = family.name, labels
                    known = self.gauges.get(row)
                    if known is None or known[0] != value:
                        known = self.gauges[row] = value, now
                    times[row] = known[1]
        return Families(families, times)

    def close(self) -> None:
        """Write for the last time; whatever comes later is lost."""
        if self._closed:
            return
        self.write()
        with self._lock:
            self._closed = True
            self._stop_listening()
        self._quiet.set()

    def go_on(self, sources: Sources) -> None:
        """Take other sources, and start again where it was closed: what was counted before is counted once."""
        self.sources = sources
        if self._closed:
            self._closed = False
            self._quiet = Event()
            self._thread = Thread(target=self._run, name="otel_llm workers", daemon=True)
            self.start()

    def child(self) -> Shared:
        """Return what a forked child is, which has this one's numbers and shows what it adds to them."""
        child = Shared(self.directory, self.sources, self.at_fork.get(get_ident()), dict(self.gauges))
        child.claims += self.claims
        return child

    def hold(self, port: int) -> None:
        """Tell the others that this process has a port."""
        self.ports.add(port)
        self._mark()

    def release(self, port: int) -> None:
        """Tell the others that this process has a port no more."""
        self.ports.discard(port)
        with suppress(OSError):
            self.directory.release(port, self.name)

    def _mark(self) -> None:
        for port in list(self.ports):
            with suppress(OSError):  # it is tried again
                self.directory.hold(port, self.name)

    def forget(self) -> None:
        """Let go, in a forked child, of what belongs to its parent."""
        listener, self._listener = self._listener, None
        self._closed = True
        if listener is not None:
            listener.close()

    def _join(self) -> None:
        if not self._joined:
            self.directory.join()
            self._joined = True

    def _put(self, data: bytes) -> None:
        try:
            self.directory.write(self.name, data)
        except FileNotFoundError:  # somebody has tidied up
            self.directory.join()
            self.directory.write(self.name, data)
            self._stop_listening()
        self._written = data

    def _run(self) -> None:
        touched = time.monotonic()
        # A process that is just forked, or about to run something else, has better things to do.
        due = touched + _TICK
        self._mark()
        while not self._closed:
            try:
                if self._listener is None:
                    self._listen()
                self._answer(max(0.0, min(due - time.monotonic(), _TICK)))
                for claim in list(self.claims):
                    if claim(False):
                        self.claims.remove(claim)
                now = time.monotonic()
                if now < due or self._closed:
                    continue
                self._mark()
                own = self.write(families=None)
                if not self.directory.has(self.name, SOCKET):
                    self._stop_listening()
                if self._joined:
                    self.directory.compact(own.state, self.sources.max_series)
                if now - touched > _TOUCH:
                    touched = now
                    self.directory.touch()
                due = time.monotonic() + INTERVAL
            except OSError as error:
                if not self._closed:
                    tell(f"workers cannot share what they count: {error}")
                    due = time.monotonic() + INTERVAL
                    self._quiet.wait(_TICK)
            except Exception:
                due = time.monotonic() + INTERVAL
                faults.fault("multiprocess")
                self._quiet.wait(_TICK)

    def _listen(self) -> None:
        """Open the socket on which others ask; where that cannot be, they read what is written by itself."""
        with self._lock, ExitStack() as undo:
            try:
                self._join()
                if self._closed:
                    return
                listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                with self.directory.opened(), _address(self.directory.path / f"{self.name}{SOCKET}") as address:
                    listener.bind(address)
                listener.listen(64)
                listener.setblocking(False)
            except (OSError, ValueError) as error:
                tell(f"workers cannot share what they count: {error}")
                return
            undo.pop_all()
            self._listener = listener

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                (self.directory.path / f"{self.name}{SOCKET}").unlink()
            listener.close()

    def _answer(self, timeout: float) -> None:
        """Wait for those who ask, and tell all of them that the snapshot is written."""
        listener = self._listener
        if listener is None:
            self._quiet.wait(timeout)
            return
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(listener, selectors.EVENT_READ)
            except ValueError:  # it was closed meanwhile
                return
            if not selector.select(timeout):
                return
        asking: list[socket.socket] = []
        families = False
        try:
            with suppress(BlockingIOError):
                while True:
                    asking.append(listener.accept()[0])
            for each in asking:
                # The question follows the connection at once.
                each.settimeout(_TICK / 10)
                try:
                    families |= each.recv(1) != _STATE
                except OSError:
                    families = True
            self.write(families=families)
        finally:
            for each in asking:
                each.close()

    def _ask(self, answers: selectors.BaseSelector, *, families: bool) -> None:
        """Have all others write what they have, those that can."""
        try:
            names = self.directory.running()
        except OSError:  # there is no directory yet, or no more
            return
        for name in names:
            if name != self.name:
                asked = _connect(self.directory.path / f"{name}{SOCKET}", _ALL if families else _STATE)
                if asked is not None:
                    answers.register(asked, selectors.EVENT_READ)

    def _hear(self, answers: selectors.BaseSelector) -> None:
        """Wait until all have answered, and not for ever."""
        until = time.monotonic() + PATIENCE
        while answers.get_map() and (left := until - time.monotonic()) > 0:
            for key, _ in answers.select(left):
                answers.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]  # it is a socket


def _round(value: float) -> float:
    return round(value * _GRID) / _GRID if abs(value) < 1 << 33 else value


def _rounded(totals: Totals) -> Totals:
    distributions = totals.distributions
    if distributions:
        distributions = {name: (counts, _round(total)) for name, (counts, total) in distributions.items()}
    return totals._replace(seconds=_round(totals.seconds), distributions=distributions)


def _own(told: Mapping[str, Sequence[tuple[T, Told]]]) -> dict[str, list[tuple[T, Told]]]:
    return {name: [(key, own(each)) for key, each in rows] for name, rows in told.items()}


def _with_rounded_sum(value: float | Histogram) -> float | Histogram:
    if not isinstance(value, Histogram) or value.sum is None:
        return value
    return value._replace(sum=_round(value.sum))


def _each(snapshots: list[Snapshot], half: Callable[[Snapshot], T]) -> list[T]:
    """Return one half of each snapshot that can be read."""
    read: list[T] = []
    for snapshot in snapshots:
        try:
            read.append(half(snapshot))
        except ValueError as error:
            tell(f"{snapshot.path} does not count", error)
    return read


@lru_cache(maxsize=10_000)
def _without_empty(labels: str) -> str:
    return spelled({name: value for name, value in parsed(labels).items() if value})


def _filled(series: Series) -> Series:
    """Return the series without labels that are empty: which ones are there depends on the others of the process."""
    return series._replace(labels=_without_empty(series.labels))


def _connect(path: Path, question: bytes) -> socket.socket | None:
    """Return a connection to a process, which ends when that has answered; None if it takes no question."""
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    asked.setblocking(False)
    try:
        with _address(path) as address:
            asked.connect(address)
            asked.send(question)
    except OSError:  # it is gone, or too many others are waiting for its answer
        asked.close()
        return None
    return asked


@contextmanager
def _address(path: Path) -> Generator[str]:
    """Give a path of the length that a socket may have."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
