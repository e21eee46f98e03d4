"""A real OTLP receiver for tests: gRPC's TraceService and HTTP's POST /v1/traces, on loopback and free ports.

It keeps the spans it is sent, to be asked about; and it can be a collector that hangs, fails or is slow (`mode`). One
that is away is a port where nobody listens: `closed_endpoint()`.
"""

import gzip
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

SLOW_SECONDS = 0.5  # before each answer of a slow collector
BODY_BYTES = 64 << 20


class Mode(StrEnum):
    """What becomes of a request."""

    TAKE = "take"
    SLOW = "slow"  # taken and answered SLOW_SECONDS later
    FAIL = "fail"  # UNAVAILABLE over gRPC, 500 over HTTP; no span is taken
    HANG = "hang"  # never answered, until the mode changes; no span is taken


@dataclass(frozen=True)
class Link:
    """A span that a span points to, ids as lower-case hexadecimal."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it was sent: ids as lower-case hexadecimal, times as nanoseconds since 1970."""

    name: str
    kind: str  # PRODUCER, CONSUMER, CLIENT, SERVER, INTERNAL
    trace_id: str
    span_id: str
    parent_id: str  # "": a root
    trace_state: str
    attributes: Mapping[str, Any]
    links: tuple[Link, ...]
    events: tuple[str, ...]  # their names
    status: str  # UNSET, OK, ERROR
    status_message: str
    start: int
    end: int
    resource: Mapping[str, Any]

    def is_child_of(self, other: "ReceivedSpan") -> bool:
        """Whether `other` is its parent, in the same trace."""
        return (self.trace_id, self.parent_id) == (other.trace_id, other.span_id)

    def links_to(self, other: "ReceivedSpan") -> bool:
        """Whether one of its links resolves to `other`."""
        return any((link.trace_id, link.span_id) == (other.trace_id, other.span_id) for link in self.links)


class OtlpReceiver:
    """Runs from `start` to `stop`; the spans of the whole time are at hand, in the order received."""

    def __init__(self, keep: bool = True) -> None:
        """`keep`: whether spans are kept, or only counted, as of a run of an hour."""
        self.requests = 0  # that reached it, whatever became of them
        self.taken = 0  # spans
        self._keep = keep
        self._spans: list[ReceivedSpan] = []
        self._lock = threading.Lock()
        self._mode = Mode.TAKE
        self._changed = threading.Condition()
        self._grpc = grpc.server(ThreadPoolExecutor(16, thread_name_prefix="otlp"))
        add_TraceServiceServicer_to_server(_GrpcService(self), self._grpc)  # type: ignore[no-untyped-call]
        self._grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._http = _HttpServer(self)

    def start(self) -> None:
        """Answer requests."""
        self._grpc.start()
        self._http.start()

    def stop(self) -> None:
        """Free the ports; what hangs is let go."""
        self.mode = Mode.FAIL
        self._grpc.stop(None).wait(5)
        self._http.stop()

    @property
    def mode(self) -> Mode:
        """What becomes of requests from now on."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        with self._changed:
            self._mode = mode
            self._changed.notify_all()

    def environment(self, protocol: str = "grpc") -> dict[str, str]:
        """The standard variables that send a program's spans to this receiver; `protocol`: grpc or http/protobuf."""
        return environment(self.grpc_endpoint if protocol == "grpc" else self.http_endpoint, protocol)

    @property
    def grpc_endpoint(self) -> str:
        """Of OTLP over gRPC."""
        return f"http://127.0.0.1:{self._grpc_port}"

    @property
    def http_endpoint(self) -> str:
        """Of OTLP over HTTP, without /v1/traces."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All spans so far."""
        with self._lock:
            return list(self._spans)

    def named(self, name: str, **attributes: object) -> list[ReceivedSpan]:
        """The spans of a name that have these attributes."""
        wanted = attributes.items()
        return [one for one in self.spans if one.name == name and wanted <= one.attributes.items()]

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        """The spans of one trace."""
        return [one for one in self.spans if one.trace_id == trace_id]

    def dangling(self) -> list[Link]:
        """The links that point to no span received."""
        known = {(one.trace_id, one.span_id) for one in self.spans}
        links = [link for one in self.spans for link in one.links]
        return [link for link in links if (link.trace_id, link.span_id) not in known]

    def take(self, body: bytes) -> bool:
        """Take a request (ExportTraceServiceRequest): whether it is taken; returns late or never, after the mode."""
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.requests += 1
        with self._changed:
            self._changed.wait_for(lambda: self._mode is not Mode.HANG)
            mode = self._mode
        if mode is Mode.FAIL:
            return False
        with self._lock:
            self.taken += sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
            if self._keep:
                self._spans += _spans(request)
        if mode is Mode.SLOW:
            time.sleep(SLOW_SECONDS)
        return True


@contextmanager
def receiver(keep: bool = True) -> Iterator[OtlpReceiver]:
    """A started receiver, stopped afterwards; `keep`: whether it keeps the spans, or only counts them."""
    made = OtlpReceiver(keep)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def environment(endpoint: str, protocol: str = "grpc") -> dict[str, str]:
    """The standard variables that send a program's spans to `endpoint`, twenty times a second."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }


def closed_endpoint() -> str:
    """An address that refuses connections: its port was free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


class _GrpcService(TraceServiceServicer):
    def __init__(self, owner: OtlpReceiver) -> None:
        self._owner = owner

    def Export(self, request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        if not self._owner.take(request.SerializeToString()):
            context.abort(grpc.StatusCode.UNAVAILABLE, "this collector fails")
        return ExportTraceServiceResponse()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: OtlpReceiver) -> None:
        super().__init__(("127.0.0.1", 0), _HttpRequest)
        self.owner = owner
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="otlp-http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join(5)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of one that hangs go away before the answer, which is what is wanted."""


class _HttpRequest(BaseHTTPRequestHandler):
    server: _HttpServer

    def do_POST(self) -> None:
        if self.path != "/v1/traces":
            self._answer(404)
            return
        body = self.rfile.read(min(BODY_BYTES, int(self.headers["Content-Length"])))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self._answer(200 if self.server.owner.take(body) else 500)

    def _answer(self, status: int) -> None:
        body = ExportTraceServiceResponse().SerializeToString()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


def _spans(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for one in scope_spans.spans:
                links = (Link(x.trace_id.hex(), x.span_id.hex(), _attributes(x.attributes)) for x in one.links)
                yield ReceivedSpan(
                    name=one.name,
                    kind=one.SpanKind.Name(one.kind).removeprefix("SPAN_KIND_"),
                    trace_id=one.trace_id.hex(),
                    span_id=one.span_id.hex(),
                    parent_id=one.parent_span_id.hex(),
                    trace_state=one.trace_state,
                    attributes=_attributes(one.attributes),
                    links=tuple(links),
                    events=tuple(event.name for event in one.events),
                    status=one.status.StatusCode.Name(one.status.code).removeprefix("STATUS_CODE_"),
                    status_message=one.status.message,
                    start=one.start_time_unix_nano,
                    end=one.end_time_unix_nano,
                    resource=resource,
                )


def _attributes(found: Iterable[KeyValue]) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in found}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return tuple(map(_value, value.array_value.values))
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)
