"""The OpenAI formats as Groq, Cerebras and Together AI speak them: with times of the server's own, and usage elsewhere.

Source: the wire formats as groq-python 1.7, cerebras-cloud-sdk 1.91 and together 3.1 declare them: ``x_groq`` and the
times in ``usage`` of Groq, ``time_info`` of Cerebras.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_llm.call import Call
from otel_llm.wire.failure import read_error
from otel_llm.wire.fields import field, text
from otel_llm.wire.format import Format
from otel_llm.wire.openai import CHAT, COMPLETIONS, EMBEDDINGS, read_usage
from otel_llm.wire.openai_endpoints import ENDPOINTS
from otel_llm.wire.times import read_times


def _read_groq(call: Call, answer: object) -> None:
    """Read the times in the usage; in a stream both are in ``x_groq``, which also tells why it stopped early."""
    usage = field(answer, "usage")
    own = field(answer, "x_groq")
    if usage is None and own is not None:
        usage = field(own, "usage")
        if usage is not None:
            read_usage(call, usage)
    if usage is not None:
        read_times(call, usage)
    failure = text(field(own, "error"))
    if failure:
        read_error(call, {"message": failure}, "code")


def _read_cerebras(call: Call, answer: object) -> None:
    times = field(answer, "time_info")
    if times is not None:
        read_times(call, times)


GROQ: dict[str, Format] = {
    "/openai/v1/chat/completions": CHAT.reading(_read_groq),
    "/openai/v1/embeddings": EMBEDDINGS,
}
CEREBRAS: dict[str, Format] = {
    "/v1/chat/completions": CHAT.reading(_read_cerebras),
    "/v1/completions": COMPLETIONS.reading(_read_cerebras),
}
TOGETHER: dict[str, Format] = {
    f"{prefix}/{path}": format
    for prefix in ("", "/v1")
    for path, format in {"chat/completions": CHAT, "completions": COMPLETIONS, "embeddings": EMBEDDINGS}.items()
}
"""The formats by the path that each client posts to; the paths of `together` 2 begin below the version."""


def endpoints(formats: Mapping[str, Format]) -> dict[str, Format]:
    """Return the formats of all known endpoints, where these are spoken instead of OpenAI's."""
    return {**ENDPOINTS, **{f"POST {path.rpartition('v1')[2]}": format for path, format in formats.items()}}
