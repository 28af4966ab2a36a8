"""Who waits in the queues and at the limiters of applications, and who is at work behind them, as it is told."""

from __future__ import annotations

import os
import time
from collections import OrderedDict, deque
from contextvars import Context
from typing import TYPE_CHECKING, Any
from weakref import ref

from otel_llm import faults, runtime
from otel_llm.context import current_context
from otel_llm.manual import telling
from otel_llm.overdue import end_safely
from otel_llm_semconv import attributes as names
from otel_llm_semconv.measures import LABELS

if TYPE_CHECKING:
    from otel_llm.state import Facts
    from otel_llm.telemetry import Telemetry

FUNCTION = "instrument_queue"
"""How it is called by those who have something told."""


class Line:
    """Who waits at one limiter, and who is at work behind it."""

    def __init__(self, limiter: Any, model: str | None, priority: str | None) -> None:
        self.limiter = ref(limiter)
        self.model = model
        self.given = {} if priority is None else {LABELS[names.OTEL_LLM_QUEUE_PRIORITY]: priority}
        self.at_work: deque[Turn] = deque()
        # In a queue wait as many as it says after each change: things leave queues in many ways.
        self.waiting: OrderedDict[int, deque[Turn]] = OrderedDict()
        """What was seen coming, by identity: while the queue has it, that is its own."""
        self.known = 0
        self.others: Turn | None = None
        """Stands for what was not seen."""
        self.unknown = 0

    def ask(self) -> Turn:
        """Take note of a request that comes."""
        turn = Turn(self)
        turn.note("queue_requests", 1)
        turn.wait()
        return turn

    def release(self, number: int = 1) -> None:
        """Take note that so many are done; a limiter may be given more than was taken from it."""
        for _ in range(min(number, len(self.at_work))):
            try:
                self.at_work.pop().done()
            except IndexError:
                return

    @faults.guarded
    def look(self, queue: Any) -> None:
        """Take note of what is in the queue already."""
        if runtime.telemetry() is not None and self._is_of(queue):
            self.fit(size_of(queue))

    @faults.guarded
    def came(self, item: object, queue: Any) -> None:
        """Take note of what was put in the queue; it holds its lock, if it has one."""
        if self._is_of(queue):
            self.waiting.setdefault(id(item), deque()).append(self.ask())
            self.known += 1
            self.fit(size_of(queue))

    @faults.guarded
    def went(self, item: object, queue: Any, *, thrown: bool) -> None:
        """Take note of what was taken out or *thrown* away; what the queue made of something else is the oldest."""
        if self._is_of(queue):
            key, size = id(item), size_of(queue)
            if key not in self.waiting and self.known > size:
                key = next(iter(self.waiting), key)
            if key in self.waiting:
                turn = self._take(key)
                if thrown:
                    turn.left()
                else:
                    turn.got(works=False)
            self.fit(size)

    def fit(self, size: int) -> None:
        """Have so many wait: of more the oldest have left, and of fewer nobody has seen the others."""
        while self.known > size and self.waiting:
            self._take(next(iter(self.waiting))).left()
        unknown = size - self.known
        if unknown != self.unknown and self.others is not None:
            Context().run(self.others.note, "queue_size", unknown - self.unknown)
            self.unknown = unknown

    def _take(self, key: int) -> Turn:
        turns = self.waiting[key]
        turn = turns.popleft()
        self.known -= 1
        if turns:
            self.waiting.move_to_end(key)
        else:
            del self.waiting[key]
        return turn

    def _is_of(self, queue: object) -> bool:
        """Whether it is this queue's, and no other's of its class; where nothing of it was told, it begins anew."""
        if self.limiter() is not queue:
            return False
        if self.others is None or not self.others.is_heard():
            for turns in self.waiting.values():
                for turn in turns:
                    turn.left()
            self.waiting.clear()
            self.known = 0
            self.fit(0)
            self.others = Turn(self)
        return True

    def gone(self) -> None:
        """Nobody waits or works where the limiter is no more; the collector may say so at any moment."""
        if self.at_work or self.known or self.unknown:
            end_safely(self._end)

    def _end(self) -> None:
        self.release(len(self.at_work))
        self.fit(0)


class Turn:
    """One request: it waits, is at work, and is done."""

    __slots__ = ("facts", "line", "process", "since", "telemetry", "waits", "works")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.process = os.getpid()
        self.telemetry: Telemetry | None = telling.listener(FUNCTION)
        self.facts: dict[str, Facts] = {}
        self.since = time.perf_counter()
        # Each is taken in one step of the interpreter: of two threads only one ends the wait.
        self.waits: list[None] = []
        self.works: list[None] = []

    def is_heard(self) -> bool:
        """Whether whom it tells is still who listens."""
        return self.process == os.getpid() and self.telemetry is runtime.telemetry()

    def note(self, measure: str, amount: int) -> None:
        """Add to a measure; later of the same request the facts are the same."""
        telemetry = self.telemetry
        # Who waits and works in the parent does neither in a child.
        if telemetry is None or self.process != os.getpid():
            return
        try:
            telemetry.ledger.measures.add(measure, self._facts(telemetry, measure), amount)
        except Exception:
            faults.fault(faults.MANUAL)

    def _facts(self, telemetry: Telemetry, measure: str) -> Facts:
        facts = self.facts.get(measure)
        if facts is None:
            facts = telling.facts_of(telemetry, measure, self.line.given, model=self.line.model)
            self.facts[measure] = facts
        return facts

    def wait(self) -> None:
        """Begin to wait."""
        self.note("queue_size", 1)
        self.waits.append(None)

    def got(self, *, works: bool = True) -> bool:
        """End the wait, and begin to work; of several ends only the first counts."""
        if not _taken(self.waits):
            return False
        self.note("queue_size", -1)
        if works:
            self.note("queue_workers", 1)
            self.works.append(None)
        telemetry = self.telemetry
        if telemetry is not None:
            try:
                facts = self._facts(telemetry, "queue_wait")
                seconds = time.perf_counter() - self.since
                telling.record(telemetry, "queue_wait", facts, seconds, current_context.get())
            except Exception:
                faults.fault(faults.MANUAL)
        return True

    def left(self, *, refused: bool = False) -> None:
        """End the wait for nothing: given up, or *refused*."""
        if _taken(self.waits):
            self.note("queue_size", -1)
            if refused:
                self.note("queue_rejected", 1)

    def ended(self, future: Any) -> None:
        """End with a future: it was cancelled while it waited, or its work is done."""
        self.left()
        self.done()

    def done(self) -> None:
        """End the work."""
        if _taken(self.works):
            self.note("queue_workers", -1)


def _taken(token: list[None]) -> bool:
    try:
        token.pop()
    except IndexError:
        return False
    return True


def size_of(queue: Any) -> int:
    """Return how many are in a queue whose lock is held."""
    size: int = (queue._qsize if hasattr(queue, "_qsize") else queue.qsize)()
    return size
