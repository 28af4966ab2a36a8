"""The OpenAI formats as their bytes tell them, whoever sent these: with what a client raises.

Source: OpenAI API reference, "Errors".
"""

from __future__ import annotations

from otel_llm.call import Call
from otel_llm.wire import openai
from otel_llm.wire.failure import read_error
from otel_llm.wire.fields import field, fields
from otel_llm.wire.openai_endpoints import ENDPOINTS
from otel_llm.wire.openai_kin import CEREBRAS, GROQ


def _read_more(call: Call, answer: object) -> None:
    """Read an error that comes with status 200; where it has no other name its code may be a number."""
    error = field(answer, "error")
    if error and call.error_type is None:
        code = field(error, "code")
        if type(code) is int:
            error = {**fields(error), "number": str(code)}
        read_error(call, error, "code", "type", "number")


CHAT = openai.CHAT.reading(_read_more)
COMPLETIONS = openai.COMPLETIONS.reading(_read_more)
GROQ_CHAT = GROQ["/openai/v1/chat/completions"].reading(_read_more)
CEREBRAS_CHAT = CEREBRAS["/v1/chat/completions"].reading(_read_more)
CEREBRAS_COMPLETIONS = CEREBRAS["/v1/completions"].reading(_read_more)
IMAGES = ENDPOINTS["POST /images/generations"]
SPEECH = ENDPOINTS["POST /audio/speech"]
TRANSCRIPTIONS = ENDPOINTS["POST /audio/transcriptions"]
MODERATIONS = ENDPOINTS["POST /moderations"]
