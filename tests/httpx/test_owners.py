"""No call is counted twice: what a client of its own sends is left to that, and each class is patched once."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from typing import Any

import ollama
import openai
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

import otel_llm
from otel_llm import faults
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer, error
from otel_llm_semconv import attributes as names
from tests.httpx.apis import APIS, ASK, run, settled
from tests.httpx.test_calls import counted, each_library, each_mode

CHAT = APIS["openai chat"]


def _client(server: ScriptedServer, **options: Any) -> Any:
    return openai.OpenAI(base_url=server.base_url, api_key="x", **options)


def test_retries_of_a_client(server: ScriptedServer, seen: Seen) -> None:
    """All attempts of an instrumented client are one call of its own, with an HTTP span each."""
    server.script(error(500), error(429, headers={"retry-after-ms": "1"}))
    with _client(server, max_retries=2) as own:
        own.chat.completions.create(model="gpt-5", messages=ASK)

    (span,) = seen.spans
    assert 2 == span["attributes"][names.OTEL_LLM_RETRIES]
    assert [span["span_id"]] * 3 == [other["parent_id"] for other in seen.all_spans if other["scope"] != span["scope"]]
    assert [1] == counted(seen)


def test_streams_of_a_client(server: ScriptedServer, seen: Seen) -> None:
    """A stream of an instrumented client is one call, however it is read."""
    asked: Any = {"model": "gpt-5", "messages": ASK, "stream": True}
    with _client(server) as own:
        list(own.chat.completions.create(**asked))
        raw = own.chat.completions.with_raw_response.create(**asked)
        list(raw.parse())
        with own.chat.completions.with_streaming_response.create(**asked) as response:
            list(response.iter_lines())

    assert 3 == len(seen.spans) == sum(counted(seen))


def test_ollama(server: ScriptedServer, seen: Seen) -> None:
    """Calls of the Ollama client are its own: also those that are no inference, and streams."""
    chat = APIS["ollama chat"]
    server.script(
        Reply(json=chat.answer), Reply(chunks=chat.pieces, headers={"content-type": chat.content_type}), Reply(json={})
    )
    client: Any = ollama.Client(host=server.url)
    client.chat(model="tiny", messages=ASK)
    list(client.chat(model="tiny", messages=ASK, stream=True))
    client._client.close()

    assert 2 == len(seen.spans) == sum(counted(seen))
    assert {"ollama"} == {span["attributes"][names.GEN_AI_PROVIDER_NAME] for span in seen.spans}


def test_a_client_that_is_exempt(server: ScriptedServer, seen: Seen) -> None:
    """What a client is to be silent of is not told by a layer below it."""
    with _client(server) as own, suppress_instrumentation():
        own.chat.completions.create(model="gpt-5", messages=ASK)

    assert [] == seen.all_spans
    assert [] == counted(seen)


def test_a_client_that_we_fail(
    server: ScriptedServer, seen: Seen, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the client's own call cannot begin, by a fault of ours, its attempts are no calls instead."""
    from otel_llm_openai import patch

    def fail(*args: Any) -> Any:
        raise RuntimeError("injected")

    monkeypatch.setattr(patch, "server_of", fail)
    server.script(error(500))
    with _client(server) as own:
        own.chat.completions.create(model="gpt-5", messages=ASK)

    assert (2, []) == (len(server.requests), seen.spans)
    assert {"begin": 1} == faults.counts


@each_library
@each_mode
@pytest.mark.parametrize("silence", [suppress_instrumentation, suppress_http_instrumentation])
def test_silence(server: ScriptedServer, seen: Seen, silence: Any, mode: str, library: Any) -> None:
    """OpenTelemetry's own switches are heeded, both of them."""

    async def use(client: Any) -> Any:
        with silence():
            return await settled(client.post(server.url + CHAT.path, json=CHAT.asked))

    assert 200 == run(mode, library, use).status_code
    assert [] == seen.all_spans
    assert [] == counted(seen)


def test_the_ollama_client_between(server: ScriptedServer, seen: Seen) -> None:
    """A plain request after a client's call, and one between two chunks of its stream, are calls of their own."""
    import httpx

    with _client(server) as own:
        stream: Any = own.chat.completions.create(model="gpt-5", messages=ASK, stream=True)
        next(iter(stream))
        httpx.post(server.url + CHAT.path, json=CHAT.asked)
        for _ in stream:
            pass

    assert 2 == len(seen.spans) == sum(counted(seen))


@each_library
def test_a_call_in_a_hook_of_the_users(server: ScriptedServer, seen: Seen, library: Any) -> None:
    """A request that a hook of the caller's makes inside of a call belongs to that call."""

    def hook(request: Any) -> None:
        library.post(server.url + CHAT.path, json=CHAT.asked)

    with library.Client(event_hooks={"request": [hook]}) as own:
        own.post(server.url + CHAT.path, json=CHAT.asked)

    assert 2 == len(server.requests)
    assert 1 == len(seen.spans) == sum(counted(seen))


@each_library
@each_mode
def test_originals_come_back(library: Any, mode: str) -> None:
    """Off, the classes have the very functions that they had; on, these look the same."""
    cls = library.Client if mode == "sync" else library.AsyncClient
    before = cls.__dict__["send"]
    with capture():
        ours = cls.__dict__["send"]
        assert ours is not before
        assert inspect.signature(before) == inspect.signature(ours)
        assert inspect.iscoroutinefunction(before) == inspect.iscoroutinefunction(ours)
        assert (before.__doc__, before.__qualname__) == (ours.__doc__, ours.__qualname__)
    assert before is cls.__dict__["send"]


@each_library
@each_mode
def test_what_the_client_is_set_to(server: ScriptedServer, seen: Seen, mode: str, library: Any) -> None:
    """What a caller of ``send`` leaves out is what the client is set to, also where the request is a call."""
    server.script(Reply(307, headers={"location": server.url + CHAT.path}), Reply(json=CHAT.answer))

    async def use(client: Any) -> Any:
        return await settled(client.send(client.build_request("POST", server.url + CHAT.path, json=CHAT.asked)))

    assert 200 == run(mode, library, use, auth=("user", "secret"), follow_redirects=True).status_code
    assert all(request.headers["authorization"].startswith("Basic ") for request in server.requests)
    assert [1] == counted(seen)


@each_library
@each_mode
def test_a_wrapper_that_stays(server: ScriptedServer, mode: str, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody has wrapped us since, our part stays and does nothing."""
    cls = library.Client if mode == "sync" else library.AsyncClient
    with capture() as seen:
        ours = cls.__dict__["send"]

        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            return ours(self, *args, **kwargs)

        monkeypatch.setattr(cls, "send", wrapper)

    async def use(client: Any) -> Any:
        return await settled(client.post(server.url + CHAT.path, json=CHAT.asked))

    assert 200 == run(mode, library, use).status_code
    assert [] == seen.spans


@each_library
@each_mode
def test_another_signature(server: ScriptedServer, mode: str, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``send`` of another shape, as of a later version or a wrapper, gets what the caller gave and nothing more."""
    cls = library.Client if mode == "sync" else library.AsyncClient
    original = cls.__dict__["send"]
    got: list[Any] = []

    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        got.append((args, sorted(kwargs)))
        return original(self, request, *args, **kwargs)

    async def asend(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        got.append((args, sorted(kwargs)))
        return await original(self, request, *args, **kwargs)

    monkeypatch.setattr(cls, "send", send if mode == "sync" else asend)

    async def use(client: Any) -> Any:
        await settled(client.get(server.url + "/v1/models"))
        request = client.build_request("POST", server.url + CHAT.path, json=CHAT.asked)
        await settled(client.send(request=request))
        return await settled(client.send(request))

    with capture() as seen:
        assert 200 == run(mode, library, use).status_code
        assert 2 == len(seen.spans)
    assert [((), ["auth", "follow_redirects"]), ((), []), ((), [])] == got


def test_a_subclass(server: ScriptedServer, seen: Seen) -> None:
    """A client class of the user's that sends on its own, and then by its base, makes one call."""
    import httpx

    class Mine(httpx.Client):
        def send(self, request: Any, **kwargs: Any) -> Any:
            request.headers["x-mine"] = "yes"
            return super().send(request, **kwargs)

    with Mine() as own:
        own.post(server.url + CHAT.path, json=CHAT.asked)

    assert "yes" == server.requests[0].headers["x-mine"]
    assert [1] == counted(seen)


def test_a_client_that_is_older(server: ScriptedServer) -> None:
    """A client made before we came, and a method kept from it, are observed."""
    import httpx

    with httpx.Client() as own:
        post = own.post
        with capture() as seen:
            post(server.url + CHAT.path, json=CHAT.asked)
    assert 1 == len(seen.spans)


def test_a_foreign_span(server: ScriptedServer, seen: Seen) -> None:
    """A call of which another instrumentation has a span has none of ours, and is counted; an agent's span is none."""
    import httpx

    tracer = seen.tracer_provider.get_tracer("opentelemetry.instrumentation.some_client")
    attributes = {names.GEN_AI_OPERATION_NAME: "chat", names.GEN_AI_PROVIDER_NAME: "some"}
    with tracer.start_as_current_span("chat gpt-5", kind=trace.SpanKind.CLIENT, attributes=attributes):
        httpx.post(server.url + CHAT.path, json=CHAT.asked)
    with tracer.start_as_current_span("agent", attributes={names.GEN_AI_OPERATION_NAME: "invoke_agent"}):
        httpx.post(server.url + CHAT.path, json=CHAT.asked)

    by_scope = [span["scope"] for span in seen.all_spans if "httpx" not in span["scope"]]
    assert ["opentelemetry.instrumentation.some_client", "otel_llm", "opentelemetry.instrumentation.some_client"] == (
        by_scope
    )
    assert 2 == sum(counted(seen))


def test_nobody_listens(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no span and no point would go anywhere, nothing of a request is read."""
    import httpx

    from otel_llm_httpx import rules

    def fail(*args: Any) -> Any:
        raise AssertionError("looked at a request for nobody")

    with otel_llm.instrument(
        tracer_provider=trace.NoOpTracerProvider(),
        meter_provider=NoOpMeterProvider(),
        serve=False,
    ):
        monkeypatch.setattr(rules, "_decode", fail)
        assert 200 == httpx.post(server.url + CHAT.path, json=CHAT.asked).status_code


def test_sampled_out(server: ScriptedServer) -> None:
    """A call that is sampled out has its metrics all the same, and no span."""
    import httpx
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    with capture(tracer_provider=TracerProvider(sampler=ALWAYS_OFF)) as seen:
        httpx.post(server.url + CHAT.path, json=CHAT.asked)
        assert [1] == counted(seen)
    assert [] == seen.spans

    provider = TracerProvider(sampler=ALWAYS_OFF)
    with otel_llm.instrument(tracer_provider=provider, meter_provider=NoOpMeterProvider(), serve=False):
        assert 200 == httpx.post(server.url + CHAT.path, json=CHAT.asked).status_code
        assert not trace.get_current_span().get_span_context().is_valid


_ALIAS = """
import httpx2
httpx2.alias_httpx()
import httpx
import otel_llm
from otel_llm.testing import capture
from otel_llm.testing.server import ScriptedServer
assert httpx is httpx2
with ScriptedServer() as server, capture() as seen:
    asked = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
    httpx.post(server.base_url + "/chat/completions", json=asked)
    assert not hasattr(httpx2.Client.__dict__["send"].__wrapped__, "__wrapped__")
    assert 1 == len(seen.spans), seen.spans
    assert 2 == len(seen.all_spans), seen.all_spans
assert not hasattr(httpx2.Client.__dict__["send"], "__wrapped__")
"""
_LATE = """
import sys
import otel_llm
from otel_llm.testing import capture
from otel_llm.testing.server import ScriptedServer
with ScriptedServer() as server, capture() as seen:
    assert not {"httpx", "httpx2", "openai", "ollama"} & sys.modules.keys()
    import httpx2
    httpx2.alias_httpx()
    import httpx
    asked = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
    httpx.post(server.base_url + "/chat/completions", json=asked)
    assert 1 == len(seen.spans), seen.spans
"""
_EACH = """
import sys
import otel_llm
from otel_llm.testing import capture
from otel_llm.testing.server import ScriptedServer
with ScriptedServer() as server, capture() as seen:
    asked = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
    import httpx
    httpx.post(server.base_url + "/chat/completions", json=asked)
    import httpx2
    httpx2.post(server.base_url + "/chat/completions", json=asked)
    assert 2 == len(seen.spans), seen.spans
    assert 4 == len(seen.all_spans), seen.all_spans
"""


@pytest.mark.parametrize("program", [_ALIAS, _LATE, _EACH], ids=["alias", "late alias", "one after the other"])
def test_imports(program: str) -> None:
    """In whatever order the libraries come, and if one stands in for the other, a request is one call."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )

    assert ("", 0) == (done.stderr, done.returncode)


class _Odd:
    """A library of another shape, as httpx 1.0 is."""

    class Client:
        def request(self) -> str:
            return "sent"


def test_a_library_of_another_shape() -> None:
    """It is left alone."""
    from types import ModuleType

    from otel_llm.patching import Patches
    from otel_llm_httpx.patch import patch

    module: Any = ModuleType("httpx")
    patches = Patches()
    handle = otel_llm.instrument(tracer_provider=TracerProvider(), meter_provider=MeterProvider(), serve=False)
    assert handle.telemetry is not None
    patch(module, patches, handle.telemetry)
    module.Client, module.AsyncClient = _Odd.Client, None
    patch(module, patches, handle.telemetry)

    assert "sent" == module.Client().request()
    assert [] == patches._replaced


def test_a_library_that_has_the_classes_of_another() -> None:
    """A class that two libraries share is patched once."""
    from types import ModuleType

    import httpx

    from otel_llm.patching import Patches
    from otel_llm_httpx.patch import patch

    module: Any = ModuleType("httpx2")
    module.Client = httpx.Client
    handle = otel_llm.instrument(tracer_provider=TracerProvider(), meter_provider=MeterProvider(), serve=False)
    assert handle.telemetry is not None
    patches = Patches()
    patch(httpx, patches, handle.telemetry)
    patch(module, patches, handle.telemetry)

    assert [httpx.Client, httpx.AsyncClient] == [each.owner for each in patches._replaced]
    patches.restore()


def test_loops_of_its_own(server: ScriptedServer, seen: Seen) -> None:
    """A task that a call's hook leaves behind is no part of the call that was under way when it began."""
    import httpx

    async def main() -> None:
        async with httpx.AsyncClient(verify=False) as own:
            await asyncio.gather(*[own.post(server.url + CHAT.path, json=CHAT.asked) for _ in range(10)])

    asyncio.run(main())

    assert 10 == len(seen.spans) == sum(counted(seen))
    assert 10 == len({span["trace_id"] for span in seen.spans})


@each_library
def test_a_task_that_outlives_a_call(server: ScriptedServer, seen: Seen, library: Any) -> None:
    """What a task sends that was made in the middle of a call is no part of it once that is over."""
    tasks: list[asyncio.Task[Any]] = []

    async def main() -> None:
        over = asyncio.Event()
        async with library.AsyncClient() as other:

            async def later() -> None:
                await over.wait()
                await other.post(server.url + CHAT.path, json=CHAT.asked)

            async def hook(request: Any) -> None:
                tasks.append(asyncio.create_task(later()))

            async with library.AsyncClient(event_hooks={"request": [hook]}) as own:
                await own.post(server.url + CHAT.path, json=CHAT.asked)
            over.set()
            await asyncio.gather(*tasks)

    asyncio.run(main())

    assert 2 == len(server.requests) == len(seen.spans) == sum(counted(seen))
