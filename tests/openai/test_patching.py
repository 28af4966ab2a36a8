"""The patches of the client: every original back by identity, and other people's wrappers left in their place."""

from __future__ import annotations

import inspect
from typing import Any

import openai
import pytest
import wrapt
from openai import _base_client as base

from otel_llm.testing import capture
from otel_llm.testing.server import ScriptedServer
from tests.openai.styles import ASK, client

PATCHED = [
    (base.SyncAPIClient, "request"),
    (base.AsyncAPIClient, "request"),
    (base.SyncAPIClient, "_process_response"),
    (base.AsyncAPIClient, "_process_response"),
    (base.BaseClient, "_should_retry"),
    (base.BaseClient, "_calculate_retry_timeout"),
    (openai.Stream, "__iter__"),
    (openai.Stream, "__next__"),
    (openai.AsyncStream, "__aiter__"),
    (openai.AsyncStream, "__anext__"),
]


def _methods() -> list[Any]:
    return [owner.__dict__[name] for owner, name in PATCHED]


def test_every_original_comes_back() -> None:
    """All patched attributes are replaced while on, and the very same objects afterwards."""
    before = _methods()
    with capture():
        assert not any(now is then for now, then in zip(_methods(), before, strict=True))

    assert all(now is then for now, then in zip(_methods(), before, strict=True))


def test_a_patched_method_looks_the_same() -> None:
    """Name, signature and documentation of the methods are those of the originals."""
    before = [(method.__name__, inspect.signature(method), method.__doc__) for method in _methods()]
    with capture():
        assert before == [(method.__name__, inspect.signature(method), method.__doc__) for method in _methods()]


def test_a_wrapper_put_on_a_subclass_before(server: ScriptedServer) -> None:
    """A foreign wrapper on ``OpenAI.request`` itself, which goes past the base class, hides no call from us."""
    seen_by_them: list[Any] = []

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen_by_them.append(instance)
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(openai.OpenAI, "request", wrapper)
    theirs = openai.OpenAI.__dict__["request"]
    try:
        with capture() as seen:
            client(server).chat.completions.create(model="gpt-5", messages=ASK)

            assert 1 == len(seen.spans) == len(seen_by_them)
        assert openai.OpenAI.__dict__["request"] is theirs
    finally:
        del openai.OpenAI.request  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", ["__name__", "__qualname__"])
def test_a_wrapper_put_on_top_afterwards(server: ScriptedServer, name: str) -> None:
    """What somebody wrapped after us stays when we leave, and passes through us without a trace."""
    patched: Any = base.SyncAPIClient
    original = patched.__dict__["request"]
    with capture() as seen:
        ours = base.SyncAPIClient.__dict__["request"]

        def on_top(*args: Any, **kwargs: Any) -> Any:
            return ours(*args, **kwargs)

        patched.request = on_top
    try:
        client(server).chat.completions.create(model="gpt-5", messages=ASK)
        assert base.SyncAPIClient.__dict__["request"] is on_top
        assert [] == seen.spans
        assert getattr(original, name) == getattr(ours, name)
    finally:
        patched.request = original
