"""Requests of the user's own hosts that are LLM calls: read from a TOML file or from a list, and checked once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import translate
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

from otel_llm.wire.formats import NAMES

HttpRules: TypeAlias = "str | Path | Sequence[Mapping[str, str]]"
"""The path of a TOML file with tables ``[[rule]]``, or the same tables as mappings."""

_KEYS = ("host", "path", "path_regex", "format", "provider")
_MODEL = "model"


class HttpRule(NamedTuple):
    """Which POST requests are calls of which API."""

    host: re.Pattern[str]
    """Matches the whole host, in lower case."""
    path: re.Pattern[str]
    """Matches the whole path, decoded; its group ``model``, if it has one, is the model."""
    format: str
    """The API, one of `otel_llm.wire.formats.NAMES`."""
    provider: str | None
    """Value of ``gen_ai.provider.name``; by the host, else by the API, where it is None."""


def read_rules(source: str, written: HttpRules) -> tuple[HttpRule, ...]:
    """Return the rules of a file or of a list.

    Args:
        source: the name of the setting, for messages.
        written: see `HttpRules`.

    Raises:
        ValueError: the file cannot be read, or a rule is wrong; the message names file, rule and key.
        TypeError: *written* is neither a path nor a list of mappings.
    """
    if isinstance(written, (str, Path)):
        source = f"{source}={str(written)!r}"
        if not written:
            raise ValueError(f"{source}: expected the path of a TOML file, or a list of rules")
        tables: object = _tables(source, Path(written))
    else:
        tables = written
    if not isinstance(tables, (list, tuple)):
        raise TypeError(f"{source} must be the path of a file or a list of rules, not {type(tables).__name__}")
    each = cast("list[object]", tables)
    return tuple([_rule(f"{source}: rule {number}", table) for number, table in enumerate(each, 1)])


def _tables(source: str, file: Path) -> Any:
    try:
        found = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{source}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # what is no TOML, and what is no UTF-8
        raise ValueError(f"{source}: is no TOML: {error}") from None
    unknown = found.keys() - {"rule"}
    if unknown or not isinstance(found.get("rule"), list):
        what = ", ".join(sorted(unknown or found)) or "nothing"
        raise ValueError(f"{source}: expected tables [[rule]], found {what}")
    return found["rule"]


def _rule(source: str, table: object) -> HttpRule:
    if not isinstance(table, Mapping):
        raise TypeError(f"{source} must be a table, not {type(table).__name__}")
    keys = cast("Mapping[str, object]", table)
    for key, value in keys.items():
        if key not in _KEYS:
            raise ValueError(f"{source}: {key}: expected one of {', '.join(_KEYS)}")
        if not isinstance(value, str) or not value:
            raise ValueError(f"{source}: {key}={value!r}: expected a text that is not empty")
    table = cast("Mapping[str, str]", table)
    if ("path" in table) == ("path_regex" in table):
        raise ValueError(f"{source}: path: expected either path or path_regex")
    host, path, format = table.get("host", "*"), table.get("path", "/"), table.get("format")
    if "/" in host or host.count(":") == 1:  # an address of IPv6 has more
        raise ValueError(f"{source}: host={host!r}: expected the name of a host, without scheme and port")
    if not path.startswith(("/", "*", "?", "[")):
        raise ValueError(f"{source}: path={path!r}: expected a path from its first slash on")
    if format is None or format not in NAMES:
        given = "format is missing" if format is None else f"format={format!r}"
        raise ValueError(f"{source}: {given}: expected one of {', '.join(NAMES)}")
    return HttpRule(
        re.compile(translate(host.lower())),
        _path(source, table),
        format,
        table.get("provider"),
    )


def _path(source: str, table: Mapping[str, str]) -> re.Pattern[str]:
    if "path" in table:
        return re.compile(translate(table["path"]))
    try:
        pattern = re.compile(table["path_regex"])
    except re.error as error:
        raise ValueError(f"{source}: path_regex={table['path_regex']!r}: is no regular expression: {error}") from None
    unknown = pattern.groupindex.keys() - {_MODEL}
    if unknown:
        raise ValueError(f"{source}: path_regex: expected no named group but {_MODEL}, found {min(unknown)}")
    return pattern
