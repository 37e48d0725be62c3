"""A collector of traces: OTLP over HTTP on the loopback, decoded as OpenTelemetry defines it."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Received:
    """A span as it arrived; ids in hex, `parent` "" for none."""

    service: str
    trace: str
    id: str
    parent: str
    name: str
    begun: int
    ended: int
    attributes: dict[str, str | int]
    error: str
    links: tuple[str, ...]


@dataclass
class Collector:
    """Where spans are sent, and what has come."""

    endpoint: str
    spans: list[Received] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def named(self, name: str, /, **attributes: str) -> list[Received]:
        """The spans of a name with these attributes, written without their prefix."""
        wanted = {f"palimpsest.{key}": value for key, value in attributes.items()}
        return [
            span
            for span in list(self.spans)
            if span.name == name and wanted.items() <= span.attributes.items()
        ]

    def trace(self, identity: str) -> list[Received]:
        """All spans of a trace."""
        return [span for span in list(self.spans) if span.trace == identity]


@contextmanager
def collecting(certificate: tuple[Path, Path] | None = None) -> Iterator[Collector]:
    """A collector, while the block lasts; with a (certificate, key) of 127.0.0.1 over TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            collector.headers.append({name.lower(): each for name, each in self.headers.items()})
            collector.spans += received(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - as the base has it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if certificate else "http"
    collector = Collector(f"{scheme}://127.0.0.1:{server.server_address[1]}")
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def received(request: ExportTraceServiceRequest) -> list[Received]:
    """A request's spans."""
    found = []
    for group in request.resource_spans:
        about = {each.key: each.value.string_value for each in group.resource.attributes}
        for scope in group.scope_spans:
            for span in scope.spans:
                kinds = {each.key: each.value.WhichOneof("value") for each in span.attributes}
                found.append(
                    Received(
                        service=about["service.name"],
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        name=span.name,
                        begun=span.start_time_unix_nano,
                        ended=span.end_time_unix_nano,
                        attributes={
                            each.key: getattr(each.value, kinds[each.key] or "string_value")
                            for each in span.attributes
                        },
                        error=span.status.message,
                        links=tuple(each.trace_id.hex() for each in span.links),
                    )
                )
    return found
