"""Blocks that an application tracks by hand: workflows, steps, tools, agents, loads of models.

Each is a context manager, sync and async, and a decorator of functions, coroutine functions, generators and async
generators. What it measures it tells when it is left; what is raised inside goes on as it is.

Source: GenAI semantic conventions, "Invoke workflow", "Invoke agent", "Execute tool"; TinyLLM for steps.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from contextvars import Token
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from otel_llm import arguments, errors, faults, telling
from otel_llm.context import ATTRIBUTES_KEY, LABELS_KEY, SPAN_KEY, Labels, current_context, labels_of
from otel_llm.overdue import end_safely
from otel_llm.sinks.spans import prefixed
from otel_llm.telemetry import forks, suppressed
from otel_llm_semconv import attributes as names
from otel_llm_semconv.measures import LABELS
from otel_llm_semconv.values import Operation, Work

if TYPE_CHECKING:
    from otel_llm.telemetry import Telemetry

F = TypeVar("F", bound=Callable[..., Any])

_AGENT_KEY = context_api.create_key("otel_llm_agent")
"""Where a context keeps the name of the agent that runs in it."""
_GRAPH = LABELS[names.GEN_AI_WORKFLOW_NAME]
_AGENT = LABELS[names.GEN_AI_AGENT_NAME]


class Block:
    """A block of code that is entered once and left once; as a decorator every run of the function is one of its own.

    A subclass says what happens: `enter` and `leave`. Neither can reach the code inside: their faults are swallowed.

    Args:
        function: name of the public function that makes it, for errors.
    """

    def __init__(self, function: str) -> None:
        self.function = function
        self.context = Context()
        """What is current inside, once the block was entered."""
        self._entered = False
        self._inside = False
        self._forks = 0
        self._token: Token[Context] | None = None

    def enter(self, context: Context) -> Context:
        """Begin; return the context that is to be current inside."""
        raise NotImplementedError

    def leave(self, error: BaseException | None) -> None:
        """End. It may come late and in another thread, where the collector ends a block; take no time here.

        Args:
            error: what was raised inside, or None.
        """
        raise NotImplementedError

    ended_at: float = 0.0
    """When the block was left, in seconds of ``time.perf_counter``."""

    def _open(self) -> None:
        if self._entered:
            raise ValueError(f"otel_llm.{self.function}: this block was entered before; make one for each time")
        self._entered = self._inside = True
        self._forks = forks()
        self.context = current_context.get()
        try:
            self.context = self.enter(self.context)
        except Exception:
            faults.fault(telling.PLACE)

    def _close(self, error: BaseException | None, *, safely: bool = False) -> None:
        """End the block; *safely* where the collector may be at work."""
        if not self._inside:
            left = "left before" if self._entered else "never entered"
            raise ValueError(f"otel_llm.{self.function}: this block was {left}")
        self._inside = False
        # What a parent began, it ends itself.
        if self._forks != forks():
            return
        self.ended_at = time.perf_counter()
        if safely or isinstance(error, GeneratorExit):
            end_safely(lambda: self._leave(error))
        else:
            self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        try:
            self.leave(error)
        except Exception:
            faults.fault(telling.PLACE)

    def __enter__(self) -> Self:
        self._open()
        self._token = current_context.set(self.context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            _reset(token)
        self._close(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        """Decorate a function: each of its runs is a block.

        A generator's block lasts from its first value to its end; the code that reads it is outside. One that is left
        early is no failure.

        Raises:
            TypeError: this is no function.
        """
        if not callable(function) or isinstance(function, (type, staticmethod, classmethod)):
            raise TypeError(f"otel_llm.{self.function}: expected a function to decorate, not {function!r:.200}")
        if inspect.isasyncgenfunction(function):
            decorate = self._async_generator
        elif inspect.isgeneratorfunction(function):
            decorate = self._generator
        elif inspect.iscoroutinefunction(function):
            decorate = self._coroutine
        else:
            decorate = self._plain
        return cast("F", decorate(function))

    def _another(self) -> Self:
        """Return a block like this one that was not entered yet."""
        block = object.__new__(type(self))
        block.__dict__.update(self.__dict__)
        block._entered = block._inside = False
        block._token = None
        return block

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._another():
                return function(*args, **kwargs)

        return run

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            with self._another():
                return await function(*args, **kwargs)

        return run

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            body = function(*args, **kwargs)
            block = self._another()
            block._open()
            value: Any = None
            step, early = body.send, False
            while True:
                token = current_context.set(block.context)
                try:
                    value = step(value)
                except StopIteration as end:
                    block._step_out(token)
                    block._close(None, safely=early)
                    return end.value
                except BaseException as error:
                    block._step_out(token)
                    value = None  # or what was thrown in would hold its own traceback
                    early = isinstance(error, GeneratorExit)
                    block._close(None if early else error, safely=early)
                    raise
                block._step_out(token)
                try:
                    value = cast("Any", (yield value))
                    step = body.send
                except BaseException as thrown:
                    step, value, early = body.throw, thrown, isinstance(thrown, GeneratorExit)

        return run

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            body = function(*args, **kwargs)
            block = self._another()
            block._open()
            value: Any = None
            step, early = body.asend, False
            while True:
                token = current_context.set(block.context)
                try:
                    value = await step(value)
                except StopAsyncIteration:
                    block._step_out(token)
                    block._close(None, safely=early)
                    return
                except BaseException as error:
                    block._step_out(token)
                    value = None  # or what was thrown in would hold its own traceback
                    early = isinstance(error, GeneratorExit)
                    block._close(None if early else error, safely=early)
                    raise
                block._step_out(token)
                try:
                    value = cast("Any", (yield value))
                    step = body.asend
                except BaseException as thrown:
                    step, value, early = body.athrow, thrown, isinstance(thrown, GeneratorExit)

        return run

    def _step_out(self, token: Token[Context]) -> None:
        """Give the reader of a generator his context back, and keep that of its body for its next step."""
        self.context = current_context.get()
        _reset(token)


def _reset(token: Token[Context]) -> None:
    try:
        current_context.reset(token)
    except (ValueError, RuntimeError):  # a generator or a coroutine may be closed in a context that is not its own
        pass


class Timed(Block):
    """A block with a span and a duration by the metric of a measure.

    Args:
        function: name of the public function that makes it.
        measure: the column that is fed.
        span: name of the span.
        attributes: its attributes.
        given: labels of the measurement, see ``otel_llm_semconv.measures.LABELS``.
        model: the model that it is about.
        labels: labels of what happens inside.
        inherits: attributes that come from blocks further out, and their labels.
        agent: name of the agent that runs inside.
    """

    def __init__(
        self,
        function: str,
        measure: str,
        span: str,
        attributes: Mapping[str, AttributeValue | None],
        given: Mapping[str, str | None],
        *,
        model: str | None = None,
        labels: Mapping[str, str] | None = None,
        inherits: Mapping[str, str] | None = None,
        agent: str | None = None,
    ) -> None:
        super().__init__(function)
        self._measure = measure
        self._name = span
        self._attributes = {name: value for name, value in attributes.items() if value is not None}
        self._given = {name: value for name, value in given.items() if value is not None}
        self._model = model
        self._labels = labels
        self._inherits = inherits or {}
        self._agent = agent
        self._telemetry: Telemetry | None = None
        self._span: Span | None = None
        self._started_at = 0.0
        self._started_at_ns = 0

    def enter(self, context: Context) -> Context:
        """Begin the span, and have what happens inside know of it."""
        outer: Any = context.get(LABELS_KEY) or {}
        inside: dict[str, Any] = {}
        if self._labels:
            inside[LABELS_KEY] = Labels(outer, self._labels)
        if self._agent:
            inside[_AGENT_KEY] = self._agent
        telemetry = telling.listener(self.function)
        if telemetry is None or suppressed(context):
            return Context({**context, **inside}) if inside else context
        attributes: dict[str, AttributeValue] = dict(self._attributes)
        known: Mapping[str, str] = labels_of(context) or {}
        attributes.update(prefixed(known))
        more: Any = context.get(ATTRIBUTES_KEY)
        if more:
            attributes.update(more)
        for label, attribute in self._inherits.items():
            value: Any = context.get(_AGENT_KEY) if label == _AGENT else known.get(label)
            if isinstance(value, str):
                attributes[attribute] = value
                self._given = {label: value, **self._given}
        self._telemetry = telemetry
        self._started_at_ns = time.time_ns()
        self._started_at = time.perf_counter()
        self._span = telemetry.spans.begin_inside(self._name, context, attributes, self._started_at_ns)
        return Context({**context, **inside, SPAN_KEY: self._span})

    def leave(self, error: BaseException | None) -> None:
        """End the span, and tell how long it took and how it failed."""
        telemetry, span = self._telemetry, self._span
        if telemetry is None or span is None:
            return
        seconds = self.ended_at - self._started_at
        try:
            failure = None if error is None else errors.failure(errors.error_type(error), error)
            facts = telling.facts_of(
                telemetry, self._measure, self._given, model=self._model, failure=failure, context=self.context
            )
            telling.record(telemetry, self._measure, facts, seconds, self.context)
            if error is not None and failure is not None and span.is_recording():
                span.set_attribute(names.ERROR_TYPE, failure.type)
                span.set_status(Status(StatusCode.ERROR, errors.error_message(error)))
        finally:
            span.end(self._started_at_ns + int(seconds * 1e9))


def track_workflow(name: str) -> Block:
    """Track a run of a workflow: as a block, ``with`` or ``async with``, or as a decorator.

    Its span is ``invoke_workflow {name}``, its metric ``gen_ai.invoke_workflow.duration`` in seconds. Calls and steps
    inside have the label ``graph``.

    Raises:
        TypeError: *name* is no string, or what is decorated no function.
        ValueError: *name* is empty; later, the block is entered or left a second time.
    """
    function, operation = "track_workflow", Operation.INVOKE_WORKFLOW
    name = arguments.text(function, "name", name)
    return Timed(
        function,
        "workflows",
        f"{operation} {name}",
        {names.GEN_AI_OPERATION_NAME: operation, names.GEN_AI_WORKFLOW_NAME: name},
        {_GRAPH: name},
        labels={_GRAPH: name},
    )


def track_step(name: str) -> Block:
    """Track a step of a workflow: as a block, ``with`` or ``async with``, or as a decorator.

    Its span is ``step {name}``, its metric ``otel_llm.step.duration`` in seconds. The workflow is that of the label
    ``graph``, which `track_workflow` sets.

    Raises:
        TypeError: *name* is no string, or what is decorated no function.
        ValueError: *name* is empty; later, the block is entered or left a second time.
    """
    name = arguments.text("track_step", "name", name)
    return Timed(
        "track_step",
        "steps",
        f"{Work.STEP} {name}",
        {names.OTEL_LLM_STEP_NAME: name},
        {LABELS[names.OTEL_LLM_STEP_NAME]: name},
        inherits={_GRAPH: names.GEN_AI_WORKFLOW_NAME},
    )


def track_tool(
    name: str, *, tool_type: str | None = None, call_id: str | None = None, description: str | None = None
) -> Block:
    """Track an execution of a tool: as a block, ``with`` or ``async with``, or as a decorator.

    Its span is ``execute_tool {name}``, its metric ``gen_ai.execute_tool.duration`` in seconds.

    Args:
        name: the tool.
        tool_type: ``function``, ``extension`` or ``datastore``.
        call_id: the id of the model's call of the tool.
        description: what the tool is for.

    Raises:
        TypeError: an argument is no string, or what is decorated no function.
        ValueError: *name* is empty; later, the block is entered or left a second time.
    """
    function, operation = "track_tool", Operation.EXECUTE_TOOL
    name = arguments.text(function, "name", name)
    tool_type = arguments.maybe(function, "tool_type", tool_type)
    return Timed(
        function,
        "tools",
        f"{operation} {name}",
        {
            names.GEN_AI_OPERATION_NAME: operation,
            names.GEN_AI_TOOL_NAME: name,
            names.GEN_AI_TOOL_TYPE: tool_type,
            names.GEN_AI_TOOL_CALL_ID: arguments.maybe(function, "call_id", call_id),
            names.GEN_AI_TOOL_DESCRIPTION: arguments.maybe(function, "description", description),
        },
        {LABELS[names.GEN_AI_TOOL_NAME]: name, LABELS[names.GEN_AI_TOOL_TYPE]: tool_type},
        inherits={_AGENT: names.GEN_AI_AGENT_NAME},
    )


def track_agent(name: str, *, model: str | None = None, description: str | None = None) -> Block:
    """Track a run of an agent in this process: as a block, ``with`` or ``async with``, or as a decorator.

    Its span is ``invoke_agent {name}``, its metric ``gen_ai.invoke_agent.duration`` in seconds. Tools that are tracked
    inside have its name.

    Args:
        name: the agent.
        model: the model that it asks, if there is only one.
        description: what the agent is for.

    Raises:
        TypeError: an argument is no string, or what is decorated no function.
        ValueError: *name* is empty; later, the block is entered or left a second time.
    """
    function, operation = "track_agent", Operation.INVOKE_AGENT
    name = arguments.text(function, "name", name)
    model = arguments.maybe(function, "model", model)
    return Timed(
        function,
        "agents",
        f"{operation} {name}",
        {
            names.GEN_AI_OPERATION_NAME: operation,
            names.GEN_AI_AGENT_NAME: name,
            names.GEN_AI_REQUEST_MODEL: model,
            names.GEN_AI_AGENT_DESCRIPTION: arguments.maybe(function, "description", description),
        },
        {_AGENT: name},
        model=model,
        agent=name,
    )


def track_model_load(model: str) -> Block:
    """Track how the application loads a model: as a block, ``with`` or ``async with``, or as a decorator.

    Its span is ``load_model {model}``, its metric ``otel_llm.model.load.duration`` in seconds.

    Raises:
        TypeError: *model* is no string, or what is decorated no function.
        ValueError: *model* is empty; later, the block is entered or left a second time.
    """
    model = arguments.text("track_model_load", "model", model)
    return Timed(
        "track_model_load",
        "model_load",
        f"{Work.LOAD_MODEL} {model}",
        {names.GEN_AI_REQUEST_MODEL: model},
        {},
        model=model,
    )
