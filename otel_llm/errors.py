"""The low-cardinality name of an exception, for ``error.type``."""

from __future__ import annotations

import sys

from otel_llm.wire.fields import clean
from otel_llm_semconv.errors import ErrorType

_names: dict[type[BaseException], str] = {}
_MOST_NAMES = 1024


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


def error_message(error: BaseException) -> str:
    """Return the exception's own text, at most 1,024 characters."""
    try:
        return clean(str(error)[:1024])
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
