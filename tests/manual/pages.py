"""What the pages of the dialects say, as plain values."""

from __future__ import annotations

import otel_llm


def rows(dialect: str, *prefixes: str) -> dict[str, float]:
    """Return the samples of a page whose names begin so, without buckets, by name and labels as written."""
    found: dict[str, float] = {}
    for line in otel_llm.generate_latest(dialect).decode().splitlines():
        name, _, value = line.rpartition(" ")
        if line.startswith(prefixes) and not line.startswith("#") and "_bucket{" not in line:
            assert name not in found
            found[name] = float(value)
    return found
