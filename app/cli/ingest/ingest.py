"""`iot-stream ingest`: several gateways in one process, with one producer to Kafka."""

from typing import Annotated

import typer

from app.cli.ingest.run import run
from app.settings import load


def ingest(
    http: Annotated[bool, typer.Option("--http", help="HTTP: JSON, NDJSON, protobuf, Influx lines.")] = False,
    tcp: Annotated[bool, typer.Option("--tcp", help="JSON lines or Influx lines over TCP.")] = False,
    grpc: Annotated[bool, typer.Option("--grpc", help="gRPC over a UNIX socket, and TCP by setting.")] = False,
    quic: Annotated[bool, typer.Option("--quic", help="QUIC with client certificates.")] = False,
) -> None:
    """Take telemetry in by several ways in one process; an answer goes out once Kafka has every record it stands for.

    The gateways share one bound of memory (IOT_GATEWAY_BUFFER_BYTES) and one metrics port. One gateway alone:
    iot-stream http, tcp, grpc, quic.

    Example: iot-stream ingest --http --grpc
    """
    wanted = {"http": http, "tcp": tcp, "grpc": grpc, "quic": quic}
    ways = [way for way, is_wanted in wanted.items() if is_wanted]
    if not ways:
        raise typer.BadParameter("name at least one way in: --http, --tcp, --grpc, --quic")
    run(load(), ways)
