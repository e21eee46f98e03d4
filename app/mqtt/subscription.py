"""Live messages of an MQTT broker: in, topic filters; out, messages as they come, at QoS 0 and without a session.

A reader that is slow costs the broker nothing: what it cannot send is dropped there, and nothing waits in memory here.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence

import paho.mqtt.client as paho
from msgspec import Struct
from paho.mqtt import MQTTException
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from app.errors import PermanentError, TransientError
from app.mqtt.one_shot import TIMEOUT, client_of
from app.runtime.addresses import HostPort
from app.runtime.tls import words
from app.settings import Settings

TICK = 0.5  # seconds; how long a wait for the next packet lasts
KEEP_ALIVE = 30


class LiveMessage(Struct, frozen=True):
    """A message as the broker has delivered it."""

    topic: str
    payload: bytes
    qos: int  # of the delivery
    retained: bool
    properties: Sequence[tuple[str, bytes]]  # user properties
    received_ms: int  # when it came here, milliseconds since 1970


def subscription(settings: Settings, filters: Sequence[str], name: str) -> Generator[LiveMessage, None, None]:
    """Subscribe to topic filters and yield messages for as long as the connection lasts, blocking in between; close the
    iterator to disconnect. Retained messages of before are not delivered.

    `name` is part of the client id. Raises TransientError when the broker is away or leaves, PermanentError when it
    refuses the account or a filter.
    """
    where = f"the MQTT broker at {HostPort(settings.mqtt_host, settings.mqtt_port)}"
    reader = _Reader(settings, name, where)
    try:
        yield from reader.messages(filters)
    except OSError as error:  # ssl's errors are OSErrors
        cure = "start it, or set IOT_MQTT_HOST and IOT_MQTT_PORT to what it has"
        raise TransientError(f"no way into {where}: {words(error, 'the broker', 'IOT_MQTT')}; {cure}") from error
    except MQTTException as error:
        raise TransientError(f"{where} sends what is no MQTT 5: {error}") from error
    finally:
        reader.close()


class _Reader:
    def __init__(self, settings: Settings, name: str, where: str) -> None:
        self._settings, self._where = settings, where
        account = (settings.mqtt_username or "iot").replace("_", "-")  # EMQX binds our accounts to ids that begin so
        self._client = client_of(settings, f"{account}-{name}")
        self._came: deque[LiveMessage] = deque()
        self._answers: list[Sequence[ReasonCode]] = []
        self._client.on_connect = lambda client, data, flags, reason, properties: self._answers.append([reason])
        self._client.on_subscribe = lambda client, data, number, reasons, properties: self._answers.append(reasons)
        self._client.on_message = self._message

    def messages(self, filters: Sequence[str]) -> Iterator[LiveMessage]:
        settings = self._settings
        limits = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has not typed it
        limits.MaximumPacketSize = settings.bridge_packet_max_bytes
        self._client.connect(settings.mqtt_host, settings.mqtt_port, KEEP_ALIVE, clean_start=True, properties=limits)
        who = settings.mqtt_username or "an anonymous client"
        self._check(f"refuses {who}", "look at IOT_MQTT_USERNAME and IOT_MQTT_PASSWORD")
        options = SubscribeOptions(
            qos=0, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
        )  # what is retained is no news
        self._client.subscribe([(one, options) for one in filters])
        self._check(f"lets {who} not subscribe to {', '.join(filters)}", "may this account read there?")
        while True:
            self._turn()
            while self._came:
                yield self._came.popleft()

    def close(self) -> None:
        self._client.disconnect()

    def _check(self, what: str, cure: str) -> None:
        """Wait for the broker's answer."""
        deadline = time.monotonic() + TIMEOUT
        while not self._answers:
            if time.monotonic() > deadline:
                raise TransientError(f"{self._where} does not answer within {TIMEOUT:g} s")
            self._turn()
        for reason in self._answers.pop(0):
            if reason.is_failure:
                raise PermanentError(f"{self._where} {what}: {reason}; {cure}")

    def _turn(self) -> None:
        """Read one packet, if there is one; keep the connection alive."""
        code = self._client.loop(TICK)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS and not self._answers:
            raise TransientError(f"{self._where} has closed the connection: {paho.error_string(code)}")

    def _message(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # no broker passes such a one on
        named = [(name, text.encode()) for name, text in getattr(message.properties, "UserProperty", [])]
        now = time.time_ns() // 1_000_000
        self._came.append(LiveMessage(topic, bytes(message.payload), message.qos, message.retain, named, now))
