"""Which exporters the standard variables ask for."""

from __future__ import annotations

from typing import Any

import pytest

from otel_llm import exporters, sdk
from otel_llm.exporters import PAGE, Signal, choose, chosen_by_hand, protocol

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
GRPC, HTTP = "otlp_proto_grpc", "otlp_proto_http"


@pytest.mark.parametrize(
    ("signal", "environ", "expected"),
    [
        ("traces", {}, []),
        ("metrics", {}, [PAGE]),
        ("logs", {}, []),
        ("traces", {"OTEL_TRACES_EXPORTER": " "}, []),
        ("traces", {ENDPOINT: "http://there:4317"}, [GRPC]),
        ("metrics", {ENDPOINT: "http://there:4317"}, [PAGE, GRPC]),
        ("logs", {ENDPOINT: "http://there:4318"}, [HTTP]),
        ("metrics", {ENDPOINT: " "}, [PAGE]),
        ("metrics", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://there:4318/v1/traces"}, [PAGE]),
        ("traces", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://there:4318/v1/traces"}, [HTTP]),
        ("traces", {"OTEL_TRACES_EXPORTER": "none", ENDPOINT: "http://there:4317"}, []),
        ("traces", {"OTEL_TRACES_EXPORTER": "otlp"}, [GRPC]),
        ("traces", {"OTEL_TRACES_EXPORTER": "otlp,console,otlp"}, [GRPC, "console"]),
        ("traces", {"OTEL_TRACES_EXPORTER": "otlp_proto_http"}, [HTTP]),
        ("metrics", {"OTEL_METRICS_EXPORTER": "none"}, []),
        ("metrics", {"OTEL_METRICS_EXPORTER": "console", ENDPOINT: "http://there:4317"}, ["console"]),
        ("metrics", {"OTEL_METRICS_EXPORTER": "prometheus , otlp"}, [PAGE, GRPC]),
        ("metrics", {"OTEL_METRICS_EXPORTER": "prometheus,otel_llm"}, [PAGE]),
    ],
)
def test_the_environment_says_which(signal: Signal, environ: dict[str, str], expected: list[str]) -> None:
    """What is named, and nothing else; where nothing is, OTLP for an endpoint, and the page for metrics."""
    chosen = choose(signal, environ)

    assert list(chosen) == expected
    assert all((exporter is None) is (name == PAGE) for name, exporter in chosen.items())


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "grpc"),
        ({ENDPOINT: "http://there:4317"}, "grpc"),
        ({ENDPOINT: "there:4317"}, "grpc"),
        ({ENDPOINT: "https://there"}, "grpc"),
        ({ENDPOINT: "http://there:4318"}, "http/protobuf"),
        ({ENDPOINT: "http://there:4318/"}, "http/protobuf"),
        ({ENDPOINT: "https://there/otlp"}, "http/protobuf"),
        ({ENDPOINT: "http://there:port"}, "grpc"),
        ({ENDPOINT: "http://there:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
        ({ENDPOINT: "http://there:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "HTTP/protobuf"}, "http/protobuf"),
        ({ENDPOINT: "http://there:4317", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://there:4318"}, "http/protobuf"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            "http/protobuf",
        ),
    ],
)
def test_the_protocol(environ: dict[str, str], expected: str) -> None:
    """The variable of the signal, the one for all signals, what the endpoint suggests, gRPC: in this order."""
    assert protocol("traces", environ) == expected


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "nonsense"}, "OTEL_TRACES_EXPORTER='nonsense': expected one of console, none, otlp,"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL='http/json': expected one of grpc, http/protobuf",
        ),
    ],
)
def test_a_wrong_variable_raises(environ: dict[str, str], message: str) -> None:
    """The error names the variable and the accepted values."""
    with pytest.raises(ValueError) as caught:
        choose("traces", environ)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("written", "expected"), [("nonsense", [PAGE, GRPC]), ("nonsense,console", ["console"]), ("nonsense,none", [])]
)
def test_where_nobody_catches_the_rest_is_kept(written: str, expected: list[str]) -> None:
    """Of several exporters the right ones stay; where none is left, it is as if nothing had been named."""
    told: list[str] = []
    chosen = choose("metrics", {"OTEL_METRICS_EXPORTER": written, ENDPOINT: "http://there:4317"}, told.append)

    assert list(chosen) == expected
    assert [message.partition(":")[0] for message in told] == ["OTEL_METRICS_EXPORTER='nonsense'"]


def test_without_the_package_otlp_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the variable that asks, and is the same however many signals want it; the page stays."""
    told: set[str] = set()

    def none(group: str) -> list[Any]:
        return []

    monkeypatch.setattr(exporters, "entry_points", none)
    signals: tuple[Signal, ...] = ("traces", "metrics", "logs")
    chosen = [list(choose(signal, {ENDPOINT: "http://there:4317"}, told.add)) for signal in signals]

    assert chosen == [[], [PAGE], []]
    assert told == {f"{ENDPOINT} asks for OTLP, but its exporter is not installed: pip install 'otel-llm[otlp]'"}


def test_a_package_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as gRPC without its binary for this machine."""

    class Broken:
        name = GRPC

        def load(self) -> Any:
            raise ImportError("no cygrpc")

    def broken(group: str) -> list[Any]:
        return [Broken()]

    monkeypatch.setattr(exporters, "entry_points", broken)
    with pytest.raises(
        ValueError, match="OTEL_TRACES_EXPORTER asks for otlp_proto_grpc, which cannot be imported: no cygrpc"
    ):
        choose("traces", {"OTEL_TRACES_EXPORTER": "otlp"})


@pytest.mark.parametrize(
    ("written", "expected"), [(None, False), ("", False), ("none", True), ("console", True), ("otlp", False)]
)
def test_a_default_that_a_distro_wrote_is_no_choice(written: str | None, expected: bool) -> None:
    """This process was started without the variable: an ``otlp`` in it now is some distro's default."""
    environ = {} if written is None else {"OTEL_METRICS_EXPORTER": written}

    assert chosen_by_hand("metrics", environ) is expected


def test_zero_code_gets_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What upstream's configurator reads afterwards is what `choose` says, under names it can load."""
    environ = {ENDPOINT: "http://there:4318", "OTEL_METRICS_EXPORTER": "prometheus,otlp"}
    sdk.default_environment(environ)

    assert environ == {
        ENDPOINT: "http://there:4318",
        "OTEL_TRACES_EXPORTER": HTTP,
        "OTEL_METRICS_EXPORTER": f"{PAGE},{HTTP}",
        "OTEL_LOGS_EXPORTER": HTTP,
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    }
