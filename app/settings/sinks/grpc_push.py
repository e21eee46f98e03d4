"""Settings of the sink `grpc`."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr

from app.settings.values import ExistingCaFile, ExistingFile, KeyFile, PositiveFloat, PositiveInt, SecretFile

PushService = Literal["receiver", "ingest"]
NodeReadings = Literal["metrics", "events"]


class GrpcPushSettings(BaseModel, frozen=True):
    """The gRPC receiver (proto/receiver.proto) that readings are pushed to."""

    grpc_push_target: str | None = Field(None, description="address of the receiver: `host:port`, or `unix:///path`")
    grpc_push_service: PushService = Field(
        "receiver", description="service of the receiver: `receiver`; `ingest`: the gRPC gateway of another iot-stream"
    )
    grpc_push_nodes: NodeReadings = Field(
        "metrics",
        description="readings of nodes are sent as `metrics`, or as `events`, with node and sensor for user and device",
    )
    grpc_push_token: SecretStr | None = Field(None, description="bearer token of the receiver; never logged")
    grpc_push_token_file: SecretFile = Field(None, description="file that holds the token, read for each stream")
    grpc_push_tls: bool = Field(False, description="TLS with the system's CAs, when no file is set")
    grpc_push_ca_file: ExistingCaFile = Field(None, description="CA certificates instead of the system's, PEM")
    grpc_push_certificate_file: ExistingFile = Field(
        None, description="client certificate, if the receiver requires mTLS, PEM"
    )
    grpc_push_key_file: KeyFile = Field(
        None, description="key of the client certificate; default: in the file of the certificate"
    )
    grpc_push_server_name: str | None = Field(
        None, description="name in the receiver's certificate, if different from the host of the target"
    )
    grpc_push_batch: PositiveInt = Field(500, description="most readings of one message")
    grpc_push_flush_ms: Annotated[float, Field(ge=0)] = Field(
        200.0, description="longest time a reading waits for a full batch, milliseconds"
    )
    grpc_push_window: PositiveInt = Field(8, description="most messages without an ack")
    grpc_push_timeout: PositiveFloat = Field(30.0, description="timeout of the next ack")
