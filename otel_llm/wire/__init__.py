"""Read requests, answers and stream chunks into a `Call`: pure functions, one module per API format.

They accept the client's own objects and plain decoded JSON alike, and never raise for an odd answer: what is not of the
expected type is as good as not sent.
"""

from otel_llm.wire.format import Format

__all__ = ["Format"]
