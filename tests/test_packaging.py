"""What is shipped: every package listed, typed and reachable, and the public surface as intended."""

from __future__ import annotations

import importlib
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import otel_llm

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHIPPED = [Path(path) for path in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]


def test_every_instrumentor_folder_is_shipped() -> None:
    """A folder under instrumentors/ is listed for the wheel and as an entry point of both groups."""
    on_disk = {path.parent.name for path in ROOT.glob("instrumentors/*/__init__.py")}

    assert on_disk == {path.name for path in SHIPPED if path.parts[0] == "instrumentors"}
    for group in ("otel_llm_instrumentor", "opentelemetry_instrumentor"):
        ours = {entry for entry in entry_points(group=group) if entry.name.startswith("otel_llm")}
        assert on_disk == {entry.module for entry in ours}
        assert on_disk <= {entry.name for entry in ours}


@pytest.mark.parametrize("group", ["otel_llm_instrumentor", "opentelemetry_instrumentor"])
def test_every_instrumentor_is_reachable_by_a_name_of_ours(group: str) -> None:
    """Each instrumentor class that a folder offers has one entry point, whose name no other distribution has."""
    declared: dict[str, str] = PYPROJECT["project"]["entry-points"][group]
    offered = {
        f"{path.parent.name}:{name}"
        for path in ROOT.glob("instrumentors/*/__init__.py")
        for name in importlib.import_module(path.parent.name).__all__
        if name.endswith("Instrumentor")
    }

    assert sorted(offered) == sorted(declared.values())
    assert all(name.startswith("otel_llm_") for name in declared)


@pytest.mark.parametrize("package", SHIPPED, ids=str)
def test_every_package_is_typed(package: Path) -> None:
    """Each shipped package has its py.typed and a docstring that says what it is."""
    assert (ROOT / package / "py.typed").is_file()
    assert importlib.import_module(package.name).__doc__


def test_source_folders_are_no_packages() -> None:
    """The folders that only group packages have no __init__.py."""
    assert not (ROOT / "instrumentors" / "__init__.py").exists()
    assert not (ROOT / "semconv" / "__init__.py").exists()


def test_public_surface() -> None:
    """`otel_llm` offers exactly these names, each documented."""
    assert [
        "Call",
        "Content",
        "DialectCollector",
        "Handle",
        "attributes",
        "family",
        "generate_latest",
        "instrument",
        "instrument_queue",
        "labels",
        "make_asgi_app",
        "make_wsgi_app",
        "record_cache_hit",
        "record_cache_miss",
        "record_circuit_breaker_failure",
        "record_error",
        "record_memory_operation",
        "record_model_load",
        "record_queue_rejection",
        "record_queue_request",
        "record_queue_wait",
        "record_rate_limit",
        "record_rate_limit_wait",
        "record_tokens",
        "serve_metrics",
        "set_backend_health",
        "set_circuit_breaker_state",
        "set_memory_usage",
        "set_model_info",
        "set_queue_size",
        "set_queue_workers",
        "track_agent",
        "track_inference",
        "track_model_load",
        "track_step",
        "track_tool",
        "track_workflow",
        "uninstrument",
    ] == otel_llm.__all__
    for name in otel_llm.__all__:
        assert getattr(otel_llm, name).__doc__, name


def test_core_dependencies_stay_few() -> None:
    """The core depends on these distributions and no others."""
    names = {re.split(r"[<>=\[]", requirement)[0] for requirement in PYPROJECT["project"]["dependencies"]}

    assert {
        "opentelemetry-api",
        "opentelemetry-sdk",
        "opentelemetry-instrumentation",
        "opentelemetry-instrumentation-httpx",
        "opentelemetry-exporter-prometheus",
        "prometheus_client",
        "wrapt",
    } == names


def test_modules_stay_small() -> None:
    """A shipped module has a few hundred lines; the tables of names may have more."""
    sizes = {
        path.relative_to(ROOT): len(path.read_text().splitlines())
        for package in SHIPPED
        for path in (ROOT / package).rglob("*.py")
        if package.name != "otel_llm_semconv"
    }

    assert {} == {path: lines for path, lines in sizes.items() if lines > 500}
