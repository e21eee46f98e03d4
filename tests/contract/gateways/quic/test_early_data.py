"""0-RTT at a QUIC gateway: no tickets are given, none is taken, and what was sent early counts for nothing."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress
from aioquic.tls import SessionTicket

from app.client.quic.session import QuicSession
from app.gateways.quic.files import configuration
from app.runtime.quic.frames import framed
from tests.quic_rig import LOOPBACK, GatewayRig, RigSession, batch, gateway_rig, until

FRAME = framed(batch(1, "s1").SerializeToString())


async def ticket_of_another_server(rig: GatewayRig) -> SessionTicket:
    """As a server with the gateway's own certificate would give it that took early data."""
    tickets: list[SessionTicket] = []
    settings = rig.settings
    assert settings.quic_certificate_file
    server = await serve(
        LOOPBACK,
        0,
        configuration=configuration(settings.quic_certificate_file, settings.quic_key_file, 60.0),
        create_protocol=QuicConnectionProtocol,
        session_ticket_handler=tickets.append,
        session_ticket_fetcher=lambda label: next((one for one in tickets if one.ticket == label), None),
    )
    assert server._transport
    port = server._transport.get_extra_info("sockname")[1]
    given: list[SessionTicket] = []
    session = await _opened((LOOPBACK, port), rig.client(), given)
    await until(lambda: bool(given))
    session.close()
    server.close()
    await asyncio.sleep(0)
    assert given[0].max_early_data_size
    return given[0]


async def _opened(
    address: tuple[str, int], made: QuicConfiguration, given: list[SessionTicket], kind: type[QuicSession] = QuicSession
) -> Any:
    """A session that keeps the tickets it is given."""
    session = kind(made, lambda *_: None)
    session._quic._session_ticket_handler = given.append
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: session, remote_addr=address)
    return session


class Recorded(QuicSession):
    """Writes a frame as soon as it has the retry, before the handshake, and keeps every datagram it sends."""

    def __init__(self, made: QuicConfiguration, answered: Any) -> None:
        super().__init__(made, answered)
        self.sent: list[bytes] = []
        self.early = False

    def datagram_received(self, data: bytes, addr: NetworkAddress) -> None:
        super().datagram_received(data, addr)
        if not self.early:
            self.early = True
            self._quic.send_stream_data(self.open_stream(), FRAME)

    def _send(self, data: bytes, address: NetworkAddress) -> None:
        self.sent.append(data)
        super()._send(data, address)


async def test_the_gateway_gives_no_ticket(tmp_path: Path) -> None:
    given: list[SessionTicket] = []
    async with gateway_rig(tmp_path) as rig:
        session = await _opened(rig.address, rig.client(), given)
        session._answered = (heard := RigSession()).hear
        await session.connected
        session.send(session.open_stream(), FRAME[4:])
        await heard.heard(1)
        session.close()
    assert given == []


async def test_a_ticket_of_elsewhere_resumes_nothing_and_its_early_data_waits_for_the_certificate(
    tmp_path: Path,
) -> None:
    async with gateway_rig(tmp_path) as rig:
        resuming = replace(rig.client(), session_ticket=await ticket_of_another_server(rig))
        session = await _opened(rig.address, resuming, [], Recorded)
        await session.connected
        await until(lambda: len(rig.writer.written) == 1)
        assert not session._quic.tls.session_resumed
        assert not session._quic.tls.early_data_accepted
        assert rig.accounts.asked == [("n1", None, LOOPBACK)], "the certificate was asked for, and looked at"
        session.close()


async def test_early_data_that_is_sent_again_by_somebody_else_is_not_read(tmp_path: Path) -> None:
    """Whoever saw the datagrams of a client can send them again: all of them, those with early data among them."""
    async with gateway_rig(tmp_path) as rig:
        resuming = replace(rig.client(), session_ticket=await ticket_of_another_server(rig))
        session = await _opened(rig.address, resuming, [], Recorded)
        await session.connected
        await until(lambda: len(rig.writer.written) == 1)
        session.close()
        await until(lambda: rig.gateway.open == 0)
        assert any(early_data_in(data) for data in session.sent), "there was early data to be sent again"
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=rig.address
        )
        for data in [*session.sent, *session.sent]:
            transport.sendto(data)
        await asyncio.sleep(0.3)
        assert len(rig.writer.written) == 1
        assert rig.accounts.asked == [("n1", None, LOOPBACK)]
        transport.close()


def early_data_in(datagram: bytes) -> bool:
    """Whether it has a packet of 0-RTT: behind one of another kind, or alone (RFC 9000, 17.2.3)."""
    return any(
        (datagram[at] & 0xF0) == 0xD0 and datagram[at + 1 : at + 5] == b"\0\0\0\1" for at in range(len(datagram))
    )
