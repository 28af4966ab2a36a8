"""The recipe builds once, never leaves half a server, and says plainly what is wrong."""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path

import pytest

from . import build


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep the servers of a test apart from the real ones, with a stand-in for Go."""
    monkeypatch.setenv("TESTS_BACKENDS", str(tmp_path))
    monkeypatch.setattr(build, "find_go", lambda: sys.executable)
    return tmp_path


def test_a_server_is_built_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first run builds, the second finds everything up to date, and a changed recipe builds again."""
    offer(monkeypatch, "1")
    codes = [build.main(["toy"]), build.main([])]
    offer(monkeypatch, "2")
    codes.append(build.main(["toy"]))

    assert codes == [0, 0, 0]
    assert (root / "bin" / "toy").read_text() == "toy"
    assert capsys.readouterr().out.splitlines() == [
        "toy: building 1 ...",
        "toy: built in 0 s",
        "toy: 1 is up to date",
        "toy: building 2 ...",
        "toy: built in 0 s",
    ]


def test_a_failed_build_leaves_the_old_server(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A compiler that fails half-way is reported with its log, and the binary in place is not touched."""
    offer(monkeypatch, "1")
    build.main(["toy"])
    monkeypatch.setitem(build.RECIPES, "toy", build.recipe("2", broken, ("toy",), ""))
    code = build.main(["toy"])

    assert code == 1
    assert (root / "bin" / "toy").read_text() == "toy"
    assert sorted(path.name for path in root.iterdir()) == ["bin", "toy.lock", "toy.log", "toy.stamp"]
    assert "no such module" in (root / "toy.log").read_text()
    assert f"see {root / 'toy.log'}" in capsys.readouterr().out


def test_two_runs_at_once_build_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs that meet wait for each other, and only the first builds."""
    offer(monkeypatch, "1")
    runs = [threading.Thread(target=build.main, args=(["toy"],)) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    said = capsys.readouterr().out

    assert (root / "bin" / "toy").is_file()
    assert len(re.findall("building 1", said)) == 1
    assert len(re.findall("up to date", said)) == 3


def test_without_go_nothing_is_tried(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine without Go gets one line and an exit code of its own."""
    monkeypatch.setattr(build, "find_go", lambda: None)
    code = build.main([])

    assert code == build.NO_GO
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert list(root.iterdir()) == []


def test_missing_headers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to install packages, the message names the headers and the packages that carry them."""

    def includes(compiler: list[str], header: str) -> bool:
        return header == "stddef.h"

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(build, "includes", includes)
    shop = build.Workshop(sys.executable, tmp_path, tmp_path / "log")

    with pytest.raises(build.BuildError, match=r"the headers no/such\.h \(.*apt-get install libno-dev\)"):
        build.need_headers(shop, [sys.executable], {"no/such.h": "libno-dev", "stddef.h": "libc6-dev"})


def offer(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Make a toy the only server there is."""
    for name in [*build.RECIPES]:
        monkeypatch.delitem(build.RECIPES, name)
    monkeypatch.setitem(build.RECIPES, "toy", build.recipe(version, working, ("toy",), ""))


def working(shop: build.Workshop) -> list[Path]:
    """Build the toy."""
    shop.run(shop.go, "-c", "open('toy', 'w').write('toy')", PYTHONWARNINGS="ignore")
    return [shop.scratch / "toy"]


def broken(shop: build.Workshop) -> list[Path]:
    """Write half the toy and fail."""
    (shop.scratch / "toy").write_text("t")
    shop.run(shop.go, "-c", "raise SystemExit('no such module')")
    return [shop.scratch / "toy"]
