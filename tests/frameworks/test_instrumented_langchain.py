"""langchain-openai, traced by another instrumentation of LangChain itself, beside ours.

The overlays of ``tests/matrix.py`` bring one of them each.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from otel_llm.testing import Seen
from tests.frameworks.conftest import Beside
from tests.frameworks.told import DURATION, FIRST_CHUNK, TOKENS

ASK = "What is the capital of France?"


class Other(NamedTuple):
    """An instrumentation of LangChain: where its instrumentor is, and what it leaves to us."""

    module: str
    instrumentor: str
    left: set[str]
    forgets: bool = False
    """Whether it counts nothing of what is sampled out."""


OTHERS = (
    Other("opentelemetry.instrumentation.langchain", "LangchainInstrumentor", {FIRST_CHUNK}, forgets=True),
    Other("openinference.instrumentation.langchain", "LangChainInstrumentor", {DURATION, TOKENS, FIRST_CHUNK}),
)


def _installed() -> Other | None:
    for other in OTHERS:
        try:
            importlib.import_module(other.module)
        except ImportError:
            continue
        return other
    return None


FOUND = _installed()
if FOUND is None:
    pytest.skip("no instrumentation of LangChain is installed; tests/matrix.py brings them", allow_module_level=True)
OTHER = FOUND
langchain: Any = importlib.import_module("langchain_openai")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.parametrize("responses", [False, True]),
]


PATCHED: tuple[Any, ...] = (
    importlib.import_module("langchain_core.callbacks").BaseCallbackManager,
    importlib.import_module("langchain_openai.chat_models.base").BaseChatOpenAI,
    importlib.import_module("langchain_openai.llms.base").BaseOpenAI,
)
"""The classes that they patch; one of them leaves its patches behind."""


def _attributes(cls: Any) -> dict[str, Any]:
    found: dict[str, Any] = {**vars(cls)}
    return found


@contextmanager
def _instrumented(seen: Seen) -> Generator[None]:
    before = [_attributes(cls) for cls in PATCHED]
    instrumentor = getattr(importlib.import_module(OTHER.module), OTHER.instrumentor)()
    instrumentor.instrument(tracer_provider=seen.tracer_provider, meter_provider=seen.meter_provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()
        for cls, then in zip(PATCHED, before, strict=True):
            for name, value in _attributes(cls).items():
                if value is not then.get(name):
                    setattr(cls, name, then[name])


def _model(url: str, responses: bool) -> Any:
    return langchain.ChatOpenAI(
        model="gpt-5", base_url=url, api_key="test", max_retries=0, stream_usage=True, use_responses_api=responses
    )


def _told(messages: list[Any]) -> Any:
    return [(message.content, message.usage_metadata) for message in messages]


def test_invoke(beside: Beside, responses: bool) -> None:
    """A plain call."""

    async def use(url: str) -> Any:
        return _told([_model(url, responses).invoke(ASK)])

    beside(use, _instrumented, OTHER.left, forgets=OTHER.forgets)


def test_ainvoke(beside: Beside, responses: bool) -> None:
    """A plain async call."""

    async def use(url: str) -> Any:
        return _told([await _model(url, responses).ainvoke(ASK)])

    beside(use, _instrumented, OTHER.left, forgets=OTHER.forgets)


def test_stream(beside: Beside, responses: bool) -> None:
    """A streamed call."""

    async def use(url: str) -> Any:
        return _told(list(_model(url, responses).stream(ASK)))

    beside(use, _instrumented, OTHER.left, forgets=OTHER.forgets)


def test_astream(beside: Beside, responses: bool) -> None:
    """A streamed async call."""

    async def use(url: str) -> Any:
        return _told([chunk async for chunk in _model(url, responses).astream(ASK)])

    beside(use, _instrumented, OTHER.left, forgets=OTHER.forgets)
