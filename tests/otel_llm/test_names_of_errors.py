"""The name of an exception: public, short, the same each time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import socket
from typing import Any

import httpx
import ollama
import openai
import pytest

from otel_llm import errors


class Local(Exception):
    """An exception of the application's."""


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (openai.RateLimitError, "openai.RateLimitError"),
        (openai.APIConnectionError, "openai.APIConnectionError"),
        (asyncio.CancelledError, "asyncio.CancelledError"),
        (concurrent.futures.CancelledError, "concurrent.futures.CancelledError"),
        (httpx.ReadTimeout, "httpx.ReadTimeout"),
        (ollama.ResponseError, "ollama.ResponseError"),
        (json.JSONDecodeError, "json.JSONDecodeError"),
        (socket.gaierror, "socket.gaierror"),
        (ValueError, "ValueError"),
        (KeyboardInterrupt, "KeyboardInterrupt"),
        (TimeoutError, "TimeoutError"),
        (Local, f"{__name__}.Local"),
    ],
)
def test_public_name(cls: type[BaseException], name: str) -> None:
    """The name is the one under which a user can import the class."""
    assert name == errors.error_type(cls.__new__(cls))


def test_bounded() -> None:
    """Classes made on the fly do not fill the memory."""
    for number in range(3000):
        made: Any = type(f"Made{number}", (Exception,), {})
        errors.error_type(made())

    assert len(errors._names) <= 1024


def test_a_message_that_fails() -> None:
    """An exception whose text cannot be had has none."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "" == errors.error_message(Mute())
    assert 1024 == len(errors.error_message(ValueError("x" * 5000)))
