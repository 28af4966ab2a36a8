"""Times by the server's own clock, which answers tell beside their usage.

Source: llama.cpp, tools/server/README.md, "POST /completion" and "POST /v1/chat/completions" (``timings``); the usage
of Groq and ``time_info`` of Cerebras, as groq-python 1.7 and cerebras-cloud-sdk 1.91 declare them.
"""

from __future__ import annotations

from otel_llm.call import Call
from otel_llm.wire.fields import count, fields, number


def read_timings(call: Call, timings: object) -> None:
    """Read ``timings``: milliseconds of the prompt and of the prediction, and what of the prompt was cached."""
    own = fields(timings)
    prompt, predicted = number(own.get("prompt_ms")), number(own.get("predicted_ms"))
    if prompt is not None:
        call.prompt_seconds = prompt / 1000
    if predicted is not None:
        call.generation_seconds = predicted / 1000
    cached = count(own.get("cache_n"))
    if cached is not None:
        call.cache_read_tokens = cached


def read_times(call: Call, times: object) -> None:
    """Read ``prompt_time`` and ``completion_time``, in seconds."""
    own = fields(times)
    prompt, completion = number(own.get("prompt_time")), number(own.get("completion_time"))
    if prompt is not None:
        call.prompt_seconds = prompt
    if completion is not None:
        call.generation_seconds = completion
