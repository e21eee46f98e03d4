"""Devices over the limit: their readings are rows, and nothing else is made of them; known devices are never over."""

from typing import Any

import msgspec

from app.core.decode.decoder import DecodeLimits
from app.core.model.namespaces import IOT, owner_of
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits
from app.core.processing.device_limit import DeviceLimit
from app.core.processing.processor import Processor
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.core.processing.test_processor import HOT, NOW, Given, telemetry
from tests.unit.records import Message


class Limited:
    """A processor with a limit, over states that outlast it."""

    def __init__(self, of_worker: int = 0, of_tenant: int = 0, *, watched: bool = False) -> None:
        self.states: dict[bytes, bytes] = {}
        self.over: list[tuple[str, str]] = []
        self._of_worker, self._of_tenant, self._watched = of_worker, of_tenant, watched
        self.start()

    def start(self) -> None:
        """As after a restart: only what is stored is known."""
        book = RuleBook(DEFAULT)
        book.apply([(user, msgspec.json.encode([HOT]).decode()) for user in ("u", "v")])
        self.limit = DeviceLimit(
            self._of_worker, self._of_tenant, lambda name, limit: self.over.append((name[1], limit))
        )
        classes = DeviceClasses((), PresenceLimits(5.0 if self._watched else 0.0))
        load: Any = lambda partition, key: self.states.get(key)  # noqa: E731
        self.processor = Processor(DecodeLimits(), DEFAULT, book, load, classes, limit=self.limit)

    def send(self, *records: Message, epoch: int = 1) -> tuple[int, int]:
        """How many rows and alerts they make."""
        output = self.processor(Given(records, 0, epoch), NOW)
        self.states |= output.states
        return len(output.rows), len(output.events)


def hot(offset: int, device: str, **more: Any) -> Message:
    return telemetry(offset, device, temperature=95, **more)


def test_a_device_over_the_limit_has_rows_and_no_state() -> None:
    subject = Limited(2)
    assert subject.send(hot(0, "a"), hot(1, "b"), hot(2, "c")) == (3, 2)
    assert subject.over == [("c", "worker")]
    assert {key for key in subject.states if not key.startswith(b"\0")} == {b"u/a", b"u/b"}
    assert subject.send(hot(3, "c"), telemetry(4, "a", temperature=10)) == (2, 1)
    assert subject.limit.count == 2


def test_known_devices_come_first_after_a_restart_and_in_a_new_epoch() -> None:
    subject = Limited(2)
    subject.send(hot(0, "a"), hot(1, "b"))
    subject.start()
    partition = subject.processor.partitions.partition(1, 0)
    for key, value in subject.states.items():
        subject.processor.partitions.seed(partition, key, value, NOW)
    assert subject.limit.count == 2
    assert subject.send(hot(2, "new"), telemetry(3, "b", temperature=1), telemetry(4, "a", temperature=1)) == (3, 2)
    assert subject.over == [("new", "worker")]
    assert subject.send(hot(5, "b"), hot(6, "a"), epoch=2) == (2, 2), (
        "also before the stored states were looked through"
    )


def test_presence_is_a_state_too() -> None:
    subject = Limited(1, watched=True)
    subject.send(telemetry(0, "a", temperature=1), telemetry(1, "b", temperature=1))
    assert {key for key in subject.states if key.startswith(b"\0seen/")} == {b"\0seen/u/a"}
    subject.start()
    subject.send(telemetry(2, "a", temperature=1))
    assert (subject.limit.count, [name for name, _ in subject.over]) == (1, ["b"])


def test_a_tenant_has_a_limit_of_its_own() -> None:
    subject = Limited(10, 1)
    other = Message(
        telemetry(2, "x", temperature=95).value,
        (("mqtt_topic", b"users/v/devices/x/telemetry"),),
        b"v/x",
        int(NOW * 1000),
        2,
    )
    assert subject.send(hot(0, "a"), hot(1, "b"), other) == (3, 2)
    assert subject.over == [("b", "tenant")]
    assert subject.limit.of_users == {"u": 1, "v": 1}


def test_a_message_without_a_time_is_stored_each_time_when_its_device_has_no_state() -> None:
    subject = Limited(1)
    topic = (("mqtt_topic", b"iot/u/s/telemetry"), ("mqtt_id", b"7"))
    subject.send(hot(0, "a"))
    record = Message(b'{"value": 1}', topic, b"u", int(NOW * 1000), 1)
    assert subject.send(record) == (1, 0)
    assert subject.over == [("s", "worker")]
    assert owner_of("u", IOT) not in {key.decode().rpartition("/")[0] for key in subject.states}
