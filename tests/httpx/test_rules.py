"""Which requests are calls: the table of paths, hosts, and rules of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otel_llm.http_rules import read_rules
from otel_llm.testing import capture
from otel_llm.testing.server import Reply, ScriptedServer
from otel_llm.wire.formats import format_of
from otel_llm_httpx.rules import TABLE, Rule, Rules
from tests.httpx.apis import APIS, LIBRARIES
from tests.httpx.test_calls import counted, each_library, told

HTTPX = LIBRARIES[0]


def _find(url: str, body: Any, rules: Any = ()) -> Any:
    return Rules(read_rules("http_rules", list(rules))).find(HTTPX.Request("POST", url, json=body))


@pytest.mark.parametrize("rule", TABLE, ids=lambda rule: rule.path)
def test_every_row(rule: Rule) -> None:
    """Each row finds a request that has its path and any of its sets of keys, below any prefix; not without them."""
    path = rule.path.replace("{model}", "mine-1:0")
    asks = [each.split() for each in rule.asks.split("|")]
    for keys in asks:
        body = {key: [{rule.elements: "x"}] if rule.elements else "x" for key in keys if key != "*"}
        for prefix in ("", "/some/prefix"):
            found = _find(f"https://llm.test{prefix}{path}?a=b", body)
            assert found is not None
            assert format_of(rule.format) is found.format
            assert ("llm.test", 443, "https://llm.test") == found.server[1:]
            assert prefix + path == found.endpoint
            assert rule.streams == (found.body.get("stream") is True)
            assert ("{model}" not in rule.path) or "mine-1:0" == found.body["model"]
    if rule.asks != "*":
        assert _find(f"https://llm.test{path}", {"other": 1}) is None


@pytest.mark.parametrize("rule", TABLE, ids=lambda rule: rule.path)
def test_a_body_that_is_streamed(rule: Rule) -> None:
    """A body that cannot be read is a call where the table says that the path is enough."""
    path = rule.path.replace("{model}", "m")
    request = HTTPX.Request("POST", f"https://llm.test{path}", content=iter([b"{}"]))

    assert ("*" in rule.asks) == (Rules(()).find(request) is not None)


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1/chat/completions", "openai"),
        ("https://my.openai.azure.com/openai/v1/chat/completions", "azure.ai.openai"),
        ("https://api.mistral.ai/v1/chat/completions", "mistral_ai"),
        ("https://api.groq.com/openai/v1/chat/completions", "groq"),
        ("http://localhost:11434/v1/chat/completions", "ollama"),
        ("http://localhost:8000/v1/chat/completions", "openai"),
        ("https://eu-aiplatform.googleapis.com/v1/projects/p/models/m:generateContent", "gcp.vertex_ai"),
        ("https://generativelanguage.googleapis.com/v1beta/models/m:generateContent", "gcp.gemini"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse", "aws.bedrock"),
        ("https://eu-aiplatform.googleapis.com/v1/publishers/anthropic/models/m:rawPredict", "gcp.vertex_ai"),
    ],
)
def test_providers(url: str, provider: str) -> None:
    """The host tells the provider, else the port, else the API."""
    found = _find(url, {"model": "m", "messages": [], "contents": [], "anthropic_version": "x"})

    assert found is not None
    assert provider == found.server.provider


@pytest.mark.parametrize("instances", [[], "x", ["content"], [{"prompt": "content"}], [{"input": "content"}]])
def test_predictions_of_another_kind(instances: Any) -> None:
    """Vertex AI predicts anything: only what has the content of texts is a call; nobody else's `:predict` is."""
    path = "/v1/projects/p/locations/eu/publishers/google/models/m:predict"
    texts = {"instances": [{"content": "Paris"}]}

    assert _find(f"https://eu-aiplatform.googleapis.com{path}", texts) is not None
    assert _find(f"https://eu-aiplatform.googleapis.com{path}", {"instances": instances}) is None
    assert _find("http://tensorflow.test/v1/models/m:predict", texts) is None


def test_a_large_prediction() -> None:
    """Of a large body the ends must name the content; the bytes of an image are no text."""
    path = "https://vertex.test/v1/publishers/google/models/m:predict"

    assert _find(path, {"instances": [{"content": "x" * 100_000}]}) is not None
    assert _find(path, {"instances": [{"prompt": "a", "image": "x" * 100_000}]}) is None


def test_dialects() -> None:
    """A provider that says more than its API is read in full."""
    body: dict[str, Any] = {"model": "m", "messages": []}
    assert format_of("groq.chat") is _find("https://api.groq.com/openai/v1/chat/completions", body).format
    assert format_of("cerebras.chat") is _find("https://api.cerebras.ai/v1/chat/completions", body).format


RULES = [
    {"host": "llm.*", "path": "/v3/ask", "format": "openai.chat", "provider": "mine"},
    {"host": "llm.*", "path": "/v1/messages", "format": "openai.chat"},
    {"path_regex": "/serve/(?P<model>[^/]+)/predict", "format": "tgi.generate"},
]


def test_own_rules_come_first() -> None:
    """They need no keys in the body, win over the table, and hold for their hosts alone."""
    found = _find("http://LLM.test:81/v3/ask", {"model": "m"}, RULES)
    assert (format_of("openai.chat"), ("mine", "llm.test", 81, "http://llm.test:81")) == found[:2]
    assert {"model": "m"} == found.body
    assert _find("http://other.test/v3/ask", {"model": "m"}, RULES) is None

    body: dict[str, Any] = {"model": "m", "messages": [], "max_tokens": 1}
    assert format_of("openai.chat") is _find("http://llm.test/v1/messages", body, RULES).format
    assert format_of("anthropic.messages") is _find("http://other.test/v1/messages", body, RULES).format

    found = _find("http://any.test/serve/big%20one/predict", {"inputs": "x"}, RULES)
    assert ("big one", "tgi") == (found.body["model"], found.server.provider)
    assert _find("http://any.test/serve/a/b/predict", {"inputs": "x"}, RULES) is None


@each_library
@pytest.mark.parametrize("how", ["list", "file", "variable"])
def test_own_rules_work(
    server: ScriptedServer, how: str, library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call by a rule of the user's is one like any other."""
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\npath = "/v3/ask"\nformat = "openai.chat"\nprovider = "mine"\n')
    settings: dict[str, Any] = {}
    if how == "variable":
        monkeypatch.setenv("OTEL_LLM_HTTP_RULES", str(file))
    else:
        settings["http_rules"] = file if how == "file" else [RULES[0] | {"host": "127.*"}]
    api = APIS["openai chat"]
    server.script(Reply(json=api.answer))

    with capture(**settings) as seen:
        library.post(server.url + "/v3/ask", json=api.asked)

    (span,) = seen.spans
    assert (*api.told[:1], "mine", *api.told[2:]) == told(span)
    assert [1] == counted(seen)


def test_a_slash_at_the_end_of_a_path() -> None:
    """It changes nothing, neither for the table nor for a rule of the user's own."""
    rules = [{"path": "/v3/ask", "format": "openai.chat"}]
    for path in ("/v3/ask", "/v3/ask/", "/v1/chat/completions/"):
        assert _find(f"https://llm.test{path}", {"messages": []}, rules) is not None
    assert _find("https://llm.test/v3/asks", {"messages": []}, rules) is None
