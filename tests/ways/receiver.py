"""A receiver of OTLP by gRPC and by HTTP, which keeps the names of what it is sent."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import grpc  # type: ignore[import-untyped]  # its stubs are in a package of their own
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Receiver:
    """Receive OTLP on two free loopback ports, `grpc` and `http`; use it in a `with`."""

    def __init__(self) -> None:
        self._spans: list[Any] = []
        self._metrics: list[Any] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._take))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="receiver", daemon=True)
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        self._grpc.add_generic_rpc_handlers(
            [
                _service("trace.v1.TraceService", ExportTraceServiceRequest, self._take_spans),
                _service("metrics.v1.MetricsService", ExportMetricsServiceRequest, self._take_metrics),
            ]
        )
        port = self._grpc.add_insecure_port("127.0.0.1:0")
        self.http = f"http://127.0.0.1:{self._http.server_port}"
        self.grpc = f"http://127.0.0.1:{port}"

    def spans(self, scope: str = "otel_llm") -> list[str]:
        """Return the names of the spans of a scope, in the order in which they came."""
        return [
            span.name
            for request in list(self._spans)
            for group in request.resource_spans
            for scoped in group.scope_spans
            if scoped.scope.name == scope
            for span in scoped.spans
        ]

    def metrics(self, scope: str = "otel_llm") -> set[str]:
        """Return the names of the metrics of a scope."""
        return {
            metric.name
            for request in list(self._metrics)
            for group in request.resource_metrics
            for scoped in group.scope_metrics
            if scoped.scope.name == scope
            for metric in scoped.metrics
        }

    def _take_spans(self, request: Any, context: object = None) -> Any:
        self._spans.append(request)
        return ExportTraceServiceResponse()

    def _take_metrics(self, request: Any, context: object = None) -> Any:
        self._metrics.append(request)
        return ExportMetricsServiceResponse()

    def _take(self, path: str, body: bytes) -> bytes:
        answer: Any
        if path == "/v1/traces":
            answer = self._take_spans(ExportTraceServiceRequest.FromString(body))
        else:
            assert path == "/v1/metrics", path
            answer = self._take_metrics(ExportMetricsServiceRequest.FromString(body))
        content: bytes = answer.SerializeToString()
        return content

    def __enter__(self) -> Self:
        self._thread.start()
        self._grpc.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._grpc.stop(None).wait(10)
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def _service(name: str, request: Any, take: Callable[[Any, object], Any]) -> Any:
    def written(answer: Any) -> bytes:
        content: bytes = answer.SerializeToString()
        return content

    library: Any = grpc
    method = library.unary_unary_rpc_method_handler(
        take, request_deserializer=request.FromString, response_serializer=written
    )
    return library.method_handlers_generic_handler(f"opentelemetry.proto.collector.{name}", {"Export": method})


def _handler(take: Callable[[str, bytes], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer = take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
