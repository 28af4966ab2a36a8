"""The calls of the scene: what is asked, how it ends, and what a dialect can tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

QUESTION = "What is the capital of France?"
INPUT_TOKENS = 6
OUTPUT_TOKENS = 8
LOAD_SECONDS = 0.012345678
"""What the scripted server says it took to load a model."""

MIDDLE = 0.3
"""Seconds that a call of the model `middle` takes."""
SLOW = 6.0
"""Seconds that the slow calls take."""
PATIENCE = 0.12
"""Seconds after which a client gives up on an answer that does not come."""


class Made(NamedTuple):
    """A call, made some times in each round."""

    client: str
    """``openai``, ``ollama``, or ``httpx`` alone."""
    model: str
    times: int = 1
    operation: str = "chat"
    streamed: bool = False
    error_class: str = ""
    """How it fails: ``rate_limit``, ``api_error``, ``timeout``, ``network``, ``cancelled``; else it does not."""
    error_name: str = ""
    """The class of the exception that the caller gets."""
    labels: Mapping[str, str] = {}
    input_tokens: int = INPUT_TOKENS
    output_tokens: int | None = OUTPUT_TOKENS
    """None where there is no output."""

    @property
    def provider(self) -> str:
        """Who is called."""
        return "ollama" if self.client == "ollama" else "openai"

    @property
    def path(self) -> str:
        """The API that is called."""
        if self.client == "ollama":
            return "/api/embed" if self.operation == "embeddings" else "/api/chat"
        return "/v1/embeddings" if self.operation == "embeddings" else "/v1/chat/completions"


WEB = {"backend": "GPT-4o", "task_type": "extraction", "graph": "support", "client_id": "c1", "container": "web"}
JOBS = {"backend": "GPT-4o", "graph": "router", "client_id": "c2", "container": "jobs"}

ROUND = (
    Made("openai", "gpt-5", 4, labels=WEB),
    Made("openai", "gpt-5", 3, streamed=True, labels=JOBS),
    Made("openai", "text-embedding-3-small", 2, "embeddings", output_tokens=None),
    Made("openai", "middle", 2),
    Made("openai", "slow"),
    Made("openai", "gpt-5", 12, error_class="rate_limit", error_name="RateLimitError", labels=WEB),
    Made("openai", "gpt-5", error_class="rate_limit", error_name="RateLimitError", labels=JOBS),
    Made("openai", "gpt-5", error_class="rate_limit", error_name="RateLimitError"),
    Made("openai", "gpt-5", 3, error_class="api_error", error_name="InternalServerError", labels=WEB),
    Made("openai", "gpt-5", 2, error_class="timeout", error_name="APITimeoutError"),
    Made("openai", "gpt-5", 2, error_class="network", error_name="APIConnectionError"),
    Made("openai", "gpt-5", 2, error_class="cancelled", error_name="CancelledError"),
    Made("ollama", "llama3.2", 3, labels={"container": "gpu"}),
    Made("ollama", "llama3.2", 2, streamed=True, labels={"container": "gpu"}),
    Made("ollama", "nomic-embed", operation="embeddings", output_tokens=None),
    Made("ollama", "llama3.2", error_class="api_error", error_name="ResponseError", labels={"container": "gpu"}),
    Made("httpx", "mistral", 2),
)
"""What each round does, one call after the other."""

LATE = Made("openai", "slow")
LATE_TIMES = 3
"""Calls of the model `slow` that take `SLOW` seconds, made once beside the rounds."""

HELD = (
    Made("openai", "gpt-5", 2, labels=WEB),
    Made("ollama", "llama3.2", labels={"container": "gpu"}),
)
"""Calls that are in flight when everything is asked, and never end."""
