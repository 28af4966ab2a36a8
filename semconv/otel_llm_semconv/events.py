"""Events, which are log records with a name."""

from typing import Final, NamedTuple


class Event(NamedTuple):
    """What the conventions say about one event."""

    name: str
    """Name of the event, the log record's `event_name`."""
    severity_number: int | None
    """Severity of the log record, or `None` where the conventions give none."""
    severity_text: str | None
    """Short name of the severity."""
    source: str
    """Where the event is defined."""


GEN_AI_CLIENT_INFERENCE_OPERATION_DETAILS: Final = Event(
    "gen_ai.client.inference.operation.details", 5, "DEBUG", "GenAI semantic conventions, events"
)
"""All attributes of an inference span, and content in structured form if asked for."""

GEN_AI_CLIENT_OPERATION_EXCEPTION: Final = Event(
    "gen_ai.client.operation.exception", 13, "WARN", "GenAI semantic conventions, exceptions"
)
"""The exception which ended an operation: `exception.type`, `exception.message` and `exception.stacktrace`."""

GEN_AI_EVALUATION_RESULT: Final = Event("gen_ai.evaluation.result", None, None, "GenAI semantic conventions, events")
"""The result of evaluating a response: the `gen_ai.evaluation.*` attributes, on the span that was evaluated."""

ALL: Final = (GEN_AI_CLIENT_INFERENCE_OPERATION_DETAILS, GEN_AI_CLIENT_OPERATION_EXCEPTION, GEN_AI_EVALUATION_RESULT)
"""Every event."""
