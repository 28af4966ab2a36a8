"""What the documents ask of Prometheus: the expressions in their fences, taken out as they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

from tests.documentation import ROOT

SEEDS = ROOT.parent / "shared" / "seeds"
"""The documents; they are no part of the repository."""


class Found(NamedTuple):
    """An expression."""

    text: str
    alert: str = ""
    record: str = ""
    lasts: str = ""


def document(seed: str) -> str | None:
    """Return a document, or None where it is not at hand."""
    found = sorted(SEEDS.glob(f"{seed}_*.txt"))
    return found[0].read_text("utf-8", "replace") if found else None


def expressions(text: str) -> Iterator[Found]:
    """Yield all expressions of a document: of fences of PromQL, of dashboards and of rules."""
    for fence in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if fence[1] == "promql":
            for block in re.split(r"^(?:#.*)?\n", fence[2], flags=re.MULTILINE):
                if block.strip():
                    yield Found(block.rstrip())
        elif fence[1] == "json":
            for string in re.findall(r'"expr":\s*("(?:[^"\\]|\\.)*")', fence[2]):
                yield Found(json.loads(string))
        else:
            yield from rules(fence[2])


def rules(text: str) -> Iterator[Found]:
    """Yield the rules in a text of YAML."""
    found: Found | None = None
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if start := re.match(r"\s*- (alert|record): (.*)", line):
            if found is not None:
                yield found
            found = Found("", **{start[1]: start[2]})
        elif found is not None and (expr := re.match(r"(\s*)expr: (.*)", line)):
            found = found._replace(text=expr[2] if expr[2] != "|" else _indented(lines[number + 1 :], len(expr[1])))
        elif found is not None and (lasts := re.match(r"\s*for: (.*)", line)):
            found = found._replace(lasts=lasts[1])
    if found is not None:
        yield found


def _indented(lines: list[str], depth: int) -> str:
    """Return the lines that are deeper, up to the first that is not."""
    end = next((at for at, line in enumerate(lines) if len(line) - len(line.lstrip()) <= depth), len(lines))
    return dedent("\n".join(lines[:end]))


def shipped(dialect: str) -> Path:
    """Return the rules that we ship for a dialect."""
    return ROOT / "examples" / "prometheus" / f"{dialect}.rules.yml"
