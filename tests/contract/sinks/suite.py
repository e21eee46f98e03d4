"""The contract of every sink: subclassed by a suite for each sink, on its real server, and on a fake.

A suite has a fixture `destination`, a SinkDestination. No test here requires more than the port (app/sinks/port.py)
promises: if a destination cannot detect repeats, a record may be there twice.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

import pytest

from app.sinks.port import Flushed, Held, Sink, SinkUnavailable
from app.sinks.record import SinkRecord
from tests.sink_records import sink_records


class SinkDestination(Protocol):
    """A real destination, as a test uses it."""

    tells_repeats: bool  # a repeated record is stored once
    keeps_offsets: bool  # `resume` returns offsets

    def sink(self) -> Sink:
        """A new sink of this destination, not opened, as of another process."""

    async def times(self, records: Sequence[SinkRecord]) -> list[int]:
        """The count of each record; if only the newest record of a device is stored, 1 for each record up to it."""

    async def away(self) -> None:
        """Become unavailable: refuse connections, or take no writes."""

    async def back(self) -> None:
        """Become available again."""

    def poison(self, record: SinkRecord) -> SinkRecord | None:
        """The record in a form that the destination never takes; None: there is no such form."""


class SinkContract:
    """The suite."""

    async def test_it_opens_and_closes(self, destination: SinkDestination) -> None:
        sink = destination.sink()
        await sink.close()
        sink = destination.sink()
        await sink.open()
        assert sink.held == Held()
        assert not sink.due
        assert sink.linger >= 0
        await sink.close()
        await sink.close()

    async def test_what_is_added_is_held_and_then_written(self, destination: SinkDestination) -> None:
        async with opened(destination) as sink:
            records = [*sink_records(range(10, 30)), *sink_records(range(5, 15), 3)]
            began = time.monotonic()
            sink.add(records)
            held = sink.held
            assert held.records == 30
            assert held.bytes > 0
            assert held.oldest is not None
            assert began <= held.oldest <= time.monotonic()
            found = await sink.flush()
            assert dict(found.upto) == {0: 30, 3: 15}
            assert not found.refused
            assert sink.held == Held()
            assert await destination.times(records) == [1] * 30

    async def test_a_flush_of_an_empty_buffer_writes_no_record(self, destination: SinkDestination) -> None:
        async with opened(destination) as sink:
            found = await sink.flush()
            assert not found.refused
            sink.add(sink_records([1]))
            await sink.flush()
            found = await sink.flush()
            assert not found.refused
            assert sink.held == Held()

    async def test_gaps_between_offsets_are_allowed(self, destination: SinkDestination) -> None:
        async with opened(destination) as sink:
            records = sink_records([100, 107, 108, 4_000_000_000])
            sink.add(records[:2])
            sink.add(records[2:])
            found = await sink.flush()
            assert found.upto[0] == 4_000_000_001
            assert await destination.times(records) == [1] * 4

    async def test_while_it_is_away_records_are_held(self, destination: SinkDestination) -> None:
        async with opened(destination) as sink:
            first, more = sink_records(range(20)), sink_records(range(20, 25))
            await destination.away()
            sink.add(first)
            done = await failing_flush(sink)
            assert sink.held.records + covered(first, done) == 20
            sink.add(more)
            done = merged(done, await failing_flush(sink))
            assert sink.held.records + covered([*first, *more], done) == 25
            await destination.back()
            done = merged(done, await flushed(sink))
            assert done.upto[0] == 25
            assert sink.held == Held()
            found = await destination.times([*first, *more])
            assert all(times == 1 if destination.tells_repeats else times >= 1 for times in found)

    async def test_what_is_revoked_is_not_written(self, destination: SinkDestination) -> None:
        async with opened(destination) as sink:
            ours, lost = sink_records(range(10)), sink_records(range(10), 1)
            sink.add([*ours, *lost])
            await sink.revoked({1, 7})
            assert sink.held.records == 10
            found = await sink.flush()
            assert dict(found.upto).keys() == {0}
            assert await destination.times(ours) == [1] * 10
            assert await destination.times(lost) == [0] * 10

    async def test_a_partition_comes_back_where_its_next_owner_left_it(self, destination: SinkDestination) -> None:
        async with opened(destination) as first, opened(destination) as second:
            records = sink_records(range(30))
            first.add(records[:10])
            assert (await first.flush()).upto[0] == 10
            first.add(records[10:20])
            await first.revoked({0})
            await second.resume("iot-stream", {0})
            second.add(records[10:25])
            assert (await second.flush()).upto[0] == 25
            await second.revoked({0})
            place = await first.resume("iot-stream", {0})
            assert place == ({0: 25} if destination.keeps_offsets else {})
            first.add(records[25:])
            assert (await first.flush()).upto[0] == 30
            assert await destination.times(records) == [1] * 30

    async def test_a_process_that_died_before_its_commit_repeats(self, destination: SinkDestination) -> None:
        records = sink_records(range(20))
        async with opened(destination) as sink:
            sink.add(records)
            await sink.flush()
        async with opened(destination) as sink:
            place = (await sink.resume("iot-stream", {0, 1})).get(0, 0)
            sink.add([record for record in records if record.offset >= place])
            await sink.flush()
        found = await destination.times(records)
        assert all(times == 1 if destination.tells_repeats else times >= 1 for times in found)

    async def test_a_truncated_log_is_given_again(self, destination: SinkDestination) -> None:
        async with opened(destination) as sink:
            kept, cut = sink_records(range(10)), sink_records(range(10, 20), device="cut")
            others = sink_records(range(10, 15), device="another")
            sink.add([*kept, *cut])
            await flushed(sink)
            await sink.revoked({0})
            await sink.resume("iot-stream", {0})
            await sink.begin_anew({0})
            sink.add([*kept, *others])
            assert (await flushed(sink)).upto[0] == 15
            found = await destination.times([*kept, *others])
            assert all(times == 1 if destination.keeps_offsets else times >= 1 for times in found)
            assert await sink.resume("iot-stream", {0}) == ({0: 15} if destination.keeps_offsets else {})

    async def test_a_flush_that_is_cancelled_loses_nothing(self, destination: SinkDestination) -> None:
        async with opened(destination) as sink:
            records = sink_records(range(500))
            sink.add(records)
            done = Flushed()
            for turns in (1, 2, 5, 20):
                flushing = asyncio.ensure_future(sink.flush())
                for _ in range(turns):
                    await asyncio.sleep(0)
                flushing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    try:
                        done = merged(done, await flushing)
                    except SinkUnavailable as error:
                        done = merged(done, error.so_far)
            done = merged(done, await flushed(sink))
            done = merged(done, await sink.flush())  # including what was written before a cancellation
            assert sink.held == Held()
            assert done.upto[0] == 500
            assert all(await destination.times(records))

    async def test_a_flush_that_may_not_write_writes_nothing(self, destination: SinkDestination) -> None:
        async with opened(destination) as sink:
            records = sink_records(range(20))
            sink.add(records)
            found = await sink.flush(lambda: False)
            assert covered(records, found) == 0
            assert sink.held.records == 20
            assert await destination.times(records) == [0] * 20
            assert (await flushed(sink)).upto[0] == 20
            assert await destination.times(records) == [1] * 20

    async def test_refused_records_are_named_and_other_records_written(self, destination: SinkDestination) -> None:
        async with opened(destination) as sink:
            records = sink_records(range(12))
            bad = [destination.poison(record) if record.offset in (3, 11) else None for record in records]
            if not any(bad):
                pytest.skip("takes everything")
            given = [poison or record for poison, record in zip(bad, records, strict=True)]
            sink.add(given)
            found = await flushed(sink)
            assert found.upto[0] == 12
            assert [record.offset for record, _ in found.refused] == [3, 11]
            assert all(words for _, words in found.refused)
            good = [record for record in records if record.offset not in (3, 11)]
            assert await destination.times(good) == [1] * 10
            assert sink.held == Held()

    async def test_more_than_a_batch_is_written_in_order(self, destination: SinkDestination) -> None:
        async with opened(destination) as sink:
            records = sink_records(range(3_000))
            for at in range(0, 3_000, 500):
                sink.add(records[at : at + 500])
            assert (await flushed(sink)).upto[0] == 3_000
            assert all(await destination.times(records))

    async def test_a_sink_that_was_not_opened_while_it_was_away_opens_later(self, destination: SinkDestination) -> None:
        await destination.away()
        sink = destination.sink()
        try:
            with pytest.raises(SinkUnavailable):
                await asyncio.wait_for(sink.open(), 60)
            await destination.back()
            await sink.open()
            sink.add(sink_records(range(3)))
            assert (await flushed(sink)).upto[0] == 3
        finally:
            await sink.close()


@contextlib.asynccontextmanager
async def opened(destination: SinkDestination):  # type: ignore[no-untyped-def]  # an async generator of Sink
    """An open sink, closed at the end."""
    sink = destination.sink()
    await sink.open()
    await sink.resume("iot-stream", {0, 1, 3})
    try:
        yield sink
    finally:
        await sink.close()


async def flushed(sink: Sink, seconds: float = 60.0) -> Flushed:
    """The merged results of flushes until the buffer is empty; a failed flush is retried."""
    done = Flushed()
    async with asyncio.timeout(seconds):
        while sink.held.records:
            try:
                done = merged(done, await sink.flush())
            except SinkUnavailable as error:
                done = merged(done, error.so_far)
                await asyncio.sleep(0.2)
    return done


async def failing_flush(sink: Sink) -> Flushed:
    """The completed part of a flush that fails."""
    with pytest.raises(SinkUnavailable) as failure:
        await asyncio.wait_for(sink.flush(), 60)
    so_far: Flushed = failure.value.so_far
    return so_far


def merged(first: Flushed, second: Flushed) -> Flushed:
    """Both results in one."""
    upto = dict(first.upto)
    for partition, offset in second.upto.items():
        upto[partition] = max(offset, upto.get(partition, 0))
    return Flushed(upto, [*first.refused, *second.refused])


def covered(records: Sequence[SinkRecord], done: Flushed) -> int:
    """The number of the records that are completed."""
    return sum(record.offset < done.upto.get(record.partition, 0) for record in records)
