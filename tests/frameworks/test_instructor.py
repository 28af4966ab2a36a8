"""instructor: structured answers, whole and in parts."""

from __future__ import annotations

import importlib
from typing import Any

import openai
import pytest
from pydantic import BaseModel, field_validator

from tests.frameworks.conftest import Check

instructor: Any = pytest.importorskip("instructor", reason="tests/matrix.py brings instructor")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
STREAM: Any = {"stream_options": {"include_usage": True}}


class City(BaseModel):
    """What is asked for."""

    name: str


class Village(City):
    """What the server's answer never is, so that the framework asks again."""

    @field_validator("name")
    @classmethod
    def _refuse(cls, name: str) -> str:
        raise ValueError(f"{name} is no village")


MODES = ("TOOLS", "JSON_SCHEMA", "RESPONSES_TOOLS")
"""The first is the default."""


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Any:
    """Return the way in which the framework asks for structure."""
    return getattr(instructor.Mode, request.param)


def _sync(url: str, mode: Any) -> Any:
    return instructor.from_openai(openai.OpenAI(base_url=url, api_key="test"), mode=mode).chat.completions


def _async(url: str, mode: Any) -> Any:
    return instructor.from_openai(openai.AsyncOpenAI(base_url=url, api_key="test"), mode=mode).chat.completions


def _streamed(mode: Any) -> Any:
    """Return what makes a stream of chat completions tell its usage, which responses do anyway."""
    return {} if mode is instructor.Mode.RESPONSES_TOOLS else STREAM


def _told(city: Any, completion: Any) -> dict[str, Any]:
    usage = completion.usage.model_dump()
    asked = "prompt_tokens", "completion_tokens"
    names = asked if asked[0] in usage else ("input_tokens", "output_tokens")
    return {"city": city.model_dump(), "tokens": tuple(usage[name] for name in names)}


def _parts(parts: list[Any]) -> dict[str, Any]:
    """Tell the parts of a stream; the framework tells no tokens of it."""
    assert "Paris" == parts[-1].name
    return {"parts": [part.model_dump() for part in parts], "tokens": None}


def test_default_mode() -> None:
    """The mode tested first is what one gets without asking."""
    own = openai.OpenAI(base_url="http://127.0.0.1:1/", api_key="test")
    assert getattr(instructor.Mode, MODES[0]) is instructor.from_openai(own).mode


def test_create(check: Check, mode: Any) -> None:
    """A plain call."""

    async def use(url: str) -> Any:
        own = _sync(url, mode)
        return _told(*own.create_with_completion(model="gpt-5", messages=ASK, response_model=City))

    check(use)


def test_acreate(check: Check, mode: Any) -> None:
    """A plain async call."""

    async def use(url: str) -> Any:
        own = _async(url, mode)
        return _told(*await own.create_with_completion(model="gpt-5", messages=ASK, response_model=City))

    check(use)


def test_asked_again(check: Check, mode: Any) -> None:
    """Each of the framework's own attempts is a call of a model."""

    async def use(url: str) -> Any:
        refused = importlib.import_module("instructor.core.exceptions").InstructorRetryException
        with pytest.raises(refused) as caught:
            _sync(url, mode).create(model="gpt-5", messages=ASK, response_model=Village, max_retries=2)
        attempts: Any = getattr(caught.value, "n_attempts")  # noqa: B009 - untyped
        return {"attempts": attempts, "tokens": None}

    check(use)


def test_partial(check: Check, mode: Any) -> None:
    """A streamed call."""

    async def use(url: str) -> Any:
        own = _sync(url, mode)
        return _parts(list(own.create_partial(model="gpt-5", messages=ASK, response_model=City, **_streamed(mode))))

    check(use)


def test_apartial(check: Check, mode: Any) -> None:
    """A streamed async call."""

    async def use(url: str) -> Any:
        made = _async(url, mode).create_partial(model="gpt-5", messages=ASK, response_model=City, **_streamed(mode))
        return _parts([part async for part in made])

    check(use)


def test_iterable(check: Check, mode: Any) -> None:
    """A streamed call for several objects."""

    async def use(url: str) -> Any:
        own = _sync(url, mode)
        return _parts(list(own.create_iterable(model="gpt-5", messages=ASK, response_model=City, **_streamed(mode))))

    check(use)


def test_aiterable(check: Check, mode: Any) -> None:
    """A streamed async call for several objects."""

    async def use(url: str) -> Any:
        made = _async(url, mode).create_iterable(model="gpt-5", messages=ASK, response_model=City, **_streamed(mode))
        return _parts([city async for city in made])

    check(use)
