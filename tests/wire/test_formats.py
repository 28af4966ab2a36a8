"""Each format: what a recorded answer tells stands in the record, plain and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_llm.call import Call
from otel_llm.wire import anthropic, bedrock, cohere, gemini, llama_cpp, openai, tgi
from otel_llm.wire.format import Format
from otel_llm_semconv import attributes as names
from tests.wire.calls import PLAIN, STREAMED
from tests.wire.reading import asked, read
from tests.wire.recorded import FRAMES, JSON, SSE, Recorded
from tests.wire.writing import array, frame, frames, invoked, lines, sse


def _told(call: Any, recorded: Recorded) -> dict[str, Any]:
    return {name: getattr(call, name) for name in recorded.told}


@pytest.mark.parametrize("api", PLAIN)
def test_plain(api: str) -> None:
    """A whole answer is recorded with all that it tells."""
    call, got = read(PLAIN[api])

    assert PLAIN[api].told == _told(call, PLAIN[api])
    assert PLAIN[api].wire == got
    assert (False, 0, None, None) == (call.streamed, call.chunks, call.first_chunk_at, call.error_type)


@pytest.mark.parametrize("api", STREAMED)
def test_streamed(api: str) -> None:
    """A stream is recorded with all that it tells, and the time of its first text."""
    call, got = read(STREAMED[api])

    assert STREAMED[api].told == _told(call, STREAMED[api])
    assert STREAMED[api].wire == got
    assert (True, 1, "completed") == (call.streamed, call.chunks, call.stream_outcome)
    assert call.first_chunk_at is not None
    assert call.first_text_at is not None
    assert call.error_type is None


@pytest.mark.parametrize("api", STREAMED)
def test_left_early(api: str) -> None:
    """A stream that is left after its first event has a finish reason that says so, and no guess of its tokens."""
    recorded = STREAMED[api]
    cut = next(at for at in range(len(recorded.wire)) if read(recorded, [recorded.wire[:at]])[0].chunks)

    call, _ = read(recorded, [recorded.wire[:cut], recorded.wire[cut:]], leave=lambda piece: True)

    assert (1, ("error",), "closed") == (call.chunks, call.finish_reasons, call.stream_outcome)
    if recorded.format is not gemini.GENERATE_CONTENT:
        assert call.output_tokens in (None, 1)  # the count so far of Llama


@pytest.mark.parametrize("api", STREAMED)
def test_left_after_the_last_event(api: str) -> None:
    """A stream that is left after the event that ends it is complete, whether or not its bytes were read to the end."""
    recorded = STREAMED[api]

    call, _ = read(recorded, [recorded.wire, b""], leave=lambda piece: True)

    assert "completed" == call.stream_outcome


@pytest.mark.parametrize("api", [api for api, recorded in STREAMED.items() if recorded.type != FRAMES])
def test_without_the_last_line_end(api: str) -> None:
    """The last event counts also where nothing stands after it."""
    recorded = STREAMED[api]

    call, _ = read(recorded._replace(wire=recorded.wire.rstrip()))

    assert recorded.told == _told(call, recorded)


def test_no_stream_where_one_was_asked_for() -> None:
    """A server that answers in one piece, though a stream was asked for, is recorded as if none had been."""
    recorded = PLAIN["gemini"]
    asked_for = recorded._replace(request={**recorded.request, "stream": True}, wire=recorded.wire + b"\n")

    call, _ = read(asked_for)

    assert recorded.told == _told(call, recorded)
    assert (False, 0, None, None) == (call.streamed, call.chunks, call.first_chunk_at, call.first_text_at)


def test_a_thought_is_no_text() -> None:
    """What a model of Gemini thinks is a chunk, but not the text that the reader waits for."""
    chunk = {"candidates": [{"content": {"parts": [{"text": "Hm", "thought": True}]}}]}

    call, _ = read(STREAMED["gemini, events"]._replace(wire=sse(chunk)))

    assert (1, None) == (call.chunks, call.first_text_at)


@pytest.mark.parametrize(("flag", "reason"), [("eos", "stop"), ("word", "stop"), ("limit", "length"), ("x", "error")])
def test_older_servers_of_llama_cpp(flag: str, reason: str) -> None:
    """Servers that told by flags why they stopped are understood."""
    wire = json.dumps({"content": "a", f"stopped_{flag}": True, "tokens_predicted": 1}).encode()

    assert (reason,) == read(PLAIN["llama.cpp"]._replace(wire=wire))[0].finish_reasons


def test_a_reason_before_the_end() -> None:
    """A finish reason stays where a later chunk of the model's has none."""
    wire = invoked({"outputText": "a", "completionReason": "FINISH"}, {"outputText": ""})

    assert ("stop",) == read(STREAMED["invoke titan"]._replace(wire=wire))[0].finish_reasons


@pytest.mark.parametrize("size", [1 << 20, 300, 7])
@pytest.mark.parametrize("named", [False, True])
def test_a_long_stream(named: bool, size: int) -> None:
    """To who reads the bytes of a long stream, each piece that comes is a chunk."""
    recorded = STREAMED["anthropic" if named else "mistral fim"]
    first, _, last = recorded.wire.partition(b"\n\n")
    more = sse(
        {"type": "content_block_delta", "choices": [], "delta": {"type": "text_delta", "text": "x"}}, named=named
    )
    wire = first + b"\n\n" + 999 * more + last

    pieces = [wire[at : at + size] for at in range(0, len(wire), size)]

    call, got = read(recorded, pieces)

    assert recorded.told == _told(call, recorded)
    # Those without a whole event before the first text are none, nor is what only ends the stream.
    assert 0 <= len(pieces) - call.chunks <= 2 + len(first + more) // size
    assert wire == got


REQUESTS: dict[str, dict[str, Any]] = {
    "gemini": {
        names.GEN_AI_REQUEST_TEMPERATURE: 0.5,
        names.GEN_AI_REQUEST_TOP_P: 0.9,
        names.GEN_AI_REQUEST_TOP_K: 40,
        names.GEN_AI_REQUEST_MAX_TOKENS: 64,
        names.GEN_AI_REQUEST_STOP_SEQUENCES: ["X"],
    },
    "gemini embed": {names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT: 3},
    "gemini batch embed": {names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT: 3},
    "vertex predict": {names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT: 3},
    "llama.cpp": {names.GEN_AI_REQUEST_MAX_TOKENS: 3, names.GEN_AI_REQUEST_TOP_K: 40},
    "tgi": {names.GEN_AI_REQUEST_MAX_TOKENS: 3, names.GEN_AI_REQUEST_SEED: 5},
    "cohere": {names.GEN_AI_REQUEST_TOP_P: 0.75, names.GEN_AI_REQUEST_TOP_K: 9},
    "cohere embed": {names.GEN_AI_REQUEST_ENCODING_FORMATS: ["float"]},
    "cohere rerank": {names.GEN_AI_RETRIEVAL_TOP_K: 1},
    "mistral fim": {names.GEN_AI_REQUEST_SEED: 3},
    "converse": {names.GEN_AI_REQUEST_MAX_TOKENS: 64, names.GEN_AI_REQUEST_TEMPERATURE: 0.5},
    "invoke claude": {names.GEN_AI_REQUEST_MAX_TOKENS: 64},
    "invoke titan": {names.GEN_AI_REQUEST_MAX_TOKENS: 9},
    "invoke llama": {names.GEN_AI_REQUEST_MAX_TOKENS: 9},
    "invoke titan embeddings": {names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT: 256},
}


@pytest.mark.parametrize("api", REQUESTS)
def test_request(api: str) -> None:
    """The parameters of a request are recorded under the names of the conventions."""
    assert REQUESTS[api] == asked(PLAIN[api]).attributes


def test_request_of_gemini_by_either_spelling() -> None:
    """Gemini takes names with underscores too; choices, output and thinking are recorded."""
    config = {
        "candidate_count": 2,
        "response_mime_type": "application/json",
        "max_output_tokens": 9,
        "thinking_config": {"thinking_level": "low"},
    }
    call = asked(PLAIN["gemini"]._replace(request={"model": "models/g", "generation_config": config}))

    assert ("g", 2) == (call.request_model, call.choice_count)
    assert {
        names.GEN_AI_REQUEST_CHOICE_COUNT: 2,
        names.GEN_AI_OUTPUT_TYPE: "json",
        names.GEN_AI_REQUEST_MAX_TOKENS: 9,
        names.GEN_AI_REQUEST_REASONING_LEVEL: "low",
    } == call.attributes


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        ({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, ("content_filter",)),
        ({"candidates": [{"finishReason": "SAFETY", "index": 0}]}, ("content_filter",)),
        ({"candidates": [{"finishReason": "MAX_TOKENS"}, {"finishReason": "STOP"}]}, ("length", "stop")),
        ({"candidates": [{"finishReason": "LANGUAGE"}, {}]}, ("language", "error")),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_finish_reasons_of_gemini(answer: dict[str, Any], reasons: tuple[str, ...], streamed: bool) -> None:
    """Reasons are those of the conventions, one for each candidate; a prompt that is refused is a filter's doing."""
    recorded = Recorded(
        gemini.GENERATE_CONTENT,
        {"stream": streamed},
        SSE if streamed else JSON,
        sse(answer) if streamed else json.dumps(answer).encode(),
        {},
    )

    assert reasons == read(recorded)[0].finish_reasons


_OVERLOADED = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
FAILED: dict[str, tuple[Recorded, tuple[str, str]]] = {
    "gemini": (
        Recorded(gemini.GENERATE_CONTENT, {"stream": True}, SSE, sse({"candidates": [{}]}, _OVERLOADED), {}),
        ("UNAVAILABLE", "The model is overloaded."),
    ),
    "gemini, array": (
        Recorded(gemini.GENERATE_CONTENT, {"stream": True}, JSON, array({"candidates": [{}]}, _OVERLOADED), {}),
        ("UNAVAILABLE", "The model is overloaded."),
    ),
    "llama.cpp": (
        Recorded(
            llama_cpp.COMPLETION,
            {},
            SSE,
            sse(
                {"content": "a", "stop": False},
                {"error": {"code": 500, "message": "out of memory", "type": "server_error"}},
            ),
            {},
        ),
        ("server_error", "out of memory"),
    ),
    "tgi": (
        Recorded(tgi.GENERATE, {}, SSE, sse({"error": "Model is overloaded", "error_type": "overloaded"}), {}),
        ("overloaded", "Model is overloaded"),
    ),
    "cohere": (
        Recorded(
            cohere.CHAT, {}, SSE, sse({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "no"}}), {}
        ),
        ("_OTHER", "no"),
    ),
    "converse": (
        Recorded(
            bedrock.CONVERSE,
            {},
            FRAMES,
            frames([{"messageStart": {}}]) + frame("throttlingException", {"message": "Too many tokens"}, "exception"),
            {},
        ),
        ("throttlingException", "Too many tokens"),
    ),
    "invoke": (
        Recorded(
            bedrock.INVOKE,
            {},
            FRAMES,
            invoked({"outputText": "a"}) + frame("modelStreamErrorException", {"message": "broken"}, "exception"),
            {},
        ),
        ("modelStreamErrorException", "broken"),
    ),
}


@pytest.mark.parametrize("api", FAILED)
def test_error_in_a_stream(api: str) -> None:
    """An error that comes as an event of a stream is the error of the call, by the server's own name for it."""
    recorded, expected = FAILED[api]

    call, got = read(recorded)

    assert expected == (call.error_type, call.error_message)
    assert recorded.wire == got
    assert all(reason == "error" for reason in call.finish_reasons)


ODD: list[Any] = [None, 7, "x", [], [7], {}, {"usage": 7}, {"message": []}, {"candidates": [7], "choices": 7}]


@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
@pytest.mark.parametrize("api", PLAIN)
def test_odd_answers(api: str, odd: Any) -> None:
    """No answer, chunk or request is so odd that reading it fails."""
    recorded = PLAIN[api]
    for streamed in (False, True):
        wire = (sse(odd) + lines(odd)) if streamed else json.dumps(odd).encode()
        call, _ = read(recorded._replace(wire=wire, type=SSE if streamed else JSON, headers={}), content=True)
        assert (None, None) == (call.input_tokens, call.output_tokens)
        read(recorded._replace(wire=frames([{"chunk": odd}, {"metadata": odd}]), type=FRAMES), content=True)
    for key in recorded.request:
        asked(recorded._replace(request={**recorded.request, key: odd}), content=True)


MOST = 2**63 - 1
SUMS: list[tuple[Format, Any]] = [
    (anthropic.MESSAGES, {"usage": {"input_tokens": MOST, "cache_read_input_tokens": MOST, "output_tokens": MOST}}),
    (
        bedrock.CONVERSE,
        {"usage": {"inputTokens": MOST, "cacheReadInputTokens": MOST, "outputTokens": MOST}},
    ),
    (bedrock.INVOKE, {"inputTextTokenCount": MOST, "results": [{"tokenCount": MOST}, {"tokenCount": MOST}]}),
    (
        gemini.GENERATE_CONTENT,
        {
            "usageMetadata": {
                "promptTokenCount": MOST,
                "toolUsePromptTokenCount": MOST,
                "candidatesTokenCount": MOST,
                "thoughtsTokenCount": MOST,
            }
        },
    ),
    (llama_cpp.COMPLETION, [{"tokens_evaluated": MOST, "tokens_predicted": MOST}] * 2),
]


@pytest.mark.parametrize(("format", "answer"), SUMS)
def test_sums_that_otlp_cannot_carry(format: Format, answer: Any) -> None:
    """Where the tokens of one call are the sum of what its answer tells, they are held to what OTLP can carry."""
    call = Call()
    call.operation = format.operation
    format.read_answer(call, answer)

    assert (MOST, MOST) == (call.input_tokens, call.output_tokens)


def test_zeros_before_the_count() -> None:
    """Zeros that stand where the count will come, as in Ollama's streams, are no count of a stream that is left."""
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    chunk = {"choices": [{"text": "a", "index": 0, "finish_reason": None}], "usage": zeros}
    request = {"model": "tiny", "prompt": "Hi", "stream": True}

    left, _ = read(Recorded(openai.COMPLETIONS, request, SSE, sse(chunk, chunk), {}))
    last: dict[str, Any] = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
    ended, _ = read(Recorded(openai.COMPLETIONS, request, SSE, sse(chunk, chunk, last), {}))

    assert (None, None) == (left.input_tokens, left.output_tokens)
    assert (3, 2) == (ended.input_tokens, ended.output_tokens)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -0.05])
def test_times_that_are_none(seconds: float) -> None:
    """What is no length of time is as good as not told."""
    timings = {"prompt_ms": seconds * 1000, "predicted_ms": seconds * 1000}
    answer = json.dumps({"choices": [], "timings": timings}).encode()

    call, _ = read(Recorded(openai.CHAT, {"model": "m", "messages": []}, JSON, answer, {}))

    assert (None, None, None) == (call.prompt_seconds, call.generation_seconds, call.server_output_rate)
