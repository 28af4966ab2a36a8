"""pydantic-ai: agents on both of the APIs."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.frameworks.conftest import Check

ai: Any = pytest.importorskip("pydantic_ai", reason="tests/matrix.py brings pydantic-ai")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ASK = "What is the capital of France?"


def _agent(url: str, api: str) -> Any:
    models: Any = importlib.import_module("pydantic_ai.models.openai")
    providers: Any = importlib.import_module("pydantic_ai.providers.openai")
    provider = providers.OpenAIProvider(base_url=url, api_key="test")
    return ai.Agent(getattr(models, api)("gpt-5", provider=provider))


def _told(run: Any, output: str) -> dict[str, Any]:
    usage = run.usage
    return {"output": output, "tokens": (usage.input_tokens, usage.output_tokens)}


@pytest.mark.parametrize("api", ["OpenAIChatModel", "OpenAIResponsesModel"])
def test_run(check: Check, api: str) -> None:
    """A plain run."""

    async def use(url: str) -> Any:
        run = await _agent(url, api).run(ASK)
        return _told(run, run.output)

    check(use)


@pytest.mark.parametrize("api", ["OpenAIChatModel", "OpenAIResponsesModel"])
def test_run_stream(check: Check, api: str) -> None:
    """A streamed run."""

    async def use(url: str) -> Any:
        async with _agent(url, api).run_stream(ASK) as run:
            return _told(run, "".join([text async for text in run.stream_text(delta=True)]))

    check(use)
