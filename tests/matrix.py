"""Run the tests of the openai instrumentor on older clients: the oldest that is supported, and some between.

Each client is laid over the environment in a folder of its own, once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OVERLAYS = Path(sys.prefix) / "overlays"
CLIENTS = ("1.26.0", "1.66.0", "1.109.1", "2.54.0")
"""The newest one is what the environment has."""


def overlay(version: str) -> Path:
    """Return a folder with this client and what it needs; these versions need an httpx before 0.28."""
    folder = OVERLAYS / f"openai-{version}"
    if not folder.exists():
        unfinished = OVERLAYS / f"openai-{version}.unfinished"
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(unfinished)]
        subprocess.run([*install, f"openai=={version}", "httpx<0.28"], check=True)
        unfinished.replace(folder)
    return folder


def main() -> int:
    """Run the suite on each client and return the worst exit code."""
    worst = 0
    for version in CLIENTS:
        print(f"openai {version}", flush=True)
        environment = {**os.environ, "PYTHONPATH": str(overlay(version))}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--quiet", "tests/openai"], cwd=ROOT, env=environment, check=False
        )
        worst = max(worst, done.returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
