"""A program that has children by `multiprocessing`, each of which makes calls: prints how many each page counts."""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Any

import openai

import otel_llm
from tests.prefork.deployment import counted


def call(times: int) -> None:
    """Make calls."""
    client = openai.OpenAI(base_url=os.environ["PREFORK_LLM"], api_key="none", max_retries=0)
    for _ in range(times):
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "?"}])


def show(when: str) -> None:
    """Print what the pages of this process count."""
    pages = [counted(otel_llm.generate_latest(name).decode(), name) for name in (None, "aegis", "llmbackend")]
    print(when, *map(int, pages), flush=True)  # noqa: T201


def child(times: int, ready: Any, go_on: Any) -> None:
    """Make calls, in a process of its own."""
    otel_llm.instrument(serve=False)
    call(times)
    ready.release()
    go_on.acquire()
    call(1)


def main(method: str) -> None:
    """Have three children."""
    otel_llm.instrument(serve=False)
    call(5)
    context: Any = multiprocessing.get_context(method)
    ready, go_on = context.Semaphore(0), context.Semaphore(0)
    children = [context.Process(target=child, args=(times, ready, go_on)) for times in (1, 2, 3)]
    for each in children:
        each.start()
    for _ in children:
        ready.acquire()
    show("during")
    call(1)
    for _ in children:
        go_on.release()
    for each in children:
        each.join()
    show("after")


if __name__ == "__main__":
    main(sys.argv[1])
