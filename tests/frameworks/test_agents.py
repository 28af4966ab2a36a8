"""The OpenAI Agents SDK: runs on both of OpenAI's APIs."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.frameworks.conftest import Check

agents: Any = pytest.importorskip("agents", reason="tests/matrix.py brings openai-agents")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ASK = "What is the capital of France?"
MODELS = ("OpenAIChatCompletionsModel", "OpenAIResponsesModel")


class Traces:
    """Where the framework's own tracing goes; by itself it would send to OpenAI."""

    def __init__(self, on: bool) -> None:
        self.on = on
        self.kinds: list[str] = []
        """The kinds of its finished spans."""

    def on_span_end(self, span: Any) -> None:
        """Keep the kind of a span."""
        self.kinds.append(span.span_data.type)

    def __getattr__(self, name: str) -> Any:
        def ignore(*_: object) -> None:
            """Take no note of what else is told."""

        return ignore


@pytest.fixture(params=[False, True], ids=["untraced", "traced"])
def traces(request: pytest.FixtureRequest) -> Traces:
    """Switch the framework's own tracing off or on; it is none of OpenTelemetry, so that our spans stay."""
    traces = Traces(request.param)
    agents.set_trace_processors([traces])
    agents.set_tracing_disabled(not request.param)
    return traces


def _agent(url: str, api: str) -> Any:
    own = openai.AsyncOpenAI(base_url=url, api_key="test")
    model = getattr(agents, api)(model="gpt-5", openai_client=own)
    return agents.Agent(name="guide", model=model, model_settings=agents.ModelSettings(include_usage=True))


def _told(result: Any, traces: Traces) -> dict[str, Any]:
    usage = result.context_wrapper.usage
    kinds, traces.kinds = traces.kinds, []
    assert traces.on == bool({"generation", "response"} & set(kinds))
    return {"output": result.final_output, "tokens": (usage.input_tokens, usage.output_tokens), "kinds": kinds}


@pytest.mark.parametrize("api", MODELS)
def test_run(check: Check, traces: Traces, api: str) -> None:
    """A plain run, the framework's own traces included."""

    async def use(url: str) -> Any:
        return _told(await agents.Runner.run(_agent(url, api), ASK), traces)

    check(use)


@pytest.mark.parametrize("api", MODELS)
def test_run_streamed(check: Check, traces: Traces, api: str) -> None:
    """A streamed run, the framework's own traces included."""

    async def use(url: str) -> Any:
        result = agents.Runner.run_streamed(_agent(url, api), ASK)
        kinds = [event.type async for event in result.stream_events()]
        return {**_told(result, traces), "events": kinds}

    check(use)
