"""The OpenAI formats as Groq, Cerebras and Together AI speak them: with times of the server's own, and usage elsewhere.

Source: the wire formats as groq-python 1.7, cerebras-cloud-sdk 1.91 and together 3.1 declare them: ``x_groq`` and the
times in ``usage`` of Groq, ``time_info`` of Cerebras.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from otel_llm.call import Call
from otel_llm.wire.fields import field, number, text
from otel_llm.wire.format import Format
from otel_llm.wire.openai import CHAT, COMPLETIONS, EMBEDDINGS, read_failure, read_usage
from otel_llm.wire.openai_endpoints import ENDPOINTS

_Reader = Callable[[Call, object], None]


def _read_times(call: Call, times: object) -> None:
    """Read ``prompt_time`` and ``completion_time``, in seconds."""
    seconds = number(field(times, "prompt_time"))
    if seconds is not None:
        call.prompt_seconds = seconds
    seconds = number(field(times, "completion_time"))
    if seconds is not None:
        call.generation_seconds = seconds


def _read_groq(call: Call, answer: object) -> None:
    """Read the times in the usage; in a stream both are in ``x_groq``, which also tells why it stopped early."""
    usage = field(answer, "usage")
    own = field(answer, "x_groq")
    if usage is None and own is not None:
        usage = field(own, "usage")
        if usage is not None:
            read_usage(call, usage)
    if usage is not None:
        _read_times(call, usage)
    failure = text(field(own, "error"))
    if failure:
        read_failure(call, {"message": failure})


def _read_cerebras(call: Call, answer: object) -> None:
    times = field(answer, "time_info")
    if times is not None:
        _read_times(call, times)


def _with(format: Format, read: _Reader) -> Format:
    """Return the format with one more reader of whole answers and of chunks."""

    def read_answer(call: Call, answer: object) -> None:
        format.read_answer(call, answer)
        read(call, answer)

    def read_chunks(call: Call, chunks: Sequence[object]) -> None:
        format.read_chunks(call, chunks)
        for chunk in chunks:
            read(call, chunk)

    return format._replace(read_answer=read_answer, read_chunks=read_chunks)


GROQ: dict[str, Format] = {
    "/openai/v1/chat/completions": _with(CHAT, _read_groq),
    "/openai/v1/embeddings": EMBEDDINGS,
}
CEREBRAS: dict[str, Format] = {
    "/v1/chat/completions": _with(CHAT, _read_cerebras),
    "/v1/completions": _with(COMPLETIONS, _read_cerebras),
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
