"""`iot-stream grpc`: the gRPC gateway alone, or the health of the gateway that runs."""

from typing import Annotated

import typer

from app.settings import load


def grpc(
    health: Annotated[bool, typer.Option("--health", help="Ask the running gateway for its state, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --health: for a machine.")] = False,
) -> None:
    """Take batches in over gRPC, from programs of this machine (UNIX socket) and of other machines (TLS); see
    proto/ingest.proto.

    PushMetrics and PushEvents take one batch, StreamMetrics and StreamEvents many; a batch is answered once Kafka has
    it. Flush answers once all that came before is in Kafka, GetHealth reports the gateway's state. Reflection and
    grpc.health.v1 are served too.

    The gateway listens on the socket IOT_GRPC_SOCKET (/tmp/telemetry_ingest.sock, mode 0660, never taken from a server
    that runs), and with IOT_GRPC_PORT on TCP. Callers send `authorization: Bearer <token>` of iot-stream users token,
    or show a client certificate (IOT_GRPC_CA_FILE); on the socket IOT_GATEWAY_ANONYMOUS_ACCOUNT may stand for all of
    them.

    Example, an account for the programs of this machine, then a batch of theirs:

    \b
    iot-stream users add sidecar --allow 'publish:iot/+/+/telemetry'
    IOT_GATEWAY_ANONYMOUS_ACCOUNT=sidecar iot-stream grpc &
    grpcurl -plaintext -unix -d '{"batch": {"metrics": [{"node_id": "n1", "sensor_id": "s1", "value": 21.5}]}}' \\
      /tmp/telemetry_ingest.sock iot_stream.ingest.v1.Ingest/PushMetrics
    iot-stream grpc --health
    """
    settings = load()
    if health:
        from app.cli.ingest.grpc_health import show

        raise typer.Exit(show(settings, as_json))
    from app.cli.ingest.run import run

    run(settings, ["grpc"])
