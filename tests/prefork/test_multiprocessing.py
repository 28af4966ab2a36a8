"""Processes without a server share a directory that they are given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_llm.testing.server import ScriptedServer

ROOT = Path(__file__).parents[2]


def _run(method: str, server: ScriptedServer, directory: Path | None) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environ |= {"PREFORK_LLM": f"{server.url}/v1", "OTEL_TRACES_EXPORTER": "none"}
    if directory is not None:
        environ["OTEL_LLM_MULTIPROC_DIR"] = str(directory)
    line = [sys.executable, "-m", "tests.prefork.program", method]
    done = subprocess.run(line, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children(method: str, server: ScriptedServer, tmp_path: Path) -> None:
    """The parent's page has the calls of all, once each: its own from before, theirs, and theirs when they are gone."""
    assert "during 11 11 11\nafter 15 15 15\n" == _run(method, server, tmp_path / "shared")
    assert "during 11 11 11\nafter 15 15 15\n" == _run(method, server, tmp_path / "shared")


def test_without_a_directory(server: ScriptedServer) -> None:
    """Nobody shares anything unless told to."""
    assert "during 5 5 5\nafter 6 6 6\n" == _run("spawn", server, None)
