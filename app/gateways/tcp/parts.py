"""What the connections of one TCP gateway share: bounds of each, and where their lines go."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from app.gateways.intake import Intake
from app.gateways.listener import AccountSeats
from app.gateways.login.counted import again_seconds
from app.gateways.room import READ_BYTES
from app.gateways.tcp.lines import LineTaker
from app.ports import Accounts
from app.settings import Settings

READ_MAX_BYTES = 1 << 20  # twice what the loop reads ahead of a connection with TLS


class TcpBounds(Struct, frozen=True):
    """What one connection may take. Sizes in bytes, times in seconds."""

    line: int
    unacked: int  # lines that Kafka has not acknowledged; then nothing more is read
    begun: float  # longest a login takes, or a line from its first byte to its last
    idle: float  # longest a connection is quiet, or takes no answers
    known: float  # so long credentials are good; then they are asked for again


class ReadBuffer:
    """Where all connections of a gateway are read to, one after the other, as each takes at once what is there."""

    def __init__(self) -> None:
        self._place = memoryview(bytearray(READ_BYTES))

    def of(self, wanted: int) -> memoryview:
        """So much and more, up to a bound. With TLS all that has come is wanted: what is left when the other side ends,
        the loop forgets."""
        if len(self._place) < wanted:
            self._place = memoryview(bytearray(min(wanted, READ_MAX_BYTES)))
        return self._place

    def first(self, size: int) -> bytes:
        """What was read last."""
        return self._place[:size].tobytes()


class TcpParts(Struct, frozen=True):
    """What the gateway makes once, for all its connections. `opened` and `closed` hear of each connection."""

    bounds: TcpBounds
    intake: Intake
    accounts: Accounts
    seats: AccountSeats
    taker: LineTaker
    read_buffer: ReadBuffer
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
