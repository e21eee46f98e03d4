"""Which records are of the message that is sought, and in which partitions they are."""

from typing import Any

import pytest

from app.core.deadletters.envelope import to_record
from app.core.model.records import Rejected
from app.inspect.decoding import RecordDecoder
from app.inspect.search import Matcher, SoughtMessage, trace_id
from app.kafka.messages import key_partition
from app.settings import Settings
from tests.unit.inspect.test_views import PARENT, Placed
from tests.unit.records import NOW_MS, Message, read

ID = PARENT[3:35].decode()
SOUGHT = SoughtMessage("u1", "d1", 7)
IOT = [("mqtt_topic", b"iot/n1/s1/telemetry")]


def takes(sought: SoughtMessage, **fields: Any) -> bool:
    return Matcher(sought, RecordDecoder(Settings())).record(Placed(**fields), NOW_MS) is not None


def test_the_partitions_of_a_message() -> None:
    assert SOUGHT.partitions(12) == sorted({key_partition(b"u1/d1", 12), key_partition(b"u1", 12)})
    assert SoughtMessage(trace_id=ID).partitions(3) == [0, 1, 2]
    assert SoughtMessage("u1").partitions(3) == [0, 1, 2]


def test_a_record_of_the_message() -> None:
    assert takes(SOUGHT)
    assert takes(SOUGHT, headers=(), key=None)  # by its payload
    assert takes(SOUGHT, value=b'{"sequence_id":7.0,"time":1795230000}')  # as a worker reads it
    assert takes(SOUGHT, value=b'{"sequence_id":7,"time":0}')  # which a worker refuses
    assert takes(SoughtMessage("n1", "s1", 5), value=b'{"sequence_id":5}', headers=IOT)
    for other in (SoughtMessage("u1", "d1", 8), SoughtMessage("u", "d1", 7), SoughtMessage("u1", "d", 7)):
        assert not takes(other)


def test_a_record_by_its_trace() -> None:
    traced = [*Placed().headers, ("traceparent", PARENT)]
    assert takes(SoughtMessage(trace_id=ID), headers=traced)
    assert takes(SoughtMessage("u1", "d1", 7, ID), headers=traced)
    assert not takes(SoughtMessage(trace_id=ID))
    assert not takes(SoughtMessage("u1", "d2", None, ID), headers=traced)
    assert not takes(SoughtMessage(trace_id="0" * 31 + "1"), headers=traced)
    assert not takes(SoughtMessage(trace_id=ID), headers=[("traceparent", PARENT + b"\n")])


def test_a_dead_letter_by_its_original() -> None:
    rejected = read(Message(b'{"sequence_id":7}'))
    assert isinstance(rejected, Rejected)
    key, value, headers = to_record(rejected, "iot-stream", 5, "2026-11-21T03:00:00+00:00")
    record = Placed(value, headers, key)
    matcher = Matcher(SOUGHT, RecordDecoder(Settings()))
    found = matcher.letter(record, NOW_MS)
    assert found
    assert (found.letter.reason, found.decoded.sequence_id) == ("missing_field", 7)
    assert matcher.letter(Placed(b"junk"), NOW_MS) is None
    assert Matcher(SoughtMessage("u1", "d1", 8), RecordDecoder(Settings())).letter(record, NOW_MS) is None


@pytest.mark.parametrize("text", [ID, ID.upper(), f" {ID} ", PARENT.decode()])
def test_a_trace_id(text: str) -> None:
    assert trace_id(text) == ID


@pytest.mark.parametrize("text", ["", ID[:-1], ID + "0", "g" + ID[1:], f"00-{ID}", f"00-{ID}-1-01"])
def test_what_is_no_trace_id(text: str) -> None:
    assert trace_id(text) is None
