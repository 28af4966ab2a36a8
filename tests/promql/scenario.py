"""The instrumented process: real clients call the scripted server, round by round, while Prometheus scrapes.

    python -m tests.promql.scenario

It prints one line of JSON: where its pages are, and where the scripted server is. Then, for each line that it reads, it
prints another one:

    round    makes the calls of one round; the answer is the seconds of each call, in a list for each entry of `ROUND`
    late     starts the slow calls
    joined   waits for them; the answer is their seconds
    held     starts the calls that stay in flight
    told     tells by hand what calls do not feed, see `tests.promql.by_hand`
    <N> <T>  makes N calls in T threads, each fourth with a model that nobody has seen before; no seconds
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import ollama
import openai

import otel_llm
from otel_llm.testing.answers import answer
from otel_llm.testing.server import Reply, ScriptedServer, error
from tests.promql.by_hand import tell_all
from tests.promql.calls import HELD, LATE, LATE_TIMES, MIDDLE, PATIENCE, QUESTION, ROUND, SLOW, Made

MESSAGES: Any = [{"role": "user", "content": QUESTION}]
NOBODY = "http://127.0.0.1:9/v1"
"""Where nobody listens."""
FOREVER = 3600.0


class Scenario:
    """The clients, and the server that answers them."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        own: dict[str, Any] = {"api_key": "none", "max_retries": 0}
        self.openai = openai.OpenAI(base_url=server.base_url, **own)
        self.hasty = openai.OpenAI(base_url=server.base_url, timeout=PATIENCE, **own)
        self.lost = openai.OpenAI(base_url=NOBODY, **own)
        self.ollama = ollama.Client(host=server.url)
        self.httpx = httpx.Client(base_url=server.base_url)
        self.late: list[threading.Thread] = []
        self.late_seconds: list[float] = []
        server.on_model("middle", self.reply("middle", MIDDLE))

    def reply(self, model: str, delay: float) -> Reply:
        """Return the usual answer, some time later."""
        return Reply(json=answer("POST", "/chat/completions", {"model": model, "messages": MESSAGES}, 1), delay=delay)

    def timed(self, made: Made) -> float:
        """Make a call and return how long it took."""
        failures: dict[str, Callable[[], object]] = {
            "rate_limit": lambda: self.server.script(error(429)),
            "api_error": lambda: self.server.script(Reply(500, {"error": "out of order"})),
            "timeout": lambda: self.server.script(Reply(delay=FOREVER)),
            "cancelled": lambda: self.server.script(Reply(delay=FOREVER)),
        }
        failures.get(made.error_class, lambda: None)()
        if made.error_class == "cancelled":
            return asyncio.run(self.cancelled(made))
        start = time.perf_counter()
        try:
            with otel_llm.labels(**made.labels):
                self.call(made)
            failed = ""
        except (openai.OpenAIError, ollama.ResponseError) as raised:
            failed = type(raised).__name__
        assert made.error_name == failed, made
        return time.perf_counter() - start

    def call(self, made: Made) -> None:
        """Make a call."""
        if made.client == "httpx":
            body = {"model": made.model, "messages": MESSAGES}
            self.httpx.post("/chat/completions", json=body).raise_for_status()
        elif made.client == "ollama" and made.operation == "embeddings":
            self.ollama.embed(made.model, QUESTION)
        elif made.client == "ollama":
            own: Any = self.ollama
            assert list(own.chat(made.model, MESSAGES, stream=made.streamed))
        elif made.operation == "embeddings":
            self.openai.embeddings.create(model=made.model, input=QUESTION)
        else:
            client = {"timeout": self.hasty, "network": self.lost}.get(made.error_class, self.openai)
            told: Any = {"stream_options": {"include_usage": True}} if made.streamed else {}
            answered: Any = client.chat.completions.create(
                model=made.model, messages=MESSAGES, stream=made.streamed, **told
            )
            assert list(answered)

    async def cancelled(self, made: Made) -> float:
        """Make a call in a task, cancel that, and return how long it took."""
        async with openai.AsyncOpenAI(base_url=self.server.base_url, api_key="none", max_retries=0) as client:
            asked = len(self.server.requests)
            start = time.perf_counter()
            with otel_llm.labels(**made.labels):
                task = asyncio.ensure_future(client.chat.completions.create(model=made.model, messages=MESSAGES))
            while len(self.server.requests) == asked:  # noqa: ASYNC110  # the server is in a thread
                await asyncio.sleep(0.001)
            task.cancel()
            done, _ = await asyncio.wait([task])
            assert done == {task}
            assert task.cancelled()
            return time.perf_counter() - start

    def round(self) -> list[list[float]]:
        """Make the calls of one round."""
        return [[self.timed(made) for _ in range(made.times)] for made in ROUND]

    def start_late(self) -> None:
        """Start the slow calls; the server has them all when this returns."""

        def call() -> None:
            self.late_seconds.append(self.timed(LATE))

        for _ in range(LATE_TIMES):
            self.behind(call, self.reply(LATE.model, SLOW), self.late)

    def hold(self) -> None:
        """Start the calls that never end; the server has them all when this returns."""
        for made in HELD:
            for _ in range(made.times):
                self.behind(lambda made=made: self.timed(made), Reply(delay=FOREVER), [])  # type: ignore[misc]

    def behind(self, call: Callable[[], object], reply: Reply, threads: list[threading.Thread]) -> None:
        """Start a call in a thread, and wait until it has this reply."""
        asked = len(self.server.requests)
        self.server.script(reply)
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        threads.append(thread)
        while len(self.server.requests) == asked:
            time.sleep(0.001)

    def many(self, calls: int, threads: int) -> None:
        """Make calls in threads, each fourth with a model of its own."""

        def work(thread: int) -> None:
            with openai.OpenAI(base_url=self.server.base_url, api_key="none", max_retries=0) as client:
                for number in range(calls // threads):
                    model = f"new-{thread}-{number}" if number % 4 == 0 else "gpt-5"
                    client.chat.completions.create(model=model, messages=MESSAGES)

        workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def main() -> None:
    """Do what the standard input says, until it ends."""
    with ScriptedServer() as server, otel_llm.instrument(serve="127.0.0.1:0") as handle:
        scenario = Scenario(server)
        tell({"page": handle.url, "server": server.url})
        for line in sys.stdin:
            match line.split():
                case ["round"]:
                    tell(scenario.round())
                case ["late"]:
                    scenario.start_late()
                    tell(None)
                case ["joined"]:
                    for thread in scenario.late:
                        thread.join()
                    tell(scenario.late_seconds)
                case ["held"]:
                    scenario.hold()
                    tell(None)
                case ["told"]:
                    tell_all()
                    tell(None)
                case [calls, threads]:
                    scenario.many(int(calls), int(threads))
                    tell(None)
                case _:
                    raise ValueError(line)


def tell(what: object) -> None:
    """Answer with one line."""
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
