"""A QUIC gateway in this process, on a writer that can be stalled; certificates of all kinds; senders out of order."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.client.quic.credentials import client_configuration
from app.client.quic.session import QuicSession, SessionEnd, open_session
from app.core.ingress.limits import IngressLimits
from app.core.routing.certificate_names import device_uri
from app.gateways.admission import Admission
from app.gateways.intake import Intake
from app.gateways.quic.server import QuicGateway
from app.gateways.record import IngestRecord
from app.gateways.writer import KafkaWriter
from app.ports import Account, Refusal
from app.protobuf.metrics_pb2 import BatchAck, MetricBatch
from app.settings import Settings

LOOPBACK = "127.0.0.1"
TIME_US = 1_764_000_000_000_000
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


class Pair(NamedTuple):
    """Files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A CA, and what it signs."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory, self._name = directory, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} of a test")])
        builder = self._builder(self._subject, self._key, (-1.0, 10.0))
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(
        self,
        common_name: str | None,
        *,
        device: str | None = None,
        usage: x509.ObjectIdentifier | None = CLIENT,
        days: tuple[float, float] = (-1.0, 5.0),
        hosts: Sequence[str] = (),
    ) -> Pair:
        """A certificate; `days` from now it begins and ends."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name is not None else []
        builder = self._builder(x509.Name(names), key, days)
        others: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
        if device is not None:
            others.append(x509.UniformResourceIdentifier(device_uri(device)))
        if others:
            builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        stem = self._directory / f"{self._name}-{secrets.token_hex(4)}"
        pair = Pair(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        pair.certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: tuple[float, float]
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
        )


class StallingWriter(KafkaWriter):
    """Keeps what is written, and can be made to wait, as Kafka does in an outage."""

    def __init__(self) -> None:
        self.written: list[IngestRecord] = []
        self.dead: list[IngestRecord] = []
        self.refused: set[bytes] = set()  # values that Kafka would refuse for ever
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.available, self.topic = True, "in"

    @property
    def answered(self) -> bool:
        """As Kafka's."""
        return self.goes_on.is_set()

    async def write(self, records: Sequence[IngestRecord], dead: Sequence[IngestRecord] = ()) -> Sequence[IngestRecord]:
        """After a millisecond, and once `goes_on`."""
        await asyncio.sleep(0.001)
        await self.goes_on.wait()
        lost = [record for record in records if record.value in self.refused]
        self.written += [record for record in records if record.value not in self.refused]
        self.dead += dead
        return lost

    async def close(self) -> None:
        """Nothing to close."""


class KnownAccounts:
    """Accounts by name, as far as a gateway asks for them."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.answer: Refusal | None = None  # instead of any account
        self.silent = False  # no answer at all
        self.asked: list[tuple[str, str | None, str]] = []

    async def by_certificate(self, common_name: str, device: str | None, peer: str) -> Account | Refusal:
        """The account of this name."""
        self.asked.append((common_name, device, peer))
        if self.silent:
            await asyncio.Event().wait()
        if self.answer:
            return self.answer
        return Account(common_name, device) if common_name in self.names else Refusal.BAD_CREDENTIALS

    async def by_password(self, user: str, password: str, peer: str) -> Account | Refusal:
        """Not asked by QUIC."""
        raise NotImplementedError

    async def by_token(self, token: str, peer: str) -> Account | Refusal:
        """Not asked by QUIC."""
        raise NotImplementedError

    async def anonymous(self, peer: str) -> Account | Refusal:
        """Not asked by QUIC."""
        raise NotImplementedError


class GatewayRig:
    """A running gateway, and clients for it."""

    def __init__(
        self, directory: Path, changes: dict[str, Any], limits: IngressLimits, authority: Authority | None
    ) -> None:
        self.authority = authority or Authority(directory)
        self.stranger = Authority(directory, "stranger")
        server = self.authority.issue("gateway", usage=SERVER, hosts=("localhost",))
        files = {"certificate_file": server.certificate, "key_file": server.key, "ca_file": self.authority.file}
        self.settings = Settings(
            **{"quic_port": 0, **{f"quic_{name}": file for name, file in files.items()}, **changes}
        )
        self.writer, self.accounts = StallingWriter(), KnownAccounts("n1", "n2")
        self.intake = Intake(self.writer, self.settings.gateway_buffer_bytes, Admission(limits))
        self.gateway = QuicGateway(self.settings, self.intake, self.accounts)
        self.pair = self.authority.issue("n1")

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return LOOPBACK, self.gateway.port

    def client(self, pair: Pair | None = None) -> QuicConfiguration:
        """What a sender shows and trusts."""
        certificate, key = pair or self.pair
        return client_configuration(self.authority.file, certificate, key, "localhost")

    @asynccontextmanager
    async def session(self, configuration: QuicConfiguration | None = None) -> AsyncIterator["RigSession"]:
        """A connection that sends what the test asks for."""
        made = RigSession()
        made.session = await open_session(self.address, configuration or self.client(), made.hear)
        try:
            yield made
        finally:
            made.session.close()


class RigSession:
    """A connection, and all the answers that came on it."""

    session: QuicSession

    def __init__(self) -> None:
        self.answers: list[tuple[int, BatchAck]] = []
        self._came = asyncio.Event()

    def hear(self, stream: int, answer: BatchAck) -> None:
        """Note an answer of the gateway."""
        self.answers.append((stream, answer))
        self._came.set()

    async def heard(self, count: int, seconds: float = 10.0) -> list[BatchAck]:
        """So many answers."""
        async with asyncio.timeout(seconds):
            while len(self.answers) < count:
                self._came.clear()
                await self._came.wait()
        return [answer for _, answer in self.answers]

    async def ended(self, seconds: float = 10.0) -> SessionEnd:
        """Why the connection ended."""
        async with asyncio.timeout(seconds):
            return await asyncio.shield(self.session.closed)

    def write(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Bytes as they are."""
        self.session._quic.send_stream_data(stream, data, end_stream=end)
        self.session._link.soon()


@asynccontextmanager
async def gateway_rig(
    directory: Path, limits: IngressLimits | None = None, authority: Authority | None = None, **changes: Any
) -> AsyncIterator[GatewayRig]:
    """A gateway that runs; `changes` are settings."""
    rig = GatewayRig(directory, changes, limits or IngressLimits(), authority)
    stop = asyncio.Event()
    running = asyncio.create_task(rig.intake.run(stop, 1.0))
    await rig.gateway.start()
    try:
        yield rig
    finally:
        rig.writer.goes_on.set()
        await rig.gateway.stop(2.0)
        stop.set()
        await running


def batch(number: int, *sensors: str, node: str = "n1", first: int = 1) -> MetricBatch:
    """A metric of each sensor; `first` is the sequence_id of the first."""
    made = MetricBatch(batch_id=number)
    for at, sensor in enumerate(sensors):
        one = made.metrics.add()
        one.node_id, one.sensor_id, one.value = node, sensor, 20.5 + at
        one.time_us, one.sequence_id = TIME_US + 1000 * at, first + at
    return made


async def until(true: Callable[[], bool], seconds: float = 10.0, what: str = "it never came true") -> None:
    """Wait for something of this process."""
    end = asyncio.get_running_loop().time() + seconds
    while not true():
        assert asyncio.get_running_loop().time() < end, what
        await asyncio.sleep(0.01)
