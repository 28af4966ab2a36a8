"""Reranking, as Jina began it and vLLM, llama.cpp, Infinity and others took it over; Cohere's is of the same shape.

Source: Jina AI, "Reranker API"; vLLM, "Re-rank API"; Cohere API reference, "Rerank API (v2)".
"""

from __future__ import annotations

from otel_llm.call import Call
from otel_llm.wire.fields import count, field, fields, integer, text
from otel_llm.wire.format import Format
from otel_llm.wire.parameters import Parameters, reader_of
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import Operation

_RERANK: Parameters = {
    "top_n": (names.GEN_AI_RETRIEVAL_TOP_K, integer),
    "top_k": (names.GEN_AI_RETRIEVAL_TOP_K, integer),
}


def _read_answer(call: Call, answer: object) -> None:
    """Read the tokens, which the servers call by different names; Cohere bills searches, not tokens."""
    own = fields(answer)
    call.response_id = text(own.get("id"))
    call.response_model = text(own.get("model"))
    usage = own.get("usage") or field(own.get("meta"), "tokens")
    for key in ("prompt_tokens", "input_tokens", "total_tokens"):
        tokens = count(field(usage, key))
        if tokens is not None:
            call.input_tokens = tokens
            return


RERANK = Format(Operation.RERANK, reader_of(_RERANK), _read_answer)
