"""Outgoing MQTT: in, messages in order; out, the broker's PUBACK for each; paho keeps the connection."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence

import paho.mqtt.client as paho
import structlog
from msgspec import Struct
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from app.addresses import Address
from app.tls import words

log = structlog.get_logger()

RECONNECT_MIN, RECONNECT_MAX = 1, 15  # seconds, doubled by paho
IN_FLIGHT = 1000  # published ahead of their PUBACKs; paho's default of 20 costs a round trip every 20 messages


class Account(Struct, frozen=True):
    """Where and as whom to publish."""

    host: str
    port: int
    client_id: str
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None

    def __repr__(self) -> str:
        return f"Account({self.username} as {self.client_id} at {Address(self.host, self.port)})"


class _Client(paho.Client):
    """paho's, whose thread says when it dies."""

    died: Callable[[BaseException], object]
    failed: Callable[[OSError], object]

    def reconnect(self) -> MQTTErrorCode:
        """paho swallows why it cannot connect."""
        try:
            return super().reconnect()
        except OSError as error:
            self.failed(error)
            raise

    def _thread_main(self) -> None:
        try:
            super()._thread_main()
        except BaseException as error:
            self.died(error)
            raise


class MqttPublisher:
    """Publishes with QoS 1. While the broker is away messages wait in paho and go out in order afterwards."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._waiting: dict[int, asyncio.Future[str | None]] = {}
        self._loop = asyncio.get_running_loop()
        self._online = asyncio.Event()
        self.died: asyncio.Future[None] = self._loop.create_future()  # fails when paho's thread does
        client = _Client(CallbackAPIVersion.VERSION2, account.client_id, protocol=MQTTProtocolVersion.MQTTv5)
        if account.username is not None:
            client.username_pw_set(account.username, account.password)
        if account.tls is not None:
            client.tls_set_context(account.tls)
        client.max_inflight_messages_set(IN_FLIGHT)
        client.reconnect_delay_set(RECONNECT_MIN, RECONNECT_MAX)
        client.on_publish = self._on_publish
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.failed = self._on_failure
        client.died = lambda error: self._loop.call_soon_threadsafe(self._fail, error)
        self._client = client

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._client.is_connected()

    async def online(self, seconds: float) -> bool:
        """Wait until there is a connection, for so long at most; whether there is one."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._online.wait(), seconds)
        return self._online.is_set()

    def start(self) -> None:
        """Connect in the background, for as long as it takes."""
        self._client.connect_async(self._account.host, self._account.port, keepalive=30)
        self._client.loop_start()

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> list[str | None]:
        """Wait for every PUBACK; per message None, or the broker's reason when it refuses the message.

        Raises ValueError for a topic that cannot be published to (empty, with a wildcard, above 65,535 bytes).
        """
        waiting = []
        for topic, payload in messages:
            info = self._client.publish(topic, payload, qos=1)  # queued when there is no connection
            # Its PUBACK is handed to this very loop, so it cannot be handled before the next await.
            waiting.append(self._waiting.setdefault(info.mid, self._loop.create_future()))
        return list(await asyncio.gather(*waiting))

    def _fail(self, error: BaseException) -> None:
        if not self.died.done():
            self.died.set_exception(RuntimeError(f"the MQTT client's thread has died: {error!r}"))

    async def stop(self) -> None:
        """Disconnect; safe before start and twice."""
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()

    def _on_publish(self, _: paho.Client, __: object, mid: int, reason: ReasonCode, ___: Properties) -> None:
        self._loop.call_soon_threadsafe(self._acked, mid, str(reason) if reason.is_failure else None)

    def _acked(self, mid: int, refusal: str | None) -> None:
        future = self._waiting.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(refusal)

    def _on_failure(self, error: OSError) -> None:
        where = f"the MQTT broker at {Address(self._account.host, self._account.port)}"
        log.warning("notifier_mqtt_unreachable", error=words(error, where, "IOT_MQTT"))

    def _on_connect(self, _: paho.Client, __: object, ___: object, reason: ReasonCode, ____: Properties | None) -> None:
        if reason.is_failure:
            cure = "look at IOT_MQTT_USERNAME and IOT_MQTT_PASSWORD_FILE"
            log.error("notifier_mqtt_refused", reason=str(reason), username=self._account.username, cure=cure)
        else:
            self._loop.call_soon_threadsafe(self._online.set)
            log.info("notifier_mqtt_connected", host=self._account.host, port=self._account.port)

    def _on_disconnect(
        self, _: paho.Client, __: object, ___: object, reason: ReasonCode, ____: Properties | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._online.clear)
        log.warning("notifier_mqtt_disconnected", reason=str(reason))
