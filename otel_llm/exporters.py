"""Which exporters the standard variables ask for.

Source: OpenTelemetry specification, "Environment variables" ("Exporter selection") and "OTLP exporter".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from otel_llm_semconv import environment as variables

Signal: TypeAlias = Literal["traces", "metrics", "logs"]
Wrong: TypeAlias = Callable[[str], None]
"""What is done about a wrong variable, given one sentence that names it and the accepted values."""

PAGE = "otel_llm"
"""Name of our reader among the metric exporters; wherever we choose, it takes the place of ``prometheus`` too."""
VARIABLES: Mapping[Signal, str] = {
    "traces": variables.OTEL_TRACES_EXPORTER,
    "metrics": variables.OTEL_METRICS_EXPORTER,
    "logs": variables.OTEL_LOGS_EXPORTER,
}
_ENDPOINTS: Mapping[Signal, str] = {
    "traces": variables.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    "metrics": variables.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    "logs": variables.OTEL_EXPORTER_OTLP_LOGS_ENDPOINT,
}
_PROTOCOLS: Mapping[Signal, str] = {
    "traces": variables.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    "metrics": variables.OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    "logs": variables.OTEL_EXPORTER_OTLP_LOGS_PROTOCOL,
}
_OTLP = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}


def refuse(message: str) -> None:
    """Raise a ValueError for a wrong variable."""
    raise ValueError(message)


def choose(signal: Signal, environ: Mapping[str, str] = os.environ, wrong: Wrong = refuse) -> dict[str, Any]:
    """Return the exporters of a signal: their classes by entry point name, None for `PAGE`.

    Where nothing is named, an endpoint means OTLP, and metrics have our page; nothing is sent to a collector that
    nobody mentioned. The same goes where nothing that is named can be had.

    Args:
        signal: which signal.
        environ: where the variables are read.
        wrong: called for a variable that is wrong and an exporter that is not there; raises, or has them left out.
    """
    source = VARIABLES[signal]
    written = [name for name in map(str.strip, environ.get(source, "").split(",")) if name]
    chosen = _load_all(signal, written, source, environ, wrong)
    if chosen or "none" in written:
        return chosen
    chosen = {PAGE: None} if signal == "metrics" else {}
    endpoint = _endpoint(signal, environ)
    return chosen | _load_all(signal, ["otlp"], endpoint, environ, wrong) if endpoint else chosen


def chosen_by_hand(signal: Signal, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody chose the exporters of a signal, and not a distro, whose default is ``otlp``.

    A distro writes its defaults into ``os.environ``; what the process was started with is in ``/proc``. Where there is
    none, whatever is written counts as chosen.
    """
    source = VARIABLES[signal]
    written = environ.get(source, "").strip()
    if written != "otlp":
        return bool(written)
    try:
        started_with = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return True
    return any(pair.startswith(f"{source}=".encode()) for pair in started_with)


def protocol(signal: Signal, environ: Mapping[str, str] = os.environ, wrong: Wrong = refuse) -> str:
    """Return the OTLP protocol: as set, else as the endpoint suggests.

    Port 4318 is that of HTTP, and an endpoint of gRPC has no path. All else is gRPC, as OpenTelemetry Python has it.
    """
    for source in (_PROTOCOLS[signal], variables.OTEL_EXPORTER_OTLP_PROTOCOL):
        written = environ.get(source, "").strip().lower()
        if written in _OTLP:
            return written
        if written:
            wrong(f"{source}={written!r}: expected one of {', '.join(_OTLP)}")
    try:
        url = urlsplit(environ.get(_endpoint(signal, environ) or "", ""))
        http = url.scheme in ("http", "https") and (url.port == 4318 or url.path.strip("/"))
    except ValueError:
        http = False
    return "http/protobuf" if http else "grpc"


def _endpoint(signal: Signal, environ: Mapping[str, str]) -> str | None:
    """Return the variable that names the endpoint of a signal."""
    for source in (_ENDPOINTS[signal], variables.OTEL_EXPORTER_OTLP_ENDPOINT):
        if environ.get(source, "").strip():
            return source
    return None


def _load_all(
    signal: Signal, names: list[str], source: str, environ: Mapping[str, str], wrong: Wrong
) -> dict[str, Any]:
    """Load the exporters that can be had of those that are named."""
    loaded: dict[str, Any] = {}
    group = None
    for name in names:
        if name == "none":
            continue
        if signal == "metrics" and name in (PAGE, "prometheus"):
            loaded[PAGE] = None
            continue
        if name == "otlp":
            name = _OTLP[protocol(signal, environ, wrong)]
        if group is None:
            group = {entry.name: entry for entry in entry_points(group=f"opentelemetry_{signal}_exporter")}
        if name in group:
            try:
                loaded[name] = group[name].load()
            except ImportError as error:
                wrong(f"{source} asks for {name}, which cannot be imported: {error}")
        elif name in _OTLP.values():
            wrong(f"{source} asks for OTLP, but its exporter is not installed: pip install 'otel-llm[otlp]'")
        else:
            wrong(f"{source}={name!r}: expected one of {', '.join(sorted({*group, 'none', 'otlp'}))}")
    return loaded
