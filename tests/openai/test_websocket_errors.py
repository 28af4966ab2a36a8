"""An error event over a websocket ends the response that it is about, and no other."""

from __future__ import annotations

from typing import Any

import pytest

from otel_llm.testing import Seen
from otel_llm_semconv import attributes as names

pytest.importorskip("websockets")

from tests.openai import websocket_server as ws
from tests.openai.websocket_server import (
    Caller,
    Event,
    SocketServer,
    answering,
    ask,
    both,
    create,
    realtime_only,
    responses_only,
    run,
)


def _error(**more: Any) -> Event:
    details = {"type": "invalid_request_error", "code": "bad_things", "message": "No.", **more}
    return {"type": "error", "event_id": "e", "error": details}


@both
@realtime_only
@pytest.mark.parametrize("event_id", [None, "mine"])
def test_error_event_of_realtime(sockets: SocketServer, seen: Seen, api: str, event_id: str | None, mode: str) -> None:
    """An error that answers the request ends its response; the connection goes on, and so does the next one."""
    later = [{"type": "response.create", "n": 1}]

    def answer(event: Event) -> list[Any]:
        if event["type"] != "response.create":
            return []
        return [_error(event_id=event_id)] if later and later.pop() else ws.realtime("resp_2")

    sockets.answer = answer
    own = {} if event_id is None else {"event_id": event_id}

    async def scenario(caller: Caller) -> None:
        await caller.send(create(api, **own))
        await caller.until("error")
        (span,) = seen.spans
        assert "error" == span["status"]
        await ask(caller, api)

    run(scenario, sockets, api, mode)

    failed, fine = seen.spans
    assert ("bad_things", "No.") == (failed["attributes"][names.ERROR_TYPE], failed["description"])
    assert names.GEN_AI_RESPONSE_ID not in failed["attributes"]
    assert ("unset", "resp_2") == (fine["status"], fine["attributes"][names.GEN_AI_RESPONSE_ID])


@both
@realtime_only
@pytest.mark.parametrize(
    "more",
    [
        {"param": "session.voice"},
        {"param": "item.id"},
        {"param": "previous_item_id"},
        {"event_id": "another"},
        {"code": "input_audio_buffer_commit_empty"},
        {"code": "response_cancel_not_active"},
    ],
)
def test_error_event_of_something_else(
    sockets: SocketServer, seen: Seen, api: str, more: dict[str, Any], mode: str
) -> None:
    """An error that is about another event of the caller's ends no response, before it has begun or after."""
    answering(sockets, _error(**more), *(events := ws.realtime())[:2], _error(), *events[2:])

    run(lambda caller: ask(caller, api), sockets, api, mode)

    (span,) = seen.spans
    assert "unset" == span["status"]
    assert 4 == span["attributes"][names.OTEL_LLM_STREAM_CHUNKS]


@both
@realtime_only
@pytest.mark.parametrize(
    ("error", "blamed"),
    [
        ({}, "unnamed"),
        ({"param": "response.tools"}, "unnamed"),
        ({"code": "conversation_already_has_active_response"}, "unnamed"),
        ({"event_id": "mine"}, "named"),
        ({"event_id": "mine", "param": "session.voice"}, "named"),
        ({"event_id": "another"}, None),
    ],
)
def test_error_event_among_several(
    sockets: SocketServer, seen: Seen, api: str, mode: str, error: dict[str, Any], blamed: str | None
) -> None:
    """Of several requests an error ends the one that it names, or the oldest one without an id if it names none."""
    asked: list[Event] = []

    def answer(event: Event) -> list[Event]:
        asked.append(event)
        return [_error(**error)] if len(asked) == 3 else []

    sockets.answer = answer
    tracer = seen.tracer_provider.get_tracer("test")

    async def scenario(caller: Caller) -> None:
        for name, own in (("named", {"event_id": "mine"}), ("unnamed", {}), ("later", {})):
            with tracer.start_as_current_span(name):
                await caller.send(create(api, **own))
        await caller.until("error")
        parents = {span["span_id"]: span["name"] for span in seen.all_spans}
        assert ([] if blamed is None else [blamed]) == [parents[span["parent_id"]] for span in seen.spans]

    run(scenario, sockets, api, mode)

    assert 3 == len(seen.spans)


@both
@responses_only
@pytest.mark.parametrize("numbered", [True, False])
def test_error_event_between_two_responses(
    sockets: SocketServer, seen: Seen, api: str, mode: str, numbered: bool
) -> None:
    """An error with a number is part of the response under way; one without refuses the request that waits."""
    first = ws.responses()
    error = {"type": "error", "status": 400, "error": {"type": "x", "code": "no", "message": "No."}}
    asked: list[Event] = []

    def answer(event: Event) -> list[Event]:
        asked.append(event)
        if len(asked) == 1:
            return first[:2]
        return [{**error, "sequence_number": 2}, *ws.responses("resp_2")] if numbered else [error, *first[2:]]

    sockets.answer = answer

    async def scenario(caller: Caller) -> None:
        await caller.send(create(api))
        await caller.send(create(api, model="second"))
        await caller.until("response.completed")

    run(scenario, sockets, api, mode)

    expected = [("gpt-5", "no"), ("second", None)] if numbered else [("second", "no"), ("gpt-5", None)]
    assert expected == [
        (span["attributes"][names.GEN_AI_REQUEST_MODEL], span["attributes"].get(names.ERROR_TYPE))
        for span in seen.spans
    ]


@both
@responses_only
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_error_event_of_responses(
    sockets: SocketServer, seen: Seen, api: str, nested: bool, begun: bool, mode: str
) -> None:
    """An error ends the response, before it has begun or after, in either form."""
    error = {"code": "previous_response_not_found", "message": "No.", "param": None}
    event: Event = (
        {"type": "error", "status": 400, "error": {"type": "x", **error}}
        if nested
        else {
            "type": "error",
            "sequence_number": 2,
            **error,
        }
    )
    answering(sockets, *(ws.responses()[:2] if begun else ()), event)

    async def scenario(caller: Caller) -> None:
        await caller.send(create(api))
        await caller.until("error")
        assert 1 == len(seen.spans)

    run(scenario, sockets, api, mode)

    (span,) = seen.spans
    assert "error" == span["status"]
    assert ("previous_response_not_found", "No.") == (span["attributes"][names.ERROR_TYPE], span["description"])
    assert ("resp_1" if begun else None) == span["attributes"].get(names.GEN_AI_RESPONSE_ID)
