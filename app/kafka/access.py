"""Access to Kafka: settings in, the options of every client out; and why a client was not let in."""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeVar

import structlog
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest
from msgspec import Struct
from tenacity import stop_when_event_set, wait_fixed, wait_random_exponential

from app.errors import TransientError
from app.kafka.close_clients import close_connection
from app.kafka.fetch import lenient_records
from app.runtime import tls
from app.runtime.addresses import HostPort
from app.runtime.interrupt import Interrupt
from app.runtime.retry import Failed, retry
from app.settings import Settings

log = structlog.get_logger()
T = TypeVar("T")

lenient_records.install()  # every reader of Kafka asks here for its options first

ASK_MS = 5_000
RETRY_SECONDS = 1.0  # between two tries of a question
KAFKA_ERRORS = (KafkaError, OSError)  # what calls to Kafka raise while Kafka is away
_REFUSED = (SaslAuthenticationFailed, AuthenticationFailedError)


class Access(Struct, frozen=True, repr_omit_defaults=True):
    """The brokers, and the security that they ask of a client; without `security` anybody is let in, unencrypted."""

    servers: str
    security: Mapping[str, Any] = {}  # in aiokafka's words; holds the password

    def __repr__(self) -> str:
        return f"Access({self})"

    def __str__(self) -> str:
        """Brokers and user for a log, never the password."""
        who = self.security.get("sasl_plain_username")
        how = self.security.get("security_protocol", "PLAINTEXT")
        return f"{self.servers} ({how} as {who})" if who else f"{self.servers} ({how})"

    @property
    def options(self) -> dict[str, Any]:
        """The options that every client of aiokafka is made with."""
        return {"bootstrap_servers": self.servers, **self.security}


class Client(Protocol):
    """A producer, a consumer or an admin client of aiokafka."""

    async def start(self) -> None:
        """Connect. Raises KafkaError."""


def access(settings: Settings) -> Access:
    """The access that the settings describe. Their files are read now: a program takes a renewed certificate or
    password when it starts.
    """
    protocol = settings.kafka_security_protocol
    security: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        files = (settings.kafka_ca_file, settings.kafka_certificate_file, settings.kafka_key_file)
        security["ssl_context"] = tls.context(*files)
    if protocol.startswith("SASL"):
        security["sasl_mechanism"] = settings.kafka_sasl_mechanism
        security["sasl_plain_username"] = settings.kafka_username
        security["sasl_plain_password"] = settings.kafka_secret
    return Access(settings.kafka_broker, security)


async def start(client: Client, kafka: Access) -> None:
    """Start a client. Raises KafkaError or OSError; when nothing connects, with the cause that aiokafka only logs."""
    try:
        await client.start()
    except KafkaConnectionError as error:
        reason = await _why(kafka)
        raise (reason or error) from error


async def dial(host: str, port: int, kafka: Access, timeout_ms: int) -> AIOKafkaConnection:
    """A connection to one broker, logged in; who asks for it closes it with `close_connection`.

    Raises KafkaError or OSError (TimeoutError and SSLError too), after the end of the socket.
    """
    async with AsyncExitStack() as opened:
        connection = AIOKafkaConnection(host, port, request_timeout_ms=timeout_ms, **kafka.security)
        opened.push_async_callback(close_connection, connection)
        await connection.connect()
        opened.pop_all()
    return connection


def kafka_away(error: BaseException) -> bool:
    """Whether the call that raised `error` may succeed later."""
    return isinstance(error, KAFKA_ERRORS)


async def wait_out(call: Callable[[], Awaitable[T]], failed: Failed, interrupt: Interrupt) -> T:
    """Call until Kafka takes the call, for as long as nobody interrupts; `failed` is called before each wait.

    Raises TransientError when interrupted and the call has failed since.
    """
    event: Any = interrupt.event  # tenacity means an event of threads, and asks for `is_set` alone
    wait, stop = wait_random_exponential(multiplier=0.2, max=5.0), stop_when_event_set(event)
    try:
        return await retry(call, kafka_away, wait, failed, interrupt.pause, stop)
    except KAFKA_ERRORS as error:
        raise TransientError(f"interrupted while waiting for Kafka: {error!r}") from error


async def ask_until_answered(step: str, ask: Callable[[], Awaitable[T]]) -> T:
    """Ask every second until Kafka answers; each failure is a warning that names the step."""

    def failed(failures: int, error: BaseException) -> None:
        log.warning("waiting_for_kafka", step=step, error=repr(error))

    return await retry(ask, kafka_away, wait_fixed(RETRY_SECONDS), failed)


async def _why(kafka: Access) -> KafkaError | None:
    """The first error that a broker has for us; None when a broker lets us in after all."""
    silent, refusals = [], []
    for host, port, _ in collect_hosts(kafka.servers, randomize=False):
        where = f"Kafka at {HostPort(host, port)}"
        try:
            connection = await dial(host, port, kafka, ASK_MS)
            try:
                await connection.send(MetadataRequest([]))
            finally:
                await close_connection(connection)
            return None
        except ssl.SSLError as error:
            refusals.append(_explained(error, where, kafka))
        except OSError as error:  # TimeoutError too
            what = error.strerror or f"nothing comes within {ASK_MS / 1000:g} s"
            what += " (does it speak TLS?)" if "ssl_context" in kafka.security and not error.strerror else ""
            cure = "is IOT_KAFKA_BROKER right, and Kafka up?"
            silent.append(KafkaConnectionError(f"{where} does not answer: {what}; {cure}"))
        except KafkaError as error:
            refusals.append(_explained(error, where, kafka))
    return (refusals or silent or [None])[0]


def _explained(error: BaseException, where: str, kafka: Access) -> KafkaError:
    who = kafka.security.get("sasl_plain_username")
    if isinstance(error, _REFUSED):
        text = ": ".join(str(part) for part in error.args if part)
        cure = "look at IOT_KAFKA_USERNAME and IOT_KAFKA_PASSWORD_FILE"
        return SaslAuthenticationFailed(f"{where} refuses the account {who} ({text}): {cure}")
    if isinstance(error, UnsupportedSaslMechanismError):
        return UnsupportedSaslMechanismError(
            f"{error}: set IOT_KAFKA_SASL_MECHANISM to a mechanism that the broker has"
        )
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLError):
        return KafkaConnectionError(tls.words(cause, where, "IOT_KAFKA"))
    protocol = kafka.security.get("security_protocol", "PLAINTEXT")
    return KafkaConnectionError(f"{where} closes the connection: is {protocol} right, see IOT_KAFKA_SECURITY_PROTOCOL?")
