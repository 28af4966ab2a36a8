"""The OpenAI formats as their bytes tell them, whoever sent these: with what a client raises, and what only some say.

Source: OpenAI API reference, "Errors"; llama.cpp, tools/server/README.md, "POST /v1/chat/completions" (``timings``).
"""

from __future__ import annotations

from collections.abc import Sequence

from otel_llm.call import Call
from otel_llm.wire import openai
from otel_llm.wire.fields import field, text
from otel_llm.wire.format import Format
from otel_llm.wire.llama_cpp import read_timings
from otel_llm.wire.openai_endpoints import ENDPOINTS
from otel_llm.wire.openai_kin import CEREBRAS, GROQ
from otel_llm_semconv.errors import ErrorType


def _of_any(format: Format) -> Format:
    """Return the format with errors that come with status 200 and with the server's own times."""

    def read_answer(call: Call, answer: object) -> None:
        format.read_answer(call, answer)
        _read_more(call, answer)

    def read_chunks(call: Call, chunks: Sequence[object]) -> None:
        format.read_chunks(call, chunks)
        for chunk in chunks:
            _read_more(call, chunk)

    return format._replace(read_answer=read_answer, read_chunks=read_chunks)


def _read_more(call: Call, answer: object) -> None:
    timings = field(answer, "timings")
    if timings is not None:
        read_timings(call, timings)
    error = field(answer, "error")
    if error and call.error_type is None:
        code = field(error, "code")
        call.error_type = text(code) or text(field(error, "type")) or (str(code) if type(code) is int else None)
        call.error_type = call.error_type or ErrorType.OTHER
        call.error_message = text(field(error, "message")) or text(error)


CHAT = _of_any(openai.CHAT)
COMPLETIONS = _of_any(openai.COMPLETIONS)
GROQ_CHAT = _of_any(GROQ["/openai/v1/chat/completions"])
CEREBRAS_CHAT = _of_any(CEREBRAS["/v1/chat/completions"])
CEREBRAS_COMPLETIONS = _of_any(CEREBRAS["/v1/completions"])
IMAGES = ENDPOINTS["POST /images/generations"]
SPEECH = ENDPOINTS["POST /audio/speech"]
TRANSCRIPTIONS = ENDPOINTS["POST /audio/transcriptions"]
MODERATIONS = ENDPOINTS["POST /moderations"]
