"""Runs of records in a batch: byte for byte what the same records are one by one."""

from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from app.gateways.blocks.place import Place, made_place
from app.kafka.encoding.record_batch import HEAD_BYTES, BatchEncoder
from app.kafka.encoding.runs import AT_ONCE
from app.kafka.encoding.varints import SHORT, Header, encode_header
from tests.unit.kafka.encoding.test_record_batch import LARGE, Given, ours, theirs

MS = 1_795_000_000_000


class Run(Struct, frozen=True):
    """A run of a test's."""

    devices: list[Place]
    values: list[bytes]
    tail: bytes
    ingest_ms: int


Part = tuple[bool, list[Given]]  # whether it goes as a run; its records have all but device and value in common


def made_run(records: list[Given]) -> Run:
    """As a block would have them."""
    places = [made_place(one.key, one.headers[0], "", "", "", "") for one in records]
    tail = b"".join([encode_header(one) for one in records[0].headers[1:]])
    return Run(places, [one.value for one in records], tail, records[0].ingest_ms)


def part(is_run: bool, ms: int, rest: list[Header], items: list[tuple[int, bytes]]) -> Part:
    """Records of devices, by their number."""
    return is_run, [Given(b"u/%d" % at, value, [("topic", b"t/%d" % at), *rest], ms) for at, value in items]


_values = st.binary(max_size=200) | st.sampled_from([b"", b"x" * 8190, b"x" * 8200, b"x" * 70_000])
_rests = st.sampled_from([[("k", b"t"), ("ms", b"%d" % ms), ("g", b"tcp")] for ms in (1, 22, 333)])
_parts = st.lists(
    st.builds(
        part,
        st.booleans(),
        st.integers(MS, MS + 200) | st.integers(0, 2**42),
        _rests,
        st.lists(st.tuples(st.integers(0, 200), _values), min_size=1, max_size=80),
    ),
    min_size=1,
    max_size=6,
)


@given(_parts, st.integers(HEAD_BYTES - 5, 4000) | st.integers(4000, 100_000) | st.just(LARGE))
def test_records_in_runs_are_those_one_by_one(parts: list[Part], max_bytes: int) -> None:
    records = [one for _, some in parts for one in some]
    batch = BatchEncoder().batch_of([made_run(some) if is_run else some for is_run, some in parts], max_bytes)
    made, count = theirs(records, max_bytes)
    assert batch.record_count() == count
    assert batch.size() == len(made)
    assert ours(batch) == made[HEAD_BYTES:]
    read = DefaultRecordBatch(batch._build())
    times = [one.ingest_ms for one in records[:count]]
    assert (read.first_timestamp, read.max_timestamp) == (times[0], max(times))


def test_a_batch_of_runs_ends_at_the_byte_at_which_aiokafka_ends_it() -> None:
    rest: list[Header] = [("k", b"t"), ("ms", b"1"), ("g", b"tcp")]
    _, records = part(True, 5, rest, [(at, b"x" * size) for at, size in enumerate((1, 2, 60, 3, 130))])
    for max_bytes in range(HEAD_BYTES, 700):
        made, count = theirs(records, max_bytes)
        batch = BatchEncoder().batch_of([made_run(records)], max_bytes)
        assert (batch.record_count(), batch.size()) == (count, len(made))


def test_a_batch_takes_so_many_records_and_no_more() -> None:
    rest: list[Header] = [("k", b"t"), ("ms", b"1"), ("g", b"tcp")]
    _, records = part(True, 5, rest, [(1, b"")] * (SHORT - AT_ONCE // 2))
    run = made_run(records)
    ways: list[list[Run | list[Given]]] = [[run, run], [run, records], [records, run]]
    for segments in ways:
        batch = BatchEncoder().batch_of(segments, LARGE)
        assert batch.record_count() == SHORT
        assert ours(batch) == ours(BatchEncoder().batch(records * 2, LARGE))


def test_the_times_of_a_batch_are_those_of_its_runs() -> None:
    rest: list[Header] = [("k", b"t"), ("ms", b"1"), ("g", b"tcp")]
    runs = [made_run(part(True, ms, rest, [(1, b"x" * 100)])[1]) for ms in (5, 9, 7, 99)]
    batch = BatchEncoder().batch_of(runs, HEAD_BYTES + 450)
    assert batch.record_count() == 3
    read = DefaultRecordBatch(batch._build())
    assert (read.first_timestamp, read.max_timestamp) == (5, 9)
