"""Run programs as a user does: in a process of their own, with nothing in the environment but what a test says."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

FOLDER = Path(__file__).parent
APP = FOLDER / "app.py"
APP_ONE_LINE = FOLDER / "app_one_line.py"
ZERO_CODE = (str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable)
"""How a program is started without a change to its code."""
CALLS = 3
"""How many calls the application makes."""
PATIENCE = 60.0
"""Seconds after which a process is taken for stuck."""


def environment(**variables: str) -> dict[str, str]:
    """Return a bare environment with the given variables."""
    bare = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "SYSTEMROOT") if name in os.environ}
    return {**bare, "PYTHONUNBUFFERED": "1", "NO_PROXY": "*", **variables}


class Process:
    """A program under way."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self._process = process
        self._errors = errors
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = Thread(target=self._read, name="lines", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def line(self) -> str:
        """Return the next line that the program prints."""
        line = self._lines.get(timeout=PATIENCE)
        assert line is not None, f"it ended; its log:\n{self.log}"
        return line

    def usages(self) -> list[dict[str, Any]]:
        """Return what the application printed of its calls, as soon as it has made them all."""
        return [json.loads(self.line()) for _ in range(CALLS)]

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """What it wrote to stderr, less upstream's word on the other distro that is installed beside ours."""
        lines = self._errors.read_text().splitlines()
        return "\n".join(line for line in lines if not line.startswith("Configuration of "))

    def finish(self) -> str:
        """Let it end as it would, and return the rest of what it printed."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        rest: list[str] = []
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            rest.append(line)
        assert self._process.returncode == 0, self.log
        return "".join(rest)


@contextmanager
def running(command: Sequence[str | Path], folder: Path, variables: Mapping[str, str]) -> Generator[Process]:
    """Run a program until the block ends; what it writes to stderr is in a file of the folder."""
    errors = folder / "stderr"
    with errors.open("w") as stderr:
        started = subprocess.Popen(
            [str(part) for part in command],
            env=environment(**variables),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    process = Process(started, errors)
    try:
        yield process
    finally:
        started.kill()
        started.wait()
        process._reader.join(PATIENCE)
        for pipe in (started.stdin, started.stdout):
            if pipe is not None:
                pipe.close()


def run(code: str, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines of Python to their end, and return what they wrote.

    Args:
        code: the program.
        command: what starts Python; by default Python itself.
        variables: the environment.
    """
    done = subprocess.run(
        [*(command or (sys.executable,)), "-c", code],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
