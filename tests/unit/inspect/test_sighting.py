"""Where a message is, by what was found of it."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from app.core.deadletters.envelope import from_record, to_record
from app.core.model.records import Rejected
from app.inspect.decoding import RecordDecoder
from app.inspect.search import SoughtMessage
from app.inspect.sighting import FoundLetter, FoundRecord, GroupPosition, MessageState, sighted
from app.inspect.where_is import MessageTrace
from app.postgres.queries.one_reading import StoredRow
from app.settings import Settings
from tests.unit.inspect.test_views import Placed
from tests.unit.records import NOW_MS, Message, read

BAD = b'{"sequence_id":7,"battery":90.5,"time":1795230000}'
TOPIC = ("mqtt_topic", b"users/u1/devices/d1/telemetry")
decoder = RecordDecoder(Settings())


def found(**fields: Any) -> FoundRecord:
    record = Placed(**fields)
    return FoundRecord(record, decoder.decode(record, NOW_MS))


def letter(offset: int = 42, payload: bytes = BAD) -> FoundLetter:
    rejected = read(Message(payload, offset=offset))
    assert isinstance(rejected, Rejected)
    key, value, headers = to_record(rejected, "iot-stream", 5, "2026-11-21T03:00:00+00:00")
    envelope = from_record(value, headers)
    assert envelope
    record = Placed(value, headers, key, topic="iot-stream-dlq")
    return FoundLetter(record, envelope, decoder.decode(Placed(payload), NOW_MS))


@dataclass
class World:
    """What else is there."""

    rows: bool = False
    letters: list[FoundLetter] = field(default_factory=list)
    committed: int | None = 43
    start: int = 0
    sampled: bool = False

    def judge(self, one: FoundRecord) -> tuple[MessageState, int | None, str]:
        reading = one.decoded.reading
        rows = {reading.time: StoredRow(reading.time, "{}")} if self.rows and reading else {}
        sighting = sighted(one, rows, self.letters, GroupPosition(self.committed, self.start, 100), self.sampled)
        return sighting.state, sighting.ahead, sighting.why


@pytest.mark.parametrize(
    ("world", "state", "ahead", "words"),
    [
        (World(rows=True), "stored", None, "its row"),
        (World(rows=True, committed=0), "stored", None, "its row"),  # stored, and not committed yet
        (World(committed=43), "unaccounted", None, "neither a row nor a dead letter"),
        (World(committed=42), "waiting", 0, "no record waits before it"),
        (World(committed=40), "waiting", 2, "2 records wait before it"),
        (World(committed=None), "waiting", 42, "no worker has committed anything"),
        (World(committed=None, start=40), "waiting", 2, "2 records wait before it"),
        (World(committed=10, start=40), "waiting", 2, "2 records wait before it"),
        (World(sampled=True), "dropped", None, "change of value"),
    ],
)
def test_a_reading(world: World, state: str, ahead: int | None, words: str) -> None:
    said = world.judge(found())
    assert said[:2] == (state, ahead)
    assert words in said[2]


@pytest.mark.parametrize(
    ("world", "state", "words"),
    [
        (World(letters=[letter()]), "dead_lettered", "send a 32-bit integer"),
        (
            World(letters=[letter()], committed=0),
            "dead_lettered",
            "send a 32-bit integer",
        ),  # not committed yet
        (World(letters=[letter(offset=3)]), "dead_lettered", "send a 32-bit integer"),  # of another delivery
        (World(letters=[letter(offset=3)], committed=0), "waiting", "will refuse it: battery"),  # replayed as it was
        (World(letters=[letter(payload=b"{}")]), "dead_lettered", ""),
        (World(letters=[letter(3, b'{"sequence_id":7}')]), "unaccounted", ""),
        (World(), "unaccounted", ""),
    ],
)
def test_what_a_worker_refuses(world: World, state: str, words: str) -> None:
    said = world.judge(found(value=BAD))
    assert said[0] == state
    assert words in said[2]


def test_what_is_left_out_on_purpose() -> None:
    retained = (TOPIC, ("retained", b"1"))
    for one, words in (
        (found(value=b'{"status":"x"}', headers=[("mqtt_topic", b"iot/n1/status")]), "carried out"),
        (found(value=b""), "empty message"),
        (found(value=b'{"value":1}', headers=[("mqtt_topic", b"iot/n1/s1/telemetry"), *retained[1:]]), "history"),
        (found(value=b'{"value":1}', headers=[("mqtt_topic", b"iot/n1/s1/telemetry")]), "redelivery"),
    ):
        state, _, why = World().judge(one)
        assert state is MessageState.DROPPED
        assert words in why


def test_the_state_of_a_message_is_that_of_its_newest_record() -> None:
    reading = found().decoded.reading
    assert reading
    stored = sighted(found(), {reading.time: StoredRow(reading.time, "{}")}, [], GroupPosition(43, 0, 99))
    waiting = sighted(found(offset=90), {}, [], GroupPosition(43, 0, 99))
    gone = sighted(found(), {}, [], GroupPosition(43, 0, 99))
    sought = SoughtMessage("u1", "d1", 7)

    def state(*sightings: Any, rows: Any = (), letters: Any = ()) -> str:
        return MessageTrace(sought, sightings, rows, letters, []).state

    assert state() == "not_seen"
    assert state(rows=[stored.row]) == "stored"
    assert state(letters=[letter()]) == "dead_lettered"
    assert state(waiting, stored) == "waiting"
    assert state(gone, stored) == "stored"
    assert state(gone, waiting) == "unaccounted"
