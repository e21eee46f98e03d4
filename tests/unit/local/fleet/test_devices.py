"""The span `mqtt_publish` of a simulated device: it ends with the broker's PUBACK, however early that comes."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.properties import Properties

from app.errors import TransientError
from app.local.fleet import devices
from app.local.fleet.devices import USERS, SimulatedDevice
from app.local.servers.mosquitto import Mosquitto
from tests.spans import Recorded, attributes

Acked = Callable[[Any, Any, int], None]


class Client:
    """A client whose broker answers when the test says so."""

    def __init__(self, acked: Acked, at_once: bool) -> None:
        self._acked, self._at_once = acked, at_once
        self.sent: list[Properties | None] = []

    def publish(self, topic: str, payload: bytes, qos: int, properties: Properties | None = None) -> MQTTMessageInfo:
        self.sent.append(properties)
        info = MQTTMessageInfo(len(self.sent))
        if self._at_once:
            self.acks(info.mid)
        return info

    def acks(self, packet_id: int) -> None:
        self._acked(None, None, packet_id)

    def is_connected(self) -> bool:
        return False

    def disconnect(self) -> None: ...
    def loop_stop(self) -> None: ...


def subject(directory: Path, recorded: Recorded, at_once: bool) -> tuple[SimulatedDevice, Client]:
    broker = Mosquitto(directory, 1, accounts=USERS)
    (directory / "secrets").mkdir()
    broker.password_file(USERS[0]).write_text("secret")
    device = SimulatedDevice(broker, 0, 1, recorded.tracing)
    client = Client(device._published, at_once)
    device._client = client  # type: ignore[assignment]
    return device, client


@pytest.mark.parametrize("at_once", [True, False], ids=["before publish returns", "later"])
def test_a_traced_message_carries_its_context_until_the_puback(tmp_path: Path, at_once: bool) -> None:
    recorded = Recorded(1.0)
    device, client = subject(tmp_path, recorded, at_once)
    device.publish(1e9)
    if not at_once:
        assert recorded.spans() == []
        client.acks(1)
    (span,) = recorded.spans()
    assert span.name == "mqtt_publish"
    found = attributes(span)
    assert (found["user_id"], found["device_id"], found["sequence_id"]) == (USERS[0], "sensor-01", 2)
    ((name, value),) = getattr(client.sent[0], "UserProperty", [])
    assert span.context is not None
    assert (name, value[3:52]) == ("traceparent", f"{span.context.trace_id:032x}-{span.context.span_id:016x}")
    client.acks(1)
    device.close(0)
    assert len(recorded.spans()) == 1


def test_one_that_is_stopped_before_it_says_so(tmp_path: Path) -> None:
    recorded = Recorded(1.0)
    device, _ = subject(tmp_path, recorded, at_once=False)
    device.publish(1e9)
    device.close(0)
    assert [attributes(span)["error.type"] for span in recorded.spans()] == ["interrupted"]


def test_what_is_not_sampled_has_neither_span_nor_property(tmp_path: Path) -> None:
    recorded = Recorded(0.0)
    device, client = subject(tmp_path, recorded, at_once=True)
    for _ in range(100):
        device.publish(1e9)
    assert recorded.spans() == []
    assert client.sent == [None] * 100
    assert not device._spans
    assert not device._early


def test_a_broker_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CONNACK_SECONDS", 0.2)
    device, _ = subject(tmp_path, Recorded(1.0), False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        made = SimulatedDevice(device._broker, 0, 1)
        made._broker.port = port
        with pytest.raises(TransientError, match=f"port {port} does not answer a CONNECT"):
            made.connect()
