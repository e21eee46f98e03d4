"""States written by an earlier program are read and go on: the same bytes, alerts and rows as that one made of them.

tests/unit/core/state/states_of_0_1_0.json holds the state table after the first 800 of these records and after 400
more, as the program wrote it before its modules were moved and renamed. Nobody may write it anew.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.core.decode import run_decoder
from app.core.decode.decoder import DecodeLimits
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits
from app.core.processing.processor import Processor
from app.core.state.device_state import decode, encode
from app.core.state.partition_log import PartitionLog
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.core.processing.test_processor import Given
from tests.unit.records import Message

WRITTEN = json.loads((Path(__file__).parent / "states_of_0_1_0.json").read_text())
NOW = 1_750_000_000.0  # seconds since 1970, when the first record came in
DOCUMENT = {
    "rules": [
        {"id": "hot", "key": "temperature", "operator": ">", "threshold": 80, "message": "m"},
        {"id": "long", "key": "temperature", "operator": ">", "threshold": 70, "message": "m", "for_seconds": 3,
         "clear_for_seconds": 2, "no_data_seconds": 60, "cooldown_seconds": 20, "severity": "critical"},
        {"id": "wet", "key": "humidity", "operator": ">=", "threshold": 60, "message": "m", "consecutive": 2,
         "flap": {"times": 3, "within_seconds": 60}, "escalate": {"after_seconds": 5, "severity": "critical"}},
        {"id": "mean", "key": "avg(temperature,10s)", "operator": ">", "threshold": 60, "message": "m"},
        {"id": "word", "key": "state", "operator": "==", "threshold": "broken", "message": "m", "devices": ["b*"]},
    ],
    "maintenance": [{"devices": ["c1"], "from": "2025-06-15T15:06:50Z", "until": "2025-06-15T15:07:10Z"}],
    "sampling": {"cov": [{"keys": {"temperature": {"absolute": 1}}, "heartbeat_seconds": 30, "devices": ["a*"]}]},
}  # fmt: skip
DEVICES = ("a1", "a2", "b1", "b2", "c1", "d1")


def records(first: int, count: int, seed: int) -> Iterator[tuple[str, bytes, bytes, int, int]]:
    """Topic, key, payload, ms since 1970 and offset of each: readings of two kinds of devices, and commands."""
    chance = random.Random(seed)
    for offset in range(first, first + count):
        second = NOW + offset / 4
        body: dict[str, Any] = {"sequence_id": offset, "temperature": chance.choice([20.0, 65.5, 75.0, 79.5, 81.0, 90])}
        if chance.random() < 0.5:
            body["humidity"] = chance.choice([40, 60, 61.5])
        if chance.random() < 0.3:
            body["state"] = chance.choice(["fine", "broken"])
        device, kind = chance.choice(DEVICES), chance.random()
        topic, key = f"users/u/devices/{device}/telemetry", f"u/{device}".encode()
        late = 3600 if device == "d1" and first < offset < first + count // 2 else 0
        if kind < 0.1:
            action = chance.choice(["ACK", "SNOOZE", "DISABLE", "ENABLE"])
            topic, body = "users/u/alerts/manage", {"action": action, "device_id": device, "rule_id": "hot"}
            body |= {"duration_seconds": 20} if action == "SNOOZE" else {}
        elif kind < 0.3:
            topic, key = f"iot/n/{device}/telemetry", b"n"  # without a time
        elif kind < 0.35:
            topic, key, body = "iot/n/status", b"n", {"status": chance.choice(["online", "offline"])}
        else:
            body["timestamp"] = second - late - chance.choice([0, 0, 0, 2])
        yield topic, key, msgspec.json.encode(body), int(second * 1000), offset


def states(name: str) -> dict[bytes, bytes]:
    """Key and value of the state table at that moment."""
    return {bytes.fromhex(key): bytes.fromhex(value) for key, value in WRITTEN[name]}


def sha256(texts: list[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def test_every_state_is_read_and_written_as_it_was() -> None:
    devices = [value for key, value in states("after").items() if not key.startswith(b"\0")]
    assert len(devices) == 12
    for value in devices:
        assert encode(decode(value)) == value


@pytest.mark.parametrize("few", [0, 8, 10**6], ids=["together", "as it is", "alone"])
def test_a_worker_goes_on_from_the_states_of_an_earlier_one(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the records of every batch are decoded together, and where each is decoded alone."""
    monkeypatch.setattr(run_decoder, "FEW", few)
    table = states("before")
    book = RuleBook(DEFAULT)
    document = msgspec.json.encode(DOCUMENT).decode()
    assert book.apply([("u", document), ("n", document)]) == []
    classes = DeviceClasses((), PresenceLimits(30.0))
    log = PartitionLog(1, "t1", 3)
    processor = Processor(DecodeLimits(), DEFAULT, book, lambda _, key: table.get(key), classes, log_of=lambda _: log)
    rows, alerts, effects = list[int](), list[str](), list[str]()
    given = list(records(800, 400, 2))
    for at in range(0, 400, 40):
        batch = [
            Message(payload, (("mqtt_topic", topic.encode()),), key, ms, offset)
            for topic, key, payload, ms, offset in given[at : at + 40]
        ]
        work = processor(Given(batch, epoch=2), NOW + batch[-1].offset / 4)
        table |= work.states
        rows.append(len(work.rows))
        alerts += [value.decode() for _, value in work.alerts]
        made = [str(effect.statement) for effect in [*work.effects, *work.alert_effects]]
        effects += [statement for statement in made if "muted" not in statement]  # rows that came later
    assert (len(alerts), len(effects)) == (WRITTEN["alerts"]["count"], WRITTEN["effects"]["count"])
    assert rows == WRITTEN["rows"]
    assert sha256(alerts) == WRITTEN["alerts"]["sha256"]
    assert sha256(effects) == WRITTEN["effects"]["sha256"]
    assert table == states("after")
