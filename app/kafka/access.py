"""How to get into Kafka: settings in, the options of every client out; and why a client was not let in."""

import ssl
from collections.abc import Mapping
from typing import Any, Protocol

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest
from msgspec import Struct

from app.runtime import tls
from app.runtime.addresses import HostPort
from app.settings import Settings

ASK_MS = 5_000
_REFUSED = (SaslAuthenticationFailed, AuthenticationFailedError)


class Access(Struct, frozen=True, repr_omit_defaults=True):
    """The brokers, and what they want of a client; without `security` anybody is let in, unencrypted."""

    servers: str
    security: Mapping[str, Any] = {}  # in aiokafka's words; holds the password

    def __repr__(self) -> str:
        return f"Access({self})"

    def __str__(self) -> str:
        """For a log: where and as whom, never the password."""
        who = self.security.get("sasl_plain_username")
        how = self.security.get("security_protocol", "PLAINTEXT")
        return f"{self.servers} ({how} as {who})" if who else f"{self.servers} ({how})"

    @property
    def options(self) -> dict[str, Any]:
        """What every client of aiokafka is made with."""
        return {"bootstrap_servers": self.servers, **self.security}


class Client(Protocol):
    """A producer, a consumer or an admin client of aiokafka."""

    async def start(self) -> None: ...


def access(settings: Settings) -> Access:
    """As the settings say. The files are read now: a program takes a renewed certificate or password when it starts."""
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
    """Start a client. Raises KafkaError or OSError; when nothing connects it says why, which aiokafka only logs."""
    try:
        await client.start()
    except KafkaConnectionError as error:
        reason = await _why(kafka)
        raise (reason or error) from error


async def _why(kafka: Access) -> KafkaError | None:
    """The first thing a broker has to say against us; None when one lets us in after all."""
    silent, refusals = [], []
    for host, port, _ in collect_hosts(kafka.servers, randomize=False):
        where = f"Kafka at {HostPort(host, port)}"
        try:
            connection = await create_conn(host, port, request_timeout_ms=ASK_MS, **kafka.security)
            try:
                await connection.send(MetadataRequest([]))
            finally:
                connection.close()
            return None
        except ssl.SSLError as error:
            refusals.append(_explained(error, where, kafka))
        except OSError as error:  # TimeoutError too
            what = error.strerror or f"nothing comes within {ASK_MS / 1000:g} s"
            what += " (does it speak TLS?)" if "ssl_context" in kafka.security and not error.strerror else ""
            silent.append(KafkaConnectionError(f"{where} does not answer: {what}"))
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
        return UnsupportedSaslMechanismError(f"{error}: set IOT_KAFKA_SASL_MECHANISM to one that the broker has")
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLError):
        return KafkaConnectionError(tls.words(cause, where, "IOT_KAFKA"))
    protocol = kafka.security.get("security_protocol", "PLAINTEXT")
    return KafkaConnectionError(f"{where} closes the connection: is {protocol} right, see IOT_KAFKA_SECURITY_PROTOCOL?")
