"""What a dialect shows of calls that are counted together: the values of labels, and what they are made from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from otel_llm.state import OVERFLOW_VALUE, Facts
from otel_llm_semconv.errors import ErrorClass
from otel_llm_semconv.values import Operation

UNKNOWN = "unknown"
SUCCESS = "success"
"""The outcome of a call that did not fail; one that failed has a class of `ErrorClass`."""

CONTEXT = "label."
"""Begins the dimension that is a label of the context, or else of the configuration."""


class Process(NamedTuple):
    """What is known of all calls."""

    labels: Mapping[str, str]
    """Labels from the configuration, beneath those of the context."""
    service_name: str


def _model(facts: Facts) -> str:
    return facts.request_model or facts.response_model or UNKNOWN


def _task(facts: Facts) -> str:
    if facts.operation == Operation.EMBEDDINGS:
        return "embedding"
    return "vision" if facts.image else "generation"


_OF_CALLS: Mapping[str, Callable[[Facts], object]] = {
    "model": _model,
    "request_model": lambda facts: facts.request_model,
    "response_model": lambda facts: facts.response_model,
    "provider": lambda facts: facts.provider,
    "operation": lambda facts: facts.operation,
    "task": _task,
    "endpoint": lambda facts: facts.endpoint,
    "base_url": lambda facts: facts.base_url,
    "server_address": lambda facts: facts.server_address,
    "server_port": lambda facts: facts.server_port,
    "outcome": lambda facts: facts.failure.error_class if facts.failure else SUCCESS,
    "error_type": lambda facts: facts.failure.type if facts.failure else None,
    "error_name": lambda facts: facts.failure.name if facts.failure else None,
}

SERVICE_NAME = "service_name"
DIMENSIONS = (*_OF_CALLS, SERVICE_NAME, f"{CONTEXT}<key>")
"""What a label can be made from."""

CLOSED: Mapping[str, tuple[str, ...]] = {
    "outcome": (SUCCESS, *(value for name, value in vars(ErrorClass).items() if name.isupper())),
    "task": ("generation", "embedding", "vision"),
}
"""The values of the dimensions that have no others."""

AT_THE_END = frozenset({"response_model", "outcome", "error_type", "error_name"})
"""Dimensions of which nothing is known while a call is under way."""


def is_dimension(name: str) -> bool:
    """Return whether a label can be made from it."""
    return name in _OF_CALLS or name == SERVICE_NAME or (name.startswith(CONTEXT) and name != CONTEXT)


def is_of_process(name: str) -> bool:
    """Return whether it can be known without a call."""
    return name == SERVICE_NAME or name.startswith(CONTEXT)


def known(dimension: str, facts: Facts, process: Process) -> str:
    """Return the value of a dimension, empty where it is not known."""
    if dimension.startswith(CONTEXT):
        key = dimension[len(CONTEXT) :]
        return dict(facts.labels).get(key) or str.__str__(process.labels.get(key, ""))
    value = process.service_name if dimension == SERVICE_NAME else _OF_CALLS[dimension](facts)
    if isinstance(value, str):  # a string enum is its value here, as OTLP sends it
        return str.__str__(value)
    return "" if value is None else str(value)


class Label(NamedTuple):
    """How the value of a label is made; each step only where those before gave none."""

    dimensions: tuple[str, ...]
    """The first one that is known counts."""
    hosts: tuple[tuple[re.Pattern[str], str], ...] = ()
    """What is shown of a server, by its whole name in lower case; wins over all else."""
    values: Mapping[str, str] = {}
    """What is shown for a value."""
    otherwise: str | None = None
    """What is shown for any value that is not in `values`; the value itself if this is None."""
    default: str = ""
    """What is shown where nothing is known."""
    needed: bool = False
    """Whether there is no row where nothing is known."""

    def of(self, facts: Facts, process: Process) -> str | None:
        """Return the value of the label, or None where there is to be no row."""
        if not self.dimensions:
            return self.default
        if facts.overflow:
            missing = self.needed and not any(self._values(facts, process))
            return None if missing else OVERFLOW_VALUE
        if self.hosts and facts.server_address:
            host = facts.server_address.lower()
            for pattern, shown in self.hosts:
                if pattern.fullmatch(host):
                    return shown
        for value in self._values(facts, process):
            if value:
                return self.values.get(value, value if self.otherwise is None else self.otherwise)
        return None if self.needed else self.default

    def _values(self, facts: Facts, process: Process) -> list[str]:
        return [known(dimension, facts, process) for dimension in self.dimensions]


def constant(value: str) -> Label:
    """Return a label that says the same of all calls, those beyond the cap included."""
    return Label((), default=value)
