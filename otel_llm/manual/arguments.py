"""What the functions of the manual API are given: checked, and one clear error that names function and argument."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, cast

from opentelemetry.util.types import AttributeValue

from otel_llm.wire.fields import LARGEST, clean

_SCALARS = (bool, str, int, float)
_ATTRIBUTES = "str to str, bool, int, float, or a sequence of one of these"


def text(function: str, argument: str, value: str, *, empty: bool = False) -> str:
    """Return a text as OTLP can carry it.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty, unless it may be.
    """
    if not isinstance(value, str):
        hint = f'; to decorate a function, write @otel_llm.{function}("...")' if callable(value) else ""
        raise TypeError(f"otel_llm.{function}: {argument} must be a string, not {type(value).__name__}{hint}")
    if not value and not empty:
        raise ValueError(f"otel_llm.{function}: {argument} must be a string that is not empty")
    # A string enum is its value here.
    return str.__str__(value) if value.isascii() else clean(str.__str__(value))


def maybe(function: str, argument: str, value: str | None) -> str | None:
    """Return a text that need not be there; an empty one is not.

    Raises:
        TypeError: it is neither a string nor None.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"otel_llm.{function}: {argument} must be a string or None, not {type(value).__name__}")
    return text(function, argument, value, empty=True) or None


def texts(function: str, argument: str, value: Sequence[str]) -> tuple[str, ...]:
    """Return several texts.

    Raises:
        TypeError: it is no list or tuple of strings.
    """
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"otel_llm.{function}: {argument} must be a list of strings, not {value!r:.200}")
    return tuple([text(function, argument, each, empty=True) for each in value])


def whole(function: str, argument: str, value: int) -> int:
    """Return a count: a whole number from 0 to 2**63 - 1, as a float too.

    Raises:
        TypeError: it is no number.
        ValueError: it is another number.
    """
    number = value if type(value) is int else _integer(value)
    if number is None:
        kind = type(value).__name__
        raise TypeError(f"otel_llm.{function}: {argument} must be a whole number from 0 up, not {kind}")
    if not 0 <= number <= LARGEST:
        try:
            given = str(value)
        except ValueError:  # no number of thousands of digits is written
            given = type(value).__name__
        raise ValueError(f"otel_llm.{function}: {argument} must be a whole number from 0 up to 2**63 - 1, not {given}")
    return number


def _integer(value: object) -> int | None:
    """Return a number as an integer, -1 if it is none, or None where it is no number at all."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    except TypeError:
        if not isinstance(value, Real):
            return None
    try:
        real = float(value)
    except OverflowError:
        return LARGEST + 1
    return int(real) if real.is_integer() else -1


def seconds(function: str, argument: str, value: float) -> float:
    """Return a time in seconds: a finite number from 0 up.

    Raises:
        TypeError: it is no number.
        ValueError: it is another number.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        kind = type(value).__name__
        raise TypeError(f"otel_llm.{function}: {argument} must be a number of seconds from 0 up, not {kind}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not 0 <= number < math.inf:
        raise ValueError(f"otel_llm.{function}: {argument} must be a finite number of seconds from 0 up, not {number}")
    return number


def flag(function: str, argument: str, value: bool) -> bool:
    """Return what is true or false.

    Raises:
        TypeError: it is neither True nor False.
    """
    if not isinstance(value, bool):
        raise TypeError(f"otel_llm.{function}: {argument} must be True or False, not {type(value).__name__}")
    return value


def one_of(function: str, argument: str, value: str, accepted: Mapping[str, int]) -> int:
    """Return what a word stands for.

    Raises:
        TypeError: it is no string.
        ValueError: it is another word.
    """
    known = accepted.get(text(function, argument, value, empty=True))
    if known is None:
        words = ", ".join([repr(word) for word in accepted])
        raise ValueError(f"otel_llm.{function}: {argument} must be one of {words}, not {str.__str__(value)!r}")
    return known


def items(function: str, argument: str, value: Mapping[str, AttributeValue]) -> list[tuple[str, AttributeValue]]:
    """Return the items of a mapping of span attributes, each to be checked by `attribute`.

    Raises:
        TypeError: it is no mapping.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"otel_llm.{function}: {argument} must be a dict of {_ATTRIBUTES}, not {type(value).__name__}")
    return list(value.items())


def attribute(function: str, argument: str, name: str, value: AttributeValue) -> AttributeValue:
    """Return the value of a span attribute as OTLP can carry it.

    Raises:
        TypeError: the name is no string, or the value of none of the types that attributes have.
        ValueError: the name is empty, or an integer has more than 64 bits.
    """
    if not isinstance(name, str):
        kind = type(name).__name__
        raise TypeError(
            f"otel_llm.{function}: {argument} must be a dict of {_ATTRIBUTES}, not have a name of type {kind}"
        )
    if not name:
        raise ValueError(f"otel_llm.{function}: {argument} must have names that are not empty")
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview))
    values: tuple[Any, ...] = tuple(cast("Sequence[Any]", value)) if several else (value,)
    kinds = {next((kind for kind in _SCALARS if isinstance(each, kind)), None) for each in values}
    if None in kinds or len(kinds) > 1:
        of = ", ".join(dict.fromkeys([type(each).__name__ for each in values]))
        what = f"{type(value).__name__} of {of}" if several else of
        raise TypeError(f"otel_llm.{function}: {argument} must be a dict of {_ATTRIBUTES}; {name!r:.100} is {what}")
    if int in kinds and not all(-LARGEST - 1 <= each <= LARGEST for each in values):
        raise ValueError(
            f"otel_llm.{function}: {argument} must have integers of 64 bits; {name!r:.100} has a larger one"
        )
    if str in kinds:
        values = tuple([text(function, argument, each, empty=True) for each in values])
    return values if several else values[0]


def error_of(
    function: str, argument: str, value: str | BaseException | type[BaseException]
) -> str | BaseException | type[BaseException]:
    """Return an error: a text, an exception or the class of one.

    Raises:
        TypeError: it is none of these.
        ValueError: it is an empty text.
    """
    if isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException)):
        return value
    if isinstance(value, str):
        return text(function, argument, value)
    kind = type(value).__name__
    raise TypeError(f"otel_llm.{function}: {argument} must be a string, an exception or its class, not {kind}")
