"""langchain-openai: chat models and embeddings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.frameworks.conftest import Check

langchain: Any = pytest.importorskip("langchain_openai", reason="tests/matrix.py brings langchain-openai")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ASK = "What is the capital of France?"


def _model(url: str, **more: Any) -> Any:
    return langchain.ChatOpenAI(model="gpt-5", base_url=url, api_key="test", max_retries=0, stream_usage=True, **more)


def _told(message: Any) -> dict[str, Any]:
    usage = message.usage_metadata
    return {
        "content": message.content,
        "metadata": {key: value for key, value in message.response_metadata.items() if key != "created_at"},
        "tokens": (usage["input_tokens"], usage["output_tokens"]),
    }


def _sum(chunks: list[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return {**_told(whole), "chunks": len(chunks)}


@pytest.mark.parametrize("responses", [False, True])
def test_invoke(check: Check, responses: bool) -> None:
    """A plain call."""

    async def use(url: str) -> Any:
        return _told(_model(url, use_responses_api=responses).invoke(ASK))

    check(use)


@pytest.mark.parametrize("responses", [False, True])
def test_ainvoke(check: Check, responses: bool) -> None:
    """A plain async call."""

    async def use(url: str) -> Any:
        return _told(await _model(url, use_responses_api=responses).ainvoke(ASK))

    check(use)


@pytest.mark.parametrize("responses", [False, True])
def test_stream(check: Check, responses: bool) -> None:
    """A streamed call."""

    async def use(url: str) -> Any:
        return _sum(list(_model(url, use_responses_api=responses).stream(ASK)))

    check(use)


@pytest.mark.parametrize("responses", [False, True])
def test_astream(check: Check, responses: bool) -> None:
    """A streamed async call."""

    async def use(url: str) -> Any:
        return _sum([chunk async for chunk in _model(url, use_responses_api=responses).astream(ASK)])

    check(use)
