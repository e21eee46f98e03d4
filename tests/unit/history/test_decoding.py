"""What becomes of records that are decoded once more, and that each of them is counted once."""

import json
from collections import Counter

import pytest
from aiokafka import TopicPartition

from app.core.batch.effects import WriteResult
from app.core.model.headers import PACKET_ID, REDELIVERED, RETAINED
from app.errors import BooksError
from app.history.counts import HistoryCounts
from app.history.decoding import HistoryDecoder
from app.settings import Settings
from tests.unit.records import GOOD, NOW_MS, Message

TP = TopicPartition("in", 3)
INGEST = ("ingest_ms", b"%d" % NOW_MS)


def message(offset: int, topic: str, value: bytes | None, *more: tuple[str, bytes]) -> Message:
    """A record as a bridge writes it."""
    headers = (("mqtt_topic", topic.encode()), ("kind", b"telemetry"), INGEST, *more)
    return Message(value, headers, b"k", NOW_MS, offset)


OF_USER, OF_NODE = "users/u1/devices/d1/telemetry", "iot/n1/s1/telemetry"
UNDATED = b'{"value":1.50}'
RECORDS = [
    message(7, OF_USER, GOOD),
    message(8, OF_USER, b"{"),
    message(9, OF_USER, None),  # clears what the broker retains
    message(10, OF_NODE, UNDATED, (PACKET_ID, b"4")),
    message(12, OF_NODE, UNDATED, (PACKET_ID, b"4"), (REDELIVERED, b"1")),
    message(13, OF_NODE, UNDATED, (RETAINED, b"1")),
    message(14, "users/u1/config", b"[]"),
    message(15, "iot/n1/status", b"online"),
    message(16, "no/such/topic", b"{}"),
    message(17, OF_USER, GOOD.replace(b"2026-11-21", b"2036-11-21")),
]


def decoder() -> HistoryDecoder:
    return HistoryDecoder(Settings())


def test_every_kind_of_record_has_the_outcome_that_a_worker_gives_it() -> None:
    output, counts = decoder().decode(TP, RECORDS), HistoryCounts()
    assert output.rows[0][1:4] == ("u1", "d1", 7)
    assert json.loads(output.rows[1][-1]) == {"value": 1.5}
    assert "1.50" in output.rows[1][-1], "numbers keep every digit"
    counts.add(TP.partition, RECORDS, output, WriteResult(rows=1, duplicates=1))
    assert counts.as_json() == {
        "read": 10, "stored": 1, "there": 1, "again": 1, "other": 2,
        "dead": {"bad_json": 1, "unknown_topic": 1, "time_in_future": 1}, "dropped": {"empty": 1, "retained": 1},
    }  # fmt: skip
    assert counts.examples["bad_json"][0].startswith("3:8 ")


def test_time_is_judged_as_of_the_first_arrival() -> None:
    """Whatever the clock says today: a reading of years ago was on time when it came in."""
    old = Message(GOOD.replace(b"2026-11-21", b"2021-11-21"), (("mqtt_topic", OF_USER.encode()), ("kind", b"telemetry"),
        ("ingest_ms", b"1637460000000")), b"k", NOW_MS, 5)  # fmt: skip
    assert len(decoder().decode(TP, [old]).rows) == 1


def test_the_run_up_says_what_is_a_redelivery() -> None:
    first, again = RECORDS[3:5]
    assert len(decoder().decode(TP, [again]).rows) == 1, "nothing is known of the first"
    made = decoder()
    made.decode(TP, [first])
    assert made.decode(TP, [again]).rows == []


def test_what_the_database_refuses_is_dead_with_its_words() -> None:
    output, counts = decoder().decode(TP, RECORDS[:1]), HistoryCounts()
    counts.add(TP.partition, RECORDS[:1], output, WriteResult(refused=((0, "battery: too high"),)))
    assert counts.dead == Counter({"refused_by_database": 1})
    assert counts.examples == {"refused_by_database": ["3:7 battery: too high"]}


def test_a_row_that_the_database_does_not_answer_for_is_a_bug() -> None:
    output = decoder().decode(TP, RECORDS)
    with pytest.raises(BooksError):
        HistoryCounts().add(TP.partition, RECORDS, output, WriteResult(rows=1))


def test_examples_of_a_reason_are_few() -> None:
    records, counts = [message(offset, OF_USER, b"{") for offset in range(9)], HistoryCounts()
    counts.add(TP.partition, records, decoder().decode(TP, records), WriteResult())
    assert (counts.dead["bad_json"], len(counts.examples["bad_json"])) == (9, 3)
