"""Safe reading of fields from client objects and decoded JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

LARGEST = 2**63 - 1
"""The largest number that OTLP can carry."""


_NOTHING: Mapping[str, Any] = {}


def fields(value: Any) -> Mapping[str, Any]:
    """Return the fields of a mapping or of a client object, none for anything else. Runs no property of the object."""
    if type(value) is dict:
        return cast("dict[str, Any]", value)
    try:
        own: dict[str, Any] = value.__dict__
        # Fields that this version of the client does not know are kept by pydantic beside its own.
        extra: dict[str, Any] | None = value.__pydantic_extra__
    except AttributeError:
        return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else getattr(value, "__dict__", _NOTHING)
    return {**extra, **own} if extra else own


def field(value: object, name: str) -> Any:
    """Return one field of a mapping or of a client object, or None."""
    return fields(value).get(name)


def items(value: object) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def text(value: object) -> str | None:
    """Return the value if it is a non-empty string."""
    if not isinstance(value, str) or not value:
        return None
    return value if value.isascii() else clean(value)


def clean(value: str) -> str:
    """Return the string without what UTF-8, and so OTLP, cannot carry."""
    return value.encode("utf-8", "replace").decode()


def count(value: object) -> int | None:
    """Return the value if it is a count that a server can mean: a whole number from 0 to 2**63 - 1."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= LARGEST else None


def total(*counts: int | None) -> int:
    """Return what counts come to, at most 2**63 - 1; one that is missing adds nothing."""
    found = 0
    for each in counts:
        found += each or 0
    return found if found <= LARGEST else LARGEST


def integer(value: object) -> int | None:
    """Return the value if it is a whole number of 64 bits, for request parameters."""
    return value if type(value) is int and -LARGEST <= value <= LARGEST else None


def number(value: object) -> float | None:
    """Return an int or float as float, for request parameters."""
    if type(value) is float:
        return value
    return float(value) if type(value) is int and -LARGEST <= value <= LARGEST else None


def strings(value: object) -> list[str] | None:
    """Return a string or a list of strings as a list; never touches an iterator of the caller's."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, str) for item in value):  # pyright: ignore[reportUnknownVariableType]
        return list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return None
