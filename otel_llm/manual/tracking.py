"""Blocks that an application tracks by hand: workflows, steps, tools, agents, loads of models.

Each is a context manager, sync and async, and a decorator of functions, coroutine functions, generators and async
generators. What it measures it tells when it is left; what is raised inside goes on as it is.

Source: GenAI semantic conventions, "Invoke workflow", "Invoke agent", "Execute tool"; TinyLLM for steps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from otel_llm import errors
from otel_llm.block import Block
from otel_llm.context import ATTRIBUTES_KEY, LABELS_KEY, SPAN_KEY, Labels, labels_of
from otel_llm.manual import arguments, telling
from otel_llm.sinks.spans import prefixed
from otel_llm.telemetry import suppressed
from otel_llm_semconv import attributes as names
from otel_llm_semconv.measures import LABELS
from otel_llm_semconv.values import Operation, Work

if TYPE_CHECKING:
    from otel_llm.telemetry import Telemetry


_AGENT_KEY = context_api.create_key("otel_llm_agent")
"""Where a context keeps the name of the agent that runs in it."""
_GRAPH = LABELS[names.GEN_AI_WORKFLOW_NAME]
_AGENT = LABELS[names.GEN_AI_AGENT_NAME]


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
        self._inherited: Mapping[str, str] = {}
        self._agent = agent
        self._telemetry: Telemetry | None = None
        self._span: Span | None = None
        self._started_at = 0.0
        self._started_at_ns = 0

    def enter(self, context: Context) -> Context:
        """Begin the span, and have what happens inside know of it."""
        # What this one is made after may have been entered elsewhere.
        self._telemetry, self._span, self._inherited = None, None, {}
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
        settings = telemetry.settings
        for label, attribute in self._inherits.items():
            value: Any = context.get(_AGENT_KEY) if label == _AGENT else known.get(label) or settings.labels.get(label)
            if isinstance(value, str):
                attributes[attribute] = value
                self._inherited = {**self._inherited, label: value}
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
            given = {**self._inherited, **self._given}
            facts = telling.facts_of(
                telemetry, self._measure, given, model=self._model, failure=failure, context=self.context
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
