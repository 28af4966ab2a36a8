"""Write streams as the servers do."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any
from zlib import crc32


def sse(*events: Any, end: str = "\n", done: bool = False, named: bool = False, space: str = " ") -> bytes:
    """Write server-sent events."""
    written = ""
    for event in events:
        name = f"event: {event['type']}{end}" if named else ""
        written += f"{name}data:{space}{json.dumps(event, ensure_ascii=False)}{end}{end}"
    return (written + (f"data:{space}[DONE]{end}{end}" if done else "")).encode()


def lines(*events: Any, end: str = "\n") -> bytes:
    """Write one JSON value on each line."""
    return "".join(json.dumps(event, ensure_ascii=False) + end for event in events).encode()


def array(*events: Any) -> bytes:
    """Write a JSON array as Gemini does it."""
    return (
        "[" + "\n,\r\n".join(json.dumps(event, ensure_ascii=False, indent=2) for event in events) + "\n]\n"
    ).encode()


def frame(kind: str, payload: Any, message: str = "event") -> bytes:
    """Write one message of Amazon's event stream."""
    headers = b""
    for name, value in (
        (f":{message}-type", kind),
        (":content-type", "application/json"),
        (":message-type", message),
    ):
        headers += bytes([len(name)]) + name.encode() + b"\x07" + len(value).to_bytes(2, "big") + value.encode()
    data = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    length = 12 + len(headers) + len(data) + 4
    prelude = length.to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    whole = prelude + crc32(prelude).to_bytes(4, "big") + headers + data
    return whole + crc32(whole).to_bytes(4, "big")


def frames(events: Iterable[dict[str, Any]]) -> bytes:
    """Write messages given as objects with one member."""
    return b"".join(frame(kind, payload) for event in events for kind, payload in event.items())


def invoked(*events: Any) -> bytes:
    """Write a model's own chunks as Bedrock wraps them; it measures, and tells it in the last one."""
    measures = {"inputTokenCount": 9, "outputTokenCount": 4, "invocationLatency": 512, "firstByteLatency": 210}
    last = {**events[-1], "amazon-bedrock-invocationMetrics": measures}
    chunks = [base64.b64encode(json.dumps(event).encode()).decode() for event in (*events[:-1], last)]
    return frames([{"chunk": {"bytes": chunk, "p": "abcdef"}} for chunk in chunks])
