"""The HTTP gateway: settings, intake and accounts in; a listener, its connections and their endpoints, put together."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from math import inf

from aiohttp import web

from app.errors import PermanentError
from app.gateways.gateway_metrics import CONNECTIONS, REFUSED_LOGINS, REJECTED
from app.gateways.http.acks import Acks
from app.gateways.http.connection import ConnectionBounds
from app.gateways.http.connections import HttpServer
from app.gateways.http.endpoints import Endpoints
from app.gateways.http.events import EventDecoders
from app.gateways.http.identity import Identity, forwarded_peer_of, peer_of
from app.gateways.http.influx import InfluxWrites
from app.gateways.http.openapi import document
from app.gateways.http.pages import Pages
from app.gateways.http.problem import RETRY_SECONDS, Problem, whole
from app.gateways.http.repeats.messages import Repeats
from app.gateways.http.routes import Router
from app.gateways.http.writes import WriteBounds, Writes
from app.gateways.intake import Intake
from app.gateways.listener import AccountSeats, Listener, most_connections, most_of_account
from app.gateways.payloads.influx_heads import InfluxNames
from app.gateways.room import Room
from app.ports import Accounts
from app.runtime.listen import listen
from app.runtime.renewed_tls import RenewedTls, TlsFiles
from app.settings import Settings

SWEEP_SECONDS = 1.0
READ_SECONDS = 30.0  # for a client to take its answer
# Part of the time to stop after which senders that still await Kafka are answered to send again; the rest is for these
# answers.
ACKS_SHARE = 0.7
HANDSHAKES = ("bad_certificate", "bad_handshake")


class HttpGateway:
    """Serves until stopped (app.gateways.gateway.Gateway)."""

    name = "http"

    def __init__(self, settings: Settings, intake: Intake, accounts: Accounts) -> None:
        """`port` is that of the settings until `start`, and then the one that it listens on. Nothing listens before."""
        self._settings, self._intake, self._accounts = settings, intake, accounts
        self.port = settings.http_port
        self._server: HttpServer | None = None
        self._listener: Listener | None = None
        self._acks: Acks | None = None
        self._tls: RenewedTls | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen. Raises MachineError when the port is taken, PermanentError when the certificate cannot be used."""
        settings = self._settings
        self._tls = _tls(settings)
        sockets = listen(settings.http_host, settings.http_port, "HTTP", "IOT_HTTP")
        self.port = sockets[0].getsockname()[1]
        head = settings.gateway_header_seconds
        self._acks = Acks(self._intake, settings.http_answer_seconds)
        bounds = ConnectionBounds(
            head,
            settings.gateway_idle_seconds,
            settings.http_body_seconds + settings.http_answer_seconds + READ_SECONDS,
        )
        router, repeats = self._parts(self._acks)
        self._server = HttpServer(router.handle, bounds, _refused, repeats.take)
        context = self._tls.context if self._tls else None
        self._listener = Listener(
            self._server.connect,
            most_connections(settings),
            context,
            head,
            whole(_FULL),
            _refused,
            self._server.make_room,
        )
        CONNECTIONS.labels(self.name).set_function(lambda: self._listener.open if self._listener else 0)
        self._listener.start(sockets)
        self._sweep()

    def ready(self) -> Mapping[str, bool]:
        """{"http": whether it listens}."""
        return {self.name: self._listener is not None}

    async def stop(self, seconds: float) -> None:
        """Accept nothing more, answer what is in flight for at most so many seconds, close. Safe before `start`, and
        twice.
        """
        if self._listener is None or self._server is None or self._acks is None:
            return
        self._listener.stop()
        self._listener = None
        loop = asyncio.get_running_loop()
        last = [loop.call_later(seconds * share, self._acks.give_up, inf) for share in (ACKS_SHARE, 0.9)]
        await self._server.stop(seconds)
        for timer in (*last, self._sweeping):
            if timer is not None:
                timer.cancel()

    def _sweep(self) -> None:
        assert self._server is not None
        assert self._acks is not None
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        self._server.sweep()
        self._acks.sweep()
        if self._tls is not None and self._listener is not None and (renewed := self._tls.look()) is not None:
            self._listener.use(renewed)

    def _parts(self, acks: Acks) -> tuple[Router, Repeats]:
        settings = self._settings
        peer = forwarded_peer_of if settings.gateway_behind_proxy else peer_of
        bounds = WriteBounds(
            settings.gateway_body_max_bytes,
            settings.payload_max_bytes,
            settings.gateway_batch_max_items,
            settings.http_body_seconds,
            settings.kafka_topic,
            settings.gateway_dead_letter_rejected,
        )
        identity = Identity(self._accounts, peer, settings.http_answer_seconds)
        bodies = Room(settings.gateway_buffer_bytes // 2)
        seats = AccountSeats(most_of_account(settings))
        writes = Writes(self._intake, identity, acks, bodies, bounds, seats)
        endpoints = Endpoints(writes, EventDecoders(bounds.items))
        influx = InfluxWrites(writes, InfluxNames(settings.gateway_influx_user_tag, settings.gateway_influx_device_tag))
        # A proxy may name no address, or hand on what its client claims: then nobody is known to be of this machine.
        pages = Pages(self._intake, self.ready, _nobody if settings.gateway_behind_proxy else peer_of)
        pages.document = document(settings.telemetry_schema)
        router = Router(
            {
                "/live": pages.live,
                "/ready": pages.ready,
                "/health": pages.health,
                "/metrics": pages.metrics,
                "/openapi.json": pages.openapi,
                "/ping": influx.ping,
                "/query": influx.query,
            },
            {
                "/v1/events": endpoints.events,
                "/api/v2/write": influx.v2,
                "/write": influx.v1,
                "/query": influx.query,
            },
            endpoints.telemetry,
            endpoints.node_telemetry,
        )
        return router, Repeats(self._intake, acks, bodies, bounds, seats)


def _nobody(_: web.BaseRequest) -> str:
    return ""


def _tls(settings: Settings) -> RenewedTls | None:
    """TLS, where there is a certificate. Raises PermanentError when it cannot be used."""
    if settings.http_certificate_file is None:
        return None
    files = TlsFiles(settings.http_certificate_file, settings.http_key_file, settings.http_ca_file)
    try:
        return RenewedTls(files, required=False)
    except ValueError as error:
        raise PermanentError(f"IOT_HTTP_CERTIFICATE_FILE, IOT_HTTP_KEY_FILE, IOT_HTTP_CA_FILE: {error}") from None


def _refused(reason: str) -> None:
    if reason in HANDSHAKES:
        REFUSED_LOGINS.labels("http", reason).inc()
    REJECTED.labels("http", reason).inc()


_FULL = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_connections",
    "there are too many connections, in all or from this address",
    RETRY_SECONDS,
)
