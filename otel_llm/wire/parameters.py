"""Read the parameters of a request: those that a table names, the model, and whether a stream is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import integer, number, strings, text
from otel_llm_semconv import attributes as names

Converter = Callable[[object], Any]
Parameters = Mapping[str, tuple[str, Converter]]
"""The attribute of each parameter, and how its value is made of the parameter's."""

SAMPLING: Parameters = {
    "temperature": (names.GEN_AI_REQUEST_TEMPERATURE, number),
    "top_p": (names.GEN_AI_REQUEST_TOP_P, number),
    "top_k": (names.GEN_AI_REQUEST_TOP_K, integer),
    "frequency_penalty": (names.GEN_AI_REQUEST_FREQUENCY_PENALTY, number),
    "presence_penalty": (names.GEN_AI_REQUEST_PRESENCE_PENALTY, number),
    "seed": (names.GEN_AI_REQUEST_SEED, integer),
    "stop": (names.GEN_AI_REQUEST_STOP_SEQUENCES, strings),
}
"""What means the same to every API that takes it under this name."""


def read_parameters(
    call: Call, body: Mapping[str, Any], table: Parameters, options: Mapping[str, Any] | None = None
) -> None:
    """Read a request.

    Args:
        call: takes what is read.
        body: the request, with the model and ``stream``.
        table: the parameters that have a name in the conventions.
        options: what holds the parameters, where they do not stand in the body itself.
    """
    attributes = call.attributes
    for key, value in (body if options is None else options).items():
        known = table.get(key)
        if known is not None and value is not None:
            name, convert = known
            converted = convert(value)
            if converted is not None:
                attributes[name] = converted
    call.request_model = text(body.get("model"))
    if body.get("stream") is True:
        mark_stream(call)


def mark_stream(call: Call) -> None:
    """Take note that a stream is asked for."""
    call.streaming = True
    call.attributes[names.GEN_AI_REQUEST_STREAM] = True


def reader_of(table: Parameters) -> Callable[[Call, Mapping[str, Any]], None]:
    """Return the reader of a request that has nothing else to tell."""

    def read(call: Call, body: Mapping[str, Any]) -> None:
        read_parameters(call, body, table)

    return read


def read_choice_count(call: Call, choices: object) -> None:
    """Read how many answers are asked for, where it is not 1."""
    wanted = integer(choices)
    if wanted is not None and wanted != 1:
        call.choice_count = wanted
        call.attributes[names.GEN_AI_REQUEST_CHOICE_COUNT] = wanted
