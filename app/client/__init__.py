"""A client of the gRPC gateway: events and metrics in, acks out once Kafka has them; docs/protocols.md shows it.

A part is imported when it is asked for: a sender over QUIC needs no gRPC.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.client.async_client import AsyncIngestClient
    from app.client.client import IngestClient
    from app.client.failures import GatewayRefusedError, NotAckedError
    from app.client.pace import Pace
    from app.client.sent_batch import Acked, RefusedItem
    from app.protobuf.events_pb2 import Event
    from app.protobuf.metrics_pb2 import Metric
    from app.runtime.rpc.channel import ClientCredentials

__all__ = [
    "Acked",
    "AsyncIngestClient",
    "ClientCredentials",
    "Event",
    "GatewayRefusedError",
    "IngestClient",
    "Metric",
    "NotAckedError",
    "Pace",
    "RefusedItem",
]
_MODULES = {
    "Acked": "app.client.sent_batch",
    "AsyncIngestClient": "app.client.async_client",
    "ClientCredentials": "app.runtime.rpc.channel",
    "Event": "app.protobuf.events_pb2",
    "GatewayRefusedError": "app.client.failures",
    "IngestClient": "app.client.client",
    "Metric": "app.protobuf.metrics_pb2",
    "NotAckedError": "app.client.failures",
    "Pace": "app.client.pace",
    "RefusedItem": "app.client.sent_batch",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
