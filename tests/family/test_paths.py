"""Every path that a client of the family asks for has a template without ids, so that no id becomes a name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from otel_llm.wire.openai_paths import KIN_WORDS, template_of
from tests.family.clients import CLIENTS, HERE

pytestmark = pytest.mark.skipif(not HERE, reason="none of the clients is installed; see tests/matrix.py")


def paths(package: str) -> Iterator[tuple[str, str]]:
    """Yield each path that the resources spell, and its template: what they put in by name is an id."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    for file in (Path(spec.origin).parent / "resources").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            spelled = None
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                spelled = node.value
            elif isinstance(node, ast.JoinedStr):
                spelled = "".join([_piece(piece) for piece in node.values])
            if spelled and re.fullmatch(r"/([a-z{][\w{}./-]*)(\?[\w=&-]*)?", spelled) and spelled != "/bin/sh":
                yield spelled, re.sub(r"\{[^}]*\}", "{id}", spelled.partition("?")[0].rstrip("/"))


def _piece(piece: Any) -> str:
    return str(piece.value) if isinstance(piece, ast.Constant) else "{x}"


@pytest.mark.parametrize("name", HERE)
def test_templates(name: str) -> None:
    """The template is the path below its version as the client's source spells it."""
    found = dict(paths(CLIENTS[name].package))
    assert found
    wrong = {
        path: template
        for path, template in found.items()
        if template_of(re.sub(r"\{[^}]*\}", "id-1_X", path), "http://x", KIN_WORDS)[0]
        != re.sub(r"^(/openai)?/v[0-9]+", "", template)
    }
    assert {} == wrong
