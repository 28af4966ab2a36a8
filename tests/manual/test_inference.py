"""`otel_llm.track_inference`: a block that is a call, or leaves that to the calls inside."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from types import MappingProxyType
from typing import Any

import openai
import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled, suppress_instrumentation
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider

import otel_llm
from otel_llm.context import BLOCK_KEY, current_context
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK, client

DURATION = "gen_ai.client.operation.duration"


def calls(seen: Seen) -> dict[str, int]:
    """Return how many calls were counted, by model."""
    found: dict[str, int] = {}
    for point in seen.points(DURATION):
        model = point["attributes"][names.GEN_AI_REQUEST_MODEL]
        found[model] = found.get(model, 0) + point["count"]
    return found


def line(dialect: str, begins: str) -> list[str]:
    """Return the lines of a page that begin in a way."""
    return [each for each in otel_llm.generate_latest(dialect).decode().splitlines() if each.startswith(begins)]


def test_a_block_by_itself(seen: Seen) -> None:
    """A block without an instrumented call is a call: a span, its points, and a row on each page."""
    with otel_llm.track_inference("llama", provider="vllm", base_url="http://gpu:8000/v1", endpoint="/v1/x") as call:
        assert line("local_llm", "llm_active_connections") == ['llm_active_connections{model="llama"} 1.0']
        call.response_model, call.response_id, call.finish_reasons = "llama-3", "r1", ("stop",)
        otel_llm.record_tokens(input_tokens=100, output_tokens=20)
        otel_llm.record_tokens("llama", 1, cache_read_tokens=7)

    (span,) = seen.spans
    assert ("chat llama", "client", "unset") == (span["name"], span["kind"], span["status"])
    assert {
        names.GEN_AI_OPERATION_NAME: "chat",
        names.GEN_AI_PROVIDER_NAME: "vllm",
        names.GEN_AI_REQUEST_MODEL: "llama",
        names.GEN_AI_RESPONSE_MODEL: "llama-3",
        names.GEN_AI_RESPONSE_ID: "r1",
        names.GEN_AI_RESPONSE_FINISH_REASONS: ("stop",),
        names.SERVER_ADDRESS: "gpu",
        names.SERVER_PORT: 8000,
        names.GEN_AI_USAGE_INPUT_TOKENS: 101,
        names.GEN_AI_USAGE_OUTPUT_TOKENS: 20,
        names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 7,
    } == span["attributes"]
    assert {"llama": 1} == calls(seen)
    assert ['tinyllm_tokens_input_total{graph="unknown",model="llama"} 101.0'] == line(
        "tinyllm", "tinyllm_tokens_input"
    )
    assert line("local_llm", "llm_model_info{") == [
        'llm_model_info{base_url="http://gpu:8000/v1",model="llama",version="unknown"} 1.0'
    ]
    assert ['llm_active_connections{model="llama"} 0.0'] == line("local_llm", "llm_active_connections")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_call_inside_counts_in_its_place(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """An instrumented call inside is what counts, under the block's model and labels; its tokens are its own."""
    block = otel_llm.track_inference("mine", graph="support")

    async def main() -> None:
        async with block:
            otel_llm.record_tokens(input_tokens=10_000)
            async with openai.AsyncOpenAI(base_url=server.base_url, api_key="test") as own:
                await own.chat.completions.create(model="gpt-5", messages=ASK)
            otel_llm.record_tokens(output_tokens=10_000)

    if mode == "async":
        asyncio.run(main())
    else:
        with block:
            otel_llm.record_tokens(input_tokens=10_000)
            client(server).chat.completions.create(model="gpt-5", messages=ASK)
            otel_llm.record_tokens(output_tokens=10_000)

    inner, outer = seen.spans
    assert ("chat mine", "inference mine") == (inner["name"], outer["name"])
    assert inner["parent_id"] == outer["span_id"]
    assert not [name for name in outer["attributes"] if name.startswith("gen_ai.")]
    assert {"mine": 1} == calls(seen)
    (requests,) = line("tinyllm", "tinyllm_requests_total")
    assert 'tinyllm_requests_total{graph="support",model="mine",request_type="generate"} 1.0' == requests
    assert {0} == {point["value"] for point in seen.points("otel_llm.client.active")}
    assert all("10000" not in each for each in line("tinyllm", "tinyllm_tokens"))
    assert ['tinyllm_active_requests{graph="support",model="mine"} 0.0'] == line("tinyllm", "tinyllm_active")


def test_several_calls_inside(server: ScriptedServer, seen: Seen) -> None:
    """Each call inside counts, one that fails as one that failed; what is no inference leaves the block its call."""
    server.script(Reply(status=400, json={"error": {"message": "no"}}))
    with otel_llm.track_inference("mine"):
        own = client(server)
        with suppress(openai.BadRequestError):
            own.chat.completions.create(model="gpt-5", messages=ASK)
        own.chat.completions.create(model="gpt-5", messages=ASK)
    with otel_llm.track_inference("other"):
        own.models.list()

    assert {"mine": 2, "other": 1} == calls(seen)


def test_a_call_that_outlives_the_block(server: ScriptedServer, seen: Seen) -> None:
    """A call that begins in the block and ends after it counts once; one that begins later is on its own."""
    with otel_llm.track_inference("mine"):
        stream = client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=True)
    list(stream)
    client(server).chat.completions.create(model="gpt-5", messages=ASK)

    assert {"mine": 1, "gpt-5": 1} == calls(seen)


def test_threads_inside(server: ScriptedServer, seen: Seen) -> None:
    """A call in a thread that the block starts is inside, too."""
    with otel_llm.track_inference("mine"), ThreadPoolExecutor(2) as pool:
        for future in [
            pool.submit(client(server).chat.completions.create, model="gpt-5", messages=ASK) for _ in range(3)
        ]:
            future.result()

    assert {"mine": 3} == calls(seen)


def test_blocks_in_blocks(seen: Seen) -> None:
    """The innermost block counts, and those around it do not."""
    with otel_llm.track_inference("outer", graph="a"), otel_llm.track_inference("inner"):
        otel_llm.record_tokens(input_tokens=3)

    assert {"inner": 1} == calls(seen)
    assert ['tinyllm_tokens_input_total{graph="a",model="inner"} 3.0'] == line("tinyllm", "tinyllm_tokens_input_total{")


def test_an_answer_that_is_an_error(seen: Seen) -> None:
    """Where nothing is raised, the type of error that is written onto the call fails it, with the class of its name."""
    for told in ("429", "timeout", "no_such_thing"):
        with otel_llm.track_inference("llama") as call:
            call.error_type = told

    assert ["429", "timeout", "no_such_thing"] == [span["attributes"][names.ERROR_TYPE] for span in seen.spans]
    assert {"error"} == {span["status"] for span in seen.spans}
    rows = line("llmbackend", "llm_errors_total{")
    assert {"rate_limit", "timeout", "api_error"} == {row.split('error_type="')[1].split('"')[0] for row in rows}


def test_a_stream_by_hand(seen: Seen) -> None:
    """When the first chunk of an answer came, the span and the metrics tell as of any stream."""
    with otel_llm.track_inference("llama") as call:
        time.sleep(0.01)
        call.first_chunk_at = time.perf_counter()

    (span,) = seen.spans
    first = span["attributes"][names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK]
    assert 0.01 <= first <= call.duration
    (point,) = seen.points("gen_ai.client.operation.time_to_first_chunk")
    assert (1, pytest.approx(first)) == (point["count"], point["sum"])


def test_where_a_model_is_served(seen: Seen) -> None:
    """A base URL tells the server and, where nothing else does, the provider; one that is none tells nothing."""
    for base_url in ("https://api.openai.com/v1", "http://[::1", "gpu-1"):
        with otel_llm.track_inference("llama", base_url=base_url):
            pass

    told = (names.GEN_AI_PROVIDER_NAME, names.SERVER_ADDRESS, names.SERVER_PORT)
    assert [("openai", "api.openai.com", 443), *[("unknown", None, None)] * 2] == [
        tuple(span["attributes"].get(name) for name in told) for span in seen.spans
    ]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ValueError("no"), "unknown"), (TimeoutError(), "timeout"), (asyncio.CancelledError(), "unknown")],
)
def test_failures(seen: Seen, error: BaseException, outcome: str) -> None:
    """What is raised inside is the caller's, untouched, and the block failed by it."""
    with pytest.raises(type(error)) as raised, otel_llm.track_inference("llama"):
        raise error

    assert raised.value is error
    assert (None, None) == (error.__context__, error.__cause__)
    (span,) = seen.spans
    assert ("error", type(error).__name__) == (span["status"], span["attributes"][names.ERROR_TYPE].rpartition(".")[2])
    (row,) = line("llmbackend", "llm_errors_total{")
    assert f'error_type="{outcome}"' in row


def test_a_decorator_of_every_kind(seen: Seen) -> None:
    """Each run of a decorated function is a block of its own, also where several run at once."""

    @otel_llm.track_inference("plain")
    def plain(tokens: int) -> int:
        otel_llm.record_tokens(input_tokens=tokens)
        return tokens

    @otel_llm.track_inference("coroutine")
    async def coroutine(tokens: int) -> int:
        await asyncio.sleep(0)
        return plain(tokens)

    @otel_llm.track_inference("generator")
    def generator() -> Generator[int]:
        otel_llm.record_tokens(input_tokens=1)
        yield 1
        otel_llm.record_tokens(input_tokens=2)

    @otel_llm.track_inference("agenerator")
    async def agenerator() -> AsyncGenerator[int]:
        otel_llm.record_tokens(input_tokens=1)
        yield 1
        otel_llm.record_tokens(input_tokens=2)

    async def main() -> list[int]:
        async for _ in agenerator():
            otel_llm.record_tokens("outside", input_tokens=5)
        return list(await asyncio.gather(*[coroutine(number) for number in (1, 2, 3)]))

    assert [1, 2, 3] == asyncio.run(main())
    for _ in generator():
        otel_llm.record_tokens("outside", input_tokens=5)
    assert {"plain": 3, "generator": 1, "agenerator": 1} == calls(seen)
    tokens = {
        each.partition('model="')[2].partition('"')[0]: float(each.rpartition(" ")[2])
        for each in line("tinyllm", "tinyllm_tokens_input_total{")
    }
    assert {"plain": 6.0, "generator": 3.0, "agenerator": 3.0, "outside": 10.0} == tokens


@pytest.mark.parametrize("wanted", [True, False])
def test_http_spans(wanted: bool) -> None:
    """Where there are to be no HTTP spans inside of LLM calls, there are none inside of a block."""
    with capture(http_spans=wanted), otel_llm.track_inference("llama"):
        assert wanted is is_http_instrumentation_enabled()


def test_tokens_of_a_block_that_nobody_records(seen: Seen) -> None:
    """Tokens that are told in a block which is not to be seen are not seen."""
    with otel_llm.track_inference("outer") as call:
        with suppress_instrumentation(), otel_llm.track_inference("inner"):
            otel_llm.record_tokens(input_tokens=3)
        otel_llm.record_tokens(input_tokens=4)

    assert (4, {"outer": 1}) == (call.input_tokens, calls(seen))
    (told,) = line("tinyllm", "tinyllm_tokens_input_total{")
    assert 'tinyllm_tokens_input_total{graph="unknown",model="outer"} 4.0' == told


def test_misuse() -> None:
    """What cannot be meant is one clear error that names the function and the argument."""
    track: Any = otel_llm.track_inference
    for arguments, keywords, error, message in (
        ((), {"model": 3}, TypeError, "otel_llm.track_inference: model must be a string, not int"),
        (("",), {}, ValueError, "otel_llm.track_inference: model must be a string that is not empty"),
        (("m",), {"operation": "sing"}, ValueError, "operation must be one of 'chat', 'generate_content', "),
        (("m",), {"provider": 3}, TypeError, "provider must be a string or None, not int"),
        (("m",), {"graph": 3}, TypeError, "graph must be a string, not int"),
    ):
        with pytest.raises(error, match=message):
            track(*arguments, **keywords)
    with capture():
        block = track("m")
        with block, pytest.raises(ValueError, match="entered before"):
            block.__enter__()
        with pytest.raises(ValueError, match="left before"):
            block.__exit__(None, None, None)


ATTRIBUTES = "attributes must be a dict of str to str, bool, int, float, or a sequence of one of these"
ODD_ATTRIBUTES: list[tuple[object, type[Exception], str]] = [
    (1, TypeError, f"{ATTRIBUTES}, not int"),
    ("", TypeError, f"{ATTRIBUTES}, not str"),
    ([("a", 1)], TypeError, f"{ATTRIBUTES}, not list"),
    ({1: 2}, TypeError, f"{ATTRIBUTES}, not have a name of type int"),
    ({"a": object()}, TypeError, f"{ATTRIBUTES}; 'a' is object"),
    ({"a": None}, TypeError, f"{ATTRIBUTES}; 'a' is NoneType"),
    ({"a": b"x"}, TypeError, f"{ATTRIBUTES}; 'a' is bytes"),
    ({"a": {"b": 1}}, TypeError, f"{ATTRIBUTES}; 'a' is dict"),
    ({"a": ["x", 1]}, TypeError, f"{ATTRIBUTES}; 'a' is list of str, int"),
    ({"a": (True, 1)}, TypeError, f"{ATTRIBUTES}; 'a' is tuple of bool, int"),
    ({"": 1}, ValueError, "attributes must have names that are not empty"),
    ({"a": [1, 2**63]}, ValueError, "attributes must have integers of 64 bits; 'a' has a larger one"),
]


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("input_tokens", -5, ValueError, "input_tokens must be a whole number from 0 up to 2\\*\\*63 - 1, not -5"),
        ("output_tokens", "many", TypeError, "output_tokens must be a whole number from 0 up, not str"),
        ("response_model", 7, TypeError, "response_model must be a string, not int"),
        ("response_id", b"r", TypeError, "response_id must be a string, not bytes"),
        ("error_type", "", ValueError, "error_type must be a string that is not empty"),
        ("finish_reasons", "stop", TypeError, "finish_reasons must be a list of strings, not 'stop'"),
        ("first_chunk_at", 1.0, ValueError, r"first_chunk_at must be a time.perf_counter\(\) inside the block"),
        ("first_chunk_at", "now", TypeError, "first_chunk_at must be a number of seconds from 0 up, not str"),
        *[("attributes", wrong, error, message) for wrong, error, message in ODD_ATTRIBUTES],
    ],
)
def test_odd_fields(seen: Seen, field: str, value: object, error: type[Exception], message: str) -> None:
    """What cannot be meant is an error when the block ends; the rest is recorded."""

    def work(model: str, *raised: Exception) -> None:
        with otel_llm.track_inference(model) as call:
            call.reasoning_tokens = 3
            setattr(call, field, value)
            for each in raised:
                raise each

    with pytest.raises(error, match=f"otel_llm.track_inference: {message}"):
        work("llama")
    with pytest.raises(KeyError):
        work("other", KeyError())

    assert {"llama": 1, "other": 1} == calls(seen)
    span, _ = seen.spans
    assert ("unset", 3) == (span["status"], span["attributes"][names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS])
    known = {names.GEN_AI_OPERATION_NAME, names.GEN_AI_PROVIDER_NAME, names.GEN_AI_REQUEST_MODEL}
    assert {*known, names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS} == span["attributes"].keys()


@pytest.mark.parametrize(
    "where", ["before", "disabled", "suppressed", "asleep", "around a call", "around a block", "dropped"]
)
def test_odd_fields_everywhere(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """What cannot be meant is an error whoever listens, and whatever is inside; what is raised inside goes first."""

    def work(field: str, value: object, *raised: Exception) -> None:
        with otel_llm.track_inference("mine") as call:
            call.output_tokens = 3
            setattr(call, field, value)
            if where == "around a call":
                client(server).chat.completions.create(model="gpt-5", messages=ASK)
            elif where == "around a block":
                with otel_llm.track_inference("inner"):
                    pass
            elif where == "dropped":
                call.drop()
            for each in raised:
                raise each

    with ExitStack() as stack:
        if where == "disabled":
            monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        if where == "asleep":
            nobody: Any = {"tracer_provider": NoOpTracerProvider(), "meter_provider": NoOpMeterProvider()}
            stack.enter_context(otel_llm.instrument(**nobody, serve=False))
        elif where == "disabled":
            stack.enter_context(otel_llm.instrument(serve=False))
        elif where != "before":
            stack.enter_context(capture())
        if where == "suppressed":
            stack.enter_context(suppress_instrumentation())
        for field, value, error in (
            ("input_tokens", -1, ValueError),
            ("input_tokens", "3", TypeError),
            ("response_model", "", ValueError),
            ("finish_reasons", 1, TypeError),
            ("first_chunk_at", 1e-9, ValueError),
            ("attributes", 1, TypeError),
        ):
            with pytest.raises(error, match=f"otel_llm.track_inference: {field} must be "):
                work(field, value)
            own = KeyError()
            with pytest.raises(KeyError) as raised:
                work(field, value, own)
            assert (own, None, None) == (raised.value, own.__context__, own.__cause__)
        work("input_tokens", 1)


def test_attributes(seen: Seen) -> None:
    """What is written of attributes is on the span, each value as it is; no dict of the application's is changed."""
    told = {"a": "x", "b": True, "c": 2**63 - 1, "d": 0.5, "e": ["x", "y"], "f": (1, 2), "g": [], "h": "\ud800"}
    mine, empty = MappingProxyType(told), dict[str, Any]()
    with otel_llm.track_inference("llama") as call:
        call.attributes = mine  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
        call.input_tokens = 3
    with otel_llm.track_inference("llama") as call:
        call.attributes = empty
        call.input_tokens = 3

    known: dict[str, Any] = {names.GEN_AI_OPERATION_NAME: "chat", names.GEN_AI_PROVIDER_NAME: "unknown"}
    known |= {names.GEN_AI_REQUEST_MODEL: "llama", names.GEN_AI_USAGE_INPUT_TOKENS: 3}
    first, second = [span["attributes"] for span in seen.spans]
    assert {**known, **told, "e": ("x", "y"), "g": (), "h": "?"} == first
    assert (known, {}) == (second, empty)


def test_attributes_of_the_context(seen: Seen) -> None:
    """What `otel_llm.attributes` says is no mistake of the block's, and a wrong attribute takes no other along."""
    with otel_llm.attributes({"a": {"b": 1}, "c": "x"}), otel_llm.track_inference("llama"):
        pass
    with (
        pytest.raises(TypeError, match="'wrong' is object"),
        otel_llm.attributes({"c": "x"}),
        otel_llm.track_inference("llama") as call,
    ):
        call.attributes.update({"wrong": object(), "right": 1})  # type: ignore[dict-item]  # pyright: ignore

    first, second = [span["attributes"] for span in seen.spans]
    assert ({"b": 1}, "x") == (first["a"], first["c"])
    assert ("x", 1, None) == (second["c"], second["right"], second.get("wrong"))


def test_what_is_no_call_any_more(seen: Seen) -> None:
    """Whatever is written onto the call, it ends."""
    with otel_llm.track_inference("llama") as call:
        broken: Any = call
        broken.attributes = None
        broken.span_attributes = "many"
        otel_llm.record_tokens(input_tokens=3)

    assert 1 == len(seen.spans)
    assert {0} == {point["value"] for point in seen.points("otel_llm.client.active")}
    assert 3 == seen.spans[0]["attributes"][names.GEN_AI_USAGE_INPUT_TOKENS]


def test_dropped(server: ScriptedServer, seen: Seen) -> None:
    """A block whose call is dropped is not counted, and has no span; what was made inside counts."""
    with otel_llm.track_inference("mine") as call:
        call.drop()
    assert ([], {}) == (seen.spans, calls(seen))
    with otel_llm.track_inference("mine") as call:
        client(server).chat.completions.create(model="gpt-5", messages=ASK)
        call.drop()
    assert (["chat mine"], {"mine": 1}) == ([span["name"] for span in seen.spans], calls(seen))
    assert {0} == {point["value"] for point in seen.points("otel_llm.client.active")}


def test_without_metrics(server: ScriptedServer) -> None:
    """The model of the block wins also where a request is read once somebody is known to see it."""
    providers: Any = {"tracer_provider": TracerProvider(), "meter_provider": NoOpMeterProvider()}
    with otel_llm.instrument(**providers, serve=False) as handle:
        assert handle.telemetry is not None
        assert handle.telemetry.only_spans
        with otel_llm.track_inference("mine"):
            client(server).chat.completions.create(model="gpt-5", messages=ASK)

    (row,) = line("tinyllm", "tinyllm_requests_total{")
    assert 'tinyllm_requests_total{graph="unknown",model="mine",request_type="generate"} 1.0' == row


def test_silence(server: ScriptedServer) -> None:
    """Without `instrument()`, and where instrumentation is suppressed, the code inside runs and nothing is told."""
    with otel_llm.track_inference("llama") as call:
        call.input_tokens = 3
    with capture() as seen:
        from opentelemetry.instrumentation.utils import suppress_instrumentation

        with suppress_instrumentation(), otel_llm.track_inference("llama"):
            pass
        assert [] == seen.spans


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_inside(seen: Seen) -> None:
    """A child that leaves its parent's block counts nothing; the parent counts it once."""
    with otel_llm.track_inference("llama"):
        child = os.fork()
    if child == 0:
        os._exit(sum(calls(seen).values()))
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert {"llama": 1} == calls(seen)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_a_block(seen: Seen) -> None:
    """What a child tells that was forked inside of a block is its own, since its parent never hears of it."""
    with otel_llm.track_inference("llama"):
        child = os.fork()
        if child == 0:
            otel_llm.record_tokens("mine", 3)
            os._exit(int(sum(point["value"] for point in seen.points("otel_llm.client.tokens"))))
        assert 3 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def test_a_task_that_outlives_the_block(seen: Seen) -> None:
    """A block in a task that outlives the one around it takes nothing from others in flight."""
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        with otel_llm.track_inference("inner"):
            pass

    with otel_llm.track_inference("outer"):
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
    with otel_llm.track_inference("outer"):
        go_on.set()
        await task
        assert ['llm_active_connections{model="outer"} 1.0'] == line("local_llm", 'llm_active_connections{model="outer')

    assert {"outer": 2, "inner": 1} == calls(seen)


def test_tokens_of_many_threads(seen: Seen) -> None:
    """Tokens that threads of one block tell at once are all there."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-7)
    try:
        with otel_llm.track_inference("llama") as call:
            block: Any = current_context.get()[BLOCK_KEY]

            def work() -> None:
                for _ in range(20_000):
                    block.add_tokens({"input_tokens": 1})

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert 80_000 == call.input_tokens


def test_many_threads(seen: Seen) -> None:
    """Blocks of many threads are told apart."""

    def work() -> None:
        for _ in range(50):
            with otel_llm.track_inference("llama"):
                otel_llm.record_tokens(input_tokens=1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {"llama": 200} == calls(seen)
    assert ['tinyllm_tokens_input_total{graph="unknown",model="llama"} 200.0'] == line(
        "tinyllm", "tinyllm_tokens_input_total{"
    )


def test_tokens_that_otlp_cannot_carry(seen: Seen) -> None:
    """What is told of one block is held to what OTLP can carry, so that its span and all metrics can be exported."""
    with seen.tracer_provider.get_tracer("t").start_as_current_span("outer"), otel_llm.track_inference("m") as call:
        call.input_tokens = 2**62
        for _ in range(2):
            otel_llm.record_tokens(input_tokens=2**63 - 1)

    assert 2**63 - 1 == call.input_tokens
    data = seen._reader.get_metrics_data()
    assert data is not None
    assert encode_metrics(data).SerializeToString()
    assert encode_spans(seen._spans.get_finished_spans()).SerializeToString()
