"""Blocks: their spans, what they count, and that the code inside of them never notices."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import os
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from openai import OpenAI
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation

import otel_llm
from otel_llm.block import Block
from otel_llm.context import current_context
from otel_llm.testing import Seen
from otel_llm.testing.server import ScriptedServer
from tests.manual.pages import rows

MADE: dict[str, tuple[Callable[[], Block], str, dict[str, Any], str, dict[str, Any]]] = {
    "workflow": (
        lambda: otel_llm.track_workflow("triage"),
        "invoke_workflow triage",
        {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "triage"},
        "gen_ai.invoke_workflow.duration",
        {"gen_ai.workflow.name": "triage"},
    ),
    "step": (
        lambda: otel_llm.track_step("fetch"),
        "step fetch",
        {"otel_llm.step.name": "fetch"},
        "otel_llm.step.duration",
        {"otel_llm.step.name": "fetch"},
    ),
    "tool": (
        lambda: otel_llm.track_tool("search", tool_type="function", call_id="c1", description="Search."),
        "execute_tool search",
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "search",
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": "c1",
            "gen_ai.tool.description": "Search.",
        },
        "gen_ai.execute_tool.duration",
        {"gen_ai.tool.name": "search", "gen_ai.tool.type": "function"},
    ),
    "plain tool": (
        lambda: otel_llm.track_tool("search"),
        "execute_tool search",
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"},
        "gen_ai.execute_tool.duration",
        {"gen_ai.tool.name": "search"},
    ),
    "agent": (
        lambda: otel_llm.track_agent("clerk", model="gpt-5", description="Answers."),
        "invoke_agent clerk",
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "clerk",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.agent.description": "Answers.",
        },
        "gen_ai.invoke_agent.duration",
        {"gen_ai.agent.name": "clerk", "gen_ai.request.model": "gpt-5"},
    ),
    "model load": (
        lambda: otel_llm.track_model_load("llama"),
        "load_model llama",
        {"gen_ai.request.model": "llama"},
        "otel_llm.model.load.duration",
        {"gen_ai.request.model": "llama"},
    ),
}
"""How a block is made, its span's name and attributes, its metric and its attributes."""

made = pytest.mark.parametrize("name", MADE)


class Broken(Exception):
    """What goes wrong inside."""


def here() -> dict[Any, Any]:
    """Return what is current."""
    return dict(current_context.get())


# what is recorded


@made
def test_spans_and_durations(name: str, seen: Seen) -> None:
    """A block has one internal span with the attributes of the convention, and one point of its metric."""
    make, span_name, attributes, metric, of_metric = MADE[name]
    with make():
        inside = trace.get_current_span()

    (span,) = seen.spans
    assert (span_name, "internal", "unset", attributes) == (
        span["name"],
        span["kind"],
        span["status"],
        span["attributes"],
    )
    assert inside.get_span_context().span_id == span["span_id"]
    (point,) = seen.metrics
    assert (metric, "s", 1, of_metric) == (point["name"], point["unit"], point["count"], point["attributes"])
    assert point["sum"] == pytest.approx((span["end_ns"] - span["start_ns"]) / 1e9, abs=1e-6)
    assert [span["span_id"]] == [exemplar["span_id"] for exemplar in point["exemplars"]]


@made
def test_failures(name: str, seen: Seen) -> None:
    """What is raised inside marks the span and the point, and goes on: the same object, with nothing added to it."""
    make, _, _, metric, of_metric = MADE[name]
    error, context = Broken("no"), LookupError()
    raised: BaseException | None = None
    try:
        try:
            raise context
        except LookupError:
            with make():
                raise error  # noqa: B904
    except Broken as same:
        raised = same

    assert error is raised
    assert (None, context) == (error.__cause__, error.__context__)
    assert ["test_failures"] == [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    (span,) = seen.spans
    error_type = f"{Broken.__module__}.Broken"
    assert ("error", "no", error_type) == (span["status"], span["description"], span["attributes"]["error.type"])
    (point,) = seen.metrics
    known = {} if metric == "otel_llm.model.load.duration" else {"error.type": error_type}
    assert {**of_metric, **known} == point["attributes"]


def test_nesting(seen: Seen, server: ScriptedServer) -> None:
    """What happens inside a block is below it in the trace, and has its workflow and its agent."""
    client = OpenAI(base_url=server.base_url, api_key="x")
    with otel_llm.track_workflow("triage"), otel_llm.track_step("ask"):
        with otel_llm.track_agent("clerk"), otel_llm.track_tool("search"):
            pass
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "x"}])
    client.close()

    spans = {span["name"]: span for span in seen.spans}
    assert ["execute_tool search", "invoke_agent clerk", "chat gpt-5", "step ask", "invoke_workflow triage"] == [*spans]
    parents = {name: span["parent_id"] for name, span in spans.items()}
    assert {
        "execute_tool search": spans["invoke_agent clerk"]["span_id"],
        "invoke_agent clerk": spans["step ask"]["span_id"],
        "chat gpt-5": spans["step ask"]["span_id"],
        "step ask": spans["invoke_workflow triage"]["span_id"],
        "invoke_workflow triage": None,
    } == parents
    assert "triage" == spans["step ask"]["attributes"]["gen_ai.workflow.name"]
    assert "clerk" == spans["execute_tool search"]["attributes"]["gen_ai.agent.name"]
    assert "triage" == spans["chat gpt-5"]["attributes"]["otel_llm.label.graph"]
    (tool,) = seen.points("gen_ai.execute_tool.duration")
    assert {"gen_ai.tool.name": "search", "gen_ai.agent.name": "clerk"} == tool["attributes"]
    (step,) = seen.points("otel_llm.step.duration")
    assert {"otel_llm.step.name": "ask", "gen_ai.workflow.name": "triage"} == step["attributes"]
    assert {'tinyllm_requests_total{graph="triage",model="gpt-5",request_type="generate"}': 1} == rows(
        "tinyllm", "tinyllm_requests"
    )


def test_pages(seen: Seen) -> None:
    """Workflows and steps are on the page of TinyLLM, failed steps by the class of what went wrong."""
    with suppress(Broken), otel_llm.track_workflow("g"):
        with otel_llm.track_step("n"):
            pass
        with otel_llm.track_step("n"):
            raise Broken
    with otel_llm.labels(graph="labelled"), otel_llm.track_step("n"):
        pass
    with otel_llm.track_step("n"), otel_llm.track_model_load("m"):
        pass

    shown = rows("tinyllm", "tinyllm_node", "tinyllm_graph", "tinyllm_model_load")
    assert {
        'tinyllm_node_executions_total{graph="g",node="n"}': 2,
        'tinyllm_node_executions_total{graph="labelled",node="n"}': 1,
        'tinyllm_node_executions_total{graph="unknown",node="n"}': 1,
        'tinyllm_node_execution_duration_seconds_count{graph="g",node="n"}': 2,
        'tinyllm_node_execution_duration_seconds_count{graph="labelled",node="n"}': 1,
        'tinyllm_node_execution_duration_seconds_count{graph="unknown",node="n"}': 1,
        'tinyllm_node_errors_total{error_type="Broken",graph="g",node="n"}': 1,
        'tinyllm_graph_executions_total{graph="g"}': 1,
        'tinyllm_graph_execution_duration_seconds_count{graph="g"}': 1,
        'tinyllm_model_load_duration_seconds_count{model="m"}': 1,
    } == {name: value for name, value in shown.items() if "_sum" not in name}
    assert ['llm_model_load_time_seconds{container="unknown",model="m"}'] == list(
        rows("ollama_exporter", "llm_model_load")
    )


def test_labels_and_attributes(seen: Seen) -> None:
    """Labels and attributes of the context are on the spans of blocks, as on those of calls."""
    attributes = {"gen_ai.conversation.id": "c1"}
    with otel_llm.labels(team="search"), otel_llm.attributes(attributes), otel_llm.track_agent("a"):
        pass

    (span,) = seen.spans
    assert ("search", "c1") == (
        span["attributes"]["otel_llm.label.team"],
        span["attributes"]["gen_ai.conversation.id"],
    )


def test_suppressed(seen: Seen) -> None:
    """Where nothing is to be instrumented no block is."""
    with suppress_instrumentation(), otel_llm.track_step("s"):
        pass

    assert ([], []) == (seen.spans, seen.metrics)


def test_workflow_without_instrument() -> None:
    """Where nothing is on, a workflow labels what is inside even so, and nothing else happens."""
    before = here()
    with otel_llm.track_workflow("w"), otel_llm.track_step("s"), otel_llm.track_agent("a"):
        assert {"graph": "w"} == current_context.get().get("otel_llm_labels") or [{"graph": "w"}] == [
            value for value in here().values() if isinstance(value, dict)
        ]

    assert before == here()


# as a decorator


def _plain(log: list[Any]) -> Callable[..., Any]:
    def work(x: int, *, y: int = 2) -> int:
        """Work."""
        log.append(trace.get_current_span().get_span_context().span_id)
        return x + y

    return work


def test_functions(seen: Seen) -> None:
    """A decorated function is the same function: its name, its result, and each run is a block."""
    log: list[Any] = []
    work = otel_llm.track_step("s")(_plain(log))

    assert (3, 5) == (work(1), work(1, y=4))
    assert ("work", "Work.") == (work.__name__, work.__doc__)
    assert log == [span["span_id"] for span in seen.spans]
    assert 2 == len(set(log))


def test_functions_that_fail(seen: Seen) -> None:
    """What a decorated function raises has one frame more, that of the decorator."""

    @otel_llm.track_step("s")
    def work() -> None:
        raise Broken

    with pytest.raises(Broken) as raised:
        work()

    names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert ["test_functions_that_fail", "run", "work"] == names
    assert raised.value.__context__ is None
    assert ["error"] == [span["status"] for span in seen.spans]


def test_a_block_as_both(seen: Seen) -> None:
    """A block that was entered can decorate a function even so, whose runs are blocks of their own."""
    block = otel_llm.track_step("s")
    with block:
        assert 3 == block(_plain([]))(1)
    assert 3 == block(_plain([]))(1)

    assert 3 == len(seen.spans)


async def test_objects_that_are_called(seen: Seen) -> None:
    """An object whose method waits is waited for."""

    class Agent:
        async def __call__(self, seconds: float) -> float:
            await asyncio.sleep(seconds)
            return seconds

    run = otel_llm.track_step("s")(Agent())
    assert 0.02 == await run(0.02)

    (duration,) = seen.points("otel_llm.step.duration")
    assert duration["sum"] > 0.015


def test_a_decorator_that_was_a_block(seen: Seen) -> None:
    """Its runs know nothing of where the block was entered."""
    step = otel_llm.track_step("s")
    with otel_llm.track_workflow("first"), step:
        pass

    @step
    def run() -> None: ...

    with otel_llm.track_workflow("second"):
        run()
    run()
    with suppress_instrumentation():
        run()

    assert [("first", 1), ("second", 1), (None, 1)] == [
        (point["attributes"].get("gen_ai.workflow.name"), point["count"])
        for point in seen.points("otel_llm.step.duration")
    ]


def test_methods(seen: Seen) -> None:
    """Methods can be decorated, class methods below their own decorator."""

    class Agent:
        @otel_llm.track_tool("t")
        def use(self, x: int) -> int:
            return x

        @classmethod
        @otel_llm.track_tool("u")
        def make(cls) -> str:
            return cls.__name__

    assert (1, "Agent") == (Agent().use(1), Agent.make())
    assert ["execute_tool t", "execute_tool u"] == [span["name"] for span in seen.spans]


async def test_coroutines(seen: Seen) -> None:
    """Many runs of a decorated coroutine function at once are blocks of their own, each below its own parent."""

    @otel_llm.track_step("inner")
    async def inner() -> int:
        await asyncio.sleep(0.001)
        return trace.get_current_span().get_span_context().span_id

    @otel_llm.track_workflow("outer")
    async def outer() -> tuple[int, int]:
        own = trace.get_current_span().get_span_context().span_id
        return own, await inner()

    pairs = await asyncio.gather(*[outer() for _ in range(50)])

    assert inspect.iscoroutinefunction(outer)
    found = {span["span_id"]: span["parent_id"] for span in seen.spans}
    assert 100 == len(found)
    assert all(found[child] == parent and found[parent] is None for parent, child in pairs)
    assert here() == {}


async def test_async_with(seen: Seen) -> None:
    """A block is an async context manager too."""
    async with otel_llm.track_workflow("w") as block:
        assert isinstance(block, Block)
        async with otel_llm.track_step("s"):
            await asyncio.sleep(0)

    assert ["step s", "invoke_workflow w"] == [span["name"] for span in seen.spans]


async def test_cancelled(seen: Seen) -> None:
    """A cancelled task is a failure by that name, as a call's is, and stays cancelled."""

    @otel_llm.track_step("s")
    async def wait() -> None:
        await asyncio.sleep(10)

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [("error", "asyncio.CancelledError")] == [
        (span["status"], span["attributes"]["error.type"]) for span in seen.spans
    ]
    assert {'tinyllm_node_errors_total{error_type="CancelledError",graph="unknown",node="s"}': 1} == rows(
        "tinyllm", "tinyllm_node_errors"
    )


def test_threads(seen: Seen) -> None:
    """A decorated function runs in many threads at once."""

    @otel_llm.track_step("s")
    def work(number: int) -> int:
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(range(500)) == list(pool.map(work, range(500)))

    assert 500 == len({span["span_id"] for span in seen.spans})
    assert {'tinyllm_node_executions_total{graph="unknown",node="s"}': 500} == rows(
        "tinyllm", "tinyllm_node_executions"
    )


# generators


def numbers() -> Generator[Any, Any, Any]:
    """Yield what is sent in, and its span."""
    got = yield trace.get_current_span().get_span_context().span_id
    with otel_llm.track_step("within"):
        within = trace.get_current_span()
        try:
            got = yield got
        except KeyError as error:
            assert within is trace.get_current_span()
            got = yield error
    assert within is not trace.get_current_span()
    return got


def test_generators(seen: Seen) -> None:
    """A decorated generator gives, takes and returns the same; its reader is outside of its block, its body inside."""
    run = otel_llm.track_step("s")(numbers)
    assert inspect.isgeneratorfunction(run)
    assert [] == seen.spans
    before = here()
    generator = run()
    own = next(generator)
    assert before == here()
    with otel_llm.track_step("reader"):
        assert 7 == generator.send(7)
    error = KeyError("x")
    assert error is generator.throw(error)
    with pytest.raises(StopIteration) as end:
        generator.send(9)

    assert 9 == end.value.value
    assert before == here()
    within, whole = seen.spans[1:]
    assert ("reader", None) == (seen.spans[0]["attributes"]["otel_llm.step.name"], seen.spans[0]["parent_id"])
    assert ("step within", own) == (within["name"], within["parent_id"])
    assert ("step s", own, "unset") == (whole["name"], whole["span_id"], whole["status"])


def test_generators_that_fail(seen: Seen) -> None:
    """What a generator raises goes on untouched, with one frame more."""

    @otel_llm.track_step("s")
    def run() -> Generator[int]:
        yield 1
        raise Broken

    error: BaseException = LookupError()
    try:
        list(run())
    except Broken as raised:
        error = raised
    assert ["test_generators_that_fail", "run", "run"] == [
        frame.name for frame in traceback.extract_tb(error.__traceback__)
    ]
    assert error.__context__ is None
    assert ["error"] == [span["status"] for span in seen.spans]


@pytest.mark.parametrize("way", ["close", "drop", "elsewhere"])
def test_generators_that_are_left(way: str, seen: Seen) -> None:
    """A generator that is left early is no failure, its own cleaning up is done, and nothing stays current."""
    cleaned: list[int] = []

    @otel_llm.track_workflow("w")
    def run() -> Generator[int]:
        try:
            yield 1
            yield 2
        finally:
            cleaned.append(trace.get_current_span().get_span_context().span_id)

    before = here()
    generator = run()
    next(generator)
    if way == "close":
        generator.close()
    elif way == "elsewhere":
        contextvars.copy_context().run(generator.close)
    del generator
    gc.collect()

    assert before == here()
    (span,) = seen.spans
    assert ("unset", [span["span_id"]]) == (span["status"], cleaned)


def test_generators_leave_no_circles() -> None:
    """What is thrown into a generator is freed with it, without the collector."""

    @otel_llm.track_step("s")
    def run() -> Generator[int]:
        yield 1

    class Freed(Exception):
        pass

    gc.disable()
    try:
        generator = run()
        next(generator)
        error = Freed()
        seen = weakref.ref(error)
        with pytest.raises(Freed):
            generator.throw(error)
        del generator, error
        sys.exc_info()
        assert seen() is None
    finally:
        gc.enable()


def test_block_in_a_generator_closed_elsewhere(seen: Seen) -> None:
    """A block inside a generator that another context closes ends, raises nothing and is no failure."""

    def run() -> Generator[int]:
        with otel_llm.track_step("s"):
            yield 1

    generator = run()
    contextvars.copy_context().run(next, generator)
    contextvars.copy_context().run(generator.close)

    (span,) = seen.spans
    assert ("unset", None) == (span["status"], span["attributes"].get("error.type"))


async def test_blocks_left_early(seen: Seen) -> None:
    """Of generators a block that is left early is no failure, in whatever way it is there; of coroutines it is one."""

    def plain() -> Generator[int]:
        with ExitStack() as stack:
            stack.enter_context(otel_llm.track_step("plain"))
            with otel_llm.track_inference("plain"):
                yield 1

    async def waiting() -> AsyncGenerator[int]:
        async with otel_llm.track_step("waiting"), otel_llm.track_inference("waiting"):
            yield 1

    async def dropped() -> None:
        with otel_llm.track_step("dropped"), otel_llm.track_inference("dropped"):
            await asyncio.sleep(0)

    for _ in plain():
        break
    generator = waiting()
    async for _ in generator:
        break
    await generator.aclose()
    coroutine = dropped()
    coroutine.send(None)
    coroutine.close()

    ended = [(span["name"].partition(" ")[2], span["status"]) for span in seen.spans]
    assert [*[("plain", "unset")] * 2, *[("waiting", "unset")] * 2, *[("dropped", "error")] * 2] == ended


def test_blocks_are_no_circles(seen: Seen) -> None:
    """A block is gone when it is left, without the collector."""
    gc.collect()
    gc.disable()
    try:
        inference = otel_llm.track_inference("llama")
        step = otel_llm.track_step("s")
        with inference as call, step:
            pass
        gone: list[weakref.ref[object]] = [weakref.ref(inference), weakref.ref(step), weakref.ref(call)]
        del inference, step, call
        assert [None, None, None] == [each() for each in gone]
    finally:
        gc.enable()


async def test_async_generators(seen: Seen) -> None:
    """A decorated async generator gives and takes the same; its reader is outside of its block, its body inside."""

    @otel_llm.track_step("s")
    async def run() -> AsyncGenerator[Any, Any]:
        got = yield trace.get_current_span().get_span_context().span_id
        with otel_llm.track_step("within"):
            within = trace.get_current_span()
            await asyncio.sleep(0)
            try:
                got = yield got
            except KeyError as error:
                assert within is trace.get_current_span()
                yield error

    assert inspect.isasyncgenfunction(run)
    before = here()
    generator = run()
    own = await anext(generator)
    assert before == here()
    with otel_llm.track_step("reader"):
        assert 7 == await generator.asend(7)
    error = KeyError("x")
    assert error is await generator.athrow(error)
    with pytest.raises(StopAsyncIteration):
        await anext(generator)

    reader, within, whole = seen.spans
    assert ("step reader", None) == (reader["name"], reader["parent_id"])
    assert ("step within", own) == (within["name"], within["parent_id"])
    assert ("step s", own, "unset") == (whole["name"], whole["span_id"], whole["status"])


async def test_async_generators_that_fail(seen: Seen) -> None:
    """What an async generator raises goes on untouched, with one frame more."""

    @otel_llm.track_step("s")
    async def run() -> AsyncGenerator[int]:
        yield 1
        raise Broken

    error: BaseException = LookupError()
    try:
        async for _ in run():
            pass
    except Broken as raised:
        error = raised
    assert ["run", "run"] == [frame.name for frame in traceback.extract_tb(error.__traceback__)][1:]
    assert error.__context__ is None
    assert ["error"] == [span["status"] for span in seen.spans]


@pytest.mark.parametrize("way", ["close", "another task", "break"])
async def test_async_generators_that_are_left(way: str, seen: Seen) -> None:
    """An async generator that is left early is no failure, and its cleaning up, which may wait, is done."""
    cleaned: list[bool] = []

    @otel_llm.track_step("s")
    async def run() -> AsyncGenerator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    before = here()
    generator = run()
    async for _ in generator:
        break
    if way == "close":
        await generator.aclose()
    elif way == "another task":
        await asyncio.ensure_future(generator.aclose())
    del generator
    for _ in range(5):
        gc.collect()
        await asyncio.sleep(0.001)

    assert before == here()
    assert ([True], ["unset"]) == (cleaned, [span["status"] for span in seen.spans])


def test_async_generators_left_to_the_loop(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    """A loop that ends closes the generators that are still there, each once and without a word."""
    cleaned: list[int] = []
    kept: list[Any] = []

    @otel_llm.track_step("s")
    async def run(number: int) -> AsyncGenerator[int]:
        try:
            yield number
        finally:
            await asyncio.sleep(0.001)
            cleaned.append(number)

    async def main() -> None:
        for number in range(8):
            kept.append(run(number))
            assert number == await anext(kept[-1])

    asyncio.run(main())

    assert list(range(8)) == sorted(cleaned)
    assert [] == caplog.messages
    assert ["unset"] * 8 == [span["status"] for span in seen.spans]


def test_coroutine_that_is_dropped(seen: Seen) -> None:
    """A coroutine that is dropped in the middle, by whomever, counts as cancelled."""

    @otel_llm.track_step("s")
    async def run() -> None:
        await asyncio.sleep(10)

    async def main() -> None:
        coroutine = run()
        coroutine.send(None)
        del coroutine

    asyncio.run(main())
    gc.collect()

    assert ["GeneratorExit"] == [span["attributes"]["error.type"] for span in seen.spans]


# forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_inside(seen: Seen) -> None:
    """A block that a child leaves, too, which was forked inside of it, counts in the parent alone."""
    with otel_llm.track_step("s"):
        child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)
            with otel_llm.track_step("own"):
                pass
            code = {'tinyllm_node_executions_total{graph="unknown",node="own"}': 1} != rows(
                "tinyllm", "tinyllm_node_executions"
            )
        finally:
            os._exit(code)

    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert {'tinyllm_node_executions_total{graph="unknown",node="s"}': 1} == rows("tinyllm", "tinyllm_node_executions")


def test_uninstrumented_inside(seen: Seen) -> None:
    """A block in which everything is turned off ends without a word."""
    with otel_llm.track_step("s"):
        otel_llm.uninstrument()
    with otel_llm.track_step("t"):
        pass

    assert ["step s"] == [span["name"] for span in seen.spans]
    assert threading.current_thread() is threading.main_thread()
