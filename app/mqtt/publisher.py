"""A connection to the MQTT broker for whoever publishes, however long that takes, and again when it ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from app.errors import TransientError
from app.mqtt.connection import BrokerAccount, Connection, NotTakenError
from app.runtime.addresses import HostPort
from app.runtime.retry import delay
from app.runtime.tls import words

log = structlog.get_logger()

CONNECT_SECONDS = 10.0
STEADY_SECONDS = 5.0  # a connection that lived this long, or took a message, resets the back-off


class MqttPublisher:
    """The connections of one account, one at a time."""

    def __init__(self, account: BrokerAccount, rest: Callable[[str, float], Awaitable[None]]) -> None:
        """`rest` waits: the name of a step and seconds in; it raises when the program is stopped."""
        self._account, self._rest = account, rest
        self._connection: Connection | None = None
        self._attempt = 0
        self._since = 0.0

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        made = self._connection
        return made is not None and made.accepted.done() and not made.closed.done()

    async def connect(self) -> Connection:
        """The next connection, accepted by the broker, however long that takes: failures are logged and tried again,
        with a back-off of up to 10 s. Raises what `rest` raises.
        """
        where = f"the MQTT broker at {HostPort(self._account.host, self._account.port)}"
        while True:
            if self._attempt:
                await self._rest("mqtt_connect", delay(self._attempt))
            self._attempt += 1
            try:
                made = await self._made()
            except NotTakenError as error:
                cure = "look at IOT_MQTT_USERNAME and IOT_MQTT_PASSWORD_FILE"
                log.error("notifier_mqtt_refused", reason=str(error), username=self._account.username, cure=cure)
            except TimeoutError:
                log.warning("notifier_mqtt_unreachable", error=f"no answer from {where} within {CONNECT_SECONDS:.0f} s")
            except (OSError, TransientError) as error:
                log.warning("notifier_mqtt_unreachable", error=words(error, where, "IOT_MQTT"))
            else:
                self._since = time.monotonic()
                log.info("notifier_mqtt_connected", host=self._account.host, port=self._account.port)
                return made

    def ended(self, reason: str, took: int) -> None:
        """Note that the connection is gone, on which the broker took so many messages: one that took any, or lived for
        STEADY_SECONDS, resets the back-off.
        """
        if took or time.monotonic() - self._since > STEADY_SECONDS:
            self._attempt = 1
        log.warning("notifier_mqtt_disconnected", reason=reason, messages_taken=took)

    async def close(self) -> None:
        """Disconnect, within a second; safe before the first connection, and twice."""
        if self._connection and not self._connection.closed.done():
            self._connection.close()
            await asyncio.wait([self._connection.closed], timeout=1)
            self._connection.abort("stopped")

    async def _made(self) -> Connection:
        loop, account = asyncio.get_running_loop(), self._account
        made = Connection(account)
        self._connection = made
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: made, account.host, account.port, ssl=account.tls)
                await asyncio.shield(made.accepted)
        except BaseException:
            made.abort("no answer")
            raise
        return made
