"""However a response over a websocket ends, it ends exactly once and the caller notices nothing of us."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
from typing import Any

import openai
import pytest

from otel_llm import faults
from otel_llm.testing import Seen
from otel_llm_semconv import attributes as names
from tests.openai.styles import has

pytest.importorskip("websockets")

from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

from tests.openai import websocket_server as ws
from tests.openai.websocket_server import (
    Caller,
    SocketServer,
    answering,
    both,
    create,
    events_of,
    every,
    last_of,
    run,
)

FAILURE = {"code": "server_error", "message": "It broke.", "type": "server_error"}
STATUSES: list[tuple[str, str, dict[str, Any], str, str | None]] = [
    ("realtime", "cancelled", {"reason": "turn_detected"}, "turn_detected", None),
    ("realtime", "cancelled", {}, "error", None),
    ("realtime", "incomplete", {"reason": "max_output_tokens"}, "length", None),
    ("realtime", "incomplete", {"reason": "content_filter"}, "content_filter", None),
    ("realtime", "failed", {"error": FAILURE}, "error", "server_error"),
    ("responses", "incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, "length", None),
    ("responses", "failed", {"error": FAILURE}, "error", "server_error"),
]


@both
@pytest.mark.parametrize(("api", "status", "details", "reason", "error"), STATUSES)
def test_status(
    sockets: SocketServer,
    seen: Seen,
    api: str,
    status: str,
    details: dict[str, Any],
    reason: str,
    error: str | None,
    mode: str,
) -> None:
    """What the last event says of the response is the end of its call, with the tokens that it used."""
    if not has(f"{api}.connect"):
        pytest.skip(f"this client has no {api}.connect")
    answering(sockets, *events_of(api, "resp_1", status, **details))

    async def scenario(caller: Caller) -> None:
        await caller.send(create(api))
        await caller.until("response.done" if api == "realtime" else f"response.{status}")

    run(scenario, sockets, api, mode)

    (span,) = seen.spans
    attributes = span["attributes"]
    assert (reason,) == attributes[names.GEN_AI_RESPONSE_FINISH_REASONS]
    assert (error, "unset" if error is None else "error") == (attributes.get(names.ERROR_TYPE), span["status"])
    assert (18, 12) == (attributes[names.GEN_AI_USAGE_INPUT_TOKENS], attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS])
    assert ("It broke." if error else None) == span["description"]
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert error == point["attributes"].get(names.ERROR_TYPE)


@both
@every
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    ("how", "kind"), [(1011, ConnectionClosedError), (1000, ConnectionClosedOK), (ws.ABORT, ConnectionClosedError)]
)
def test_closed_by_the_server(
    sockets: SocketServer, seen: Seen, api: str, begun: bool, how: Any, kind: type[Exception], mode: str
) -> None:
    """A connection that ends under a response is its error, the same that the reader gets."""
    answering(sockets, *(events_of(api)[:2] if begun else ()), how)

    async def scenario(caller: Caller) -> None:
        await caller.send(create(api))
        with pytest.raises(ConnectionClosed) as caught:
            await caller.until("never")
        assert kind is type(caught.value)
        with pytest.raises(ConnectionClosed):
            await caller.recv()

    run(scenario, sockets, api, mode)

    (span,) = seen.spans
    attributes = span["attributes"]
    assert "error" == span["status"]
    assert f"websockets.{kind.__name__}" == attributes[names.ERROR_TYPE]
    assert (2 if begun else 0) == attributes[names.OTEL_LLM_STREAM_CHUNKS]
    assert names.OTEL_LLM_STREAM_OUTCOME not in attributes
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert attributes[names.ERROR_TYPE] == point["attributes"][names.ERROR_TYPE]
    (active,) = seen.points("otel_llm.client.active")
    assert 0 == active["value"]


@both
@every
def test_iteration_over_a_connection_that_ends(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """A loop that ends in peace because the server closed has its last response ended all the same."""
    answering(sockets, *events_of(api)[:2], 1000)

    async def scenario(caller: Caller) -> list[str]:
        await caller.send(create(api))
        return [event.type async for event in caller.events()]

    kinds = run(scenario, sockets, api, mode)

    assert events_of(api)[1]["type"] == kinds[-1]
    (span,) = seen.spans
    assert "websockets.ConnectionClosedOK" == span["attributes"][names.ERROR_TYPE]


class Oops(Exception):
    pass


@both
@every
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("how", ["close", "with", "exception"])
def test_closed_by_the_caller(sockets: SocketServer, seen: Seen, api: str, begun: bool, how: str, mode: str) -> None:
    """Closing the connection or leaving its block in mid-response is no error, whatever the reason."""
    answering(sockets, *(events_of(api)[:2] if begun else ()))

    async def scenario(caller: Caller) -> None:
        await caller.send(create(api))
        if begun:
            await caller.until(events_of(api)[1]["type"])
        assert [] == seen.spans
        if how == "close":
            await caller.close()
            assert 1 == len(seen.spans)
        elif how == "exception":
            raise Oops

    if how == "exception":
        with pytest.raises(Oops):
            run(scenario, sockets, api, mode)
    else:
        run(scenario, sockets, api, mode)

    (span,) = seen.spans
    assert ("unset", "closed") == (span["status"], span["attributes"][names.OTEL_LLM_STREAM_OUTCOME])
    assert names.ERROR_TYPE not in span["attributes"]
    assert (2 if begun else 0) == span["attributes"][names.OTEL_LLM_STREAM_CHUNKS]


@both
@every
def test_reconnected(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """A response is lost with the connection that the client replaces; what is asked for meanwhile is a call, too."""
    answers: list[list[ws.Step]] = [[*events_of(api, "resp_2")], [*events_of(api)[:2], ws.ABORT]]
    sockets.answer = lambda event: answers.pop()
    sending: list[Any] = []

    def again(event: Any) -> None:
        result = sending.pop().send(create(api))
        if inspect.isawaitable(result):
            sending.append(asyncio.ensure_future(result))

    async def scenario(caller: Caller) -> None:
        sending.append(caller.connection)
        await caller.send(create(api))
        async for event in caller.events():
            if event.type == last_of(api):
                break

    try:
        run(scenario, sockets, api, mode, on_reconnecting=again, initial_delay=0.01)
    except TypeError:
        pytest.skip("this client does not reconnect")

    lost, fine = seen.spans
    assert "websockets.ConnectionClosedError" == lost["attributes"][names.ERROR_TYPE]
    assert "resp_1" == lost["attributes"][names.GEN_AI_RESPONSE_ID]
    assert ("unset", "resp_2") == (fine["status"], fine["attributes"][names.GEN_AI_RESPONSE_ID])


@both
@every
def test_dropped(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """A connection that is forgotten in mid-response has abandoned it."""
    answering(sockets, *events_of(api)[:2])

    async def main() -> None:
        more: dict[str, Any] = {"api_key": "test", "websocket_base_url": sockets.url}
        client: Any = (
            openai.OpenAI(http_client=openai.DefaultHttpxClient(verify=False), **more)
            if mode == "sync"
            else openai.AsyncOpenAI(http_client=openai.DefaultAsyncHttpxClient(verify=False), **more)
        )
        entered = ws.make(client, api).enter()
        caller = Caller(await entered if mode == "async" else entered, mode)
        del entered
        await caller.send(create(api))
        await caller.until(events_of(api)[1]["type"])
        below = caller.connection._connection
        assert [] == seen.spans
        del caller
        gc.collect()
        assert 1 == len(seen.spans)
        for closing in (below.close(), client.close()):
            if inspect.isawaitable(closing):
                await closing

    asyncio.run(main())

    (span,) = seen.spans
    assert ("unset", "abandoned") == (span["status"], span["attributes"][names.OTEL_LLM_STREAM_OUTCOME])
    assert 2 == span["attributes"][names.OTEL_LLM_STREAM_CHUNKS]


@both
@every
def test_sent_in_vain(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """A request that cannot be sent is a call with the exception that the caller gets."""
    answering(sockets)

    async def scenario(caller: Caller) -> None:
        await caller.close()
        with pytest.raises(ConnectionClosed):
            await caller.send(create(api))
        await caller.close()

    run(scenario, sockets, api, mode)

    (span,) = seen.spans
    assert "error" == span["status"]
    assert "websockets.ConnectionClosedOK" == span["attributes"][names.ERROR_TYPE]


@every
def test_read_given_up(sockets: SocketServer, seen: Seen, api: str) -> None:
    """A read that is cancelled ends nothing: the next one goes on with the response."""
    first, *rest = events_of(api)
    answering(sockets, first, 0.2, *rest)

    async def scenario(caller: Caller) -> None:
        await caller.send(create(api))
        await caller.until("response.created")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(caller.recv(), 0.02)
        await caller.until(last_of(api))

    run(scenario, sockets, api, "async")

    (span,) = seen.spans
    assert ("unset", 4) == (span["status"], span["attributes"][names.OTEL_LLM_STREAM_CHUNKS])


class Fault(Exception):
    pass


def _raise(*args: object, **kwargs: object) -> None:
    raise Fault


PLACES = [
    ("otel_llm_openai.websockets.Call", "websocket.ask", 0),
    ("otel_llm_openai.websockets.Tap", "websocket.ask", 0),
    ("otel_llm_openai.websockets._address", "websocket.ask", 0),
    ("otel_llm.foreign.may_be_near", "websocket.ask", 1),
    ("otel_llm_openai.websockets._Session.saw", "websocket.saw", 1),
    ("otel_llm_openai.websockets._Session.end", "_Sockets.closes", 1),
    ("otel_llm_openai.websockets._Session.end", "_Sockets.lost", 1),
    ("otel_llm.streams.Tap.saw", "websocket.saw", 1),
    ("otel_llm.streams.Tap._read", "read_chunks", 1),
]
"""What is broken, where the fault is counted, and how many calls end all the same."""


@both
@every
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("target", "place", "ended"), PLACES)
def test_faults(
    sockets: SocketServer,
    seen: Seen,
    api: str,
    mode: str,
    target: str,
    place: str,
    ended: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What goes wrong in telemetry reaches no caller: the events are the same, and the fault is counted."""
    importlib.import_module("otel_llm_openai.websockets")
    monkeypatch.setattr(target, _raise)
    # A log record that pytest keeps would keep the connection, by its traceback.
    monkeypatch.setattr(faults.logger, "disabled", True)
    lost = place == "_Sockets.lost"
    events = events_of(api)[: 2 if target.endswith("end") else 4]
    answering(sockets, *events, *((1011,) if lost else ()))

    async def scenario(caller: Caller) -> list[str]:
        await caller.send(create(api))
        got = [event.type for event in await caller.until(events[-1]["type"])]
        if lost:
            with pytest.raises(ConnectionClosedError):
                await caller.recv()
        return got

    kinds = run(scenario, sockets, api, mode)

    assert [event["type"] for event in events] == [kind for kind in kinds if kind != "session.created"]
    assert faults.counts.get(place)
    gc.collect()
    assert ended == len(seen.spans)


class _Wire:
    """Stands for a connection that nobody answers on."""

    def send(self, data: str) -> None:
        """Send it nowhere."""


def test_dropped_before_any_event(seen: Seen) -> None:
    """A response whose connection is dropped before it is heard of ends when it began, and counts."""
    connection = pytest.importorskip("openai.resources.realtime.realtime").RealtimeConnection(_Wire())
    connection.send({"type": "response.create"})
    del connection
    gc.collect()

    (span,) = seen.spans
    assert 0 <= span["end_ns"] - span["start_ns"]
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert 1 == point["count"]
