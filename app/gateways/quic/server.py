"""The QUIC gateway: settings, the intake and the accounts in; connections of senders on a UDP port."""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

import structlog
from aioquic.quic.connection import NetworkAddress
from aioquic.quic.events import ConnectionIdIssued, ConnectionIdRetired, ConnectionTerminated, QuicEvent

from app.core.ingress.series import Series
from app.errors import SettingsError
from app.gateways.gateway_metrics import CONNECTIONS, REFUSED_LOGINS, SERIES, TOP_SERIES
from app.gateways.intake import Intake
from app.gateways.login.counted import again_seconds
from app.gateways.quic.batch import GATEWAY, BatchIntake
from app.gateways.quic.connection import GatewayConnection, ServerParts
from app.gateways.quic.endpoint import Endpoint, listen
from app.gateways.quic.files import client_authorities, configuration
from app.gateways.quic.peer import QuicPeer
from app.gateways.quic.reserve import Reserve
from app.gateways.quic.reset import reset_tokens
from app.gateways.quic.share import Crowd, Share
from app.gateways.quic.site import Site
from app.gateways.quic.turns import Turns
from app.ports import Accounts
from app.runtime.quic.contract import CloseCode, LoginFault, login_fault
from app.runtime.quic.link import Link
from app.runtime.renewed_tls import RenewedTls, TlsFiles
from app.settings import Settings

log = structlog.get_logger()

STREAMS = 8  # of one connection, open at the same time
HANDSHAKES = 256  # not complete, at the same time; half of them of one peer
LOOK_SECONDS = 1.0
DELIVERY_SECONDS = 1.0  # for the last answers to be received, in a stop
CLOSE_SECONDS = 1.0
SERIES_SECONDS = 3600.0
SERIES_MOST = 5  # times the limit of one account: series remembered of all accounts
TOP = 20
STOPPING = "the gateway stops: connect again"
FULL = "the gateway has as many connections as a gateway may have: IOT_GATEWAY_CONNECTIONS"
BUSY = "too many handshakes are under way"


class QuicGateway:
    """Serves from `start` to `stop` (app.gateways.gateway.Gateway)."""

    name = GATEWAY

    def __init__(self, settings: Settings, intake: Intake, accounts: Accounts) -> None:
        """Raises SettingsError when a file cannot be used."""
        if settings.quic_certificate_file is None or settings.quic_ca_file is None:
            raise SettingsError("IOT_QUIC_CERTIFICATE_FILE, IOT_QUIC_CA_FILE: QUIC needs both")
        self._settings = settings
        self._files = TlsFiles(settings.quic_certificate_file, settings.quic_key_file, settings.quic_ca_file)
        self._configuration = configuration(*self._files[:2], settings.quic_idle_seconds)
        tokens = reset_tokens(self._configuration.private_key, settings.quic_port)
        self._parts = ServerParts(client_authorities(settings.quic_ca_file), tokens, STREAMS)
        self._tls = _renewed(self._files)
        limit = settings.quic_series_max
        self._series = Series(limit, limit * SERIES_MOST, SERIES_SECONDS)
        self._site = _site(settings, intake, accounts, self._series)
        self._peers: set[QuicPeer] = set()
        self._endpoint: Endpoint | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The UDP port; only between `start` and `stop`."""
        assert self._endpoint
        assert self._endpoint.transport
        return int(self._endpoint.transport.get_extra_info("sockname")[1])

    @property
    def open(self) -> int:
        """How many connections there are, handshakes too."""
        return self._site.share.open

    async def start(self) -> None:
        """Listen. Raises MachineError, with the address and the cure, when it cannot."""
        logging.getLogger("quic").setLevel(logging.CRITICAL)  # aioquic warns of every packet that breaks a rule
        host, port = self._settings.quic_host, self._settings.quic_port
        pace, tokens = self._settings.quic_handshakes_per_second, self._parts.tokens
        endpoint = Endpoint(self._configuration, tokens, self._open, self._full, pace)
        await listen(endpoint, host, port)
        self._endpoint = endpoint
        self._looking = asyncio.create_task(self._look(), name="quic-look")
        CONNECTIONS.labels(GATEWAY).set_function(lambda: float(self.open))
        SERIES.set_function(lambda: float(self._series.count))
        log.info("quic_started", host=host, port=self.port)

    def ready(self) -> Mapping[str, bool]:
        """{"quic": whether it listens}."""
        return {GATEWAY: self._endpoint is not None and not self._site.stopping}

    async def stop(self, seconds: float) -> None:
        """Take no frame more, answer what was taken for at most so many seconds, say good-bye, close the port."""
        self._site.stopping = True
        if self._endpoint is None:
            return
        await self._quiet(seconds)
        if self._looking:
            self._looking.cancel()
        for peer in list(self._peers):
            peer.close(CloseCode.STOPPING, STOPPING)
            peer.link.flush()
            self._gone(peer)
        if self._endpoint.transport:
            self._endpoint.transport.close()
            await asyncio.wait([self._endpoint.closed], timeout=CLOSE_SECONDS)
        self._endpoint = None

    async def _quiet(self, seconds: float) -> None:
        """Until every answer is received, or no more than so many seconds: those not written then are not owed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end and any(peer.unacked for peer in self._peers):  # noqa: ASYNC110 - of a thousand peers
            await asyncio.sleep(0.01)
        end = min(end, loop.time() + DELIVERY_SECONDS)
        while loop.time() < end and any(peer.quic.backlog for peer in self._peers):  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.01)

    def _full(self, group: str) -> str | None:
        """Why there can be no other connection of this peer now."""
        if self._site.stopping:
            return STOPPING
        if self._site.share.full:
            return FULL
        begun = [peer.group for peer in self._peers if not peer.greeted]
        most = min(HANDSHAKES, self._settings.gateway_connections // 2)
        return BUSY if len(begun) > most or begun.count(group) > most // 2 else None

    def _open(self, original: bytes, retried: bytes | None, address: NetworkAddress) -> Link:
        assert self._endpoint
        peer = QuicPeer(self._site, str(address[0]))
        quic = GatewayConnection(self._configuration, self._parts, (original, retried), peer.window)
        link = Link(quic, self._endpoint.send, partial(self._handle, peer))
        peer.begin(quic, link)
        self._peers.add(peer)
        self._site.share.open += 1
        for connection_id in (retried or original, quic.host_cid):
            self._known(peer, connection_id)
        asyncio.get_running_loop().call_soon(self._check_begun, peer)
        return link

    def _check_begun(self, peer: QuicPeer) -> None:
        """What came first was no packet of a client: keep nothing of it."""
        if not peer.quic.begun and not peer.link.ended:
            peer.link.abandon()
            self._gone(peer)

    def _handle(self, peer: QuicPeer, event: QuicEvent) -> None:
        if isinstance(event, ConnectionIdIssued):
            self._known(peer, event.connection_id)
        elif isinstance(event, ConnectionIdRetired):
            self._forget(peer, event.connection_id)
        elif isinstance(event, ConnectionTerminated):
            if not peer.greeted:
                REFUSED_LOGINS.labels(GATEWAY, login_fault(event.error_code).value).inc()
            self._gone(peer)
        else:
            peer.handle(event)

    def _known(self, peer: QuicPeer, connection_id: bytes) -> None:
        assert self._endpoint
        peer.ids.add(connection_id)
        self._endpoint.known(connection_id, peer.link)

    def _forget(self, peer: QuicPeer, connection_id: bytes) -> None:
        assert self._endpoint
        peer.ids.discard(connection_id)
        self._endpoint.forget(connection_id)

    def _gone(self, peer: QuicPeer) -> None:
        """The connection is no more; only its own ids are looked at."""
        if peer in self._peers:
            self._peers.remove(peer)
            self._site.share.open -= 1
            for connection_id in list(peer.ids):
                self._forget(peer, connection_id)
            peer.link.abandon()
            peer.ended()

    async def _look(self) -> None:
        """Every second: senders that are too slow, certificates that have ended, the figures of series."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = loop.time()
            for peer in list(self._peers):
                if not peer.greeted and now - peer.opened_at > self._settings.gateway_header_seconds:
                    REFUSED_LOGINS.labels(GATEWAY, LoginFault.HANDSHAKE.value).inc()
                    self._gone(peer)
                else:
                    peer.look(now)
            self._read_renewed()
            TOP_SERIES.clear()
            for account, count in self._series.top(TOP):
                TOP_SERIES.labels(account).set(count)

    def _read_renewed(self) -> None:
        """Use files that have changed for the connections to come."""
        if self._tls.look() is None or self._files.clients_ca is None:
            return
        try:
            made = configuration(*self._files[:2], self._settings.quic_idle_seconds)
            trusted = client_authorities(self._files.clients_ca)
        except SettingsError as error:
            log.error(
                "certificate_not_renewed", error=str(error), note="the certificate that was read before is still shown"
            )
        else:
            self._configuration, self._parts = made, self._parts._replace(trusted=trusted)


def _renewed(files: TlsFiles) -> RenewedTls:
    """Raises SettingsError."""
    try:
        return RenewedTls(files)
    except ValueError as error:
        raise SettingsError(f"IOT_QUIC_CERTIFICATE_FILE, IOT_QUIC_KEY_FILE, IOT_QUIC_CA_FILE: {error}") from None


def _site(settings: Settings, intake: Intake, accounts: Accounts, series: Series) -> Site:
    batches = BatchIntake(
        intake,
        settings.gateway_batch_max_items,
        series,
        refuse_series=settings.quic_series_policy == "refuse",
        dead_letter_topic_of=settings.kafka_topic if settings.gateway_dead_letter_rejected else None,
    )
    frame_bytes = settings.gateway_body_max_bytes
    return Site(
        intake=intake,
        accounts=accounts,
        batches=batches,
        reserve=Reserve(max(settings.gateway_buffer_bytes // 2, frame_bytes)),
        share=Share(settings.gateway_connections, settings.quic_account_connections),
        crowd=Crowd(intake.crowded),
        turns=Turns(),
        frame_bytes=frame_bytes,
        frame_seconds=settings.gateway_header_seconds,
        unacked_bytes=settings.quic_unacked_bytes,
        again_seconds=again_seconds(settings),
    )
