"""A receiver of OTLP/HTTP JSON, which keeps what it is sent as flat lists of plain dicts."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]

SPAN_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUS_CODES = ("UNSET", "OK", "ERROR")
TEMPORALITIES = ("UNSPECIFIED", "DELTA", "CUMULATIVE")
METRIC_KINDS = {
    "sum": "sum",
    "gauge": "gauge",
    "histogram": "histogram",
    "exponentialHistogram": "exponential_histogram",
    "summary": "summary",
}


class OtlpSink:
    """A small server for `/v1/traces`, `/v1/metrics` and `/v1/logs` on a free loopback port; use it in a `with`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, list[Json]] = {"traces": [], "metrics": [], "logs": []}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self._keep))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="otlp-sink", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return the base address, to which senders append `/v1/traces` and the like."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def spans(self) -> list[Json]:
        """Return every span received, in the order of arrival."""
        return self._flat("traces", spans_of)

    def metrics(self) -> list[Json]:
        """Return every metric data point received, in the order of arrival."""
        return self._flat("metrics", points_of)

    def logs(self) -> list[Json]:
        """Return every log record received, events included, in the order of arrival."""
        return self._flat("logs", logs_of)

    def clear(self) -> None:
        """Forget everything received so far."""
        with self._lock:
            for requests in self._kept.values():
                requests.clear()

    def _keep(self, signal: str, request: Json) -> bool:
        with self._lock:
            if signal in self._kept:
                self._kept[signal].append(request)
        return signal in self._kept

    def _flat(self, signal: str, flatten: Callable[[Json], Iterator[Json]]) -> list[Json]:
        with self._lock:
            requests = list(self._kept[signal])
        return [item for request in requests for item in flatten(request)]


def handler_of(keep: Callable[[str, Json], bool]) -> type[BaseHTTPRequestHandler]:
    """Make the handler class that hands each request to `keep`, which tells whether it knows the signal."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = read_body(self.rfile, self.headers.get("Content-Length"))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.headers.get_content_type() != "application/json":
                return self._answer(415)
            self._answer(200 if keep(self.path.removeprefix("/v1/"), json.loads(body)) else 404)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def read_body(stream: BufferedIOBase, length: str | None) -> bytes:
    """Read the body of a request, by its length or, where none is given, by its chunks."""
    if length is not None:
        return stream.read(int(length))
    chunks: list[bytes] = []
    while size := int(stream.readline().split(b";")[0], 16):
        chunks.append(stream.read(size))
        stream.readline()
    stream.readline()
    return b"".join(chunks)


def spans_of(request: Json) -> Iterator[Json]:
    """Flatten one request of `/v1/traces`."""
    for common, span in records(request, "resourceSpans", "scopeSpans", "spans"):
        status = span.get("status", {})
        yield common | {
            "name": span.get("name", ""),
            "kind": named(SPAN_KINDS, span.get("kind", 0)),
            "trace_id": span.get("traceId", ""),
            "span_id": span.get("spanId", ""),
            "parent_span_id": span.get("parentSpanId", ""),
            "start": nanoseconds(span, "startTimeUnixNano"),
            "end": nanoseconds(span, "endTimeUnixNano"),
            "status": named(STATUS_CODES, status.get("code", 0)),
            "status_message": status.get("message", ""),
            "attributes": attributes(span),
            "events": [event_of(event) for event in span.get("events", [])],
            "links": [link_of(link) for link in span.get("links", [])],
        }


def event_of(event: Json) -> Json:
    """Decode one event of a span."""
    return {"name": event.get("name", ""), "time": nanoseconds(event, "timeUnixNano"), "attributes": attributes(event)}


def link_of(link: Json) -> Json:
    """Decode one link of a span."""
    return {"trace_id": link.get("traceId", ""), "span_id": link.get("spanId", ""), "attributes": attributes(link)}


def points_of(request: Json) -> Iterator[Json]:
    """Flatten one request of `/v1/metrics`: one dict for each data point, with the name and unit of its metric."""
    for common, metric in records(request, "resourceMetrics", "scopeMetrics", "metrics"):
        for field, kind in METRIC_KINDS.items():
            if (data := metric.get(field)) is None:
                continue
            about = {"name": metric.get("name", ""), "unit": metric.get("unit", ""), "kind": kind}
            about["description"] = metric.get("description", "")
            if kind in ("sum", "histogram", "exponential_histogram"):
                about["temporality"] = named(TEMPORALITIES, data.get("aggregationTemporality", 0))
            if kind == "sum":
                about["monotonic"] = data.get("isMonotonic", False)
            for point in data.get("dataPoints", []):
                yield common | about | point_of(kind, point)


def point_of(kind: str, point: Json) -> Json:
    """Decode one data point."""
    decoded: Json = {
        "attributes": attributes(point),
        "start": nanoseconds(point, "startTimeUnixNano"),
        "time": nanoseconds(point, "timeUnixNano"),
        "exemplars": [exemplar_of(exemplar) for exemplar in point.get("exemplars", [])],
    }
    if kind in ("sum", "gauge"):
        return decoded | {"value": number(point)}
    decoded |= {"count": int(point.get("count", 0)), "sum": real(point.get("sum", 0.0))}
    decoded |= {edge: real(point[edge]) for edge in ("min", "max") if edge in point}
    if kind == "histogram":
        decoded["bounds"] = [real(bound) for bound in point.get("explicitBounds", [])]
        decoded["bucket_counts"] = [int(count) for count in point.get("bucketCounts", [])]
    elif kind == "exponential_histogram":
        decoded |= {"scale": point.get("scale", 0), "zero_count": int(point.get("zeroCount", 0))}
        decoded |= {side: buckets_of(point.get(side, {})) for side in ("positive", "negative")}
    else:
        quantiles = point.get("quantileValues", [])
        decoded["quantiles"] = {real(each.get("quantile", 0.0)): real(each.get("value", 0.0)) for each in quantiles}
    return decoded


def buckets_of(buckets: Json) -> Json:
    """Decode one side of an exponential histogram."""
    return {"offset": buckets.get("offset", 0), "counts": [int(count) for count in buckets.get("bucketCounts", [])]}


def exemplar_of(exemplar: Json) -> Json:
    """Decode one exemplar."""
    return {
        "value": number(exemplar),
        "time": nanoseconds(exemplar, "timeUnixNano"),
        "trace_id": exemplar.get("traceId", ""),
        "span_id": exemplar.get("spanId", ""),
        "attributes": attributes(exemplar, "filteredAttributes"),
    }


def logs_of(request: Json) -> Iterator[Json]:
    """Flatten one request of `/v1/logs`."""
    for common, record in records(request, "resourceLogs", "scopeLogs", "logRecords"):
        yield common | {
            "event_name": record.get("eventName", ""),
            "body": value(record.get("body", {})),
            "severity": record.get("severityNumber", 0),
            "severity_text": record.get("severityText", ""),
            "time": nanoseconds(record, "timeUnixNano"),
            "trace_id": record.get("traceId", ""),
            "span_id": record.get("spanId", ""),
            "attributes": attributes(record),
        }


def records(request: Json, by_resource: str, by_scope: str, items: str) -> Iterator[tuple[Json, Json]]:
    """Walk down to the records of a request, each with what it has from its resource and scope."""
    for group in request.get(by_resource, []):
        resource = attributes(group.get("resource", {}))
        for scoped in group.get(by_scope, []):
            scope = scoped.get("scope", {})
            common = {"scope": scope.get("name", ""), "scope_version": scope.get("version", ""), "resource": resource}
            common["schema_url"] = scoped.get("schemaUrl", "")
            for item in scoped.get(items, []):
                yield common, item


def attributes(holder: Json, field: str = "attributes") -> Json:
    """Decode a list of key-value pairs."""
    return {pair["key"]: value(pair.get("value", {})) for pair in holder.get(field, [])}


def value(typed: Json) -> Any:
    """Decode an OTLP value to the Python value of the same type."""
    for kind, content in typed.items():
        match kind:
            case "intValue":
                return int(content)  # 64-bit numbers travel as strings
            case "doubleValue":
                return real(content)
            case "arrayValue":
                return [value(item) for item in content.get("values", [])]
            case "kvlistValue":
                return attributes(content, "values")
            case _:
                return content
    return None


def number(point: Json) -> int | float:
    """Decode the value of a point or an exemplar, keeping whole and real numbers apart."""
    return int(point["asInt"]) if "asInt" in point else real(point.get("asDouble", 0.0))


def real(content: float | str) -> float:
    """Decode a real number; the ones JSON has no sign for ("NaN", "Infinity") travel as strings."""
    return float(content)


def nanoseconds(holder: Json, field: str) -> int:
    """Decode a time, 0 where there is none."""
    return int(holder.get(field, 0))


def named(names: tuple[str, ...], code: int | str) -> str:
    """Name an enumeration's value, which travels as a number."""
    return names[int(code)]
