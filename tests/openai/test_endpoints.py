"""Every endpoint of the client gives one whole record per request, named by its path without the ids."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai._resource import AsyncAPIResource, SyncAPIResource

from otel_llm.testing import Seen
from otel_llm.testing.server import RecordedRequest, Reply, ScriptedServer
from otel_llm.wire.openai_endpoints import ENDPOINTS, endpoint
from otel_llm.wire.openai_paths import WORDS, template_of
from otel_llm_semconv import attributes as names
from tests.openai.styles import client, run_async

SECRET = "Xy_12-aB"
"""Stands for every id; what measures must never show it."""
VERBS = {"_get": "GET", "_post": "POST", "_put": "PUT", "_patch": "PATCH", "_delete": "DELETE", "_get_api_list": "GET"}
RESOURCES = (SyncAPIResource, AsyncAPIResource)


# every method of every resource


def resources(owner: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every resource below a client, by its path."""
    for name in dir(owner):
        if not name.startswith(("_", "with_")):
            found: Any = getattr(owner, name, None)
            if isinstance(found, RESOURCES):
                yield f"{path}{name}", found
                yield from resources(found, f"{path}{name}.")


def declared(method: Any) -> tuple[str, str] | None:
    """Return the HTTP method and the template that the source of a resource's method asks for."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(method))))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VERBS:
            verb = VERBS[node.func.attr]
            for keyword in node.keywords:
                if keyword.arg == "method":
                    verb = ast.literal_eval(keyword.value).upper()
            return verb, literal(node.args[0])
    return None


def literal(path: ast.expr) -> str:
    """Return a path of the source as a template."""
    if isinstance(path, ast.Call):  # path_template("/files/{file_id}", file_id=file_id)
        path = path.args[0]
    if isinstance(path, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "{id}" for part in path.values]
        return "".join(map(str, parts)).partition("?")[0]
    return re.sub(r"{\w+}", "{id}", ast.literal_eval(path)).partition("?")[0]


def methods(own: Any) -> list[tuple[str, Any, tuple[str, str]]]:
    """Return the methods that make a request of their own: name, bound method, and what the source declares."""
    found: list[tuple[str, Any, tuple[str, str]]] = []
    for path, resource in resources(own):
        functions: dict[str, Any] = resource.__class__.__dict__
        for name, function in functions.items():
            if inspect.isfunction(function) and not name.startswith("_"):
                asked = declared(function)
                if asked is not None:
                    found.append((f"{path}.{name}", getattr(resource, name), asked))
    return found


def arguments(method: Any) -> dict[str, Any]:
    """Make up what a method requires, from its signature."""
    parameters = inspect.signature(method).parameters
    required = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    layer: Any = method
    while hasattr(layer, "__wrapped__"):
        # Of the ways in which a method may be called, the client's own check keeps a list.
        ways = inspect.getclosurevars(layer).nonlocals.get("variants")
        required |= set(ways[0]) if ways else set()
        layer = layer.__wrapped__
    return {name: value_for(str(parameters[name].annotation)) for name in required}


def value_for(annotation: str) -> Any:
    """Make up a value that can be sent."""
    if "FileTypes" in annotation or annotation.endswith(".Video"):
        return b"x"
    return [] if re.match(r"(Iterable|List|Seq)", annotation) else SECRET


def empty(request: RecordedRequest, number: int) -> Reply:
    """Answer anything with nothing."""
    return Reply(json={})


def options() -> dict[str, Any]:
    """Return the keys that this version of the client takes."""
    admin = "admin_api_key" in inspect.signature(openai.OpenAI).parameters
    return {"admin_api_key": "test"} if admin else {}


async def settle(made: Any) -> None:
    """Wait for what an async method returned, as far as it is to be waited for, and close it if it is open."""
    result: Any = await made if inspect.isawaitable(made) else made
    if isinstance(result, openai.AsyncStream):
        await result.close()
    elif type(result).__name__.endswith("StreamManager"):
        async with result:
            pass


def call(method: Any) -> None:
    """Call a method; a parser may find fault with an empty answer."""
    try:
        result: Any = method(**arguments(method))
    except (ValueError, TypeError, AttributeError):
        return
    if isinstance(result, openai.Stream):
        result.close()


async def acall(method: Any) -> None:
    """Call an async method; a parser may find fault with an empty answer."""
    try:
        await settle(method(**arguments(method)))
    except (ValueError, TypeError, AttributeError):
        return


def check(server: ScriptedServer, seen: Seen, name: str, asked: tuple[str, str]) -> None:
    """Compare the one record with the one request, and with what the source declares."""
    verb, template = asked
    assert 1 == len(server.requests), name
    assert verb == server.requests[0].method, name
    (span,) = seen.spans
    format, known = endpoint(verb, template)
    operation = span["attributes"][names.GEN_AI_OPERATION_NAME]
    assert format.operation == operation, name
    assert SECRET not in span["name"].removesuffix(f" {SECRET}"), name  # a model may stand at the end
    if not known:
        assert (f"{verb} {template}", verb, template) == (
            operation,
            span["attributes"][names.HTTP_REQUEST_METHOD],
            span["attributes"][names.URL_TEMPLATE],
        ), name
    assert "127.0.0.1" == span["attributes"][names.SERVER_ADDRESS], name
    assert names.GEN_AI_USAGE_INPUT_TOKENS not in span["attributes"], name


def check_measures(seen: Seen, asked: set[str]) -> None:
    """See that the measurements of all calls together know no more operations than there are endpoints."""
    points = seen.metrics
    operations = {point["attributes"][names.GEN_AI_OPERATION_NAME] for point in points} - {None}
    assert operations <= asked
    for point in points:
        values = {key: value for key, value in point["attributes"].items() if key != names.GEN_AI_REQUEST_MODEL}
        assert SECRET not in str(values)
    counted = {point["attributes"][names.GEN_AI_OPERATION_NAME] for point in seen.points("otel_llm.client.active")}
    assert asked == counted
    inferred = {point["attributes"][names.GEN_AI_OPERATION_NAME] for point in points if point["name"][:7] == "gen_ai."}
    assert {operation for operation in inferred if " " in operation} == set()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_method(server: ScriptedServer, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every method of every resource is one record, by the method and the template that its source declares."""
    monkeypatch.setattr(server, "_choose", empty)
    found = methods(client(server, **options()))
    assert len(found) > 50
    for name, method, asked in found:
        server.requests.clear()
        seen.clear()
        call(method)
        check(server, seen, name, asked)

    check_measures(seen, {endpoint(*asked)[0].operation for _, _, asked in found})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_async_method(server: ScriptedServer, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every async twin is the same record."""
    monkeypatch.setattr(server, "_choose", empty)

    async def every(own: Any) -> set[str]:
        found = methods(own)
        assert len(found) > 50
        for name, method, asked in found:
            server.requests.clear()
            seen.clear()
            await acall(method)
            check(server, seen, name, asked)
        return {endpoint(*asked)[0].operation for _, _, asked in found}

    check_measures(seen, run_async(every, server, **options()))


def test_vocabulary() -> None:
    """Each word of the client's paths is known, and with an id put in, each path comes out as its own template."""
    own = openai.OpenAI(api_key="test", http_client=openai.DefaultHttpxClient(verify=False))
    for name, _, (_, template) in methods(own):
        words = {segment for segment in template.strip("/").split("/") if segment != "{id}"}
        assert words <= WORDS, name
        for url in (
            template,
            "/v1" + template,
            "https://host/v1" + template + "?beta=true",
            "http://a/x/v1" + template,
        ):
            assert template == template_of(url.replace("{id}", SECRET), "https://host/v1/")[0], name


@pytest.mark.parametrize(
    ("url", "template"),
    [
        ("", "/"),
        ("/", "/"),
        ("files/abc", "/files/{id}"),
        ("/files/abc?x=http://y", "/files/{id}"),
        ("/files//abc/", "/files/{id}"),
        ("/models/org/name", "/models/{id}"),
        ("/own-thing/7/part/8", "/own-thing/{id}"),
        ("/Own", "/{id}"),
        ("/" + "a" * 33, "/{id}"),
        ("/v1", "/"),
        ("/v1beta/models/m:generate", "/models/{id}"),
        ("/openai/v1/files/abc", "/files/{id}"),
        ("https://host/v1/own/7", "/own/{id}"),
        ("https://other/openai/deployments/gpt-5/chat/completions?api-version=1", "/chat/completions"),
        ("https://other/gateway/files/abc", "/files/{id}"),
        ("/files/abc" + "/content/abc" * 20, "/files" + "/{id}/content" * 4 + "/{id}"),
    ],
)
def test_templates(url: str, template: str) -> None:
    """Ids, hosts, base paths, versions and queries are no part of a template."""
    assert template == template_of(url, "https://host/v1/")[0]


def test_a_base_path_that_is_no_version() -> None:
    """An absolute URL below the client's own base URL is the path that comes after it."""
    assert "/own/{id}" == template_of("https://host/gateway/own/7", "https://host/gateway/")[0]
    assert "/files/{id}" == template_of("https://host/gateway/files/7", "https://other/")[0]


def test_formats_of_unknown_paths_are_bounded() -> None:
    """Paths that somebody makes up fill no memory, and each still has a format of its own."""
    from otel_llm.wire import openai_endpoints

    made = [endpoint("GET", f"/made-up-{number}")[0].operation for number in range(3000)]

    assert "GET /made-up-2999" == made[-1]
    assert len(openai_endpoints._others) <= 1024
    openai_endpoints._others.clear()
    assert "_OTHER /x" == endpoint("brew", "/x")[0].operation


def test_known_endpoints_map_onto_themselves() -> None:
    """The template of every known endpoint is one that a path can have."""
    for key in ENDPOINTS:
        _, template = key.split(" ")
        assert template == template_of(template.replace("{id}", SECRET), "https://host/v1/")[0]
