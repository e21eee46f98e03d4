"""The TCP gateway: settings, intake and accounts in; a listener and its connections, put together."""

import asyncio
from collections.abc import Mapping

from app.errors import PermanentError
from app.gateways.gateway_metrics import CONNECTIONS, REFUSED_LOGINS, REJECTED
from app.gateways.intake import Intake
from app.gateways.listener import AccountSeats, Listener, Seat, most_connections, most_of_account
from app.gateways.tcp.answers import closing
from app.gateways.tcp.connection import TcpConnection
from app.gateways.tcp.lines import LineTaker
from app.gateways.tcp.parts import ReadBuffer, TcpParts, bounds_of
from app.ports import Accounts
from app.runtime.interrupt import set_within
from app.runtime.listen import listen
from app.runtime.renewed_tls import RenewedTls, TlsFiles
from app.settings import Settings

SWEEP_SECONDS = 1.0
HANDSHAKES = ("bad_certificate", "bad_handshake")
FULL = closing("too_many_connections", "there are too many connections, in all or from this address: try again later")


class TcpGateway:
    """Serves until stopped (app.gateways.gateway.Gateway)."""

    name = "tcp"

    def __init__(self, settings: Settings, intake: Intake, accounts: Accounts) -> None:
        """`port` is that of the settings until `start`, and then the one that it listens on. Nothing listens before."""
        self._settings = settings
        self.port = settings.tcp_port
        self._connections: dict[TcpConnection, None] = {}  # the oldest first
        self._parts = TcpParts(
            bounds_of(settings),
            intake,
            accounts,
            AccountSeats(most_of_account(settings)),
            LineTaker(settings, intake),
            ReadBuffer(),
            self._opened,
            self._closed,
            self._hold_all,
        )
        self._none = asyncio.Event()  # that there is no connection
        self._listener: Listener | None = None
        self._tls: RenewedTls | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen. Raises MachineError when the port is taken, PermanentError when the certificate cannot be used."""
        settings = self._settings
        self._tls = _tls(settings)
        sockets = listen(settings.tcp_host, settings.tcp_port, "TCP", "IOT_TCP")
        self.port = sockets[0].getsockname()[1]
        seconds, context = settings.gateway_header_seconds, self._tls.context if self._tls else None
        most = most_connections(settings)
        self._listener = Listener(self._connect, most, context, seconds, FULL, _refused, self._make_room)
        CONNECTIONS.labels(self.name).set_function(lambda: self._listener.open if self._listener else 0)
        self._listener.start(sockets)
        self._sweep()

    def ready(self) -> Mapping[str, bool]:
        """{"tcp": whether it listens}."""
        return {self.name: self._listener is not None}

    async def stop(self, seconds: float) -> None:
        """Accept nothing more, answer what is in flight for at most so many seconds, close. Safe before `start`, and
        twice.
        """
        if self._listener is None:
            return
        self._listener.stop()
        self._listener = None
        if self._sweeping:
            self._sweeping.cancel()
        for connection in list(self._connections):
            connection.stop()
        if self._connections:
            self._none.clear()
            await set_within(self._none, seconds)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    def _connect(self, seat: Seat) -> TcpConnection:
        return TcpConnection(self._parts, seat)

    def _opened(self, connection: TcpConnection) -> None:
        self._connections[connection] = None

    def _closed(self, connection: TcpConnection) -> None:
        self._connections.pop(connection, None)
        if not self._connections:
            self._none.set()

    def _make_room(self) -> bool:
        """End the oldest connection that nobody has logged in on: whoever only holds seats loses them."""
        found = any(connection.give_way() for connection in self._connections)
        if found:
            REJECTED.labels("tcp", "made_room").inc()
        return found

    def _hold_all(self) -> None:
        """More is not acknowledged than should be: each goes on when there is room for what it brings."""
        for connection in self._connections:
            connection.wait_for_room()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep)
        now = loop.time()
        for connection in list(self._connections):
            connection.check(now)
        if self._tls is not None and self._listener is not None and (renewed := self._tls.look()) is not None:
            self._listener.use(renewed)


def _tls(settings: Settings) -> RenewedTls | None:
    """TLS, where there is a certificate. Raises PermanentError when it cannot be used."""
    if settings.tcp_certificate_file is None:
        return None
    files = TlsFiles(settings.tcp_certificate_file, settings.tcp_key_file, settings.tcp_ca_file)
    try:
        return RenewedTls(files, required=False)  # who shows no certificate logs in
    except ValueError as error:
        raise PermanentError(f"IOT_TCP_CERTIFICATE_FILE, IOT_TCP_KEY_FILE, IOT_TCP_CA_FILE: {error}") from None


def _refused(reason: str) -> None:
    if reason in HANDSHAKES:
        REFUSED_LOGINS.labels("tcp", reason).inc()
    REJECTED.labels("tcp", reason).inc()
