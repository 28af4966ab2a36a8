"""Which page shows what, and what `instrument()` says to dialects that cannot be shown."""

from __future__ import annotations

import enum
import gc
import logging
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,  # pyright: ignore[reportUnknownVariableType]
)
from prometheus_client.parser import text_string_to_metric_families

import otel_llm
from otel_llm import runtime, sdk, serving
from otel_llm.call import Call
from otel_llm.prometheus import pages
from otel_llm.prometheus.dialects import load, shipped
from otel_llm.prometheus.multiprocess.snapshot import encode_state
from otel_llm.testing import capture

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
MINE = '[[family]]\nname = "{name}"\ntype = "counter"\nhelp = ""\nvalue = "calls"\n'


def _render(path: str, accept: str = "") -> tuple[str, str] | None:
    rendered = pages.render(path, accept, ())
    return None if rendered is None else (rendered.content_type, b"".join(rendered.body).decode())


@pytest.mark.parametrize("name", [name for name in shipped() if name != "genai"])
def test_every_dialect_has_its_page(name: str) -> None:
    """Each page is there without being asked for, as text, whatever the scraper would rather have."""
    with capture():
        rendered = _render(f"/metrics/{name}", OPENMETRICS)

    assert rendered is not None
    assert rendered[0].startswith("text/plain; version=0.0.4")
    for family in load(name).families:
        assert f"# TYPE {family.name} " in rendered[1]


def test_pages_before_anything_is_switched_on(caplog: pytest.LogCaptureFixture) -> None:
    """A page can be asked for at any time, and says nothing in the log."""
    with caplog.at_level(logging.WARNING):
        assert b"# TYPE llm_requests_total counter" in otel_llm.generate_latest("aegis")

    assert [] == caplog.records


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", True),
        ("/metrics", True),
        ("/metrics/", True),
        ("/metrics/genai", True),
        ("/metrics/aegis", True),
        ("/metrics/aegis/", True),
        ("/metrics/none", False),
        ("/metrics/../aegis", False),
        ("/metricsaegis", False),
        ("/aegis", False),
        ("/favicon.ico", False),
        ("", False),
    ],
)
def test_paths(path: str, found: bool) -> None:
    """A mistyped path is no page, so that a scrape of it fails instead of showing another one."""
    with capture():
        assert found is (_render(path) is not None)


@pytest.mark.parametrize(
    ("dialects", "path", "kind"),
    [
        ((), "/metrics", "application/openmetrics-text"),
        ((), "/metrics/genai", "application/openmetrics-text"),
        (("aegis",), "/metrics", "text/plain"),
        (("aegis",), "/metrics/genai", "application/openmetrics-text"),
        (("genai",), "/metrics", "application/openmetrics-text"),
    ],
)
def test_negotiation(dialects: tuple[str, ...], path: str, kind: str) -> None:
    """A page without families of a dialect can be OpenMetrics, and one with them never is."""
    with capture(dialects=dialects):
        rendered = _render(path, OPENMETRICS)

    assert rendered is not None
    assert rendered[0].startswith(kind)
    assert ("llm_requests_total" in rendered[1]) is (dialects == ("aegis",) and path == "/metrics")


@pytest.mark.parametrize(
    ("names", "families"),
    [
        (("local_llm", "ollama_exporter"), ("llm_inference_latency_seconds", "llm_queue_size", "llm_model_info")),
        (("local_llm", "llmbackend"), ("llm_tokens_total",)),
        (("aegis", "llmbackend"), ("llm_requests_total", "llm_errors_total")),
        (("ollama_exporter", "llmbackend"), ("llm_active_requests",)),
    ],
)
def test_collisions(names: tuple[str, ...], families: tuple[str, ...]) -> None:
    """Dialects that share names are one `ValueError` at the start, which names every family."""
    with pytest.raises(ValueError, match="dialects: dialects that cannot be on one page") as raised:
        otel_llm.instrument(dialects=names)

    for family in families:
        assert family in str(raised.value)


@pytest.mark.parametrize("names", [("local_llm", "aegis", "tinyllm"), ("aegis", "ollama_exporter", "tinyllm")])
def test_dialects_that_get_on(names: tuple[str, ...]) -> None:
    """The sets without collisions are on one page together."""
    with capture(dialects=names):
        page = otel_llm.generate_latest().decode()

    for name in names:
        for family in load(name).families:
            assert 1 == page.count(f"# TYPE {family.name} ")


def test_one_file_twice(tmp_path: Path) -> None:
    """A file that is named in two ways is one dialect; two files of one name are an error."""
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "mine.toml").write_text(MINE.format(name="calls_total"), "utf-8")
    with capture(dialects=(str(tmp_path / "mine.toml"), f"{tmp_path}/other/../mine.toml")):
        assert b"calls_total 0.0" in otel_llm.generate_latest("mine")
    with pytest.raises(ValueError, match="dialects: two dialects are called mine"):
        otel_llm.instrument(dialects=(f"{tmp_path}/mine.toml", f"{tmp_path}/other/mine.toml"))


@pytest.mark.parametrize("name", ["gen_ai_client_calls_total", "otel_llm_calls_total"])
def test_names_of_the_canonical_page(name: str, tmp_path: Path) -> None:
    """A file cannot have names that the canonical page has, or may come to have."""
    (tmp_path / "mine.toml").write_text(MINE.format(name=name), "utf-8")
    with pytest.raises(ValueError, match=f"mine.toml: family {name}: name: {name} is a name of the canonical page"):
        otel_llm.instrument(dialects=(str(tmp_path / "mine.toml"),))


def test_the_environment_names_dialects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable lists names and paths, and an error names it."""
    (tmp_path / "mine.toml").write_text(MINE.format(name="calls_total"), "utf-8")
    monkeypatch.setenv("OTEL_LLM_DIALECTS", f"aegis, {tmp_path}/mine.toml")
    with capture():
        page = otel_llm.generate_latest().decode()
    assert "# TYPE llm_requests_total counter" in page
    assert "\ncalls_total 0.0\n" in page
    monkeypatch.setenv("OTEL_LLM_DIALECTS", "klingon")
    with pytest.raises(ValueError, match="OTEL_LLM_DIALECTS: dialect 'klingon': expected one of aegis, genai"):
        otel_llm.instrument()


class Task(str, enum.Enum):  # noqa: UP042 - its format differs from that of StrEnum
    """A label as many programs have it."""

    EXTRACTION = "extraction"


def _count(model: str, **labels: str) -> None:
    telemetry = runtime.join()
    assert telemetry is not None
    call = Call()
    call.operation, call.provider, call.request_model = "chat", "openai", model
    with otel_llm.labels(**labels):
        telemetry.begin(call)
    telemetry.end(call)


def test_string_enums_are_their_values() -> None:
    """A label or a model that is a member of an enum says its value, in one series with the plain text."""
    with capture(labels={"graph": Task.EXTRACTION}):
        _count(Task.EXTRACTION, task_type=Task.EXTRACTION)
        _count("extraction", task_type="extraction")
        aegis, tinyllm = otel_llm.generate_latest("aegis"), otel_llm.generate_latest("tinyllm")

    assert b'llm_requests_total{model="extraction",provider="openai",task_type="extraction"} 2.0' in aegis
    assert b'graph="extraction"' in tinyllm
    assert b"Task." not in aegis + tinyllm


def test_names_of_providers() -> None:
    """Where a dialect has names of its own for providers, the program can say which one it is."""
    with capture():
        with otel_llm.labels(provider="alibaba_cloud"), otel_llm.track_inference("qwen", provider="vllm"):
            pass
        with otel_llm.track_inference("qwen", base_url="https://dashscope.aliyuncs.com/v1"):
            pass
        page = otel_llm.generate_latest("aegis").decode()

    assert 'llm_requests_total{model="qwen",provider="alibaba_cloud",task_type="generation"} 2.0' in page


def test_values_have_an_end() -> None:
    """A label of a megabyte is cut on the page."""
    with capture(serve="127.0.0.1:0") as seen:
        _count("m" * 2**20, task_type="t" * 2**20)

        assert len(otel_llm.generate_latest("aegis")) < 100_000
        assert 1024 < len(otel_llm.generate_latest("genai")) < 500_000
        for reader in sdk.prometheus_readers(seen.meter_provider):
            reader.shutdown()


def test_a_provider_that_is_gone() -> None:
    """The canonical page goes on when nobody keeps the meter provider that was used."""
    provider = MeterProvider(shutdown_on_exit=False)
    with capture(meter_provider=provider):
        _count("m")
    del provider
    gc.collect()
    assert otel_llm.generate_latest("genai")


class _Bad:
    """Raises whatever is asked of it."""

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("injected")

    __eq__ = __hash__ = __bool__ = __str__ = __repr__ = __len__ = _raise


@pytest.mark.parametrize("written", [None, float("nan"), -1.0, 10**400, "late", "\ud800", b"b", {"a": 1}, _Bad()])
def test_a_hook_cannot_spoil_a_page(written: Any) -> None:
    """Whatever a hook writes onto a call, the call counts as it was, and the workers can share it."""

    def spoil(call: Call) -> None:
        for name in Call.__annotations__:
            if name != "dropped":
                setattr(call, name, written)

    pages: list[str] = []
    for hook in (None, spoil):
        with capture(call_hook=hook):
            _count("m")
            pages += [otel_llm.generate_latest(name).decode() for name in ("tinyllm", "aegis", "genai")]
            assert serving.shown is not None
            encode_state(serving.shown.ledger.state({}, ""))

    assert _without_times(pages[:3]) == _without_times(pages[3:])
    assert 'tinyllm_requests_total{graph="unknown",model="m",request_type="generate"} 1.0' in pages[3]


def _without_times(pages: list[str]) -> list[list[str]]:
    """Return lines of ours that do not depend on how long a call took."""
    others = ("python_", "process_", "# ")
    times = ("_seconds_bucket", "_seconds_sum", "_created")
    return [
        [
            line
            for line in page.splitlines()
            if not line.startswith(others) and not line.partition("{")[0].endswith(times)
        ]
        for page in pages
    ]


def test_names_of_native_metrics(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """A native metric keeps a family off the page only where a sample of it has the very same name."""
    (tmp_path / "mine.toml").write_text(MINE.format(name="shop_count"), "utf-8")
    native = [Gauge("llm_requests", ""), Histogram("shop", ""), Counter("llm_errors", "")]
    try:
        with capture(serve="127.0.0.1:0", dialects=("aegis", f"{tmp_path}/mine.toml")) as seen:
            page = otel_llm.generate_latest().decode()
            readers = sdk.prometheus_readers(seen.meter_provider)
        for reader in readers:
            reader.shutdown()
    finally:
        for metric in native:
            REGISTRY.unregister(metric)

    assert "# TYPE llm_requests_total counter" in page
    assert 1 == page.count("\nshop_count ")
    assert 1 == page.count("# TYPE llm_errors_total ")
    assert ["shop_count", "llm_errors_total"] == [
        name for name in ("llm_requests_total", "shop_count", "llm_errors_total") if f": {name} is" in caplog.text
    ]


def test_ten_thousand_models() -> None:
    """Ten thousand models fill no page beyond the cap; each is still valid, and no call is lost on any."""
    calls = {
        "local_llm": "llm_inference_requests_total",
        "aegis": "llm_requests_total",
        "ollama_exporter": "llm_inference_latency_seconds_count",
        "tinyllm": "tinyllm_requests_total",
        "llmbackend": "llm_requests_total",
    }
    with capture(max_series=200):
        for number in range(10_000):
            _count(f"model-{number}", graph=f"g{number}")
        texts = {name: otel_llm.generate_latest(name).decode() for name in calls}
        canonical = _render("/metrics/genai", OPENMETRICS)

    for name, counted in calls.items():
        found = [line for line in texts[name].splitlines() if line.startswith(f"{counted}{{")]
        assert 201 == len(found) == len({line.rpartition(" ")[0] for line in found})
        assert 10_000 == sum(float(line.rpartition(" ")[2]) for line in found)
        assert [9_800.0] == [float(line.rpartition(" ")[2]) for line in found if "_overflow" in line]
        assert [*text_string_to_metric_families(texts[name])]
    assert canonical is not None
    assert [*openmetrics_families(canonical[1])]  # type: ignore[no-untyped-call]
