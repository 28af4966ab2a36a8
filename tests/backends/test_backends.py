"""The real servers answer, and the code around them does what the other tests rely on."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from urllib.error import HTTPError

import pytest

from . import build, tiny_model
from .fixtures import StartPrometheus
from .servers import NUM_PREDICT, Collector, Died, Missing, Ollama, OtlpSink, fetch, find, running, wait_until
from .sink import Json

HELLO = [{"role": "user", "content": "hello"}]
HELLO_TOKENS = 7  # the begin token, SentencePiece's leading space, five letters
WIDTH = 64
RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "test"}}]}
SCOPE = {"name": "by.hand", "version": "1"}


def now() -> str:
    """Return the time as OTLP writes it."""
    return str(time.time_ns())


def span(name: str) -> Json:
    """Return a trace request of one span with one attribute of each type."""
    record: Json = {
        "name": name,
        "kind": 3,
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "startTimeUnixNano": now(),
        "endTimeUnixNano": now(),
        "status": {"code": 2, "message": "bad"},
        "events": [{"name": "first", "timeUnixNano": now()}],
        "attributes": [
            {"key": "text", "value": {"stringValue": "hi"}},
            {"key": "whole", "value": {"intValue": "9007199254740993"}},
            {"key": "real", "value": {"doubleValue": 0.5}},
            {"key": "truth", "value": {"boolValue": False}},
            {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}]}}},
        ],
    }
    return {"resourceSpans": [{"resource": RESOURCE, "scopeSpans": [{"scope": SCOPE, "spans": [record]}]}]}


def metrics(name: str) -> Json:
    """Return a metrics request of one counter, named as told, and one histogram."""
    times: Json = {"startTimeUnixNano": now(), "timeUnixNano": now()}
    buckets: Json = {"count": "3", "sum": 2.5, "explicitBounds": [0.5, 1], "bucketCounts": ["1", "2", "0"], **times}
    total: Json = {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [{"asInt": "5", **times}]}
    spread: Json = {"aggregationTemporality": 2, "dataPoints": [buckets]}
    both = [{"name": name, "unit": "{call}", "sum": total}, {"name": f"{name}.time", "unit": "s", "histogram": spread}]
    return {"resourceMetrics": [{"resource": RESOURCE, "scopeMetrics": [{"scope": SCOPE, "metrics": both}]}]}


def logs(event: str) -> Json:
    """Return a logs request of one event with a structured body."""
    body: Json = {"kvlistValue": {"values": [{"key": "role", "value": {"stringValue": "user"}}]}}
    record: Json = {"timeUnixNano": now(), "eventName": event, "severityNumber": 9, "body": body}
    return {"resourceLogs": [{"resource": RESOURCE, "scopeLogs": [{"scope": SCOPE, "logRecords": [record]}]}]}


def test_ollama_chat_counts_its_tokens(ollama_server: Ollama) -> None:
    """The native chat endpoint answers with text, durations and the counts the model is made to give."""
    answer = fetch(f"{ollama_server.url}/api/chat", {"model": ollama_server.model, "messages": HELLO, "stream": False})

    assert answer["message"]["role"] == "assistant"
    assert answer["message"]["content"].isascii()
    assert answer["message"]["content"].strip()
    assert (answer["prompt_eval_count"], answer["eval_count"]) == (HELLO_TOKENS, NUM_PREDICT)
    assert answer["done_reason"] == "length"
    assert 0 < answer["eval_duration"] <= answer["total_duration"]


def test_ollama_answers_openai_chat(ollama_server: Ollama) -> None:
    """The OpenAI chat endpoint answers with the same counts."""
    answer = fetch(f"{ollama_server.url}/v1/chat/completions", {"model": ollama_server.model, "messages": HELLO})

    assert answer["usage"]["prompt_tokens"] == HELLO_TOKENS
    assert answer["usage"]["completion_tokens"] == NUM_PREDICT
    assert answer["choices"][0]["finish_reason"] == "length"


def test_ollama_streams_openai_chat(ollama_server: Ollama) -> None:
    """The OpenAI chat endpoint streams one event a token, and the usage at the end when asked."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    request = {"model": ollama_server.model, "messages": HELLO, **options}
    events = fetch(f"{ollama_server.url}/v1/chat/completions", request).strip().split("\n\n")
    last = json.loads(events[-2].removeprefix("data: "))

    assert events[-1] == "data: [DONE]"
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == HELLO_TOKENS + NUM_PREDICT
    assert len(events) >= NUM_PREDICT


def test_ollama_embeds(ollama_server: Ollama) -> None:
    """Both embedding endpoints answer with a vector as wide as the model."""
    request = {"model": ollama_server.model, "input": ["hello", "world"]}
    native = fetch(f"{ollama_server.url}/api/embed", request)
    openai = fetch(f"{ollama_server.url}/v1/embeddings", request)

    assert [len(vector) for vector in native["embeddings"]] == [WIDTH, WIDTH]
    assert [len(item["embedding"]) for item in openai["data"]] == [WIDTH, WIDTH]
    assert native["prompt_eval_count"] == openai["usage"]["prompt_tokens"] == 2 * HELLO_TOKENS


def test_ollama_refuses_an_unknown_model(ollama_server: Ollama) -> None:
    """An unknown model gives the real error, with its text as a note."""
    with pytest.raises(HTTPError, check=lambda error: "not found" in error.__notes__[0]) as caught:
        fetch(f"{ollama_server.url}/api/chat", {"model": "nope", "messages": HELLO})

    assert caught.value.code == 404


def test_ollama_is_the_pinned_one(ollama_server: Ollama) -> None:
    """The server reports the version of the recipe, though Go modules carry none."""
    assert fetch(f"{ollama_server.url}/api/version") == {"version": build.OLLAMA}


def test_collector_forwards_spans(collector_server: Collector, otlp_sink: OtlpSink) -> None:
    """A span posted to the Collector is in the sink when it answers, with attributes of the right types, and in the log."""
    fetch(f"{collector_server.http}/v1/traces", span("forwarded"))
    [received] = otlp_sink.spans()

    assert (received["name"], received["kind"]) == ("forwarded", "CLIENT")
    assert (received["status"], received["status_message"]) == ("ERROR", "bad")
    assert received["trace_id"] == "5b8efff798038103d269b633813fc60c"
    assert received["resource"] == {"service.name": "test"}
    assert received["scope"] == "by.hand"
    assert received["attributes"] == {
        "text": "hi",
        "whole": 9007199254740993,
        "real": 0.5,
        "truth": False,
        "list": ["a", 1],
    }
    assert [event["name"] for event in received["events"]] == ["first"]
    assert "forwarded" in collector_server.log_text()


def test_collector_forwards_metrics_and_logs(collector_server: Collector, otlp_sink: OtlpSink) -> None:
    """Metric points and log records reach the sink as well."""
    fetch(f"{collector_server.http}/v1/metrics", metrics("forwarded.calls"))
    fetch(f"{collector_server.http}/v1/logs", logs("forwarded.event"))
    total, spread = otlp_sink.metrics()
    [record] = otlp_sink.logs()

    assert (total["name"], total["unit"], total["value"]) == ("forwarded.calls", "{call}", 5)
    assert (total["kind"], total["monotonic"], total["temporality"]) == ("sum", True, "CUMULATIVE")
    assert (spread["kind"], spread["count"], spread["sum"]) == ("histogram", 3, 2.5)
    assert (spread["bounds"], spread["bucket_counts"]) == ([0.5, 1.0], [1, 2, 0])
    assert (record["event_name"], record["body"]) == ("forwarded.event", {"role": "user"})


def test_prometheus_scrapes_the_collector(collector_server: Collector, prometheus_server: StartPrometheus) -> None:
    """What was posted to the Collector can be queried in Prometheus, by the translated name."""
    fetch(f"{collector_server.http}/v1/metrics", metrics("scraped.calls"))
    place = collector_server.prometheus_url.removeprefix("http://").removesuffix("/metrics")
    server = prometheus_server(place)
    [(labels, value)] = server.wait_for("scraped_calls_total")

    assert value == 5
    assert labels["exported_job"] == "test"
    assert [up for _, up in server.query("up")] == [1.0]
    assert [target["health"] for target in server.targets()] == ["up"]


def test_prometheus_scrapes_a_path(collector_server: Collector, prometheus_server: StartPrometheus) -> None:
    """A target may be a mapping with a path of its own and settings of the scrape configuration."""
    place = collector_server.prometheus_url.removeprefix("http://").removesuffix("/metrics")
    server = prometheus_server(place, {"target": place, "metrics_path": "/nowhere", "job_name": "lost"})
    wait_until(lambda: len(server.query("up")) == 2)

    assert {place: 1.0, "lost": 0.0} == {labels["job"]: up for labels, up in server.query("up")}


def test_the_sink_reads_gzip_and_refuses_the_rest() -> None:
    """The sink takes compressed JSON, and says no to protobuf and unknown paths."""
    body = gzip.compress(json.dumps(span("small")).encode())
    json_type = {"Content-Type": "application/json"}
    with OtlpSink() as sink:
        fetch(f"{sink.url}/v1/traces", body, {**json_type, "Content-Encoding": "gzip"})
        for path, headers in (("traces", {"Content-Type": "application/x-protobuf"}), ("profiles", json_type)):
            with pytest.raises(HTTPError):
                fetch(f"{sink.url}/v1/{path}", b"{}", headers)

        assert [each["name"] for each in sink.spans()] == ["small"]


def test_the_model_is_always_the_same(tmp_path: Path) -> None:
    """The random weights come from a fixed seed, so that two files are equal to the byte."""
    pytest.importorskip("gguf")
    files = [tmp_path / "one.gguf", tmp_path / "two.gguf"]
    for file in files:
        tiny_model.write(file)

    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].stat().st_size < 500_000


def test_a_missing_server_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the binary there is one clear sentence."""
    monkeypatch.setenv("TESTS_BACKENDS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Missing, match="make backends"):
        find("ollama")


def test_a_server_that_dies_shows_its_log(tmp_path: Path) -> None:
    """A server that ends before it is ready is reported at once, with the end of its log."""
    with (
        pytest.raises(Died, match="ended with 3(.|\n)*no such flag"),
        running(["/bin/sh", "-c", "echo no such flag; exit 3"], tmp_path / "log", {}, lambda: False),
    ):
        raise AssertionError("never ready")
