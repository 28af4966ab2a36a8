"""How a call failed: ``error.type``, and the few classes of error that dashboards ask for."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from otel_llm.wire.fields import clean, field
from otel_llm_semconv import others
from otel_llm_semconv.errors import (
    API_ERRORS,
    CLASS_BY_API_ERROR,
    CLASS_BY_EXCEPTION,
    CLASS_BY_STATUS,
    ErrorClass,
    ErrorType,
)


class Failure(NamedTuple):
    """How a call failed."""

    type: str
    """``error.type``: ``openai.RateLimitError``, or ``429`` where there was no exception."""
    name: str
    """Name of the exception's class, ``RateLimitError``; `type` where there was none."""
    error_class: str
    """A value of `ErrorClass`."""


_names: dict[type[BaseException], str] = {}
_failures: dict[tuple[str, type[BaseException] | None, int | None, str | None], Failure] = {}
_MOST_NAMES = 1024
_CLASSES = {value: value for name, value in vars(ErrorClass).items() if name.isupper()}


def error_type(error: BaseException) -> str:
    """Return the public qualified name of the exception's class, such as ``openai.RateLimitError``.

    Source: GenAI semantic conventions, ``error.type``: "the canonical name of exception that occurred".
    """
    cls = type(error)
    name = _names.get(cls)
    if name is None:
        if len(_names) >= _MOST_NAMES:
            _names.clear()
        try:
            name = _public_name(cls)
        except Exception:
            name = ErrorType.OTHER
        _names[cls] = name
    return name


def failure(error_type: str, error: BaseException | None) -> Failure:
    """Return how a call failed; the same object for the same class of exception, status and type.

    Args:
        error_type: ``error.type`` of the call.
        error: what the caller got, or None where an answer told of the error and nothing was raised.
    """
    try:
        kind = status = told = None
        if error is not None:
            kind = type(error)
            status = getattr(error, "status_code", None)
            if status is None:
                status = getattr(getattr(error, "response", None), "status_code", None)
            if status is None and isinstance(error, Exception):
                status = _status(error)
            # An answer that began well can fail later.
            if type(status) is not int or status < 400:
                status = None
                told = _told(error)
        key = error_type, kind, status, told
        known = _failures.get(key)
        if known is None:
            if len(_failures) >= _MOST_NAMES:
                _failures.clear()
            name = error_type if kind is None else kind.__name__
            known = _failures[key] = Failure(error_type, clean(name), _class(*key))
        return known
    except Exception:
        return Failure(error_type, error_type, ErrorClass.UNKNOWN)


def failure_told(told: str | BaseException | type[BaseException]) -> Failure:
    """Return the failure that an application tells: by a name of its own, by an exception, or by the class of one.

    A name may be a class of error (`ErrorClass`), an HTTP status, what an API calls its error, or the name of an
    exception's class; the class of any other is unknown.
    """
    if isinstance(told, BaseException):
        return failure(error_type(told), told)
    if not isinstance(told, str):
        name = _public_name(told)
        return Failure(clean(name), clean(told.__name__), _class(name, told, None, None))
    name = clean(str.__str__(told))
    return Failure(name, name, class_of_name(name))


def class_of_name(name: str) -> str:
    """Return the class of an error of which only the name is known, whoever told it; see `failure_told`."""
    if len(name) == 3 and name.isdecimal():
        return _class(name, None, None, None)
    name = name.rpartition(".")[2]
    known = _CLASSES.get(name) or CLASS_BY_API_ERROR.get(name) or CLASS_BY_EXCEPTION.get(name)
    known = known or others.CLASS_BY_EXCEPTION.get(name)
    return known or (ErrorClass.API_ERROR if name in API_ERRORS else ErrorClass.UNKNOWN)


def _status(error: Exception) -> int | None:
    """Return the HTTP status of an error of another client, such as `urllib` and `aiohttp`."""
    named = getattr(error, "code", None), getattr(error, "status", None)
    return next((status for status in named if type(status) is int and 400 <= status < 600), None)


def _told(error: BaseException) -> str | None:
    """Return the class of an error that came in an answer, by what the API calls it."""
    body: Any = getattr(error, "body", None)
    within = field(body, "error") or body
    names = (getattr(error, "code", None), getattr(error, "type", None), field(within, "code"), field(within, "type"))
    classes = (CLASS_BY_API_ERROR.get(name) for name in names if isinstance(name, str))
    return next((known for known in classes if known is not None), None)


def _class(error_type: str, kind: type[BaseException] | None, status: int | None, told: str | None) -> str:
    """Return the class of an error: by its status, by what the API calls it, or by the nearest class that is known."""
    if kind is None and error_type.isdecimal():
        status = int(error_type)
    if status is not None and status >= 400:
        return CLASS_BY_STATUS.get(status, ErrorClass.API_ERROR)
    if kind is None:
        return CLASS_BY_API_ERROR.get(error_type) or _CLASSES.get(error_type, ErrorClass.API_ERROR)
    if told is not None:
        return told
    bases = (CLASS_BY_EXCEPTION.get(base.__name__) for base in kind.__mro__)
    known = next((known for known in bases if known is not None), None)
    return known or others.CLASS_BY_EXCEPTION.get(kind.__name__, ErrorClass.UNKNOWN)


def error_message(error: BaseException) -> str:
    """Return the exception's own text, at most 1,024 characters."""
    try:
        message = str(error)[:1024]
        return message if message.isascii() else clean(message)
    except Exception:
        return ""


def _public_name(cls: type[BaseException]) -> str:
    """Name the class by the shortest module path under which a user can import it."""
    if cls.__module__ == "builtins":
        return cls.__qualname__
    parts = cls.__module__.split(".")
    for end in range(1, len(parts)):
        module = ".".join(parts[:end])
        if getattr(sys.modules.get(module), cls.__qualname__, None) is cls:
            return f"{module}.{cls.__qualname__}"
    return f"{cls.__module__}.{cls.__qualname__}"
