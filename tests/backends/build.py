"""Build the real servers the tests run against: Ollama, the OpenTelemetry Collector and Prometheus.

    python tests/backends/build.py [collector] [prometheus] [ollama] [old-prometheus]

Needs Go (and, for Ollama, a C++ compiler with three headers; the old Prometheus is there on Debian 12 only) and nothing else: this file is standard library only. The
binaries land in `bin/` below `$TESTS_BACKENDS`, by default `~/.cache/otel-llm/backends`, where `servers.py` finds them.

Exit codes: 0 all asked for are there, 1 a build failed, 2 wrong usage, 3 Go is not installed (nothing was tried).
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

NO_GO = 3

OLLAMA = "0.17.4"
COLLECTOR = "0.155.0"
PROMETHEUS = "3.15.0"
OLD_PROMETHEUS = "2.42"
OLLAMA_MODULE = "github.com/ollama/ollama"
PROMETHEUS_MODULE = "github.com/prometheus/prometheus"
PROMETHEUS_TAG = "v0.315.0"  # Go modules of Prometheus 3.x are tagged v0.3xx
MINIAUDIO_MODULE = "github.com/gen2brain/malgo@v0.11.24"

CORE = "go.opentelemetry.io/collector"
CONTRIB = "github.com/open-telemetry/opentelemetry-collector-contrib"
COLLECTOR_MANIFEST = f"""\
dist: {{name: otelcol, module: otelcol, output_path: ./out, version: {COLLECTOR}, description: for the tests of otel-llm}}
receivers:
  - gomod: {CORE}/receiver/otlpreceiver v{COLLECTOR}
processors:
  - gomod: {CORE}/processor/batchprocessor v{COLLECTOR}
  - gomod: {CORE}/processor/memorylimiterprocessor v{COLLECTOR}
exporters:
  - gomod: {CORE}/exporter/debugexporter v{COLLECTOR}
  - gomod: {CORE}/exporter/otlpexporter v{COLLECTOR}
  - gomod: {CORE}/exporter/otlphttpexporter v{COLLECTOR}
  - gomod: {CONTRIB}/exporter/prometheusexporter v{COLLECTOR}
connectors:
  - gomod: {CONTRIB}/connector/spanmetricsconnector v{COLLECTOR}
"""


class BuildError(Exception):
    """A build that cannot go on, with what to do about it."""


@dataclass(frozen=True)
class Workshop:
    """One build: a scratch folder that vanishes afterwards, the Go tool, and a log that stays."""

    go: str
    scratch: Path
    log: Path

    def run(self, *command: str, **env: str) -> str:
        """Run a command in the scratch folder, return what it printed, and keep everything in the log."""
        # the caller's workspace or GOBIN must not reach a build that has its own module and its own place for binaries
        clean = {key: value for key, value in os.environ.items() if key not in ("GOBIN", "GOWORK", "GOFLAGS")}
        path = f"{Path(self.go).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            done = subprocess.run(
                command,
                cwd=self.scratch,
                env={**clean, "PATH": path, "GOWORK": "off", "GOFLAGS": "-buildvcs=false", **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                check=False,
            )
            log.write(done.stdout)
        if done.returncode:
            raise BuildError(f"'{' '.join(command[:3])} ...' ended with {done.returncode}, see {self.log}")
        return done.stdout


def build_ollama(shop: Workshop) -> list[Path]:
    """Build Ollama from its Go module, with the three headers that module zips leave out (they drop `vendor` folders)."""
    include = shop.scratch / "include"
    (include / "miniaudio").mkdir(parents=True)
    module = json.loads(shop.run(shop.go, "mod", "download", "-json", MINIAUDIO_MODULE))
    shutil.copyfile(Path(module["Dir"]) / "miniaudio.h", include / "miniaudio" / "miniaudio.h")
    compiler = shop.run(shop.go, "env", "CXX").split()
    need_headers(shop, compiler, {"nlohmann/json.hpp": "nlohmann-json3-dev", "stb/stb_image.h": "libstb-dev"})
    flags = f"-O2 -I{include}"
    shop.run(
        shop.go,
        "install",
        "-trimpath",
        f"-ldflags=-s -w -X={OLLAMA_MODULE}/version.Version={OLLAMA} -X={OLLAMA_MODULE}/server.mode=release",
        f"{OLLAMA_MODULE}@v{OLLAMA}",
        CGO_ENABLED="1",
        CGO_CFLAGS=flags,
        CGO_CXXFLAGS=flags,
        GOBIN=str(shop.scratch / "bin"),
    )
    return [shop.scratch / "bin" / "ollama"]


def need_headers(shop: Workshop, compiler: list[str], packages: dict[str, str]) -> None:
    """Make sure the compiler finds the headers; as root on Debian, install the packages that carry the absent ones."""
    if shutil.which(compiler[0]) is None:
        raise BuildError(f"Ollama needs a C++ compiler and '{compiler[0]}' is not there (Debian: apt-get install g++)")
    absent = [header for header in packages if not includes(compiler, header)]
    if absent and os.geteuid() == 0 and shutil.which("apt-get"):
        apt_install(shop, [packages[header] for header in absent])
        absent = [header for header in absent if not includes(compiler, header)]
    if absent:
        hint = " ".join(packages[header] for header in absent)
        raise BuildError(f"Ollama needs the headers {', '.join(absent)} (Debian: sudo apt-get install {hint})")


def apt_install(shop: Workshop, packages: list[str]) -> None:
    """Install Debian packages, refreshing the package lists only where they turn out to be too old or absent."""
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    try:
        shop.run(*command, DEBIAN_FRONTEND="noninteractive")
    except BuildError:
        shop.run("apt-get", "update")
        shop.run(*command, DEBIAN_FRONTEND="noninteractive")


def includes(compiler: list[str], header: str) -> bool:
    """Tell whether a compiler finds a header."""
    command = [*compiler, "-E", "-x", "c++", "-"]
    source = f"#include <{header}>\n"
    return subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode == 0


def build_collector(shop: Workshop) -> list[Path]:
    """Build an OpenTelemetry Collector that holds what the tests use, by the project's own builder."""
    (shop.scratch / "manifest.yaml").write_text(COLLECTOR_MANIFEST)
    tools = shop.scratch / "tools"
    shop.run(shop.go, "install", f"{CORE}/cmd/builder@v{COLLECTOR}", GOBIN=str(tools))
    shop.run(str(tools / "builder"), "--config=manifest.yaml")
    return [shop.scratch / "out" / "otelcol"]


def build_prometheus(shop: Workshop) -> list[Path]:
    """Build Prometheus and promtool in a module of our own, since `go install` refuses modules with replacements."""
    commands = {name: f"{PROMETHEUS_MODULE}/cmd/{name}" for name in ("prometheus", "promtool")}
    version = f"-X github.com/prometheus/common/version.Version={PROMETHEUS}"
    shop.run(shop.go, "mod", "init", "scratch")
    shop.run(shop.go, "get", *(f"{package}@{PROMETHEUS_TAG}" for package in commands.values()))
    for name, package in commands.items():
        shop.run(shop.go, "build", "-trimpath", f"-ldflags=-s -w {version}", "-o", f"out/{name}", package)
    return [shop.scratch / "out" / name for name in commands]


def build_old_prometheus(shop: Workshop) -> list[Path]:
    """Unpack the Prometheus of Debian 12, which many still run, without installing it."""
    try:
        shop.run("apt-get", "download", "prometheus")
    except BuildError:
        shop.run("apt-get", "update")
        shop.run("apt-get", "download", "prometheus")
    (package,) = shop.scratch.glob("prometheus_2.42*.deb")
    shop.run("dpkg-deb", "-x", package.name, "out")
    made = [shop.scratch / f"{name}-{OLD_PROMETHEUS}" for name in ("prometheus", "promtool")]
    for binary in made:
        os.replace(shop.scratch / "out" / "usr" / "bin" / binary.name.partition("-")[0], binary)
    return made


def has_old_prometheus() -> bool:
    """Tell whether this is the system that brings the old Prometheus."""
    version = Path("/etc/debian_version")
    return version.is_file() and version.read_text().startswith("12")


@dataclass(frozen=True)
class Recipe:
    """A server: the version it is pinned to, how it is made, and which binaries that gives."""

    version: str
    build: Callable[[Workshop], list[Path]]
    binaries: tuple[str, ...]
    stamp: str


def recipe(version: str, build: Callable[[Workshop], list[Path]], binaries: tuple[str, ...], pins: str) -> Recipe:
    """Write a recipe, with a stamp of its version and a hash of all that decides how the binaries come out."""
    text = "\n".join([version, *binaries, pins, inspect.getsource(build)])
    return Recipe(version, build, binaries, f"{version} {hashlib.sha256(text.encode()).hexdigest()[:16]}\n")


RECIPES = {
    "collector": recipe(COLLECTOR, build_collector, ("otelcol",), COLLECTOR_MANIFEST),
    "prometheus": recipe(PROMETHEUS, build_prometheus, ("prometheus", "promtool"), PROMETHEUS_TAG),
    "ollama": recipe(OLLAMA, build_ollama, ("ollama",), MINIAUDIO_MODULE),
}
if has_old_prometheus():
    RECIPES["old-prometheus"] = recipe(
        OLD_PROMETHEUS, build_old_prometheus, (f"prometheus-{OLD_PROMETHEUS}", f"promtool-{OLD_PROMETHEUS}"), ""
    )


def backends_dir() -> Path:
    """Return the folder the servers live in, outside any checkout so that all of them share it."""
    chosen = os.environ.get("TESTS_BACKENDS")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "otel-llm" / "backends"


def find_go() -> str | None:
    """Return the Go tool, from PATH or from where its installer puts it."""
    return shutil.which("go") or shutil.which("/usr/local/go/bin/go")


def up_to_date(name: str) -> bool:
    """Tell whether the binaries of a server are there and came from the present recipe."""
    root, recipe = backends_dir(), RECIPES[name]
    stamp = root / f"{name}.stamp"
    there = all((root / "bin" / binary).is_file() for binary in recipe.binaries)
    return there and stamp.is_file() and stamp.read_text() == recipe.stamp


@contextmanager
def only_one(name: str) -> Generator[None]:
    """Hold the lock of a server's build; a second run waits here and then finds the work done."""
    import fcntl  # here, since the rest of this file is imported by tests that also run where it does not exist

    with (backends_dir() / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(name, "another run is building it, waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def workshop(name: str, go: str) -> Generator[Workshop]:
    """Set up the place for a build, and clear it away afterwards."""
    # Always the same folder, for two reasons: its path is among the flags that Go's build cache goes by, and what an
    # interrupted run has left behind goes away here. It is below the root, so that os.replace stays in one file system.
    scratch, log = backends_dir() / f".{name}", backends_dir() / f"{name}.log"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    log.write_text("")
    try:
        yield Workshop(go, scratch, log)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def ensure(name: str, go: str) -> None:
    """Build a server unless it is up to date; the old binaries stay until the new ones are complete."""
    if up_to_date(name):
        return say(name, f"{RECIPES[name].version} is up to date")
    (backends_dir() / "bin").mkdir(parents=True, exist_ok=True)
    with only_one(name):
        if up_to_date(name):
            return say(name, f"{RECIPES[name].version} is up to date")
        say(name, f"building {RECIPES[name].version} ...")
        start = time.monotonic()
        with workshop(name, go) as shop:
            install(name, RECIPES[name].build(shop), shop)
        say(name, f"built in {time.monotonic() - start:.0f} s")


def install(name: str, binaries: list[Path], shop: Workshop) -> None:
    """Put the binaries in place, each in one step, and the stamp last."""
    root = backends_dir()
    for binary in binaries:
        os.replace(binary, root / "bin" / binary.name)
    fresh = shop.scratch / "stamp"
    fresh.write_text(RECIPES[name].stamp)
    os.replace(fresh, root / f"{name}.stamp")


def say(name: str, text: str) -> None:
    """Print one line about a server."""
    print(f"{name}: {text}", flush=True)


def end(number: int, frame: object) -> NoReturn:
    """End on a signal as on a failure, with the compiler stopped and the scratch folder cleared away."""
    sys.exit(1)


def main(arguments: list[str]) -> int:
    """Build the servers that were asked for, each on its own: one failure does not keep the others from being built."""
    parser = argparse.ArgumentParser(description="Build the real servers the tests run against.")
    parser.add_argument("servers", nargs="*", metavar="server", help=f"{', '.join(RECIPES)} (default: all)")
    names: list[str] = parser.parse_args(arguments).servers or list(RECIPES)
    if unknown := set(names) - set(RECIPES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(RECIPES)}")
    if (go := find_go()) is None:
        print("Go is not installed (https://go.dev/dl/): the real servers cannot be built, tests that need them skip")
        return NO_GO
    failed = False
    for name in names:
        try:
            ensure(name, go)
        except (BuildError, OSError) as error:
            failed = True
            say(name, f"FAILED: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    sys.exit(main(sys.argv[1:]))
