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


def _agent(url: str, api: str) -> Any:
    agents.set_tracing_disabled(True)  # it would send its traces to OpenAI
    own = openai.AsyncOpenAI(base_url=url, api_key="test")
    model = getattr(agents, api)(model="gpt-5", openai_client=own)
    return agents.Agent(name="guide", model=model, model_settings=agents.ModelSettings(include_usage=True))


def _told(result: Any) -> dict[str, Any]:
    usage = result.context_wrapper.usage
    return {"output": result.final_output, "tokens": (usage.input_tokens, usage.output_tokens)}


@pytest.mark.parametrize("api", MODELS)
def test_run(check: Check, api: str) -> None:
    """A plain run."""

    async def use(url: str) -> Any:
        return _told(await agents.Runner.run(_agent(url, api), ASK))

    check(use)


@pytest.mark.parametrize("api", MODELS)
def test_run_streamed(check: Check, api: str) -> None:
    """A streamed run."""

    async def use(url: str) -> Any:
        result = agents.Runner.run_streamed(_agent(url, api), ASK)
        kinds = [event.type async for event in result.stream_events()]
        return {**_told(result), "events": kinds}

    check(use)
