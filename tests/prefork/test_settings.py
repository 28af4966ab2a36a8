"""A directory that workers cannot share is one clear error, by the name of the setting."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

import otel_llm
from otel_llm import runtime
from otel_llm.prometheus import multiprocess
from tests.prefork.deployment import deployed

ROOT = Path(__file__).parents[2]
EXPECTED = "expected a directory that belongs to this user, and to which nobody else can write"
NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that is another user's where we are root, which can do everything elsewhere."""
    path = Path(mkdtemp())
    yield path
    path.chmod(0o700)
    shutil.rmtree(path)


def _make(kind: str, place: Path) -> tuple[Path, str]:
    """Return a path that cannot be shared, and what is wrong with it."""
    path = place / "x"
    match kind:
        case "file":
            path.touch()
            return path, "is no directory"
        case "below a file":
            path.touch()
            return path / "y", "cannot be made: Not a directory"
        case "open":
            path.mkdir()
            path.chmod(0o777)
            return path, "can be written to by others"
        case "link to nothing":
            path.symlink_to(place / "nothing")
            return path, "is no directory"
        case _:
            return Path("/proc/nothing/here"), "cannot be made: No such file or directory"


KINDS = ("file", "below a file", "open", "link to nothing", "impossible")


@pytest.mark.parametrize("kind", KINDS)
def test_refused(kind: str, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is named as the user gave it; nothing is built."""
    path, wrong = _make(kind, place)
    with pytest.raises(ValueError) as raised:
        otel_llm.instrument(multiproc_dir=path)
    assert f"multiproc_dir={str(path)!r}: {EXPECTED}; it {wrong}" == str(raised.value)
    monkeypatch.setenv("OTEL_LLM_MULTIPROC_DIR", str(path))
    with pytest.raises(ValueError) as raised:
        otel_llm.instrument()
    assert f"OTEL_LLM_MULTIPROC_DIR={str(path)!r}: {EXPECTED}; it {wrong}" == str(raised.value)
    assert not runtime.instrumented()
    assert not multiprocess._expected


@pytest.mark.parametrize(("given", "wrong"), [("", "expected the path"), ("a\0b", "cannot be made: .*embedded null")])
def test_no_paths(given: str, wrong: str) -> None:
    """What is no path is refused, too."""
    with pytest.raises(ValueError, match=f"^multiproc_dir={given!r}: .*{wrong}".replace("\\", "\\\\")):
        otel_llm.instrument(multiproc_dir=given)


OTHER_USER = """
import os, sys
import otel_llm.config, otel_llm.prometheus.multiprocess.directory
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        otel_llm.config.resolve(multiproc_dir=path)
    except ValueError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_permissions(place: Path) -> None:
    """What belongs to another user, or may not be written to, is refused."""
    place.chmod(0o755)
    for name, owner, mode in (("read-only", NOBODY, 0o500), ("of root", 0, 0o755)):
        (place / name).mkdir()
        os.chown(place / name, owner, owner)
        (place / name).chmod(mode)
    paths = [f"{place}/{name}" for name in ("read-only", "of root", "new")]
    done = subprocess.run(
        [sys.executable, "-c", OTHER_USER, *paths], capture_output=True, text=True, timeout=60, check=False
    )
    wrong = ("cannot be written to and read", "belongs to another user", "cannot be made: Permission denied")
    expected = [f"multiproc_dir={path!r}: {EXPECTED}; it {why}" for path, why in zip(paths, wrong, strict=True)]
    assert (expected, "") == (done.stdout.splitlines(), done.stderr)


def test_zero_code(place: Path, tmp_path: Path) -> None:
    """Under `opentelemetry-instrument`, it is one line in the log, and what would be without it goes on."""
    path, wrong = _make("file", place)
    told = [f"OTEL_LLM_MULTIPROC_DIR={str(path)!r}: {EXPECTED}; it {wrong}; the default is used"]
    pytest.importorskip("gunicorn")
    with deployed("zero-code", tmp_path, told=told, PREFORK_ZERO_CODE="1", OTEL_LLM_MULTIPROC_DIR=str(path)) as server:
        server.workers(2)
        for _ in range(4):
            server.call()
        assert 4.0 == server.scraped()


def test_zero_code_alone(place: Path) -> None:
    """A process that was to share and cannot says that its port is taken, as any that is alone."""
    path, wrong = _make("file", place)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        environ = {
            **os.environ,
            "OTEL_LLM_MULTIPROC_DIR": str(path),
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(stranger.getsockname()[1]),
        }
        start = str(Path(sys.executable).with_name("opentelemetry-instrument"))
        line = [start, sys.executable, "-c", ""]
        done = subprocess.run(line, env=environ, capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if "otel_llm:" in line]
    assert 2 == len(said), done.stderr
    assert f"it {wrong}; the default is used" in said[0]
    assert "Address already in use" in said[1]


def test_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenTelemetry is switched off, nothing is made."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    otel_llm.instrument(multiproc_dir=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_asked_for_again(tmp_path: Path, unset: None, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asks twice for the same directory, as a path or a string, is not told that it is ignored."""
    try:
        otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "x")
        otel_llm.instrument(serve=False, multiproc_dir=tmp_path / "x")
        otel_llm.instrument(serve=False, multiproc_dir=str(tmp_path / "x"))
        assert [] == [record.message for record in caplog.records if record.name == "otel_llm"]
    finally:
        otel_llm.uninstrument()
        multiprocess.stop()
        multiprocess._shared = None
