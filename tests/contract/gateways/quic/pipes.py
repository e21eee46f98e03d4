"""aioquic's client and the gateway's connection without a network: datagrams are handed from one to the other."""

from dataclasses import dataclass
from pathlib import Path

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent

from app.client.quic.credentials import client_configuration
from app.gateways.quic.connection import GatewayConnection, ServerParts
from app.gateways.quic.files import client_authorities, configuration
from app.gateways.quic.reset import ResetTokens
from tests.quic_rig import SERVER, Authority, Pair

HERE, THERE = ("127.0.0.1", 5001), ("127.0.0.1", 40_000)


@dataclass
class Pipes:
    """A client, a gateway's connection, and the clock of both."""

    client: QuicConnection
    gateway: GatewayConnection
    window: list[int]  # the first is what the gateway grants
    now: float = 0.0

    def to_gateway(self) -> list[bytes]:
        """What the client sends now."""
        return [data for data, _ in self.client.datagrams_to_send(now=self.now)]

    def to_client(self) -> list[bytes]:
        """What the gateway sends now."""
        return [data for data, _ in self.gateway.datagrams_to_send(now=self.now)]

    def take(self, datagrams: list[bytes]) -> None:
        """The gateway receives, and answers nothing yet."""
        for data in datagrams:
            self.gateway.receive_datagram(data, THERE, now=self.now)

    def turn(self) -> None:
        """Both ways, and two milliseconds later."""
        self.take(self.to_gateway())
        for data in self.to_client():
            self.client.receive_datagram(data, HERE, now=self.now)
        self.now += 0.002
        for end in (self.client, self.gateway):
            at = end.get_timer()
            if at is not None and at <= self.now:
                end.handle_timer(now=self.now)

    def turns(self, count: int = 10) -> None:
        """Several."""
        for _ in range(count):
            self.turn()

    def events(self) -> list[QuicEvent]:
        """All that happened at the gateway."""
        found: list[QuicEvent] = []
        while (event := self.gateway.next_event()) is not None:
            found.append(event)
        return found


def pipes(directory: Path, pair: Pair | None = None, *, window: int = 64 << 10, trusted: Path | None = None) -> Pipes:
    """A client with a certificate of `pair`, by default a good one, that has said its first word."""
    authority = Authority(directory)
    server = authority.issue("gateway", usage=SERVER, hosts=("localhost",))
    shown = pair or authority.issue("n1")
    return connected(
        client_configuration(authority.file, shown.certificate, shown.key, "localhost"),
        configuration(server.certificate, server.key, 300.0),
        trusted or authority.file,
        window,
    )


def connected(client: QuicConfiguration, server: QuicConfiguration, trusted: Path, window: int) -> Pipes:
    """Two ends that know of each other."""
    sender, granted = QuicConnection(configuration=client), [window]
    ids = (sender.original_destination_connection_id, None)
    parts = ServerParts(client_authorities(trusted), ResetTokens(b"secret"), 8)
    gateway = GatewayConnection(server, parts, ids, lambda: granted[0])
    sender.connect(HERE, now=0.0)
    return Pipes(sender, gateway, granted)
