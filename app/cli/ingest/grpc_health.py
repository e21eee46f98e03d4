"""`iot-stream grpc --health`: asks the gateway on the UNIX socket, and prints the answer, for people and probes."""

import json
from datetime import UTC, datetime
from urllib.parse import quote

import grpc
from google.protobuf.json_format import MessageToDict

from app.errors import PermanentError, TransientError
from app.protobuf.ingest_pb2 import GetHealthRequest, GetHealthResponse
from app.protobuf.ingest_pb2_grpc import IngestStub
from app.settings import Settings

SECONDS = 5.0


def show(settings: Settings, as_json: bool) -> int:
    """Print what the gateway answers on standard output; returns the exit code, 0: the gateway serves, 1: it does not.

    Raises PermanentError without a socket, TransientError when no gateway answers.
    """
    found = asked(settings)
    if as_json:
        said = MessageToDict(found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        print(json.dumps(said))
    else:
        print("\n".join(f"{name:14} {value}" for name, value in lines(found)))
    return 0 if found.status == GetHealthResponse.STATUS_SERVING else 1


def asked(settings: Settings) -> GetHealthResponse:
    """What the gateway on the UNIX socket of the settings answers to GetHealth within SECONDS. Raises PermanentError
    without a socket, TransientError when no gateway answers.
    """
    if settings.grpc_socket is None:
        raise PermanentError("there is no socket to ask on: IOT_GRPC_SOCKET is off")
    with grpc.insecure_channel(f"unix:{quote(str(settings.grpc_socket.absolute()))}") as channel:
        try:
            return IngestStub(channel).GetHealth(GetHealthRequest(), timeout=SECONDS)
        except grpc.RpcError as error:
            why = error.details() if isinstance(error, grpc.Call) else error
            raise TransientError(
                f"no gateway answers on {settings.grpc_socket}: {why}; is the gateway started?"
            ) from None


def lines(found: GetHealthResponse) -> list[tuple[str, str]]:
    """(name, value) of each figure in the answer, for a person, in the order of the lines."""
    said = [
        ("status", GetHealthResponse.Status.Name(found.status).removeprefix("STATUS_").lower().replace("_", " ")),
        ("kafka", "connected" if found.kafka_connected else "away"),
    ]
    if found.HasField("mqtt_connected"):
        said.append(("mqtt", "answers" if found.mqtt_connected else "away"))
    said.append(("waiting", f"{found.queue_depth} records"))
    if found.HasField("last_flush_time_us"):
        mean = 1000 * found.average_flush_seconds
        said.append(("last flush", f"{_at(found.last_flush_time_us)}, {found.last_flush_records} records"))
        said.append(("mean flush", f"{mean:.1f} ms"))
    if found.HasField("last_error"):
        said.append(("last error", f"{_at(found.last_error_time_us)} {found.last_error}"))
    return [*said, ("version", f"{found.version}, up {found.uptime_seconds:.0f} s")]


def _at(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat(timespec="milliseconds")
