"""The Prometheus servers of both lines, and the instrumented process that they scrape."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode

from tests.backends.build import backends_dir
from tests.backends.servers import Missing, Prometheus, address, answers, fetch, running, written
from tests.documentation import ROOT
from tests.promql.expected import Labels, key

VERSIONS = ("2.42", "3")
HOW = {
    "2.42": "run 'make backends' on Debian 12, which puts it in {}",
    "3": "run 'make backends' (needs Go), which puts it in {}",
}
SCRAPES = "500ms"
"""The time between two scrapes."""


class Binaries(NamedTuple):
    """One version of Prometheus."""

    prometheus: Path
    promtool: Path


def find(version: str) -> Binaries:
    """Return the binaries of a line of versions.

    Raises:
        Missing: they are not there; the message says how to get them.
    """
    built, ending = backends_dir() / "bin", "" if version == "3" else "-2.42"
    found = Binaries(built / f"prometheus{ending}", built / f"promtool{ending}")
    if all(map(Path.is_file, found)):
        return found
    installed = [Path(path) for path in map(shutil.which, Binaries._fields) if path is not None]
    if len(installed) == 2 and f"version {version}." in _version(installed[0]):
        return Binaries(*installed)
    raise Missing(f"there is no Prometheus {version}: {HOW[version].format(built)}")


def _version(binary: Path) -> str:
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


class Watcher(Prometheus):
    """A running Prometheus, asked about one moment."""

    def rows(self, expression: str, at: float) -> dict[Labels, float]:
        """Return what an expression gives, without the labels that the scrape added.

        Raises:
            Refused: it cannot be evaluated.
        """
        asked = urlencode({"query": expression, "time": f"{at:.3f}"})
        try:
            data = fetch(f"{self.url}/api/v1/query?{asked}")["data"]
        except HTTPError as problem:
            raise Refused(json.loads(problem.__notes__[0])["error"]) from None
        rows: dict[Labels, float] = {}
        for series in data["result"]:
            own = {
                name: value for name, value in series["metric"].items() if name not in ("__name__", "job", "instance")
            }
            assert key(own) not in rows
            rows[key(own)] = float(series["value"][1])
        return rows


class Refused(Exception):
    """What Prometheus says of an expression that it cannot evaluate."""


@contextmanager
def scraping(
    folder: Path,
    binary: Path,
    page: str,
    jobs: Mapping[str, str],
    *,
    groups: Sequence[Mapping[str, Any]] = (),
    dead: str | None = None,
    interval: str = SCRAPES,
) -> Generator[Watcher]:
    """Run a Prometheus.

    Args:
        folder: where it keeps everything.
        binary: the server.
        page: URL of the pages.
        jobs: the paths to scrape, by the name of the job.
        groups: groups of rules.
        dead: a job that has a second target, where nobody listens.
        interval: the time between two scrapes.
    """
    place, target = address(), page.removeprefix("http://").partition("/")[0]
    config: dict[str, Any] = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": job,
                "metrics_path": path,
                "static_configs": [{"targets": [target, *(["127.0.0.1:9"] if job == dead else [])]}],
            }
            for job, path in jobs.items()
        ],
        "rule_files": [str(written(folder / "rules.yml", {"groups": list(groups)}))],
    }
    command = [
        str(binary),
        f"--config.file={written(folder / 'prometheus.yml', config)}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={place}",
        "--scrape.discovery-reload-interval=100ms",  # not 5 s until the first scrape
    ]
    log = folder / "prometheus.log"
    with running(command, log, {}, lambda: answers(f"http://{place}/-/ready")):
        yield Watcher(f"http://{place}", log)


class Process:
    """The instrumented process; see `tests.promql.scenario`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        told = self._read()
        self.page: str = told["page"]
        self.server: str = told["server"]

    def do(self, what: str) -> Any:
        """Have it do something, and return what it tells of that."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the scenario ended with {self._process.wait()}"
        return json.loads(line)


@contextmanager
def scenario(**variables: str) -> Generator[Process]:
    """Run the instrumented process, with these variables besides."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENAI_", "OLLAMA_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.promql.scenario"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**bare, "NO_PROXY": "127.0.0.1", "OTEL_SERVICE_NAME": "shop", **variables},
    )
    with process:
        try:
            yield Process(process)
        finally:
            process.kill()
