"""A fault of ours at every place inside a call, and answers that no server should give.

The caller gets the very thing that he gets without us. A fault is logged once and counted each time, and the call ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import ollama
import pytest

from otel_llm.testing import capture
from otel_llm.testing.server import TRUNCATE, Reply, ScriptedServer
from otel_llm.wire import ollama as wire
from otel_llm_ollama import patch
from otel_llm_semconv import attributes as names
from tests import faults
from tests.crossing import Got, put_down, settled
from tests.faults import Place
from tests.ollama.styles import MODES, STREAMED, STYLES, Style, line, run, treat

KINDS: dict[str, tuple[str, str, list[Reply]]] = {
    "plain": ("plain", "consumed", []),
    "refused": ("plain", "consumed", [Reply(status=404, json={"error": "no"})]),
    "stream": ("stream", "consumed", []),
    "stream refused": ("stream", "consumed", [Reply(status=404, json={"error": "no"})]),
    "error": ("stream", "consumed", [Reply(chunks=[line("chat"), '{"error": "no"}\n'])]),
    "lost": ("stream", "consumed", [Reply(chunks=[line("chat"), 0.01, TRUNCATE])]),
    "closed": ("stream", "closed", []),
    "dropped": ("stream", "dropped", []),
    "copy": ("copy", "consumed", []),
}
"""Calls that come through every place: form, way out of the answer, and what the server says."""


def _accounts(mode: str, each: Callable[[], None]) -> dict[str, Any]:
    """Make a call of every kind and return the accounts of what the caller got."""
    found: dict[str, Any] = {}
    with ScriptedServer() as server:
        for kind, (form, way, replies) in KINDS.items():
            server.script(*replies)
            got = Got([], [])

            def call(own: Any, form: str = form, way: str = way, got: Got = got) -> Any:
                return put_down(
                    got, _copy(own, got) if form == "copy" else treat(own, Style("chat", form), way, got.pieces)
                )

            run(server, mode, call)
            found[kind] = got.account()
            each()
    return found


async def _copy(own: Any, got: Got) -> None:
    got.pieces.append(await settled(own.copy("tiny", "twin")))


PLACES = faults.places(Place(patch, "_server_of"), wire.FORMATS, "/api/chat")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", PLACES)
def test_a_fault_of_ours(
    quiet: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str, mode: str
) -> None:
    """Wherever telemetry fails, the caller gets the same, one line is logged, each fault counts, each span ends."""
    # A copy runs no model.
    faults.check(monkeypatch, caplog, place, PLACES[place], partial(_accounts, mode), inferences=len(KINDS) - 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at", ["start", "end"])
def test_a_processor_of_the_users_that_fails(quiet: None, at: str, mode: str) -> None:
    """What the pipeline of the application does wrong is no fault that its calls see."""
    faults.check_processor(at, partial(_accounts, mode), requests=len(KINDS))


@pytest.mark.parametrize("form", ["plain", "stream"])
def test_what_is_raised_is_what_was_raised(quiet: None, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """With every sink broken, an exception of the caller's own comes out as the very same object."""
    for place in PLACES.values():
        place.put(monkeypatch)
    mine = KeyboardInterrupt("now")

    def hook(request: Any) -> Any:
        raise mine

    own: Any = ollama.Client(host="http://127.0.0.1:9", event_hooks={"request": [hook]})
    made: Any = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    with capture(), own._client, pytest.raises(KeyboardInterrupt) as raised:
        list(own.chat(**made, stream=form == "stream"))

    assert raised.value is mine
    assert raised.value.__context__ is None


SAID: dict[str, Any] = {
    "model": "tiny",
    "message": {"role": "assistant", "content": "x"},
    "response": "x",
    "embeddings": [[0.5]],
    "embedding": [0.5],
}
"""What an answer of any API may have."""
NUMBERS = ("prompt_eval_count", "eval_count", "load_duration", "prompt_eval_duration", "eval_duration")
ODD_NUMBERS: dict[str, Any] = {
    "null": None,
    "text": "many",
    "list": [1],
    "negative": -5,
    "huge": 10**30,
    "fraction": 1.5,
}
"""Numbers that tell nothing."""
ODD: dict[str, dict[str, Any]] = {
    **{f"numbers {what}": dict.fromkeys(NUMBERS, odd) for what, odd in ODD_NUMBERS.items()},
    # Newer clients make numbers of these themselves.
    "text for numbers": dict.fromkeys(NUMBERS, "5"),
    "boolean for numbers": dict.fromkeys(NUMBERS, True),
    "message null": {"message": None},
    "message weird": {"message": ["weird"], "response": ["weird"]},
    "embeddings weird": {"embeddings": "weird", "embedding": None},
    "model list": {"model": ["m"]},
    "reason list": {"done_reason": ["stop"]},
    "done weird": {"done": "weird"},
    "an error beside": {"error": "overloaded"},
    "an error that is a list": {"error": [1]},
    "10 MB": {"x": "x" * 10_000_000},
}
"""What is odd in an answer."""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("style", STYLES, ids="-".join)
@pytest.mark.parametrize("case", ODD)
def test_odd_answer(case: str, style: Style, mode: str) -> None:
    """An odd answer is what it is without us, and leaves a record without guesses."""
    last = json.dumps({**SAID, "done": True, "done_reason": "stop", **ODD[case]}).encode()

    def made(server: ScriptedServer) -> Got:
        got = Got([], [])
        server.script(Reply(chunks=[line(style.api), last + b"\n"]) if style.streams else Reply(body=last))
        run(server, mode, lambda own: put_down(got, treat(own, style, "consumed", got.pieces)))
        return got

    with ScriptedServer() as server:
        bare = made(server)

    with ScriptedServer() as server, capture() as seen:
        got = made(server)

        assert bare.account() == got.account()
        attributes = faults.sane(seen)
        if style.api in STREAMED:  # what `ollama` 0.3 raises of embeddings comes after the call
            assert bool(got.raised) <= (names.ERROR_TYPE in attributes)
        if case.startswith("numbers"):
            assert not [name for name in attributes if name.startswith(("gen_ai.usage.", "otel_llm.server."))]
            assert [] == seen.points("gen_ai.client.token.usage") == seen.points("otel_llm.client.tokens")
