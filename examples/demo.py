"""Make real calls with `openai`, `ollama` and bare `httpx`, and show what otel-llm saw of them.

Without options it talks to OpenAI if ``OPENAI_API_KEY`` is set, else to an Ollama that is running here, else to the
project's own scripted server, which needs no key and no network.
"""

import argparse
import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import ollama
import openai
from demo_server import Target, choose
from demo_view import View
from openai.types.chat import ChatCompletionMessageParam
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

import otel_llm
from otel_llm.testing.server import error

QUESTION: Final = "What is the capital of France?"
MESSAGES: Final[list[ChatCompletionMessageParam]] = [{"role": "user", "content": QUESTION}]
UNKNOWN_MODEL: Final = "no-such-model"
PATIENCE: Final = 60.0
"""Seconds after which no further call is begun, however slow the server is."""
TIMEOUT: Final = 40.0
"""Seconds to wait for one answer."""


class City(BaseModel):
    """The structured answer."""

    city: str
    country: str


@dataclass
class Run:
    """What the calls need: clients, models and somewhere to print to."""

    target: Target
    view: View
    client: openai.OpenAI
    deadline: float = field(default_factory=lambda: time.monotonic() + PATIENCE)

    @property
    def late(self) -> bool:
        """Whether the time for calls is up."""
        return time.monotonic() > self.deadline


def plain(run: Run) -> str | None:
    """Ask, and wait for the whole answer."""
    answer = run.client.chat.completions.create(model=run.target.model, messages=MESSAGES)
    return answer.choices[0].message.content


def two_at_once(run: Run) -> str:
    """Ask twice at the same time, with the async client."""

    async def ask() -> str:
        async with openai.AsyncOpenAI(**run.target.client_options, timeout=TIMEOUT) as client:
            asked = (client.chat.completions.create(model=run.target.model, messages=MESSAGES) for _ in range(2))
            return f"{len(await asyncio.gather(*asked))} answers"

    return asyncio.run(ask())


def streamed(run: Run, words: int = sys.maxsize) -> None:
    """Read the answer while it is being written, at most so many pieces of it."""
    with run.client.chat.completions.create(
        model=run.target.model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as stream:
        for chunk in stream:
            text = chunk.choices[0].delta.content if chunk.choices else None
            if text:
                run.view.word(text)
                words -= 1
            if not words or run.late:
                return


def left_early(run: Run) -> str:
    """Stop reading after three pieces, as when a user presses Stop."""
    streamed(run, words=3)
    return " ... and stopped reading"


def structured(run: Run) -> str:
    """Ask for an object of a Python class."""
    answer = run.client.chat.completions.parse(model=run.target.model, messages=MESSAGES, response_format=City)
    return repr(answer.choices[0].message.parsed)


def responses(run: Run) -> str:
    """Ask by way of the newer Responses API, and have the model reason first where it surely can."""
    if run.target.script is None:
        return run.client.responses.create(model=run.target.model, input=QUESTION).output_text
    return run.client.responses.create(model=run.target.model, input=QUESTION, reasoning={"effort": "low"}).output_text


def embeddings(run: Run) -> str:
    """Turn two texts into vectors."""
    model = run.target.embedding_model or run.target.model
    made = run.client.embeddings.create(model=model, input=[QUESTION, "Paris"], encoding_format="float")
    return f"{len(made.data)} vectors of {len(made.data[0].embedding)} numbers"


def failing(run: Run) -> str:
    """Ask for a model that does not exist."""
    if run.target.script is not None:
        message = f"The model {UNKNOWN_MODEL!r} does not exist"
        run.target.script.on_model(UNKNOWN_MODEL, error(404, code="model_not_found", message=message))
    run.client.chat.completions.create(model=UNKNOWN_MODEL, messages=MESSAGES)
    return f"answered all the same: this server does not look at the name {UNKNOWN_MODEL!r}"


def retried(run: Run) -> str:
    """Meet two failures that the client repeats by itself."""
    if run.target.script is not None:
        soon = {"retry-after-ms": "60"}
        run.target.script.script(error(429, headers=soon), error(500, headers=soon))
    return f"{plain(run)}  (at the third attempt)"


def by_ollama(run: Run) -> None:
    """Read a streamed answer with Ollama's own client."""
    model = run.target.ollama_model or run.target.model
    client: Any = ollama.Client(host=run.target.base_url.removesuffix("/v1"), timeout=TIMEOUT)
    with client:
        for part in client.chat(model=model, messages=MESSAGES, stream=True):
            run.view.word(part.message.content or "")


def by_hand(run: Run) -> str:
    """Ask with nothing but an HTTP client."""
    answer = httpx.post(
        f"{run.target.base_url}/chat/completions",
        headers={"authorization": f"Bearer {run.target.api_key}"},
        json={"model": run.target.model, "messages": MESSAGES},
        timeout=TIMEOUT,
    )
    return str(answer.raise_for_status().json()["choices"][0]["message"]["content"])


CALLS: Final[dict[str, Callable[[Run], str | None]]] = {
    "plain": plain,
    "async, two at once": two_at_once,
    "streamed": streamed,
    "stream left early": left_early,
    "structured answer": structured,
    "responses API": responses,
    "embeddings": embeddings,
    "ollama's client": by_ollama,
    "bare httpx": by_hand,
    "failing": failing,
    "retried": retried,
}


def left_out(run: Run, name: str) -> str | None:
    """Say why a call cannot be made with this server, if so."""
    if run.late:
        return "this server is too slow for a short demo"
    if name == "embeddings" and run.target.embedding_model is None:
        return "this server has no embedding model"
    if name == "ollama's client" and run.target.ollama_model is None:
        return "this server is no Ollama"
    if name == "retried" and run.target.script is None:
        return "only the scripted server fails on demand"
    return None


def make_calls(run: Run, provider: TracerProvider) -> bool:
    """Make every call below one span of the application, and say whether any was answered."""
    tracer = provider.get_tracer("demo")
    answered = False
    with tracer.start_as_current_span("demo"):
        for name, call in CALLS.items():
            run.view.begin(name)
            reason = left_out(run, name)
            if reason:
                run.view.end(f"left out: {reason}", "dim")
                continue
            try:
                with tracer.start_as_current_span(name):
                    result = call(run)
                answered = True
                run.view.end(result or "")
            except (openai.OpenAIError, ollama.ResponseError, httpx.HTTPError, ValueError) as problem:
                # ValueError: an answer that does not fit City
                run.view.end(describe(problem), "red")
    return answered


def describe(problem: Exception) -> str:
    """Say in one line what went wrong."""
    body = problem.body if isinstance(problem, openai.APIError) else None
    message = body.get("message") if isinstance(body, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return f"{type(problem).__name__}: {message or problem}"  # pyright: ignore[reportUnknownArgumentType]


def main() -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default=os.environ.get("OPENAI_BASE_URL"), help="an OpenAI-compatible server")
    parser.add_argument("--model", help="the model to ask; by default one that the server has")
    parser.add_argument("--page", action="store_true", help="print all of the metrics page, not its best lines")
    parser.add_argument("--serve", action="store_true", help="keep the metrics page up until Ctrl-C")
    options = parser.parse_args()
    os.environ.setdefault("OTEL_SERVICE_NAME", "otel-llm-demo")
    view = View()
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with ExitStack() as stack:
        stack.callback(provider.shutdown)
        target = stack.enter_context(choose(options.base_url, options.model))
        view.title(target)
        try:
            serve = True if options.serve else "127.0.0.1:0"
            handle = stack.enter_context(otel_llm.instrument(tracer_provider=provider, serve=serve, semconv="released"))
        except OSError as problem:
            return view.fail(f"The page cannot be served: {problem}. OTEL_EXPORTER_PROMETHEUS_PORT chooses the port.")
        if handle.url is None:
            return view.fail("OTEL_SDK_DISABLED is set, so there is nothing to see.")
        client = stack.enter_context(openai.OpenAI(**target.client_options, timeout=TIMEOUT))
        if not make_calls(Run(target, view, client), provider):
            return view.fail("No call was answered.")
        handle.flush()
        view.trace(spans.get_finished_spans())
        view.page(handle.url, whole=options.page)
        view.served(handle.url, stays=options.serve)
        if options.serve:
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0 if "--serve" in sys.argv else 130)
