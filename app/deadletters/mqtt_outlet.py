"""Letters to the MQTT broker: in, records; out, a PUBACK for each. A connection that ends is made again."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from app.core.model.headers import TOPIC
from app.deadletters.outlets import PATIENCE, RefusedLetter
from app.errors import PermanentError, TransientError
from app.kafka.messages import OutgoingMessage
from app.mqtt.connection import BrokerAccount, Connection, NotTakenError
from app.runtime.addresses import HostPort
from app.runtime.interrupt import Interrupt
from app.runtime.retry import delay
from app.runtime.tls import words

CONNECT_SECONDS = 10.0
LAST_SECONDS = 2.0  # for acks under way when the command is stopped
PROPERTIES = ("traceparent", "tracestate", "replay_count")  # headers that go along as user properties


class MqttOutlet:
    """Publishes each record to the MQTT topic of its header, QoS 1, in their order."""

    def __init__(self, account: BrokerAccount, interrupt: asyncio.Event, patience: float = PATIENCE) -> None:
        self._account, self._interrupt, self._patience = account, Interrupt(interrupt), patience
        self._connection: Connection | None = None
        self._where = f"the MQTT broker at {HostPort(account.host, account.port)}"

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[RefusedLetter]:
        """As LetterOutlet.send: raises TransientError, and PermanentError when the broker refuses the account."""
        left, refused = dict(enumerate(messages)), list[RefusedLetter]()
        acked_at, attempt, why = time.monotonic(), 0, ""
        while left:
            before = len(left)
            try:
                connection = await self._connected()
                await self._publish(connection, left, refused)
                why = "the connection ended"
            except (OSError, TimeoutError, TransientError) as error:
                if isinstance(error, NotTakenError):
                    cure = "look at IOT_MQTT_USERNAME and IOT_MQTT_PASSWORD_FILE"
                    raise PermanentError(f"{self._where} refuses the account: {error}; {cure}") from error
                why = words(error, self._where, "IOT_MQTT") if isinstance(error, OSError) else str(error)
            now = time.monotonic()
            if len(left) < before:
                acked_at, attempt = now, 0
            if left:
                if self._interrupt.is_set():
                    raise TransientError("stopped while waiting for the MQTT broker")
                if now - acked_at > self._patience:
                    raise TransientError(f"{self._where} has not taken a message for {self._patience:g} s: {why}")
                attempt += 1
                await self._interrupt.pause(delay(attempt))
        return refused

    async def close(self) -> None:
        """Disconnect."""
        if self._connection and not self._connection.closed.done():
            self._connection.close()
            await asyncio.wait([self._connection.closed], timeout=1)
            self._connection.abort("stopped")

    async def _connected(self) -> Connection:
        made = self._connection
        if made is not None and not made.closed.done():
            return made
        made, self._connection = Connection(self._account), None
        loop, account = asyncio.get_running_loop(), self._account
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: made, account.host, account.port, ssl=account.tls)
                await asyncio.shield(made.accepted)
        except BaseException:
            made.abort("no answer")
            raise
        self._connection = made
        return made

    async def _publish(
        self, connection: Connection, left: dict[int, OutgoingMessage], refused: list[RefusedLetter]
    ) -> None:
        """Publish what is left, until all is acked or the connection ends; what is acked or refused leaves `left`."""
        changed = asyncio.Event()
        under_way = set[int]()

        def settled(at: int, why: str | None) -> None:
            if why is not None:
                refused.append(RefusedLetter(at, why))
            left.pop(at, None)
            under_way.discard(at)
            changed.set()

        for at, message in list(left.items()):
            while len(under_way) >= connection.ahead and not self._ends(connection):
                await self._until(changed, connection)
            if self._ends(connection):
                break
            under_way.add(at)
            fault = _published(connection, message, partial(settled, at))
            if fault is not None:
                settled(at, fault)
        deadline = time.monotonic() + LAST_SECONDS
        while under_way and not connection.closed.done():
            await self._until(changed, connection)
            if self._interrupt.is_set() and time.monotonic() > deadline:
                return

    def _ends(self, connection: Connection) -> bool:
        return connection.closed.done() or self._interrupt.is_set()

    async def _until(self, changed: asyncio.Event, connection: Connection) -> None:
        """Wait for an answer, for the connection's end, or a moment."""
        waiting: asyncio.Future[Any] = asyncio.ensure_future(changed.wait())
        answers: set[asyncio.Future[Any]] = {waiting, connection.closed}
        try:
            await asyncio.wait(answers, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        changed.clear()


def _published(connection: Connection, message: OutgoingMessage, acked: Callable[[str | None], None]) -> str | None:
    """Publish a record; returns why it can never be published, if so."""
    known = {name: value for name, value in reversed(message.headers) if value is not None}
    try:
        topic = known[TOPIC].decode()
        properties = [(name, known[name].decode()) for name in PROPERTIES if name in known]
    except KeyError:
        return "the letter names no MQTT topic"
    except UnicodeDecodeError as error:
        return f"its topic or a header is not UTF-8: {error}"
    if not topic or any(mark in topic for mark in "+#\0"):
        return f"{topic!r} is no MQTT topic"
    return connection.publish(topic, message.value or b"", acked, properties)
