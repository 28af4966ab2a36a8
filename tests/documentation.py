"""The pages of the documentation, taken apart for the tests that hold them against the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __repr__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """Return the blocks in these languages, of every page."""
    return [
        Block(page, text[: fence.start()].count("\n") + 1, fence[1], fence[2])
        for page in PAGES
        for text in [page.read_text("utf-8")]
        for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if fence[1] in languages
    ]


def prose_of(page: Path) -> str:
    """Return a page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def table_rows(page: str, after: str) -> Iterator[list[str]]:
    """Yield the rows of the first table after a text, as their cells."""
    text = (ROOT / page).read_text("utf-8")
    assert after in text
    _, *lines = text.partition(after)[2].partition("| ---")[2].splitlines()
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def quoted(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)
