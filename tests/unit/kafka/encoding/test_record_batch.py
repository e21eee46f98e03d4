"""Record batches against aiokafka's own builder and reader."""

from typing import Any

import pytest
from aiokafka.codec import lz4_decode
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import decode_varint
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from app.kafka.encoding import record_batch
from app.kafka.encoding.record_batch import HEAD_BYTES, BatchEncoder, RecordBatch
from app.kafka.encoding.varints import Header, varint

LARGE = 1 << 20


class Given(Struct, frozen=True):
    """A record."""

    key: bytes
    value: bytes
    headers: list[Header]
    ingest_ms: int


_headers = st.lists(st.tuples(st.text(max_size=70), st.binary(max_size=200)), min_size=1, max_size=70)
_few = st.sampled_from(
    [[("a", b"1")], [("a", b"1"), ("b", b"")], [("a", b"2"), ("b", b"")], [("a", b"1"), ("b", b"3")]]
)
_records = st.builds(
    Given,
    key=st.sampled_from([b"", b"k", b"k" * 64, b"k" * 2000]) | st.binary(max_size=80),
    value=st.binary(max_size=300),
    headers=_few | _headers,
    ingest_ms=st.integers(1_795_000_000_000, 1_795_000_000_100) | st.integers(0, 2**42),
)


def theirs(records: list[Given], max_bytes: int) -> tuple[bytes, int]:
    """What aiokafka makes of as many as fit, without compression, and their number."""
    batch, count = BatchBuilder(max_bytes, 0), 0
    for one in records:
        if batch.append(timestamp=one.ingest_ms, key=one.key, value=one.value, headers=one.headers) is None:
            break
        count += 1
    return bytes(batch._build()), count


def ours(batch: RecordBatch) -> bytes:
    """The bytes of a batch, as they were before compression."""
    made = batch._build()
    attributes = int.from_bytes(made[21:23], "big")
    return made[HEAD_BYTES:] if not attributes else lz4_decode(made[HEAD_BYTES:])


@given(st.lists(_records, min_size=1, max_size=20), st.integers(61, 3000) | st.just(LARGE))
def test_records_are_byte_for_byte_as_aiokafka_encodes_them(records: list[Given], max_bytes: int) -> None:
    encoder = BatchEncoder()
    for _ in range(2):  # the second time what they have in common is known
        batch = encoder.batch(records, max_bytes)
        made, count = theirs(records, max_bytes)
        assert batch.record_count() == count
        assert batch.size() == len(made)
        assert ours(batch) == made[HEAD_BYTES:]


@given(st.lists(_records, min_size=1, max_size=20))
def test_a_batch_is_read_back(records: list[Given]) -> None:
    batch = BatchEncoder().batch(records, LARGE)
    batch._set_producer_state(7, 3, 11)
    read = DefaultRecordBatch(batch._build())
    assert read.validate_crc()
    assert (read.magic, read.producer_id, read.producer_epoch, read.base_sequence) == (2, 7, 3, 11)
    times = [one.ingest_ms for one in records]
    assert (read.first_timestamp, read.max_timestamp, read.last_offset_delta) == (
        times[0],
        max(times),
        len(records) - 1,
    )
    found = [(one.offset, one.timestamp, one.key, one.value, one.headers) for one in read]
    assert found == [(at, one.ingest_ms, one.key, one.value, one.headers) for at, one in enumerate(records)]


def test_what_does_not_shrink_goes_as_it_is() -> None:
    one = Given(b"k", bytes(range(256)), [("a", b"1")], 5)
    batch, (made, _) = BatchEncoder().batch([one], LARGE), theirs([one], LARGE)
    assert batch._build() == made  # all of it, checksum and head as well
    assert batch.size() == len(made)


def test_what_shrinks_is_compressed_once() -> None:
    batch = BatchEncoder().batch([Given(b"k", b"x" * 5000, [("a", b"1")], 5)], LARGE)
    made = batch._build()
    assert len(made) < 500
    assert batch._build() is made
    assert batch.size() == len(made)
    assert batch.closed()


def test_a_first_record_that_is_larger_goes_alone() -> None:
    records = [Given(b"k", b"x" * 5000, [("a", b"1")], 5)] * 2
    assert BatchEncoder().batch(records, 1000).record_count() == 1


def test_a_batch_ends_at_the_byte_at_which_aiokafka_ends_it() -> None:
    records = [Given(b"k", b"x" * size, [("a", b"1")], 5) for size in (1, 2, 60, 3, 130)]
    for max_bytes in range(HEAD_BYTES, 400):
        made, count = theirs(records, max_bytes)
        batch = BatchEncoder().batch(records, max_bytes)
        assert (batch.record_count(), batch.size()) == (count, len(made))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_batch, "REMEMBERED_BYTES", 5000)
    encoder = BatchEncoder()
    records = [Given(b"%d" % number, b"", [("mqtt_topic", b"%d" % number)], 5) for number in range(1000)]
    batch = encoder.batch(records, LARGE)
    assert ours(batch) == theirs(records, LARGE)[0][HEAD_BYTES:]
    assert len(encoder._known[1]) < 20
    long = Given(b"k", b"", [("mqtt_topic", b"t" * 5000)], 5)
    encoder.batch([long], LARGE)
    assert long.headers[0] not in encoder._known[1]
    many = Given(b"k", b"", [("a", b"%d" % number) for number in range(1000)], 5)
    encoder.batch([many] * 2, LARGE)
    assert list(encoder._known) == [1]
    for number in range(1000):
        encoder.batch([Given(b"k", b"", [("a", b"1"), ("ms", b"%d" % number)], 5)], LARGE)
    assert len(encoder._rests) <= record_batch.RESTS


def test_the_time_of_a_record_that_goes_in_no_more_is_not_that_of_the_batch() -> None:
    records = [Given(b"k", b"x" * 100, [("a", b"1")], ms) for ms in (5, 9, 7)]
    batch = BatchEncoder().batch(records, HEAD_BYTES + 150)
    assert batch.record_count() == 1
    assert DefaultRecordBatch(batch._build()).max_timestamp == 5


def test_one_header_with_two_keys_is_two_devices() -> None:
    records = [Given(key, b"v", [("a", b"1")], 5) for key in (b"x", b"y", b"x")]
    assert [one.key for one in DefaultRecordBatch(BatchEncoder().batch(records, LARGE)._build())] == [b"x", b"y", b"x"]


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_number_is_read_back(number: int) -> None:
    made: Any = bytearray(varint(number))
    assert decode_varint(made, 0) == (number, len(made))
