"""The Parquet sink on a directory: the content of files, the results of flushes, and which process writes after a
takeover.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from app.core.model.records import Kind
from app.sinks.parquet.footer import footer_of
from app.sinks.parquet.names import tag_of
from app.sinks.parquet.partition_rows import CHUNK
from app.sinks.parquet.sink import ParquetSink
from app.sinks.port import SinkMisconfigured, SinkUnavailable
from tests.unit.sinks.parquet.lake import START, expected, files, places, record, records, refused, rows, settings, sink

DAY = timedelta(days=1)


async def test_a_flush_writes_each_record_and_says_how_far_it_came(tmp_path: Path) -> None:
    one = sink(tmp_path)
    await one.open()
    assert await one.resume("iot-stream", [0, 1]) == {}
    one.add([*records(0, 3 * CHUNK), *records(7, 10, partition=1)])
    assert one.held.records == 3 * CHUNK + 3
    assert one.held.bytes > 0
    assert one.held.oldest
    done = await one.flush()
    assert (done.upto, done.refused) == ({0: 3 * CHUNK, 1: 10}, [])
    assert places(tmp_path) == expected(range(3 * CHUNK)) + expected(range(7, 10), partition=1)
    assert one.held.records == one.held.bytes == 0
    assert one.held.oldest is None
    assert (await one.flush()).upto == {}
    await one.close()


async def test_a_file_has_the_columns_of_raw_telemetry_and_where_a_row_came_from(tmp_path: Path) -> None:
    one = sink(tmp_path, parquet_compression="zstd")
    when = datetime(2026, 11, 30, 23, 59, 59, 999999, tzinfo=UTC)
    one.add([record(5, time=when, temperature=None, battery=-7, extra='{"a":1e400,"b":"\u00e9"}')])
    await one.flush()
    (path,) = files(tmp_path)
    assert path.parent.name == "day=2026-11-30"
    assert path.name.endswith("-0-000000000005-000000000005.parquet")
    assert rows(path) == [
        {
            "time": when,
            "user_id": "alice",
            "device_id": "device-5",
            "sequence_id": 5,
            "temperature": None,
            "battery": -7,
            "extra_data": '{"a":1e400,"b":"\u00e9"}',
            "kafka_partition": 0,
            "kafka_offset": 5,
        }
    ]
    footer = footer_of(pq.ParquetFile(path).metadata.metadata)
    assert footer
    assert (footer.first, footer.last, footer.rows, footer.source.topic_id) == (5, 5, 1, "topic-1")
    assert (footer.source.topic, footer.source.partition, footer.source.sink) == ("iot-stream", 0, "parquet")


async def test_readings_of_other_days_are_in_the_directories_of_those_days(tmp_path: Path) -> None:
    one = sink(tmp_path)
    midnight = datetime(2026, 11, 30, tzinfo=UTC)
    times = [midnight - timedelta(microseconds=1), midnight, midnight - 80 * DAY, midnight + DAY, midnight, midnight]
    one.add([record(offset, time=time) for offset, time in enumerate(times)])
    await one.flush()
    assert [path.parent.name for path in files(tmp_path)] == [
        "day=2026-09-11", "day=2026-11-29", "day=2026-11-30", "day=2026-12-01",
    ]  # fmt: skip
    assert places(tmp_path) == expected(range(6))
    assert [row["kafka_offset"] for row in rows(files(tmp_path)[2])] == [1, 4, 5]


async def test_reading_goes_on_after_the_last_file_whatever_kafka_knows(tmp_path: Path) -> None:
    first = sink(tmp_path)
    first.add(records(0, 100))
    await first.flush()  # the process ends here, before Kafka's commit
    second = sink(tmp_path)
    await second.open()
    assert await second.resume("iot-stream", [0, 1]) == {0: 100}
    second.add(records(50, 120))  # no repeated rows without `resume` either
    assert (await second.flush()).upto == {0: 120}
    assert places(tmp_path) == expected(range(120))


async def test_of_two_that_hold_the_same_records_one_writes_them(tmp_path: Path) -> None:
    paused, owner = sink(tmp_path), sink(tmp_path)
    for one in (paused, owner):
        await one.resume("iot-stream", [0])
    paused.add(records(0, 200))
    owner.add(records(0, 150))
    assert (await owner.flush()).upto == {0: 150}
    assert (await paused.flush()).upto == {0: 200}
    assert places(tmp_path) == expected(range(200))
    owner.add(records(150, 260))  # includes the rows of the paused process
    assert (await owner.flush()).upto == {0: 260}
    assert places(tmp_path) == expected(range(260))


async def test_the_paused_process_may_be_first(tmp_path: Path) -> None:
    paused, owner = sink(tmp_path), sink(tmp_path)
    for one in (paused, owner):
        await one.resume("iot-stream", [0])
    owner.add(records(0, 150))
    paused.add(records(0, 200))
    await paused.flush()
    assert (await owner.flush()).upto == {0: 150}
    owner.add(records(150, 300))
    assert (await owner.flush()).upto == {0: 300}
    assert places(tmp_path) == expected(range(300))


async def test_an_unavailable_store_delays_records_and_loses_none(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    one = sink(root)
    await one.open()
    one.add(records(0, 100))
    with refused(root):
        for _ in range(3):
            with pytest.raises(SinkUnavailable):
                await one.flush()
        one.add(records(100, 130))
        assert one.held.records == 130
        assert one.due
    assert (await one.flush()).upto == {0: 130}
    assert places(root) == expected(range(130))
    assert not one.due


async def test_what_was_written_before_a_failure_is_said_with_it(tmp_path: Path) -> None:
    one = sink(tmp_path)
    await one.resume("iot-stream", [0, 1])
    one.add([*records(0, 10), *records(0, 20, partition=1)])
    blocked = tmp_path / "_claims" / f"iot-stream-{tag_of('topic-1')}" / "1"  # the second partition's claims
    blocked.parent.mkdir(parents=True)
    blocked.write_bytes(b"")
    with pytest.raises(SinkUnavailable) as failure:
        await one.flush()
    assert failure.value.so_far.upto == {0: 10}
    assert one.held.records == 20
    blocked.unlink()
    done = await one.flush()
    assert done.upto == {1: 20}
    assert one.held.records == 0
    assert places(tmp_path) == expected(range(10)) + expected(range(20), partition=1)


async def test_a_flush_that_is_cancelled_is_made_again_and_writes_nothing_twice(tmp_path: Path) -> None:
    one = sink(tmp_path)
    written, upto = 0, dict[int, int]()
    for at in range(20):
        one.add([*records(at * 50, at * 50 + 50), *records(at * 50, at * 50 + 50, partition=1)])
        held = one.held.records
        flush = asyncio.create_task(one.flush())
        await asyncio.sleep(0.0005 * at)
        flush.cancel()
        try:
            done = await flush
        except asyncio.CancelledError:
            assert one.held.records == held, "what no flush has said to be done is held"
            assert one.due
            continue
        written, upto = written + held - one.held.records, {**upto, **done.upto}
    held = one.held.records
    done = await one.flush()
    assert written + held == 2000
    assert one.held.records == 0
    assert {**upto, **done.upto} == {0: 1000, 1: 1000}
    assert places(tmp_path) == expected(range(1000)) + expected(range(1000), partition=1)


async def test_what_is_revoked_is_not_written(tmp_path: Path) -> None:
    one = sink(tmp_path)
    await one.resume("iot-stream", [0, 1])
    one.add([*records(0, 10), *records(0, 10, partition=1)])
    await one.revoked([0])
    assert (await one.flush()).upto == {1: 10}
    assert await one.resume("iot-stream", [0]) == {}
    one.add(records(0, 15))
    assert (await one.flush()).upto == {0: 15}
    assert places(tmp_path) == expected(range(15)) + expected(range(10), partition=1)


async def test_reading_again_without_begin_anew_writes_no_row_twice(tmp_path: Path) -> None:
    one = sink(tmp_path)
    await one.resume("iot-stream", [0])
    one.add(records(0, 100))
    one.add(records(50, 120))  # some records again
    one.add(records(0, 130))  # all records again
    assert one.held.records == 100 + 70 + 130, "each record that was added counts"
    assert (await one.flush()).upto == {0: 130}
    assert places(tmp_path) == expected(range(130))


async def test_a_topic_that_was_made_anew_begins_files_of_its_own(tmp_path: Path) -> None:
    one = sink(tmp_path, identity="topic-1")
    one.add(records(0, 100))
    await one.flush()
    two = sink(tmp_path, identity="topic-2")
    assert await two.resume("iot-stream", [0]) == {}
    two.add(records(0, 100))
    await two.flush()
    assert places(tmp_path) == sorted(2 * expected(range(100)))


async def test_a_topic_that_is_made_anew_while_the_sink_runs_loses_nothing(tmp_path: Path) -> None:
    now = ["topic-1"]

    async def identify(topic: str) -> str:
        return now[0]

    one = ParquetSink("parquet", settings(tmp_path), identify)
    await one.resume("iot-stream", [0])
    one.add(records(0, 100))
    await one.flush()
    now[0] = "topic-2"
    one.add(records(0, 50))  # without `begin_anew`
    assert (await one.flush()).upto == {0: 50}
    assert places(tmp_path) == sorted(expected(range(100)) + expected(range(50)))
    one.add(records(50, 60))
    await one.flush()
    assert await one.resume("iot-stream", [0]) == {0: 60}


async def test_what_was_read_of_a_topic_is_written_as_of_this_topic(tmp_path: Path) -> None:
    """Even if the topic is recreated before a flush, and reading began before the end of the files, as after a kill."""
    await written(tmp_path, 100)
    now = ["topic-1"]

    async def identify(topic: str) -> str:
        return now[0]

    one = ParquetSink("parquet", settings(tmp_path), identify)
    assert await one.resume("iot-stream", [0]) == {0: 100}
    await one.revoked([0])
    one.add(records(40, 140))
    now[0] = "topic-2"
    await one.flush()
    assert await one.resume("iot-stream", [0]) == {}
    one.add(records(0, 50))
    await one.flush()
    assert places(tmp_path) == sorted(expected(range(140)) + expected(range(50)))


async def test_refusals_of_a_revoked_partition_are_not_reported(tmp_path: Path) -> None:
    one = sink(tmp_path)
    await one.resume("iot-stream", [0, 1])
    one.add([*records(0, 3), record(3, extra="\ud800"), *records(0, 10, partition=1)])
    blocked = tmp_path / "_claims" / f"iot-stream-{tag_of('topic-1')}" / "1"
    blocked.parent.mkdir(parents=True)
    blocked.write_bytes(b"")
    flush = asyncio.create_task(one.flush())
    while one.held.records and not one._unreported:  # noqa: ASYNC110  # the next call may fail at once
        await asyncio.sleep(0)
    flush.cancel()
    await asyncio.wait({flush})
    held = one.held.records
    await one.revoked([0])
    blocked.unlink()
    done = await one.flush()
    assert (done.upto, done.refused) == ({1: 10}, [])
    assert held == 14
    assert one.held.records == 0


async def test_a_truncated_log_begins_a_new_chain_beside_earlier_rows(tmp_path: Path) -> None:
    await written(tmp_path, 100)
    one = sink(tmp_path)
    assert await one.resume("iot-stream", [0, 1]) == {0: 100}
    await one.begin_anew([0, 1])
    assert await one.resume("iot-stream", [0, 1]) == {}
    await one.begin_anew([0])
    others = [record(offset, time=START + timedelta(days=offset % 2, seconds=offset)) for offset in range(60, 90)]
    one.add([*records(0, 60), *others])
    assert (await one.flush()).upto == {0: 90}
    assert places(tmp_path) == sorted(expected(range(100)) + expected(range(60, 90)))
    two = sink(tmp_path)
    assert await two.resume("iot-stream", [0, 1]) == {0: 90}
    two.add([*records(30, 60), *others, *records(90, 120)])  # 90 to 99 are equal by coincidence
    assert (await two.flush()).upto == {0: 120}
    assert places(tmp_path) == sorted(expected(range(120)) + expected(range(60, 90)))


async def written(root: Path, after: int) -> None:
    """Let a process write the records before `after`, and end before its commit."""
    one = sink(root)
    one.add(records(0, after))
    await one.flush()
    await one.close()


async def test_a_partition_that_cannot_be_written_holds_up_no_other_for_long(tmp_path: Path) -> None:
    one = sink(tmp_path)
    await one.resume("iot-stream", [0, 1, 2])
    blocked = tmp_path / "_claims" / f"iot-stream-{tag_of('topic-1')}" / "0"
    blocked.parent.mkdir(parents=True)
    blocked.write_bytes(b"")
    one.add([*records(0, 10), *records(0, 10, partition=1), *records(0, 10, partition=2)])
    for upto in ({}, {1: 10, 2: 10}):
        with pytest.raises(SinkUnavailable) as failure:
            await one.flush()
        assert failure.value.so_far.upto == upto
    blocked.unlink()
    assert (await one.flush()).upto == {0: 10}


async def test_a_row_that_fits_no_column_is_refused_alone(tmp_path: Path) -> None:
    one = sink(tmp_path)
    bad = record(3, extra="\ud800")
    one.add([*records(0, 3), bad, *records(4, 3000)])
    done = await one.flush()
    assert [(refused.offset, bool(why)) for refused, why in done.refused] == [(3, True)]
    assert done.upto == {0: 3000}
    assert places(tmp_path) == expected(range(3), range(4, 3000))


async def test_the_limit_of_memory_makes_a_flush_due(tmp_path: Path) -> None:
    one = sink(tmp_path, parquet_rotate_bytes=1_000_000)
    one.add(records(0, CHUNK))
    assert not one.due
    one.add(records(CHUNK, 20 * CHUNK))
    assert one.due
    assert sink(tmp_path, parquet_rotate_seconds=7.5).linger == 7.5
    await one.close()
    await one.close()


async def test_large_payloads_count_as_what_they_take(tmp_path: Path) -> None:
    one = sink(tmp_path)
    large = [msgspec.structs.replace(record(n), payload=bytes(500_000)) for n in range(20)]
    one.add(large[:7])
    assert one.held.bytes > 2 * 7 * 500_000
    one.add(large[7:])
    assert one.held.bytes < 500_000, "they became columns"
    assert (await one.flush()).upto == {0: 20}


async def test_a_lake_belongs_to_one_sink(tmp_path: Path) -> None:
    await sink(tmp_path, name="parquet").open()  # `open` alone makes no owner
    for _ in range(2):
        archive = sink(tmp_path, name="archive")
        await archive.open()
        await archive.resume("iot-stream", [])
    with pytest.raises(SinkMisconfigured, match="the sink archive writes there"):
        await sink(tmp_path, name="parquet").open()
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkMisconfigured, match="no directory"):
        await sink(tmp_path / "file").open()
    with pytest.raises(SinkMisconfigured, match="telemetry alone"):
        sink(tmp_path, sink_kinds=(Kind.TELEMETRY, Kind.STATUS))


async def test_a_directory_that_cannot_be_made_is_a_wrong_setting_and_no_outage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SinkMisconfigured, match=r"IOT_PARQUET_DIR: .*/lake: Not a directory; give this account"):
        await sink(tmp_path / "file" / "lake").open()


async def test_a_sample_is_shown_and_not_written(tmp_path: Path) -> None:
    line, other = sink(tmp_path).shown([*records(4, 5), *records(0, 1, partition=7)])
    assert line.startswith("day=2026-11-30/  time=2026-11-30 12:00:00.004000+00:00, user_id=alice, ")
    assert other.endswith("kafka_partition=7, kafka_offset=0")
    assert files(tmp_path) == []
