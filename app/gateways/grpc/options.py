"""Limits of gRPC's core: in, the settings; out, the arguments of its server."""

from app.settings import Settings

METADATA_BYTES = 16 << 10
# A window of each stream, and no more for who has a fast line: gRPC would widen it to megabytes a stream, of which a
# server that does not read takes all. 500 metrics have 30 kB.
WINDOW_BYTES = 256 << 10
ENDING = 10  # calls of a connection that are being taken down, for each that it may have; bounds opening and resetting
PING_SECONDS = 60  # whoever is silent is asked, and has ANSWER_SECONDS: half-open connections end
ANSWER_SECONDS = 20
PINGS_APART_SECONDS = 10  # clients that ping more often are disconnected after PING_STRIKES
PING_STRIKES = 2
GRACE_SECONDS = 30  # of calls on a connection that has become too old


def channel_arguments(settings: Settings) -> list[tuple[str, int]]:
    """Bounds of bytes, streams, pings and time, for every connection: (name of gRPC's core, value)."""
    return [
        ("grpc.so_reuseport", 0),  # else two servers share one port, and neither says so
        ("grpc.max_receive_message_length", min(settings.grpc_message_max_bytes, settings.gateway_body_max_bytes)),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        ("grpc.max_allowed_incoming_connections", settings.gateway_connections),
        ("grpc.max_concurrent_streams", settings.grpc_streams),
        # Else gRPC refuses calls for those that have ended and are not yet taken down, and a client at its limit of
        # calls sees UNAVAILABLE for most of them.
        ("grpc.http2.max_deallocating_streams", ENDING * settings.grpc_streams),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.server_handshake_timeout_ms", _ms(settings.gateway_header_seconds)),
        ("grpc.max_connection_idle_ms", _ms(settings.gateway_idle_seconds)),
        *_age(settings.grpc_connection_age),
        ("grpc.keepalive_time_ms", _ms(PING_SECONDS)),
        ("grpc.keepalive_timeout_ms", _ms(ANSWER_SECONDS)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(PINGS_APART_SECONDS)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _ms(PINGS_APART_SECONDS)),
        ("grpc.http2.max_ping_strikes", PING_STRIKES),
    ]


def _age(seconds: float) -> list[tuple[str, int]]:
    if not seconds:
        return []
    return [("grpc.max_connection_age_ms", _ms(seconds)), ("grpc.max_connection_age_grace_ms", _ms(GRACE_SECONDS))]


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
