"""Calls that fail: the caller's exception is untouched, and the call is recorded once with its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest

from otel_llm.testing import Seen
from otel_llm.testing.server import DROP, Reply, ScriptedServer, error
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK, client, has, run_async

CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "plain": (lambda own: own.chat.completions.create(model="gpt-5", messages=ASK), "chat.completions"),
    "stream": (lambda own: own.chat.completions.create(model="gpt-5", messages=ASK, stream=True), "chat.completions"),
    "raw": (
        lambda own: own.chat.completions.with_raw_response.create(model="gpt-5", messages=ASK),
        "chat.completions",
    ),
    "responses": (lambda own: own.responses.create(model="gpt-5", input="hi"), "responses"),
    "embeddings": (lambda own: own.embeddings.create(model="gpt-5", input="hi"), "embeddings"),
}

STATUSES: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}


def _failed_once(seen: Seen, error_type: str) -> dict[str, Any]:
    """Return the one span, after the checks that hold for each failed call."""
    (span,) = seen.spans
    assert "error" == span["status"]
    assert error_type == span["attributes"][names.ERROR_TYPE]
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert (1, error_type) == (point["count"], point["attributes"][names.ERROR_TYPE])
    assert [] == seen.points("gen_ai.client.token.usage")
    assert [] == seen.points("otel_llm.client.tokens")
    (active,) = seen.points("otel_llm.client.active")
    assert 0 == active["value"]
    return span


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("style", CALLS)
@pytest.mark.parametrize("status", STATUSES)
def test_status(server: ScriptedServer, seen: Seen, status: int, style: str, mode: str) -> None:
    """Every status raises the client's own exception, and ``error.type`` is its public name."""
    call, needs = CALLS[style]
    if not has(needs):
        pytest.skip(f"this client has no {needs}")
    server.script(error(status, message="no"))
    expected = STATUSES[status]

    if mode == "sync":
        with pytest.raises(expected) as raised:
            call(client(server))
    else:

        async def main(own: Any) -> Any:
            with pytest.raises(expected) as raised:
                await call(own)
            return raised

        raised = run_async(main, server)

    assert status == raised.value.status_code
    span = _failed_once(seen, f"openai.{expected.__name__}")
    assert str(raised.value) == span["description"]
    assert "req_00000001" == span["attributes"][names.OTEL_LLM_REQUEST_ID]
    assert names.GEN_AI_RESPONSE_MODEL not in span["attributes"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_connection_refused(seen: Seen, mode: str) -> None:
    """A server that is not there is ``openai.APIConnectionError``; its attempts are retries for ``connection``."""
    server = ScriptedServer()
    server.start()
    server.stop()
    more: dict[str, Any] = {"base_url": server.base_url, "api_key": "test", "max_retries": 1}

    if mode == "sync":
        with openai.OpenAI(**more) as own, pytest.raises(openai.APIConnectionError):
            own.chat.completions.create(model="gpt-5", messages=ASK)
    else:

        async def main() -> None:
            async with openai.AsyncOpenAI(**more) as own:
                with pytest.raises(openai.APIConnectionError):
                    await own.chat.completions.create(model="gpt-5", messages=ASK)

        asyncio.run(main())

    span = _failed_once(seen, "openai.APIConnectionError")
    assert 1 == span["attributes"][names.OTEL_LLM_RETRIES]
    (retries,) = seen.points("otel_llm.client.retries")
    assert (1, "connection") == (retries["value"], retries["attributes"][names.OTEL_LLM_RETRY_REASON])


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_timeout(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """A server that does not answer in time is ``openai.APITimeoutError``, retried for ``timeout``."""
    server.script(Reply(delay=30), Reply(delay=30))

    if mode == "sync":
        with pytest.raises(openai.APITimeoutError):
            client(server, max_retries=1, timeout=0.2).chat.completions.create(model="gpt-5", messages=ASK)
    else:

        async def main(own: Any) -> None:
            with pytest.raises(openai.APITimeoutError):
                await own.chat.completions.create(model="gpt-5", messages=ASK)

        run_async(main, server, max_retries=1, timeout=0.2)

    _failed_once(seen, "openai.APITimeoutError")
    (retries,) = seen.points("otel_llm.client.retries")
    assert "timeout" == retries["attributes"][names.OTEL_LLM_RETRY_REASON]


def test_dropped_before_an_answer(server: ScriptedServer, seen: Seen) -> None:
    """A connection closed without an answer is a connection error."""
    server.script(DROP)

    with pytest.raises(openai.APIConnectionError):
        client(server).chat.completions.create(model="gpt-5", messages=ASK)

    _failed_once(seen, "openai.APIConnectionError")


def test_cancelled_before_an_answer(server: ScriptedServer, seen: Seen) -> None:
    """A task cancelled while it waits for the answer is an error, ``asyncio.CancelledError``."""
    server.script(Reply(delay=30))

    async def main(own: Any) -> None:
        task = asyncio.create_task(own.chat.completions.create(model="gpt-5", messages=ASK))
        while not server.requests:  # noqa: ASYNC110  # the server is in another thread
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_async(main, server)

    _failed_once(seen, "asyncio.CancelledError")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupted(seen: Seen, server: ScriptedServer, interrupt: type[BaseException]) -> None:
    """An interrupt ends the call as an error and comes out as the very same object."""
    mine = interrupt("now")

    class Token(str):
        def encode(self, *args: Any, **kwargs: Any) -> bytes:
            raise mine

    own = client(server, default_headers={"x-test": Token("t")})
    with pytest.raises(interrupt) as raised:
        own.chat.completions.create(model="gpt-5", messages=ASK)

    assert raised.value is mine
    _failed_once(seen, interrupt.__name__)


def test_the_callers_own_mistake(server: ScriptedServer, seen: Seen) -> None:
    """A missing argument is the client's TypeError, before any call began."""
    with pytest.raises(TypeError, match="model"):
        client(server).chat.completions.create(messages=ASK)

    assert [] == seen.spans


def test_a_generator_of_messages_reaches_the_api(server: ScriptedServer, seen: Seen) -> None:
    """An iterator given as messages is not consumed by us."""
    client(server).chat.completions.create(model="gpt-5", messages=(message for message in ASK))

    assert ASK == server.requests[0].json["messages"]
    assert 1 == len(seen.spans)


def test_retries_that_end_badly(server: ScriptedServer, seen: Seen) -> None:
    """Attempts that were in vain are retries of one failed call."""
    soon = {"retry-after-ms": "1"}
    server.script(error(429, headers=soon), error(500, headers=soon), error(503, headers=soon))

    with pytest.raises(openai.InternalServerError):
        client(server, max_retries=2).chat.completions.create(model="gpt-5", messages=ASK)

    span = _failed_once(seen, "openai.InternalServerError")
    assert 2 == span["attributes"][names.OTEL_LLM_RETRIES]
    assert 3 == len(server.requests)


@pytest.mark.skipif(not has("responses"), reason="this client has no responses")
def test_a_failed_response(server: ScriptedServer, seen: Seen) -> None:
    """A response that failed with status 200 is an error by its code, though nothing is raised."""
    body: dict[str, Any] = {"id": "resp_1", "model": "m", "status": "failed", "output": []}
    server.script(Reply(json={**body, "error": {"code": "rate_limit_exceeded", "message": "slow down"}}))

    client(server).responses.create(model="gpt-5", input="hi")

    span = _failed_once(seen, "rate_limit_exceeded")
    assert "slow down" == span["description"]
    assert ("error",) == span["attributes"][names.GEN_AI_RESPONSE_FINISH_REASONS]


@pytest.mark.skipif(not has("responses"), reason="this client has no responses")
@pytest.mark.parametrize(("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "content_filter")])
def test_an_incomplete_response(server: ScriptedServer, seen: Seen, reason: str, finish: str) -> None:
    """A response cut short is no error; its reason is the finish reason."""
    usage = {"input_tokens": 21, "output_tokens": 9, "total_tokens": 30}
    body: dict[str, Any] = {"id": "resp_1", "model": "m", "status": "incomplete", "output": [], "usage": usage}
    server.script(Reply(json={**body, "incomplete_details": {"reason": reason}}))

    client(server).responses.create(model="gpt-5", input="hi")

    (span,) = seen.spans
    assert "unset" == span["status"]
    assert (finish,) == span["attributes"][names.GEN_AI_RESPONSE_FINISH_REASONS]
    assert 21 == span["attributes"][names.GEN_AI_USAGE_INPUT_TOKENS]


@pytest.mark.parametrize(
    ("reason", "content", "error"),
    [("length", '{"ci', "openai.LengthFinishReasonError"), ("stop", '{"city": 1}', "pydantic_core.ValidationError")],
)
def test_an_answer_that_the_client_refuses(
    server: ScriptedServer, seen: Seen, reason: str, content: str, error: str
) -> None:
    """Where the client refuses to parse an answer, be it cut short or of another form, its tokens are still told."""
    from pydantic import BaseModel

    class Answer(BaseModel):
        city: str

    if not has("beta.chat.completions.parse"):
        pytest.skip("this client has no parse")
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": content}}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    server.script(
        Reply(json={"id": "1", "object": "x", "created": 1, "model": "m", "choices": [choice], "usage": usage})
    )
    chat = client(server).chat.completions
    parse = chat.parse if hasattr(chat, "parse") else client(server).beta.chat.completions.parse

    with pytest.raises(ValueError if reason == "stop" else openai.LengthFinishReasonError):
        parse(model="gpt-5", messages=ASK, response_format=Answer)

    (span,) = seen.spans
    assert ("error", error) == (span["status"], span["attributes"][names.ERROR_TYPE])
    assert 3 == span["attributes"][names.GEN_AI_USAGE_OUTPUT_TOKENS]
    assert (reason,) == span["attributes"][names.GEN_AI_RESPONSE_FINISH_REASONS]
