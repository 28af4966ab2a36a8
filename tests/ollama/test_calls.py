"""Calls that go well: one whole span each, the same numbers as the server's, from every kind of client."""

from __future__ import annotations

import base64
import subprocess
import sys
from typing import Any

import ollama
import pytest

import otel_llm
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer
from otel_llm_ollama import OllamaInstrumentor
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics
from tests.crossing import settled
from tests.ollama.styles import ASKED, MESSAGES, OUTPUT_TOKENS, PROMPT_TOKENS, SECONDS, client, run, takes

PIXEL = base64.b64encode(b"no image").decode()


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("api", ASKED)
def test_plain_call(server: ScriptedServer, seen: Seen, api: str, mode: str) -> None:
    """One call is one span of provider ``ollama`` with the counts and the times that the server told."""
    operation, asked = ASKED[api]
    run(server, mode, lambda own: settled(getattr(own, api)(**asked)))

    (span,) = seen.spans
    attributes = span["attributes"]
    assert (f"{operation} tiny", "client", "unset") == (span["name"], span["kind"], span["status"])
    assert "ollama" == attributes[names.GEN_AI_PROVIDER_NAME]
    assert ("127.0.0.1", server.port) == (attributes[names.SERVER_ADDRESS], attributes[names.SERVER_PORT])
    generates = operation != "embeddings"
    assert ("stop",) * generates == attributes.get(names.GEN_AI_RESPONSE_FINISH_REASONS, ())
    assert (0.0 if generates else None) == attributes.get(names.GEN_AI_REQUEST_TEMPERATURE)
    assert (24 if generates else None) == attributes.get(names.GEN_AI_REQUEST_MAX_TOKENS)
    assert names.GEN_AI_REQUEST_STREAM not in attributes
    told = api != "embeddings"  # which tells nothing but the vector
    assert ("tiny" if told else None) == attributes.get(names.GEN_AI_RESPONSE_MODEL)
    assert (PROMPT_TOKENS if told else None) == attributes.get(names.GEN_AI_USAGE_INPUT_TOKENS)
    assert (OUTPUT_TOKENS if generates else None) == attributes.get(names.GEN_AI_USAGE_OUTPUT_TOKENS)
    for name, seconds in SECONDS.items():
        expected = seconds if generates or (told and name == names.OTEL_LLM_SERVER_LOAD_DURATION) else None
        assert expected == attributes.get(name)
        assert [expected] * (expected is not None) == [point["sum"] for point in seen.points(name)]
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert 1 == point["count"]
    assert (span["end_ns"] - span["start_ns"]) / 1e9 == pytest.approx(point["sum"], abs=1e-6)
    assert [0] == [point["value"] for point in seen.points("otel_llm.client.active")]


def test_the_servers_own_rate(server: ScriptedServer, seen: Seen) -> None:
    """Tokens per second are those of the server's clock, on the span and as a metric with the attributes of a call."""
    _, asked = ASKED["chat"]
    client(server.url).chat(**asked)
    (span,) = seen.spans
    (point,) = seen.points("otel_llm.server.output.rate")
    rate = OUTPUT_TOKENS / SECONDS[names.OTEL_LLM_SERVER_GENERATION_DURATION]

    assert rate == span["attributes"][names.OTEL_LLM_SERVER_OUTPUT_RATE] == point["sum"]
    assert set(metrics.OTEL_LLM_SERVER_OUTPUT_RATE.attributes) == set(point["attributes"])
    assert list(metrics.RATE_BOUNDARIES) == point["bounds"]


def test_what_the_server_did_not_tell(server: ScriptedServer, seen: Seen) -> None:
    """A prompt that the server had in its cache has no count: there is no zero, and no rate without both numbers."""
    answer = {"model": "tiny:latest", "message": {"role": "assistant", "content": "x"}, "done": True}
    server.script(
        Reply(json={**answer, "done_reason": "stop", "eval_count": 3, "load_duration": 0}),
        Reply(json={**answer, "eval_duration": 5, "prompt_eval_count": "many", "load_duration": -1}),
    )
    own = client(server.url)
    if hasattr(ollama.Client, "_request_stream"):  # a client without types takes odd numbers
        for _ in range(2):
            own.chat(model="tiny", messages=MESSAGES)
    else:
        own.chat(model="tiny", messages=MESSAGES)
        with pytest.raises(ValueError, match="prompt_eval_count"):
            own.chat(model="tiny", messages=MESSAGES)
    first, second = (span["attributes"] for span in seen.spans)

    assert (None, 3, 0.0) == (
        first.get(names.GEN_AI_USAGE_INPUT_TOKENS),
        first[names.GEN_AI_USAGE_OUTPUT_TOKENS],
        first[names.OTEL_LLM_SERVER_LOAD_DURATION],
    )
    assert names.GEN_AI_USAGE_INPUT_TOKENS not in second
    assert names.OTEL_LLM_SERVER_LOAD_DURATION not in second
    assert [] == seen.points("otel_llm.server.output.rate")
    assert [3] == [point["sum"] for point in seen.points("gen_ai.client.token.usage")]


def test_every_option_with_a_name(server: ScriptedServer, seen: Seen) -> None:
    """Every option that the conventions have a name for is on the span, the others are not."""
    options = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "num_predict": 7,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "seed": 42,
        "stop": ["a", "b"],
        "num_ctx": 4096,
        "repeat_penalty": 1.1,
    }
    more: dict[str, Any] = {"options": options, "keep_alive": "5m", "format": "json"}
    run(server, "sync", lambda own: settled(own.generate(model="tiny", prompt="hi", **more)))
    run(server, "sync", lambda own: settled(own.generate(model="tiny", prompt="hi", options={"num_predict": -1})))
    first, second = (span["attributes"] for span in seen.spans)

    assert {
        names.GEN_AI_REQUEST_TEMPERATURE: 0.5,
        names.GEN_AI_REQUEST_TOP_P: 0.9,
        names.GEN_AI_REQUEST_TOP_K: 40,
        names.GEN_AI_REQUEST_MAX_TOKENS: 7,
        names.GEN_AI_REQUEST_FREQUENCY_PENALTY: 0.1,
        names.GEN_AI_REQUEST_PRESENCE_PENALTY: 0.2,
        names.GEN_AI_REQUEST_SEED: 42,
        names.GEN_AI_REQUEST_STOP_SEQUENCES: ("a", "b"),
        names.GEN_AI_REQUEST_MODEL: "tiny",
        names.GEN_AI_OUTPUT_TYPE: "json",
    } == {
        name: value
        for name, value in first.items()
        if name.startswith("gen_ai.request") or name == names.GEN_AI_OUTPUT_TYPE
    }
    assert names.GEN_AI_REQUEST_MAX_TOKENS not in second


NEW = pytest.mark.skipif(not takes("chat", "think"), reason="this client has not these arguments")


@NEW
def test_newer_arguments(server: ScriptedServer, seen: Seen) -> None:
    """A level of thinking, a schema, dimensions and an image to be made are on the span."""
    own = client(server.url)
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    answer = own.chat(model="tiny", messages=MESSAGES, think="high", format=schema)
    own.chat(model="tiny", messages=MESSAGES, think=True)
    if takes("embed", "dimensions"):
        own.embed(model="tiny", input=["a", "b"], dimensions=4)
    if takes("generate", "width"):
        own.generate(model="tiny", prompt="a cat", width=64)
    level, thinks, *rest = (span["attributes"] for span in seen.spans)

    assert '{"city": "Paris"}' == answer.message.content
    assert ("high", "json") == (level[names.GEN_AI_REQUEST_REASONING_LEVEL], level[names.GEN_AI_OUTPUT_TYPE])
    assert names.GEN_AI_REQUEST_REASONING_LEVEL not in thinks
    assert [4, None][: len(rest)] == [found.get(names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT) for found in rest]
    assert [None, "image"][: len(rest)] == [found.get(names.GEN_AI_OUTPUT_TYPE) for found in rest]


def test_tools_and_images(server: ScriptedServer, seen: Seen) -> None:
    """A call with tools and images goes through as it is, and its tool call reaches the caller."""
    tool = {"type": "function", "function": {"name": "weather", "description": "", "parameters": _PARAMETERS}}
    messages = [{**MESSAGES[0], "images": [PIXEL]}]
    answer = client(server.url).chat(model="tiny", messages=messages, tools=[tool])
    (span,) = seen.spans

    assert {"city": "Paris"} == answer["message"]["tool_calls"][0]["function"]["arguments"]
    assert PIXEL == server.requests[0].json["messages"][0]["images"][0]
    assert 1 == span["attributes"][names.GEN_AI_USAGE_OUTPUT_TOKENS]


_PARAMETERS = {
    "type": "object",
    "required": ["city"],
    "properties": {"city": {"type": "string", "description": "Which."}},
}

STYLES = {
    "client": "import ollama\nollama.Client().chat",
    "module": "import ollama\nollama.chat",
    "from": "from ollama import chat\nchat",
}
PROGRAM = """
from otel_llm.testing import capture
{first}
with capture() as seen:
    {then}
    ask = {ask}
    ask(model="tiny", messages=[{{"role": "user", "content": "hi"}}])
    list(ask(model="tiny", messages=[{{"role": "user", "content": "hi"}}], stream=True))
    print(len(seen.spans))
    import gc; gc.collect()
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("style", STYLES)
def test_import_styles(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, style: str, when: str) -> None:
    """The module's functions, bound when it is imported, are observed like a client's, imported before or after."""
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    imports, _, ask = STYLES[style].partition("\n")
    first, then = (imports, "pass") if when == "before" else ("", imports)
    program = PROGRAM.format(first=first, then=then, ask=ask)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert ("2\n", "") == (done.stdout, done.stderr)


def test_clients_made_earlier(server: ScriptedServer) -> None:
    """A client that is older than the instrumentation is observed while that lasts, and not afterwards."""
    own = client(server.url)
    _, asked = ASKED["chat"]
    own.chat(**asked)
    with capture() as seen:
        own.chat(**asked)
        half = own.chat(**asked, stream=True)
        next(half)
        late = own.chat(**asked, stream=True)
        otel_llm.uninstrument()
        own.chat(**asked)
        list(half)
        list(late)
        outcomes = [span["attributes"].get(names.OTEL_LLM_STREAM_OUTCOME) for span in seen.spans]
        assert [None, "completed"] == outcomes


def test_nothing_is_left_behind() -> None:
    """Without the instrumentation the classes have the very functions that they had."""
    before = {cls: dict(vars(cls)) for cls in (ollama.Client, ollama.AsyncClient)}
    with capture():
        assert any(before[cls] != vars(cls) for cls in before)
    assert all(before[cls] == vars(cls) for cls in before)
    assert ("ollama >= 0.3.3",) == tuple(OllamaInstrumentor().instrumentation_dependencies())


def test_a_subclass_of_the_callers(server: ScriptedServer, seen: Seen) -> None:
    """A client class of the caller's own that builds on the client's methods is observed once."""
    base: Any = ollama.Client

    class Mine(base):  # type: ignore[misc]  # of any version
        def _request(self, *args: Any, **kwargs: Any) -> Any:
            return base._request(self, *args, **kwargs)

    own: Any = Mine(host=server.url)
    own.chat(model="tiny", messages=MESSAGES)
    own._client.close()

    assert ["chat tiny"] == [span["name"] for span in seen.spans]
