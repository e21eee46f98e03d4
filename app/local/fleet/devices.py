"""Simulated devices: each its own MQTT 5 client and account, publishing at QoS 1 through the broker.

A share of the messages starts a trace: the span `mqtt_publish`, until the broker's PUBACK, whose context goes with the
message as a user property.
"""

import json
import threading
import time
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from app.errors import TransientError
from app.local.fleet.readings import payload
from app.local.servers.common import write_private
from app.local.servers.mosquitto import Mosquitto
from app.runtime.tracing import semconv
from app.runtime.tracing.context import TRACEPARENT
from app.runtime.tracing.tracing import NO_TRACING, SpanKind, TraceSpan, Tracing

USERS = tuple(f"fleet-{number}" for number in range(1, 5))
SESSION_SECONDS = 3600  # the broker keeps a device's session this long
CONNACK_SECONDS = 10.0


class SimulatedDevice:
    """One device: an MQTT 5 client of its own, with the account of its user. To be used from one thread."""

    def __init__(self, broker: Mosquitto, number: int, sequence: int, tracing: Tracing = NO_TRACING) -> None:
        """`number`, from 0, decides its user, its name and its readings; `sequence` is the last sequence id it used."""
        self.user, self.name, self.number = USERS[number % len(USERS)], f"sensor-{number + 1:02}", number
        self.topic = f"users/{self.user}/devices/{self.name}/telemetry"
        self.sequence = sequence
        self._last: MQTTMessageInfo | None = None
        self._client = Client(CallbackAPIVersion.VERSION2, self.name, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set(self.user, broker.password_of(self.user))
        self._client.max_inflight_messages_set(100)
        self._broker, self._tracing = broker, tracing
        self._spans: dict[int, TraceSpan] = {}  # of messages without a PUBACK, by packet id
        self._early: set[int] | None = None  # PUBACKs, in paho's thread, while a packet id is not yet known here
        self.acknowledged = 0  # counted in paho's thread
        self._client.on_publish = self._published

    def connect(self) -> None:
        """Connect; after that paho reconnects by itself. Raises TransientError when the broker does not answer within
        CONNACK_SECONDS.
        """
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has not typed it
        properties.SessionExpiryInterval = SESSION_SECONDS
        try:
            self._client.connect(self._broker.host, self._broker.port, clean_start=False, properties=properties)
        except OSError as error:
            raise TransientError(f"fleet: no MQTT broker at port {self._broker.port}: {error}") from error
        answered = threading.Event()
        self._client.on_connect = lambda *_: answered.set()
        self._client.loop_start()
        if not answered.wait(CONNACK_SECONDS):  # `close` waits for PUBACKs of a broker that answers
            self._client.loop_stop()
            raise TransientError(f"fleet: the MQTT broker at port {self._broker.port} does not answer a CONNECT")

    def publish(self, now: float) -> None:
        """Send the reading of this moment (seconds since 1970); kept and sent later while the broker is away."""
        self.sequence += 1
        message = payload(self.number, self.sequence, now)
        if self._tracing.samples(None):
            self._publish_traced(message)
        else:
            self._last = self._client.publish(self.topic, message, qos=1)

    def _publish_traced(self, message: bytes) -> None:
        span = self._tracing.span(
            semconv.MQTT_PUBLISH,
            SpanKind.PRODUCER,
            attributes={
                semconv.MESSAGING_SYSTEM: semconv.MQTT,
                semconv.MESSAGING_OPERATION_NAME: "publish",
                semconv.MESSAGING_OPERATION_TYPE: "send",
                semconv.MESSAGING_DESTINATION_NAME: self.topic,
                semconv.MESSAGING_MESSAGE_BODY_SIZE: len(message),
                semconv.USER_ID: self.user,
                semconv.DEVICE_ID: self.name,
                semconv.SEQUENCE_ID: self.sequence,
            },
        )
        early: set[int] = set()
        self._early = early
        self._last = sent = self._client.publish(self.topic, message, qos=1, properties=_carrying(span))
        self._spans[sent.mid] = span
        if sent.mid in early:
            self._end_span(sent.mid)
        self._early = None

    def _published(self, _: Any, __: Any, packet_id: int, *___: Any) -> None:
        """The broker has the message (paho's on_publish, in a thread of its own)."""
        self.acknowledged += 1
        if (early := self._early) is not None:
            early.add(packet_id)  # first: whichever thread comes second, this one or the other, finds the packet id
        self._end_span(packet_id)

    def _end_span(self, packet_id: int) -> None:
        if span := self._spans.pop(packet_id, None):
            span.end()

    def close(self, seconds: float) -> None:
        """Wait for the broker's ack of what was sent last, for so many seconds at most, then disconnect."""
        if self._last is not None and self._client.is_connected():
            self._last.wait_for_publish(seconds)
        self._client.disconnect()
        self._client.loop_stop()
        for span in self._spans.values():
            span.fail("interrupted", "stopped before the broker's PUBACK")
            span.end()


def _carrying(span: TraceSpan) -> Properties:
    """The properties of a PUBLISH with the context of a span."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has not typed it
    if span.context:
        properties.UserProperty = (TRACEPARENT, span.context.traceparent.decode())
    return properties


class Fleet:
    """All devices, sending evenly spread over time."""

    def __init__(
        self, broker: Mosquitto, devices: int, rate: float, memory: Path, tracing: Tracing = NO_TRACING
    ) -> None:
        """`devices`: how many. `rate`: messages a second of each device. `memory`: the file where sequence ids are kept
        over restarts.
        """
        self._memory, self._rate, self.sent = memory, rate, 0
        # After a kill the file is up to a second old: the next ids lie beyond any that can have been used since.
        base = self._remembered() + int(2 * rate) + 2
        self.devices = [SimulatedDevice(broker, number, base, tracing) for number in range(devices)]

    @property
    def acknowledged(self) -> int:
        """How many readings the broker has acknowledged."""
        return sum(device.acknowledged for device in self.devices)

    def _remembered(self) -> int:
        try:
            return int(json.loads(self._memory.read_text())["sequence"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _remember(self) -> None:
        write_private(self._memory, json.dumps({"sequence": max(device.sequence for device in self.devices)}) + "\n")

    def run(self, stop: threading.Event) -> None:
        """Publish until stopped, then wait for the broker's acks, 5 s for each device at most. Raises TransientError
        when no broker answers at the start; later outages are waited out.
        """
        for device in self.devices:
            device.connect()
        step = 1 / (self._rate * len(self.devices))
        due = time.monotonic()
        self._remember()
        while not stop.wait(max(0.0, due - time.monotonic())):
            self.devices[self.sent % len(self.devices)].publish(time.time())
            due, self.sent = max(due + step, time.monotonic() - 1), self.sent + 1  # at most a second is caught up
            if self.sent % max(1, int(1 / step)) == 0:
                self._remember()
        for device in self.devices:
            device.close(5.0)
        self._remember()
