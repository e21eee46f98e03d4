"""Settings that all gateways share, and what each of them listens on."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from app.settings.values import ClientCaFile, ExistingFile, Host, KeyFile, NonNegativeInt, PositiveFloat, PositiveInt


def _or_none(value: Any) -> Any:
    return None if value == "-" else value


OptionalPort = Annotated[int, Field(ge=0, le=65535)]
TagName = Annotated[str, Field(min_length=1, max_length=200)]
LineFormat = Literal["json", "influx"]
TimeUnit = Literal["ns", "us", "ms", "s"]
UnixSocket = Annotated[Path | None, BeforeValidator(_or_none)]
_KEY = "key of the certificate; default: in the certificate's file"
_CA = "CA of the clients, which are then asked for certificates"


class GatewaySettings(BaseModel, frozen=True):
    """Bounds and accounts of every gateway."""

    gateway_client_id: str = Field("iot-gateway-1", description="name of this process at Kafka")
    gateway_buffer_bytes: PositiveInt = Field(
        64 << 20, description="memory of records that Kafka has not acknowledged; then readers pause, HTTP answers 503"
    )
    gateway_body_max_bytes: PositiveInt = Field(
        4 << 20,
        description="largest body, frame or message, also when inflated; what is larger is refused unread",
    )
    gateway_batch_max_items: PositiveInt = Field(10_000, description="most items of one body, frame or message")
    gateway_idle_seconds: PositiveFloat = Field(
        75.0, description="a connection that says nothing for so long is closed"
    )
    gateway_header_seconds: PositiveFloat = Field(
        10.0, description="longest a login, the head of a request or a begun frame may take"
    )
    gateway_connections: PositiveInt = Field(2000, description="most connections of one gateway; more are refused")
    gateway_peer_connections: NonNegativeInt = Field(
        0, description="most connections of one address, or IPv6 network of 64 bits; 0: half of all"
    )
    gateway_account_connections: NonNegativeInt = Field(
        0, description="most connections of one account at TCP, and most requests under way at HTTP; 0: half of all"
    )
    gateway_dead_letter_rejected: bool = Field(
        False,
        description="refused items become dead letters too, up to 1 MiB each; their sender gets the reason either way",
    )
    gateway_behind_proxy: bool = Field(
        False,
        description="a proxy in front encrypts and alone reaches the gateways: hosts beyond loopback need "
        "no certificate, and HTTP believes the proxy's X-Forwarded-For",
    )
    gateway_anonymous_account: str | None = Field(
        None, description="account of senders without credentials; on loopback and UNIX sockets alone"
    )
    gateway_influx_user_tag: TagName = Field(
        "user_id", description="the tag of an Influx line that names its user; without it, the account"
    )
    gateway_influx_device_tag: TagName = Field(
        "device_id", description="the tag of an Influx line that names its device; `host` suits Telegraf"
    )
    auth_cache_seconds: PositiveFloat = Field(
        300.0, description="credentials are looked up again after so long; for an hour while the database is away"
    )


class HttpSettings(BaseModel, frozen=True):
    """`iot-stream http`."""

    http_host: Host = Field("127.0.0.1", description="address of the HTTP gateway; all: 0.0.0.0 or ::, with TLS")
    http_port: OptionalPort = Field(8088, description="port of the HTTP gateway; 0 takes a free port")
    http_certificate_file: ExistingFile = Field(None, description="TLS with this certificate, PEM")
    http_key_file: KeyFile = Field(None, description=_KEY)
    http_ca_file: ClientCaFile = Field(None, description=_CA)
    http_body_seconds: PositiveFloat = Field(30.0, description="longest the body of a request may take to come")
    http_answer_seconds: PositiveFloat = Field(
        10.0,
        description="longest a request waits for Kafka's ack; then it is answered 503, to be sent again",
    )


class TcpSettings(BaseModel, frozen=True):
    """`iot-stream tcp`."""

    tcp_host: Host = Field("127.0.0.1", description="address of the TCP gateway; all: 0.0.0.0 or ::, with TLS")
    tcp_port: OptionalPort = Field(8089, description="port of the TCP gateway; 0 takes a free port")
    tcp_certificate_file: ExistingFile = Field(None, description="TLS with this certificate, PEM")
    tcp_key_file: KeyFile = Field(None, description=_KEY)
    tcp_ca_file: ClientCaFile = Field(None, description=_CA)
    tcp_format: LineFormat = Field("json", description="what a line is: `json`, an object, or `influx`, line protocol")
    tcp_influx_precision: TimeUnit = Field("ns", description="unit of the times in Influx lines: ns, us, ms or s")
    tcp_line_max_bytes: PositiveInt = Field(1 << 20, description="a longer line is refused, unread")
    tcp_unacked_bytes: PositiveInt = Field(
        4 << 20, description="lines of one connection that Kafka has not acknowledged; then the connection is not read"
    )


class GrpcSettings(BaseModel, frozen=True):
    """`iot-stream grpc`."""

    grpc_socket: UnixSocket = Field(
        Path("/tmp/telemetry_ingest.sock"),  # noqa: S108 - agreed with sidecars; of mode 0660, and never taken over
        description="UNIX socket of the gRPC gateway; mode 0660; `-`: none",
    )
    grpc_socket_group: str | None = Field(
        None, description="group that may open the socket; default: the group of the process"
    )
    grpc_host: Host = Field("127.0.0.1", description="address of the gRPC gateway; all: 0.0.0.0 or ::, with TLS")
    grpc_port: OptionalPort = Field(0, description="port of the gRPC gateway; 0: no TCP")
    grpc_certificate_file: ExistingFile = Field(None, description="TLS with this certificate, PEM")
    grpc_key_file: KeyFile = Field(None, description=_KEY)
    grpc_ca_file: ClientCaFile = Field(None, description=_CA)
    grpc_message_max_bytes: PositiveInt = Field(
        2 << 20, description="largest message; gRPC keeps so much memory for each message under way"
    )
    grpc_calls: PositiveInt = Field(1024, description="most calls and streams of a gateway at a time")
    grpc_account_calls: PositiveInt = Field(
        100, description="most calls and streams of one account; all its messages together are so many at most"
    )
    grpc_streams: PositiveInt = Field(100, description="most calls of one connection at a time; more wait their turn")
    grpc_answer_seconds: PositiveFloat = Field(
        30.0, description="a call that is not a stream waits so long for Kafka, and is then UNAVAILABLE"
    )
    grpc_stream_window: PositiveInt = Field(
        64, description="batches of a stream that await their ack; then the stream is not read"
    )
    grpc_stream_idle: PositiveFloat = Field(
        600.0, description="a stream without a batch for so long ends, as does one whose acks are not read"
    )
    grpc_connection_age: Annotated[float, Field(ge=0)] = Field(
        3600.0, description="a connection or stream so old is asked to begin anew, so that load spreads; 0: never"
    )


class QuicSettings(BaseModel, frozen=True):
    """`iot-stream quic`."""

    quic_host: Host = Field("127.0.0.1", description="address of the QUIC gateway; all: 0.0.0.0 or ::")
    quic_port: OptionalPort = Field(5001, description="UDP port of the QUIC gateway; 0 takes a free port")
    quic_certificate_file: ExistingFile = Field(
        None, description="certificate of the gateway, PEM; QUIC has no plain text"
    )
    quic_key_file: KeyFile = Field(None, description=_KEY)
    quic_ca_file: ClientCaFile = Field(None, description="CA of the clients, each of which shows a certificate")
    quic_idle_seconds: PositiveFloat = Field(300.0, description="a connection that says nothing for so long is closed")
    quic_unacked_bytes: PositiveInt = Field(
        8 << 20, description="memory of one connection's records that Kafka has not acknowledged; then its sender waits"
    )
    quic_account_connections: PositiveInt = Field(500, description="most connections of one account")
    quic_handshakes_per_second: PositiveFloat = Field(
        100.0, description="most new connections a second, half of them of one peer; more have to wait"
    )
    quic_series_max: PositiveInt = Field(
        100_000, description="most series (devices, sensors) of an account that are remembered for an hour or two"
    )
    quic_series_policy: Literal["refuse", "count"] = Field(
        "refuse", description="what becomes of a new series beyond IOT_QUIC_SERIES_MAX; a known series is never refused"
    )
