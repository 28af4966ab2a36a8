"""Rules of the user's own: read from a file or a list, and one clear error for what is wrong with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from otel_llm.config import resolve, resolve_or_default
from otel_llm.http_rules import read_rules
from otel_llm.wire.format import Format
from otel_llm.wire.formats import NAMES, format_of, provider_by_format

RULES: list[dict[str, str]] = [
    {"host": "*.Example.com", "path": "/ask/*", "format": "openai.chat", "provider": "mine"},
    {"path_regex": "/serve/(?P<model>[^/]+)", "format": "tgi.generate"},
]
FILE = """
[[rule]]
host = "*.Example.com"
path = "/ask/*"
format = "openai.chat"
provider = "mine"

[[rule]]
path_regex = '/serve/(?P<model>[^/]+)'
format = "tgi.generate"
"""


def test_file_and_list_say_the_same(tmp_path: Path) -> None:
    """The rules of a file are those of a list; by keyword, as a path or as text, or by variable."""
    file = tmp_path / "rules.toml"
    file.write_text(FILE)

    rules = resolve(http_rules=RULES, environ={}).http_rules

    assert ["openai.chat", "tgi.generate"] == [rule.format for rule in rules]
    assert ["mine", None] == [rule.provider for rule in rules]
    assert rules == resolve(http_rules=file, environ={}).http_rules
    assert rules == resolve(http_rules=str(file), environ={}).http_rules
    assert rules == resolve(environ={"OTEL_LLM_HTTP_RULES": f" {file} "}).http_rules
    assert () == resolve(http_rules=[], environ={"OTEL_LLM_HTTP_RULES": str(file)}).http_rules


def test_patterns() -> None:
    """Hosts and paths match as a whole, hosts whatever their case."""
    one, two = read_rules("http_rules", RULES)

    assert one.host.match("api.example.com")
    assert not one.host.match("example.com")
    assert not one.host.match("api.example.com.evil.test")
    assert one.path.fullmatch("/ask/me/twice")
    assert not one.path.fullmatch("/v1/ask/me")
    assert two.host.match("anything")
    found = two.path.fullmatch("/serve/big")
    assert found is not None
    assert "big" == found["model"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "key": ({"hosts": "x"}, "hosts: expected one of host, path, path_regex, format, provider"),
    "value": ({"host": 7}, "host=7: expected a text that is not empty"),
    "empty": ({"provider": ""}, "provider='': expected a text that is not empty"),
    "no path": ({"format": "openai.chat"}, "path: expected either path or path_regex"),
    "two paths": ({"path": "/a", "path_regex": "/a"}, "path: expected either path or path_regex"),
    "format": ({"path": "/a", "format": "openai"}, f"format='openai': expected one of {', '.join(NAMES)}"),
    "no format": ({"path": "/a"}, f"format is missing: expected one of {', '.join(NAMES)}"),
    "scheme": (
        {"host": "http://127.0.0.1", "path": "/a", "format": "openai.chat"},
        "host='http://127.0.0.1': expected the name of a host, without scheme and port",
    ),
    "port": (
        {"host": "gateway:8443", "path": "/a", "format": "openai.chat"},
        "host='gateway:8443': expected the name of a host, without scheme and port",
    ),
    "no slash": (
        {"path": "v3/ask", "format": "openai.chat"},
        "path='v3/ask': expected a path from its first slash on",
    ),
    "regex": (
        {"path_regex": "/(", "format": "openai.chat"},
        "path_regex='/(': is no regular expression: missing ), unterminated subpattern at position 1",
    ),
    "group": (
        {"path_regex": "/(?P<name>x)", "format": "openai.chat"},
        "path_regex: expected no named group but model, found name",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules(name: str) -> None:
    """The error names the setting, the rule and the key."""
    rule, message = WRONG[name]
    with pytest.raises(ValueError) as caught:
        resolve(http_rules=[RULES[0], rule], environ={})

    assert f"http_rules: rule 2: {message}" == str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rule]\n", "is no TOML: "),
        (b"\xff", "is no TOML: "),
        ("[[rules]]\n", "expected tables [[rule]], found rules"),
        ("rule = 1\n", "expected tables [[rule]], found rule"),
        ("", "expected tables [[rule]], found nothing"),
        ("[[rule]]\nhost = 1\n", "rule 1: host=1: expected a text that is not empty"),
    ],
)
def test_wrong_files(tmp_path: Path, text: Any, message: str) -> None:
    """The error names the variable and the file; without anybody to catch it, it is told and there are no rules."""
    file = tmp_path / "rules.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    environ = {"OTEL_LLM_HTTP_RULES": str(file)}

    with pytest.raises(ValueError, match=re.escape(f"OTEL_LLM_HTTP_RULES={str(file)!r}: {message}")):
        resolve(environ=environ)

    assert () == resolve_or_default(environ).http_rules


def test_hosts() -> None:
    """A host may be an address of either kind."""
    for host in ("127.0.0.1", "::1", "*.example.com"):
        (rule,) = read_rules("http_rules", [{"host": host, "path": "/a", "format": "openai.chat"}])
        assert rule.host.match(host)


def test_no_file() -> None:
    """An empty path is no path."""
    with pytest.raises(ValueError, match="http_rules='': expected the path of a TOML file, or a list of rules"):
        resolve(http_rules="", environ={})


@pytest.mark.parametrize("value", [7, {"path": "/a"}, [7]])
def test_wrong_types(value: Any) -> None:
    """What is no list of tables is a wrong type."""
    with pytest.raises(TypeError, match="http_rules"):
        resolve(http_rules=value, environ={})


@pytest.mark.parametrize("value", [0, "yes"])
def test_http_spans_is_a_switch(value: Any) -> None:
    """Only True and False are accepted by keyword, true and false by variable."""
    with pytest.raises(TypeError, match="http_spans must be True or False"):
        resolve(http_spans=value, environ={})
    with pytest.raises(ValueError, match="OTEL_LLM_HTTP_SPANS"):
        resolve(environ={"OTEL_LLM_HTTP_SPANS": str(value)})
    assert not resolve(environ={"OTEL_LLM_HTTP_SPANS": "False"}).http_spans


@pytest.mark.parametrize("name", NAMES)
def test_formats(name: str) -> None:
    """Every format that can be named is there, and has a provider."""
    assert isinstance(format_of(name), Format)
    assert provider_by_format(name)


def test_the_documentation_has_them_all() -> None:
    """The page on plain HTTP lists every format."""
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")

    (told,) = re.findall(r"^The formats are (.*?)\n\n", page, re.DOTALL | re.MULTILINE)
    assert list(NAMES) == re.findall(r"`([\w.]+)`", told)
