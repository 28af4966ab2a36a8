"""Labels of the context: where they go with the calls."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import ModuleType
from typing import Any

import pytest
from opentelemetry import baggage, propagate
from opentelemetry.context import attach, detach

import otel_llm
from otel_llm import runtime
from otel_llm.call import Call
from otel_llm.context import labels_of
from otel_llm.testing import Seen, capture

WITH_BAGGAGE = {"baggage_labels": ("graph", "client_id")}


def _ask() -> None:
    """Make a call, as an instrumentor would."""
    handle: Any = runtime._handle
    call = Call()
    call.operation, call.provider, call.request_model = "chat", "openai", "m"
    handle.telemetry.begin(call)
    handle.telemetry.end(call)


def _labels(seen: Seen) -> list[dict[str, str]]:
    """Return the labels of every call, without the prefix they have on spans."""
    prefix = "otel_llm.label."
    return [
        {name.removeprefix(prefix): value for name, value in span["attributes"].items() if name.startswith(prefix)}
        for span in seen.spans
    ]


def test_labels_follow_into_threads() -> None:
    """A thread and a pool's task have the labels of the block in which they were started, and not those of another."""
    with capture() as seen, ThreadPoolExecutor(1) as pool:
        with otel_llm.labels(graph="a"):
            thread = threading.Thread(target=_ask)
            thread.start()
            thread.join()
            pool.submit(_ask).result()
        with otel_llm.labels(graph="b"):
            pool.submit(_ask).result()
        pool.submit(_ask).result()
        assert [{"graph": "a"}, {"graph": "a"}, {"graph": "b"}, {}] == _labels(seen)


def test_labels_follow_into_every_kind_of_thread() -> None:
    """A class with a `run` of its own, a timer, and a thread that starts one itself; nothing is left on them."""

    class Own(threading.Thread):
        def run(self) -> None:
            inner = threading.Thread(target=_ask)
            inner.start()
            inner.join()

    with capture() as seen:
        with otel_llm.labels(graph="a"):
            kinds = [Own(), threading.Timer(0, _ask), threading.Thread(target=_ask, daemon=True)]
            for thread in kinds:
                thread.start()
                thread.join()
        assert [{"graph": "a"}] * 3 == _labels(seen)
        assert [False] * 3 == ["run" in vars(thread) for thread in kinds]


def test_a_thread_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many threads, nothing is left on the one that did not start, which may start elsewhere."""

    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with capture():
        thread = threading.Thread()
        start = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
        monkeypatch.setattr(threading, start, refused)
        with otel_llm.labels(user="ada"), pytest.raises(RuntimeError, match="can't"):
            thread.start()
        assert "run" not in vars(thread)


def test_a_pool_has_no_context_of_its_own() -> None:
    """What is submitted by a plain executor of a task has the labels of where, and errors come back as they are."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with otel_llm.labels(graph="a"):
            await loop.run_in_executor(pool, _ask)
        await loop.run_in_executor(pool, _ask)

    def fails(*, reason: str) -> None:
        raise ValueError(reason)

    with capture() as seen, ThreadPoolExecutor(1) as pool:
        asyncio.run(main())
        assert [{"graph": "a"}, {}] == _labels(seen)
        with otel_llm.labels(graph="b"), pytest.raises(ValueError, match="mine"):
            pool.submit(fails, reason="mine").result()
        with otel_llm.labels(graph="b"), pytest.raises(TypeError, match="missing 1 required positional argument: 'fn'"):
            pool.submit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_contrib_carries_where_it_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside contrib's instrumentor of threads, ours leaves them to it."""

    class ThreadingInstrumentor:
        is_instrumented_by_opentelemetry = True

    module = ModuleType("threading")
    module.ThreadingInstrumentor = ThreadingInstrumentor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.threading", module)
    start = threading.Thread.start
    with capture():
        assert start is threading.Thread.start


def test_threads_are_left_alone_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contrib's switch for its instrumentation of threads counts for ours too."""
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "threading")
    start = threading.Thread.start
    with capture() as seen:
        assert start is threading.Thread.start
        with otel_llm.labels(graph="a"):
            thread = threading.Thread(target=_ask)
            thread.start()
            thread.join()
        assert [{}] == _labels(seen)


def test_threads_are_as_they_were_afterwards() -> None:
    """Turning everything off gives the methods of threads back."""
    before = threading.Thread.start, threading.Thread.run, ThreadPoolExecutor.submit
    with capture():
        assert before[0] is not threading.Thread.start
    assert before == (threading.Thread.start, threading.Thread.run, ThreadPoolExecutor.submit)


async def test_labels_follow_into_tasks() -> None:
    """Each task has the labels of where it was made, however they take turns."""

    async def ask() -> None:
        await asyncio.sleep(0)
        _ask()
        await asyncio.to_thread(_ask)

    with capture() as seen:
        with otel_llm.labels(graph="a"):
            one = asyncio.create_task(ask())
        with otel_llm.labels(graph="b"):
            other = asyncio.create_task(ask())
        await asyncio.gather(one, other)
        assert ["a", "a", "b", "b"] == sorted(labels["graph"] for labels in _labels(seen))


def test_labels_decorate_a_function() -> None:
    """Each call of the function has them, again and again."""

    @otel_llm.labels(graph="a")
    def ask() -> None:
        _ask()

    with capture() as seen:
        ask()
        ask()
        _ask()
        assert [{"graph": "a"}, {"graph": "a"}, {}] == _labels(seen)


@pytest.mark.parametrize("decorator", [otel_llm.labels(graph="a"), otel_llm.attributes({"otel_llm.label.graph": "a"})])
async def test_labels_decorate_coroutine_functions(decorator: Any) -> None:
    """What a coroutine does is in the block, and what its task does meanwhile is not."""

    @decorator  # type: ignore[untyped-decorator]  # it is one of two
    async def ask(times: int) -> int:
        await asyncio.sleep(0)
        await asyncio.to_thread(_ask)
        return times + 1

    with capture() as seen:
        assert 2 == await ask(1)
        _ask()
        assert [{"graph": "a"}, {}] == _labels(seen)


def test_labels_decorate_a_generator() -> None:
    """Its steps are in the block, and what the caller does between them is not; it is driven as any generator."""
    closed: list[str] = []

    @otel_llm.labels(graph="a")
    def items(first: str) -> Generator[str, str, str]:
        try:
            _ask()
            given = yield first
            _ask()
            try:
                yield given
            except KeyError as error:
                yield str(error)
            return "done"
        finally:
            closed.append(first)

    with capture() as seen:
        steps = items("one")
        assert "one" == next(steps)
        _ask()
        assert "two" == steps.send("two")
        assert "'three'" == steps.throw(KeyError("three"))
        with pytest.raises(StopIteration, match="done"):
            next(steps)
        left = items("left")
        next(left)
        left.close()
        assert ["one", "left"] == closed
        _ask()
        assert [{"graph": "a"}, {}, {"graph": "a"}, {"graph": "a"}, {}] == _labels(seen)


async def test_labels_decorate_an_async_generator() -> None:
    """The same of an asynchronous generator, which several tasks may step."""
    closed: list[str] = []

    @otel_llm.labels(graph="a")
    async def items(first: str) -> AsyncGenerator[str, str]:
        try:
            await asyncio.to_thread(_ask)
            given = yield first
            try:
                yield given
            except KeyError as error:
                yield str(error)
        finally:
            await asyncio.sleep(0)
            closed.append(first)

    with capture() as seen:
        steps = items("one")
        assert "one" == await asyncio.create_task(anext(steps))
        _ask()
        assert "two" == await steps.asend("two")
        assert "'three'" == await steps.athrow(KeyError("three"))
        with pytest.raises(StopAsyncIteration):
            await anext(steps)
        left = items("left")
        await anext(left)
        await left.aclose()
        assert ["one", "left"] == closed
        _ask()
        assert [{"graph": "a"}, {}, {"graph": "a"}, {}] == _labels(seen)


def test_labels_decorate_nothing_else() -> None:
    """What is no function is one clear error, where it is decorated."""
    decorator: Any = otel_llm.labels(graph="a")
    with pytest.raises(TypeError, match=r"otel_llm\.labels: expected a function to decorate, not 3"):
        decorator(3)


def test_a_generator_closed_elsewhere_breaks_nothing() -> None:
    """A block inside a generator that ends in another context raises nothing there."""

    def items() -> Generator[int]:
        with otel_llm.labels(graph="a"):
            yield 1

    generator = items()
    copy_context().run(next, generator)
    generator.close()


async def test_an_async_generator_closed_by_another_task_breaks_nothing() -> None:
    """The same for an asynchronous generator, whose end another task runs."""

    async def items() -> AsyncIterator[int]:
        with otel_llm.labels(graph="a"):
            yield 1

    generator: Any = items()
    await anext(generator)
    await asyncio.create_task(generator.aclose())


def test_baggage_brings_labels_if_asked() -> None:
    """Labels of the chosen names come out of baggage; the block's own win, and other baggage is not looked at."""
    with capture(**WITH_BAGGAGE) as seen:
        context = baggage.set_baggage("user", "x", baggage.set_baggage("graph", "far"))
        token = attach(context)
        try:
            _ask()
            with otel_llm.labels(client_id="c1", graph="near"):
                _ask()
            with otel_llm.labels(team="t"):
                _ask()
        finally:
            detach(token)
        assert [{"graph": "far"}, {"client_id": "c1", "graph": "near"}, {"graph": "far", "team": "t"}] == _labels(seen)


def test_labels_travel_as_baggage_if_asked() -> None:
    """The labels of the chosen names are in the headers of requests to other services, and no others."""
    with capture(**WITH_BAGGAGE), otel_llm.labels(graph="support", team="t"):
        headers: dict[str, str] = {}
        propagate.inject(headers)
        assert "graph=support" == headers["baggage"]
        there = propagate.extract(headers)
        assert {"graph": "support"} == labels_of(there)


def test_baggage_is_left_alone_unless_asked() -> None:
    """Without the setting no label leaves the process, and none comes in."""
    with capture() as seen:
        with otel_llm.labels(graph="support"):
            assert {} == baggage.get_all()
        token = attach(baggage.set_baggage("graph", "far"))
        try:
            _ask()
        finally:
            detach(token)
        assert [{}] == _labels(seen)


@pytest.mark.parametrize(
    ("name", "value"), [("baggage_labels", 3), ("baggage_labels", (3,)), ("dialects", 3), ("dialects", (None,))]
)
def test_lists_must_be_of_strings(name: str, value: object) -> None:
    """What is no list of strings is one clear TypeError that names the setting."""
    with pytest.raises(TypeError, match=f"{name} must be a sequence of strings"), capture(**{name: value}):
        pass
