"""instructor: structured answers, whole and in parts."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.frameworks.conftest import Check

instructor: Any = pytest.importorskip("instructor", reason="tests/matrix.py brings instructor")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
STREAM: Any = {"stream_options": {"include_usage": True}}


class City(BaseModel):
    """What is asked for."""

    name: str


def _sync(url: str) -> Any:
    return instructor.from_openai(openai.OpenAI(base_url=url, api_key="test"), mode=instructor.Mode.JSON_SCHEMA)


def _async(url: str) -> Any:
    return instructor.from_openai(openai.AsyncOpenAI(base_url=url, api_key="test"), mode=instructor.Mode.JSON_SCHEMA)


def _told(city: Any, completion: Any) -> dict[str, Any]:
    usage = completion.usage
    return {"city": city.model_dump(), "tokens": (usage.prompt_tokens, usage.completion_tokens)}


def test_create(check: Check) -> None:
    """A plain call."""

    async def use(url: str) -> Any:
        made = _sync(url).chat.completions.create_with_completion(model="gpt-5", messages=ASK, response_model=City)
        return _told(*made)

    check(use)


def test_acreate(check: Check) -> None:
    """A plain async call."""

    async def use(url: str) -> Any:
        own = _async(url).chat.completions
        return _told(*await own.create_with_completion(model="gpt-5", messages=ASK, response_model=City))

    check(use)


def test_partial(check: Check) -> None:
    """A streamed call; the framework tells no tokens of it."""

    async def use(url: str) -> Any:
        own = _sync(url).chat.completions
        parts = list(own.create_partial(model="gpt-5", messages=ASK, response_model=City, **STREAM))
        return {"parts": [part.model_dump() for part in parts], "tokens": None}

    check(use)


def test_apartial(check: Check) -> None:
    """A streamed async call."""

    async def use(url: str) -> Any:
        own = _async(url).chat.completions
        made = own.create_partial(model="gpt-5", messages=ASK, response_model=City, **STREAM)
        return {"parts": [part.model_dump() async for part in made], "tokens": None}

    check(use)
