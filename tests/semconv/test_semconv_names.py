"""Every name is well formed, unique, documented and spelled as OpenTelemetry spells it."""

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

import otel_llm_semconv
from otel_llm_semconv import attributes, environment, errors, events, measures, metrics, providers, values

NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_<>]+)+")
TYPED = re.compile(r"\((string|string\[\]|int|double|boolean|any); [^()]+\)$")
SOURCES = sorted(Path(otel_llm_semconv.__file__).parent.glob("*.py"))

ATTRIBUTES = {name: value for name, value in vars(attributes).items() if name.isupper()}
ENVIRONMENT = {name: value for name, value in vars(environment).items() if name.isupper()}

RENAMED_SINCE = {"GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS": "GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS"}
"""Names the installed stubs do not know to be obsolete, because they stopped before the renaming; and the new names."""

LABELS = {"OTEL_METRIC_OVERFLOW_LABEL": attributes.OTEL_METRIC_OVERFLOW}
"""Prometheus labels among the attributes, and the attribute each of them is."""

GENERAL = [
    "azure",
    "error",
    "exception",
    "http",
    "network",
    "otel",
    "server",
    "service",
    "telemetry",
    "url",
    "user_agent",
]


def classes(module: ModuleType) -> list[type]:
    """Return the classes a module declares itself."""
    return [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]


def members(namespace: type) -> dict[str, str]:
    """Return the constants of a namespace."""
    return {name: value for name, value in vars(namespace).items() if name.isupper()}


NAMESPACES = [kind for module in (errors, providers, values) for kind in classes(module) if members(kind)]


def constants(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt | None]]:
    """Yield each constant assigned in a module or class body, with the statement that follows it."""
    for statement, after in zip(body, [*body[1:], None], strict=True):
        match statement:
            case ast.ClassDef():
                yield from constants(statement.body)
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, after
            case ast.Assign(targets=[ast.Name(id=name)]) if name != "__all__":
                yield name, after
            case _:
                pass


def documented(path: Path) -> dict[str, str | None]:
    """Return the constants of a source file with the text below each."""
    found: dict[str, str | None] = {}
    for name, after in constants(ast.parse(path.read_text("utf-8")).body):
        match after:
            case ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = text
            case _:
                found[name] = None
    return found


def upstream(module: str) -> Mapping[str, str]:
    """Return the names a module of opentelemetry-semantic-conventions declares."""
    declared = vars(importlib.import_module(f"opentelemetry.semconv.{module}"))
    return {name: value for name, value in declared.items() if name.isupper() and isinstance(value, str)}


def obsolete(module: str) -> set[str]:
    """Return the names that module says were replaced or removed, and not only moved elsewhere."""
    path = importlib.import_module(f"opentelemetry.semconv.{module}").__file__
    assert path is not None
    texts = documented(Path(path))
    return {name for name, text in texts.items() if text and re.match(r"\s*Deprecated: Re(placed|moved)", text)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_constants_are_documented(path: Path) -> None:
    """Each constant has a docstring directly below it."""
    assert [name for name, text in documented(path).items() if not text] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_constants_are_final(path: Path) -> None:
    """Each constant is `Final` or a type alias, so that a checker refuses to assign to it."""
    body = ast.parse(path.read_text("utf-8")).body
    inner = [member for statement in body if isinstance(statement, ast.ClassDef) for member in statement.body]
    for statement in [*body, *inner]:
        match statement:
            case ast.AnnAssign(annotation=annotation, value=ast.expr()):
                assert ast.unparse(annotation).startswith(("Final", "TypeAlias")), ast.unparse(statement)
            case ast.Assign(targets=[ast.Name(id=name)]):
                assert name == "__all__"
            case _:
                pass


def test_attributes_say_type_and_source() -> None:
    """Each attribute's docstring ends with its type and the public source it comes from."""
    texts = documented(Path(attributes.__file__))
    assert [name for name in ATTRIBUTES if not TYPED.search(texts[name] or "")] == []


@pytest.mark.parametrize(
    "names",
    [
        list(ATTRIBUTES.values()),
        [metric.name for metric in (*metrics.ALL, *measures.OWN)],
        [event.name for event in events.ALL],
        list(ENVIRONMENT.values()),
        *(list(members(namespace).values()) for namespace in NAMESPACES),
    ],
    ids=["attributes", "metrics", "events", "environment", *(namespace.__name__ for namespace in NAMESPACES)],
)
def test_names_are_unique(names: list[str]) -> None:
    """No name or value is declared twice in its group."""
    assert len(names) == len(set(names))


def test_names_are_well_formed() -> None:
    """Attributes, metrics and events are dotted lower-case names; a prefix ends with the dot."""
    dotted = [value.removesuffix(".") for name, value in ATTRIBUTES.items() if name not in LABELS]
    dotted += [item.name for item in (*metrics.ALL, *events.ALL)]
    dotted += [metric.name for metric in measures.OWN]
    assert [name for name in dotted if not NAME.fullmatch(name)] == []
    assert [name for name, value in ATTRIBUTES.items() if name.endswith("_PREFIX") is not value.endswith(".")] == []


def test_labels_are_attributes_as_prometheus_writes_them() -> None:
    """A label constant is its attribute with underscores for dots."""
    assert {name: ATTRIBUTES[name] for name in LABELS} == {name: key.replace(".", "_") for name, key in LABELS.items()}


def test_constants_are_called_like_their_values() -> None:
    """A constant is the value in capitals, so that it can be guessed from the name and found by it."""
    shortened = {"OTEL_LLM_REQUEST_ID", "OTEL_LLM_TIME_TO_FIRST_TEXT"}
    for name, value in ATTRIBUTES.items():
        if name not in shortened | LABELS.keys():
            assert name.removesuffix("PREFIX").removesuffix("_") == value.removesuffix(".").replace(".", "_").upper()
    for module in (metrics, events):
        for name, item in vars(module).items():
            if isinstance(item, (metrics.Metric, events.Event)):
                assert name == item.name.replace(".", "_").upper()
    assert all(name == value for name, value in ENVIRONMENT.items())


@pytest.mark.parametrize(
    "module", ["_incubating.attributes.gen_ai_attributes", "_incubating.attributes.openai_attributes"]
)
def test_genai_names_of_opentelemetry_are_here(module: str) -> None:
    """Every GenAI name of the installed conventions is declared alike, or is obsolete and not declared at all."""
    theirs = upstream(module)
    gone = theirs.keys() & (obsolete(module) | RENAMED_SINCE.keys())
    kept = {name: value for name, value in theirs.items() if name not in gone}
    assert {name: ATTRIBUTES.get(name) for name in kept} == kept
    assert {theirs[name] for name in gone}.isdisjoint(ATTRIBUTES.values())
    assert ATTRIBUTES.keys() >= set(RENAMED_SINCE.values())


def test_obsolete_names_are_recognised() -> None:
    """The stubs' marks are understood: what was replaced or removed is obsolete, what moved is not."""
    gone = obsolete("_incubating.attributes.gen_ai_attributes")
    assert {"GEN_AI_SYSTEM", "GEN_AI_PROMPT", "GEN_AI_USAGE_PROMPT_TOKENS"} <= gone
    assert "GEN_AI_OPERATION_NAME" not in gone


def test_general_names_are_those_of_opentelemetry() -> None:
    """Server, error, HTTP, service and other general attributes are spelled as the installed conventions have them."""
    theirs: dict[str, str] = {}
    for area in GENERAL:
        theirs |= upstream(f"_incubating.attributes.{area}_attributes")
    ours = {
        name: value
        for name, value in ATTRIBUTES.items()
        if not name.startswith(("ANTHROPIC_", "GEN_AI_", "OPENAI_", "OTEL_LLM_", "OTEL_METRIC_OVERFLOW"))
    }
    assert ours == {name: theirs.get(name) for name in ours}


@pytest.mark.parametrize(
    ("namespace", "theirs"),
    [
        (values.Operation, "GenAiOperationNameValues"),
        (values.OutputType, "GenAiOutputTypeValues"),
        (values.TokenType, "GenAiTokenTypeValues"),
        (providers.Provider, "GenAiProviderNameValues"),
    ],
)
def test_values_of_opentelemetry_are_here(namespace: type, theirs: str) -> None:
    """Every value of the installed conventions' GenAI enumerations is declared."""
    stubs = importlib.import_module("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    assert {str(member.value) for member in getattr(stubs, theirs)} <= set(members(namespace).values())


def test_package_names_its_modules() -> None:
    """`__all__` is the schema URL and every module there is."""
    modules = {path.stem for path in SOURCES} - {"__init__"}
    assert set(otel_llm_semconv.__all__) == {"SCHEMA_URL", *modules}
    assert otel_llm_semconv.SCHEMA_URL.startswith("https://opentelemetry.io/schemas/gen-ai/")
