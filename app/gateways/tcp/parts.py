"""What the connections of one TCP gateway share: bounds of each, and where their lines go."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from app.gateways.intake import Intake
from app.gateways.login.counted import again_seconds
from app.gateways.tcp.lines import LineTaker
from app.ports import Accounts
from app.settings import Settings


class TcpBounds(Struct, frozen=True):
    """What one connection may take. Sizes in bytes, times in seconds."""

    line: int
    unacked: int  # lines that Kafka has not acknowledged; then nothing more is read
    begun: float  # longest a login takes, or a line from its first byte to its last
    idle: float  # longest a connection is quiet, or takes no answers
    known: float  # so long credentials are good; then they are asked for again


class TcpParts(Struct, frozen=True):
    """What the gateway makes once, for all its connections. `opened` and `closed` hear of each connection."""

    bounds: TcpBounds
    intake: Intake
    accounts: Accounts
    taker: LineTaker
    read_buffer: memoryview
    opened: Callable[[Any], None]
    closed: Callable[[Any], None]
    full: Callable[[], None]  # more than enough is taken, of all connections together


def bounds_of(settings: Settings) -> TcpBounds:
    """The bounds of a connection by the settings."""
    return TcpBounds(
        line=settings.tcp_line_max_bytes,
        unacked=settings.tcp_unacked_bytes,
        begun=settings.gateway_header_seconds,
        idle=settings.gateway_idle_seconds,
        known=again_seconds(settings),
    )
