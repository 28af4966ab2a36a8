"""The package stands alone, and no other package spells a name."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import otel_llm_semconv
from otel_llm_semconv import attributes, events, measures, metrics

ROOT = Path(__file__).parents[2]
PACKAGE = Path(otel_llm_semconv.__file__).parent

OUR_NAMESPACES = ("gen_ai.", "otel_llm.client.", "otel_llm.internal.", "otel_llm.server.")
"""Beginnings that no string outside may have, declared or not."""

DECLARED = {
    *(value for name, value in vars(attributes).items() if name.isupper()),
    *(metric.name for metric in measures.OWN),
    *(item.name for item in (*metrics.ALL, *events.ALL)),
}


def shipped() -> list[Path]:
    """Return the source files of the other packages in the distribution."""
    return sorted(path for folder in ("otel_llm", "instrumentors") for path in (ROOT / folder).rglob("*.py"))


def strings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the string constants of a module which are not docstrings, pieces of f-strings included."""
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            yield node


def strays(source: str) -> list[tuple[int, str]]:
    """Return the line and text of each string that spells a name."""
    return [
        (node.lineno, str(node.value))
        for node in strings(ast.parse(source))
        if node.value in DECLARED or str(node.value).startswith(OUR_NAMESPACES)
    ]


def test_strays_are_found() -> None:
    """The search sees names, undeclared ones and f-strings, and passes over docstrings and module names."""
    source = '''
"gen_ai.request.model"
KEY = "gen_ai.request.model"
"""gen_ai.request.model"""
keys = {"gen_ai.no.such.name": 1, "openai.api.type": 2, f"otel_llm.label.{KEY}": 3}
targets = ["openai.resources", "otel_llm.prometheus", "openai._base_client"]
'''
    assert [text for _, text in strays(source)] == [
        "gen_ai.request.model",
        "gen_ai.no.such.name",
        "openai.api.type",
        "otel_llm.label.",
    ]


def test_names_are_spelled_only_here() -> None:
    """No string outside this package spells the name of an attribute, a metric or an event."""
    assert shipped()
    found = {
        f"{path.relative_to(ROOT)}:{line}": text for path in shipped() for line, text in strays(path.read_text("utf-8"))
    }
    assert found == {}


def test_imports_only_the_standard_library() -> None:
    """Importing the package loads no other distribution, nor the slow modules of the standard library."""
    code = "import sys; before = set(sys.modules); import otel_llm_semconv; print(*(set(sys.modules) - before))"
    run = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in run.stdout.split()} - {PACKAGE.name}
    assert loaded <= sys.stdlib_module_names
    assert loaded.isdisjoint({"asyncio", "dataclasses", "inspect", "json", "logging"})


def test_package_is_typed() -> None:
    """The package carries the marker that lets checkers use its types."""
    assert (PACKAGE / "py.typed").is_file()
