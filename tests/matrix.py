"""Run tests on clients that the environment does not have: older ones, and what people lay over and around the client.

Each is laid over the environment in a folder of its own, once, with only what the environment lacks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
OVERLAYS = Path(os.environ.get("TESTS_OVERLAYS") or Path(sys.prefix) / "overlays")


class Overlay(NamedTuple):
    """Packages that are laid over the environment, and the tests that are for them."""

    tests: str
    """Files or folders, with spaces in between."""
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    """Packages whose own requirements are too many to follow."""


def _client(version: str) -> Overlay:
    """Return an older client; these need an httpx before 0.28."""
    return Overlay("tests/openai tests/httpx", (f"openai=={version}", "httpx<0.28"))


def _kin(client: str, *also: str) -> Overlay:
    """Return a client that is made like `openai`."""
    return Overlay(
        "tests/family tests/anthropic tests/httpx/test_everything.py" if "anthropic" in client else "tests/family",
        (client, *also),
    )


OLLAMA = "tests/ollama"
OTHERS = "tests/frameworks/test_instrumentations.py tests/httpx/test_everything.py"
OTHERS_OF_ANTHROPIC = "tests/frameworks/test_anthropic_instrumentations.py"
AROUND = "tests/frameworks/test_instrumented_langchain.py"
MATRIX = {
    "openai-1.26.0": _client("1.26.0"),
    "openai-1.66.0": _client("1.66.0"),
    "openai-1.109.1": _client("1.109.1"),
    "openai-2.54.0": _client("2.54.0"),
    "anthropic-0.25.0": _kin("anthropic==0.25.0", "httpx<0.28"),
    "anthropic-1.17.0": _kin("anthropic==1.17.0"),
    "anthropic-2.12.0": _kin("anthropic==2.12.0"),
    "anthropic-openllmetry": Overlay(
        OTHERS_OF_ANTHROPIC, ("anthropic==2.12.0", "opentelemetry-instrumentation-anthropic==0.62.4")
    ),
    "anthropic-openinference": Overlay(
        f"{OTHERS_OF_ANTHROPIC} tests/httpx/test_everything.py",
        ("anthropic==2.12.0", "openinference-instrumentation-anthropic==3.1.0"),
    ),
    "groq-0.4.0": _kin("groq==0.4.0", "httpx<0.28"),
    "groq-1.7.0": _kin("groq==1.7.0"),
    "together-2.0.0": _kin("together==2.0.0"),
    "together-3.1.1": _kin("together==3.1.1"),
    "cerebras-1.0.0": _kin("cerebras-cloud-sdk==1.0.0", "httpx<0.28"),
    "cerebras-1.91.0": _kin("cerebras-cloud-sdk==1.91.0"),
    "ollama-0.3.3": Overlay(OLLAMA, ("ollama==0.3.3", "httpx<0.28")),
    "ollama-0.4.9": Overlay(OLLAMA, ("ollama==0.4.9",)),
    "ollama-0.5.4": Overlay(OLLAMA, ("ollama==0.5.4",)),
    "langchain-openai": Overlay("tests/frameworks/test_langchain.py", ("langchain-openai==1.7.3",)),
    "instructor": Overlay("tests/frameworks/test_instructor.py", ("instructor==1.17.0",)),
    "pydantic-ai": Overlay("tests/frameworks/test_pydantic_ai.py", ("pydantic-ai-slim[openai]==2.68.0",)),
    "openai-agents": Overlay("tests/frameworks/test_agents.py", ("openai-agents==0.24.0",)),
    "langchain-openllmetry": Overlay(
        AROUND, ("langchain-openai==1.7.3", "opentelemetry-instrumentation-langchain==0.62.4")
    ),
    "langchain-openinference": Overlay(
        AROUND, ("langchain-openai==1.7.3", "openinference-instrumentation-langchain==0.1.80")
    ),
    "official": Overlay(
        OTHERS, ("opentelemetry-instrumentation-genai-openai==1.3b0", "opentelemetry-util-genai==1.3b0")
    ),
    "openllmetry": Overlay(OTHERS, ("opentelemetry-instrumentation-openai==0.62.4",)),
    "openinference": Overlay(OTHERS, ("openinference-instrumentation-openai==0.1.66",)),
    "openlit": Overlay(OTHERS, ("openai==2.54.0", "requests", "schedule", "xmltodict"), alone=("openlit==1.45.0",)),
}
"""By the names of their folders. The newest client is what the environment has."""


class Run(NamedTuple):
    """How the tests of one overlay went."""

    name: str
    code: int
    output: str


def overlay(name: str) -> Path:
    """Return the folder of an overlay, which is made where it is missing or was made of other packages.

    Raises:
        subprocess.CalledProcessError: pip could not get a package; its `stderr` says why.
    """
    wanted = json.dumps(MATRIX[name])
    folder = OVERLAYS / name
    made_of = folder / "made-of.json"
    if made_of.exists() and made_of.read_text() == wanted:
        return folder
    unfinished = OVERLAYS / f"{name}.unfinished"
    for left in (folder, unfinished):
        shutil.rmtree(left, ignore_errors=True)
    _, packages, alone = MATRIX[name]
    missing = json.loads(_pip("--dry-run", "--report", "-", *packages))["install"]
    pins = [f"{found['metadata']['name']}=={found['metadata']['version']}" for found in missing]
    _pip("--no-deps", "--target", str(unfinished), *pins, *alone)
    (unfinished / "made-of.json").write_text(wanted)
    unfinished.replace(folder)
    return folder


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def run(name: str) -> Run:
    """Run the tests of one overlay, or say why there is none."""
    try:
        folder = overlay(name)
    except subprocess.CalledProcessError as error:
        return Run(name, 1, f"not tested: pip could not get its packages; is PyPI within reach?\n{error.stderr}")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *MATRIX[name].tests.split()]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    return Run(name, done.returncode, done.stdout + done.stderr)


def main(names: list[str]) -> int:
    """Run what is named, or everything, two at a time; return the worst exit code."""
    worst = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for done in pool.map(run, names or MATRIX):
            print(f"{done.name}\n{done.output}", flush=True)
            worst = max(worst, done.code)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
