"""The gRPC gateway: in, settings; out, a server on a UNIX socket and on TCP that starts, says how it is, and stops.

start  1 the lock of the socket, 2 the ports, 3 the services
stop   1 nothing new is taken, 2 what was read is acknowledged, 3 the connections close, 4 socket and lock are gone
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog
from grpc import aio

from app.errors import IotStreamError, MachineError, PermanentError, SettingsError
from app.gateways.grpc.callers import Callers, CallSlots
from app.gateways.grpc.health_answer import HealthAnswer
from app.gateways.grpc.identity import CallerIdentity
from app.gateways.grpc.ingest_service import SERVICE, IngestService
from app.gateways.grpc.options import channel_arguments
from app.gateways.grpc.public_services import GUESTS, WATCHERS, PublicServices
from app.gateways.grpc.pushing import Pushing, PushWaits
from app.gateways.grpc.refusal import NAME
from app.gateways.grpc.served_certificate import ServedCertificate
from app.gateways.grpc.socket_file import SocketFile
from app.gateways.grpc.stream import StreamLimits, Streams
from app.gateways.grpc.taking import Taking, TakingLimits
from app.gateways.intake import Intake
from app.gateways.login.counted import again_seconds
from app.mqtt.reach import mqtt_reach
from app.ports import Accounts
from app.runtime.addresses import HostPort
from app.runtime.interrupt import Interrupt
from app.settings import Settings

log = structlog.get_logger()

CUT_SECONDS = 0.5  # of the time to stop: for calls that end with a status when it is over


class GrpcGateway:
    """Serves from `start` to `stop` (app.gateways.gateway.Gateway); one in a process."""

    name = NAME

    def __init__(self, settings: Settings, intake: Intake, accounts: Accounts) -> None:
        """Nothing listens before `start`. Raises SettingsError when it is to listen nowhere, or where it cannot."""
        self._settings, self._intake, self._accounts = settings, intake, accounts
        self._socket = SocketFile(settings.grpc_socket, settings.grpc_socket_group) if settings.grpc_socket else None
        if not self._socket and not settings.grpc_port:
            raise SettingsError("IOT_GRPC_SOCKET and IOT_GRPC_PORT are both off: the gateway would listen nowhere")
        self._stop = Interrupt(asyncio.Event())
        self._server: aio.Server | None = None
        self.port = 0  # of TCP, once it listens

    async def start(self) -> None:
        """Listen. Raises MachineError, with the address and the cure, when it cannot, PermanentError for a
        certificate.
        """
        server = self._made()
        try:
            if self._socket:
                self._listen_on_the_socket(server, self._socket)
            if self._settings.grpc_port:
                self._listen_on_tcp(server)
            await server.start()
        except IotStreamError:
            if self._socket:
                self._socket.release()
            raise
        self._server = server
        where = {"socket": str(self._socket.path)} if self._socket else {}
        log.info("grpc_listens", port=self.port or None, tls=self._encrypted, **where)

    def ready(self) -> Mapping[str, bool]:
        """{"grpc": whether it takes calls, "grpc_socket": whether the socket is still where it was bound}."""
        found = {NAME: self._server is not None}
        if self._socket:
            found["grpc_socket"] = self._socket.intact
        return found

    async def stop(self, seconds: float) -> None:
        """Take no new work, answer what is in flight for at most so many seconds, close, remove the socket."""
        server, self._server = self._server, None
        try:
            if server:
                self._stop.event.set()
                await server.stop(max(0.0, seconds - CUT_SECONDS))
        finally:
            if self._socket:
                self._socket.release()

    @property
    def _encrypted(self) -> bool:
        return self._settings.grpc_certificate_file is not None

    def _made(self) -> aio.Server:
        settings, intake = self._settings, self._intake
        taking = Taking(intake, _taking_limits(settings))
        health = HealthAnswer(intake, mqtt_reach(settings))
        streams = StreamLimits(
            window=settings.grpc_stream_window,
            idle=settings.grpc_stream_idle,
            age=settings.grpc_connection_age,
            trusted=again_seconds(settings),
        )
        identity = CallerIdentity(self._accounts, settings.gateway_header_seconds)
        answer = settings.grpc_answer_seconds
        waits = PushWaits(settings.gateway_idle_seconds, room=answer / 2, ack=answer)
        service = IngestService(
            Callers(identity, CallSlots(settings.grpc_calls, settings.grpc_account_calls)),
            Pushing(intake, taking, waits),
            Streams(taking, intake, streams, self._stop),
            health,
        )
        public = PublicServices(SERVICE, lambda: health.serving, self._stop)
        return aio.server(
            handlers=[service.handlers(), *public.handlers()],
            options=channel_arguments(settings),
            maximum_concurrent_rpcs=settings.grpc_calls + GUESTS + WATCHERS,
        )

    def _listen_on_the_socket(self, server: aio.Server, file: SocketFile) -> None:
        file.claim()
        with file.private():
            _bind(lambda: server.add_insecure_port(file.address), str(file.path), "IOT_GRPC_SOCKET")
        file.bound()

    def _listen_on_tcp(self, server: aio.Server) -> None:
        settings = self._settings
        address = str(HostPort(settings.grpc_host, settings.grpc_port))
        if settings.grpc_certificate_file is None:
            self.port = _bind(lambda: server.add_insecure_port(address), address, "IOT_GRPC_PORT")
            return
        try:
            shown = ServedCertificate(settings.grpc_certificate_file, settings.grpc_key_file, settings.grpc_ca_file)
        except (OSError, ValueError) as error:
            raise PermanentError(f"the gRPC gateway cannot use its certificate: {error}") from None
        self.port = _bind(lambda: server.add_secure_port(address, shown.credentials()), address, "IOT_GRPC_PORT")


def _bind(add: Callable[[], int], where: str, setting: str) -> int:
    """The port; 1 for a path."""
    try:
        return add()
    except RuntimeError:  # gRPC says no more than that it cannot
        cure = f"something listens there already, or it is no address of this machine; set {setting}"
        raise MachineError(f"cannot serve gRPC at {where}: {cure}") from None


def _taking_limits(settings: Settings) -> TakingLimits:
    return TakingLimits(
        items=settings.gateway_batch_max_items,
        payload_bytes=settings.payload_max_bytes,
        dead_letters_of=settings.kafka_topic if settings.gateway_dead_letter_rejected else None,
    )
