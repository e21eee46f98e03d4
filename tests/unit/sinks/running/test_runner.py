"""The path of a sink on a log in memory: outages, refusals, rebalances, stops; what is committed is written."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from app.errors import BooksError
from app.sinks.port import Flushed, MayWrite
from app.sinks.sink_metrics import HELD_RECORDS, LOGS_ANEW, MISSED
from tests.unit.sinks.running.world import World
from tests.waiting import until


@pytest.fixture
async def world() -> Any:
    made = World()
    yield made
    await made.kill()


async def test_everything_is_written_once_and_committed(world: World) -> None:
    world.log.append(0, 1200)
    world.log.append(1, 30)
    await world.consumer.assign(0, 1)
    await world.done()
    assert set(world.destination.written) == world.log.places()
    assert set(world.destination.written.values()) == {1}
    assert [offset for number, offset in world.destination.order if number == 0] == list(range(1200))
    assert world.runner.available
    world.log.append(1, 1)
    await world.done()
    world.check()
    assert world.runner.books.outcomes == {"written": 1231}
    assert world.runner.books.balance(0) == 0


async def test_reading_stops_while_the_destination_is_unavailable(world: World) -> None:
    world.destination.away = True
    world.log.append(0, 100)
    await world.consumer.assign(0)
    await asyncio.sleep(0.1)
    assert not world.runner.available
    assert world.consumer.taken == 0
    world.destination.away = False
    await world.done()
    world.destination.away = True
    world.log.append(0, 50)
    await until(lambda: world.sink.held.records == 50)
    world.log.append(0, 5_000)
    await asyncio.sleep(0.1)
    assert (world.sink.held.records, world.consumer.taken) == (50, 150)
    assert not world.runner.available
    world.destination.away = False
    await world.done()
    assert world.runner.available
    world.check()


async def test_a_sink_whose_destination_is_unavailable_stays_in_its_group(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.kill()
    monkeypatch.setattr("app.sinks.running.watch.LOOK_SECONDS", 0.01)
    world.start()
    world.log.append(0, 10)
    await world.consumer.assign(0)
    await world.done()
    world.destination.away = True
    world.log.append(0, 10)
    await until(lambda: world.sink.held.records == 10)
    before, taken = world.consumer.stayed, world.consumer.taken
    await until(lambda: world.consumer.stayed > before + 3)
    assert world.consumer.taken == taken, "nothing was polled"


async def test_memory_is_bounded_while_a_flush_is_not_due() -> None:
    world = World(1, sink_buffer_bytes=20_000)
    world.linger = 3600.0
    await world.kill()
    world.start()
    world.log.append(0, 3_000)
    await world.consumer.assign(0)
    await until(lambda: len(world.destination.written) > 2_500)
    assert world.sink.most_bytes < 20_000 + 500 * 150
    await world.end()
    assert set(world.destination.written) == world.log.places()
    world.check()


async def test_memory_is_bounded_when_a_flush_ends_before_the_buffer_is_empty() -> None:
    """As the sinks that push do after 100 refused records."""
    world = World(1, sink_buffer_bytes=20_000)
    world.destination.ends_after = 100
    world.log.append(0, 6_000)
    await world.consumer.assign(0)
    await world.done()
    assert world.sink.most_bytes < 20_000 + 500 * 150
    world.check()
    await world.end()


async def test_a_flush_that_fails_half_way_goes_on_and_what_was_read_after_it_is_not_lost() -> None:
    world = World(1, sink_buffer_bytes=10_000)
    world.destination.fails_after = 300
    world.log.append(0, 2_000)
    await world.consumer.assign(0)
    await world.done()
    assert [offset for _, offset in world.destination.order] == list(range(2_000))
    world.check()
    await world.end()


async def test_a_record_waits_as_long_as_the_sink_says_and_no_longer() -> None:
    world = World(1)
    await world.kill()
    world.linger = 0.3
    world.start()
    world.log.append(0, 3)
    await world.consumer.assign(0)
    await until(lambda: world.sink.held.records == 3)
    began = time.monotonic()
    await until(lambda: len(world.destination.written) == 3)
    assert 0.15 < time.monotonic() - began < 5
    await world.end()


async def test_refused_records_become_dead_letters_before_they_are_committed(world: World) -> None:
    world.destination.refuses = lambda record: record.offset % 7 == 3
    world.letters.fails = 2
    world.log.append(0, 100)
    await world.consumer.assign(0)
    await world.done()
    assert world.letters.sent == [(0, offset) for offset in range(100) if offset % 7 == 3]
    world.check()
    assert world.runner.books.outcomes["refused"] == len(world.letters.sent)


async def test_nothing_is_committed_while_dead_letters_cannot_be_sent(world: World) -> None:
    world.destination.refuses = lambda record: record.offset == 3
    world.letters.fails = 10**6
    world.log.append(0, 10)
    await world.consumer.assign(0)
    await until(lambda: len(world.destination.written) == 9)
    await asyncio.sleep(0.05)
    assert not any(world.log.committed.values())
    await world.end()
    assert not any(world.log.committed.values())


async def test_kept_partitions_keep_held_records_and_revoked_partitions_drop_them(world: World) -> None:
    await world.kill()
    world.linger = 3600.0
    world.start()
    world.log.append(0, 40)
    world.log.append(1, 30)
    await world.consumer.assign(0, 1)
    await until(lambda: world.sink.held.records == 70)
    await world.consumer.assign(0)
    await until(lambda: world.consumer.settled and world.sink.held.records == 40)
    assert world.consumer.taken == 70, "what is held is not read again"
    assert world.runner.books.outcomes == {"revoked": 30}
    await world.consumer.assign(0, 1)
    await until(lambda: world.sink.held.records == 70)
    await world.end()
    assert set(world.destination.written.values()) == {1}
    assert set(world.destination.written) == world.log.places()
    assert world.log.committed == {0: 40, 1: 30}
    world.check()


async def test_what_others_have_written_meanwhile_is_let_go(world: World) -> None:
    await world.kill()
    world.linger = 3600.0
    world.start()
    world.log.append(0, 40)
    await world.consumer.assign(0)
    await until(lambda: world.sink.held.records == 40 and world.log.committed == {0: 0})
    world.log.committed[0] = 25  # by another process
    await world.consumer.assign(0)
    await until(lambda: world.consumer.settled and world.sink.held.records == 15)
    await world.end()
    assert sorted(offset for _, offset in world.destination.written) == list(range(25, 40))


async def test_offsets_of_a_destination_are_used(world: World) -> None:
    await world.kill()
    world.destination.keeps_offsets = True
    for offset in range(12):
        world.destination.written[0, offset] += 1
    world.log.committed[0] = 5
    world.start()
    world.log.append(0, 20)
    await world.consumer.assign(0)
    await world.done()
    assert set(world.destination.written.values()) == {1}
    world.check()


async def test_dead_letters_that_wait_over_a_rebalance_are_sent_also_where_the_destination_keeps_offsets(
    world: World,
) -> None:
    world.destination.keeps_offsets = True
    world.destination.refuses = lambda record: record.offset == 1
    world.letters.fails = 3
    world.log.append(0, 3)
    await world.consumer.assign(0)
    await until(lambda: len(world.destination.written) == 2)
    await world.consumer.assign(0, 1)
    await world.done()
    assert world.letters.sent == [(0, 1)]
    world.check()


async def test_dead_letters_of_a_flush_are_sent_after_a_kill_also_where_the_destination_keeps_offsets(
    world: World,
) -> None:
    world.destination.keeps_offsets = True
    world.destination.refuses = lambda record: record.offset % 7 == 3
    world.letters.fails = 10**6
    world.log.append(0, 100)
    await world.consumer.assign(0)
    await until(lambda: len(world.destination.written) == 86)
    await world.kill()
    world.letters.fails = 0
    world.start()
    await world.consumer.assign(0)
    await world.done()
    world.check()
    assert world.letters.sent == [(0, offset) for offset in range(100) if offset % 7 == 3]
    assert set(world.destination.written.values()) == {1}


async def test_dead_letters_of_a_flush_are_sent_by_the_next_owner_of_the_partition(world: World) -> None:
    world.destination.keeps_offsets = True
    world.destination.refuses = lambda record: record.offset == 1
    world.letters.fails = 10**6
    world.log.append(0, 3)
    await world.consumer.assign(0)
    await until(lambda: len(world.destination.written) == 2)
    await world.consumer.assign(1)
    await until(lambda: world.consumer.settled)
    world.letters.fails = 0
    await world.consumer.assign(0, 1)
    await world.done()
    assert world.letters.sent == [(0, 1)]
    world.check()


async def test_a_sink_without_a_commit_resumes_no_later_than_its_destination() -> None:
    world = World(1, sink_start="latest")
    await world.kill()
    world.destination.keeps_offsets = True
    world.destination.written.update({(0, offset): 1 for offset in range(5)})
    world.log.append(0, 20)
    world.start()
    await world.consumer.assign(0)
    await world.done()
    assert set(world.destination.written) == world.log.places()
    await world.end()


async def test_a_sink_that_begins_with_what_is_new_reads_nothing_before_kafka_knows_where() -> None:
    world = World(1, sink_start="latest")
    world.log.append(0, 20)
    world.log.takes_no_commits = True
    await world.consumer.assign(0)
    await asyncio.sleep(0.1)
    assert not world.consumer.settled
    world.log.append(0, 5)  # new, though the end could not be committed before
    world.log.takes_no_commits = False
    await until(lambda: world.log.committed.get(0) == 25 and len(world.destination.written) == 5)
    world.log.takes_no_commits = True
    world.log.append(0, 10)
    await until(lambda: len(world.destination.written) == 15)
    await world.kill()
    world.destination.written.clear()
    world.log.takes_no_commits = False
    world.start()
    await world.consumer.assign(0)
    await world.done()
    assert set(world.destination.written) == {(0, offset) for offset in range(25, 35)}
    await world.end()


@pytest.mark.parametrize("running", [True, False])
async def test_a_truncated_log_is_read_from_its_start_once(world: World, running: bool) -> None:
    world.destination.keeps_offsets = True
    world.log.append(0, 100)
    await world.consumer.assign(0, 1)
    await world.done()
    if not running:
        await world.end()
    before = LOGS_ANEW.labels("fake")._value.get()
    del world.log.records[0][60:]
    world.log.append(0, 30)
    if not running:
        world.start()
        await world.consumer.assign(0, 1)
    await until(lambda: world.log.committed[0] == 90)
    world.log.append(0, 40)
    await world.done()
    await world.consumer.assign(0, 1)
    await world.done()
    assert world.destination.anew == [{0}], "decided once"
    assert LOGS_ANEW.labels("fake")._value.get() - before == 1
    assert {offset for _, offset in world.destination.written} == set(range(130))
    assert set(world.destination.written.values()) == {1}
    assert world.runner.books.balance(world.sink.held.records) == 0


async def test_a_destination_that_is_ahead_of_a_log_that_was_cut_after_the_commit(world: World) -> None:
    """Killed between a flush and its commit; then the log is truncated."""
    await world.kill()
    world.destination.keeps_offsets = True
    world.destination.written.update({(0, offset): 1 for offset in range(100)})
    world.log.append(0, 60)
    world.log.committed[0] = 40
    world.start()
    await world.consumer.assign(0)
    await world.done()
    world.log.append(0, 100)
    await world.done()
    assert world.destination.anew == [{0}]
    assert set(world.destination.written) == world.log.places()


@pytest.mark.parametrize("seen_at", ["a rebalance", "a look"])
async def test_a_topic_made_anew_that_has_more_than_was_read(
    world: World, seen_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seen_at == "a look":
        await world.kill()
        monkeypatch.setattr("app.sinks.running.watch.LOOK_SECONDS", 0.01)
        world.start()
    world.log.append(0, 40)
    await world.consumer.assign(0)
    await world.done()
    world.log.identity = "topic-2"
    world.log.records[0] = []
    world.log.committed.clear()
    world.log.append(0, 50)
    if seen_at == "a rebalance":
        await world.consumer.assign(0)
    await until(lambda: world.destination.written[0, 0] == 2)
    await world.done()
    assert [world.destination.written[0, offset] for offset in (0, 39, 49)] == [2, 2, 1 + (seen_at == "a look")]


async def test_records_that_kafka_removed_before_they_were_read_are_counted(world: World) -> None:
    world.log.append(0, 40)
    world.log.committed[0], world.log.begins[0] = 5, 15
    before = MISSED.labels("fake")._value.get()
    await world.consumer.assign(0)
    await world.done()
    assert MISSED.labels("fake")._value.get() - before == 10
    assert min(offset for _, offset in world.destination.written) == 15


async def test_records_that_kafka_removes_while_the_destination_is_away_are_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.kill()
    monkeypatch.setattr("app.sinks.running.watch.LOOK_SECONDS", 0.01)
    world.start()
    world.log.append(0, 10)
    await world.consumer.assign(0)
    await world.done()
    world.destination.away = True
    world.log.append(0, 5)
    await until(lambda: world.sink.held.records == 5)
    world.log.append(0, 30)
    before = MISSED.labels("fake")._value.get()
    world.log.begins[0] = 20
    await until(lambda: MISSED.labels("fake")._value.get() > before)
    world.log.begins[0] = 25
    await asyncio.sleep(0.1)
    assert MISSED.labels("fake")._value.get() - before == 10


async def test_records_that_kafka_removes_while_others_are_read_are_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a sink that is too slow: reading continues at the new start of the log, long before the next look."""
    await world.kill()
    monkeypatch.setattr("app.sinks.running.watch.LOOK_SECONDS", 0.3)
    world.start()
    world.consumer.most = 20
    world.log.append(0, 20)
    await world.consumer.assign(0)
    await world.done()
    before = MISSED.labels("fake")._value.get()
    world.log.begins[0] = 70
    world.log.append(0, 200)
    await world.done()
    assert (0, 69) not in world.destination.written
    await until(lambda: MISSED.labels("fake")._value.get() > before)
    await asyncio.sleep(0.4)
    assert MISSED.labels("fake")._value.get() - before == 50


async def test_a_stalled_process_writes_nothing_of_a_partition_that_it_has_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records would reach the destination between those of the partition's next owner."""
    monkeypatch.setattr("app.sinks.running.runner.COMMIT_SECONDS", 0.05)
    await world.kill()
    world.linger = 3600.0
    world.start()
    world.log.append(0, 10)
    world.log.append(1, 10)
    await world.consumer.assign(0, 1)
    await until(lambda: world.sink.held.records == 20)
    lease = world.consumer.lease
    lease.end()
    world.sink.linger = 0.0
    await until(lambda: bool(lease._waiting))
    await world.consumer.assign(1)
    lease.renew(lease._clock() + 10**6)
    await world.done()
    assert {partition for partition, _ in world.destination.written} == {1}
    assert world.runner.books.outcomes == {"written": 10, "revoked": 10}


async def test_a_flush_that_was_stalled_writes_nothing_after_the_write_under_way(world: World) -> None:
    """The answer to that write is there when the process wakes, before anything else has looked at the lease."""
    world.log.append(0, 10)
    await world.consumer.assign(0)
    world.destination.answers.clear()
    await until(lambda: world.sink.flushing)
    lease = world.consumer.lease
    lease.end()
    world.destination.answers.set()
    await until(lambda: not world.sink.flushing)
    assert set(world.destination.written) == {(0, 0)}
    await until(lambda: bool(lease._waiting))
    lease.renew(lease._clock() + 10**6)
    await world.done()
    assert set(world.destination.written.values()) == {1}
    world.check()


async def test_a_process_that_was_stalled_during_a_flush_ends_the_flush(world: World) -> None:
    world.log.append(0, 10)
    await world.consumer.assign(0)
    world.destination.answers.clear()
    await until(lambda: world.sink.flushing)
    lease = world.consumer.lease
    lease.end()
    await until(lambda: not world.sink.flushing)
    world.destination.answers.set()
    await until(lambda: bool(lease._waiting))
    assert not world.destination.written
    lease.renew(lease._clock() + 10**6)
    await world.done()
    assert world.runner.available
    world.check()


async def test_a_rebalance_ends_a_flush_that_hangs_and_nothing_of_it_is_committed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sinks.running.runner.GIVE_UP_SECONDS", 0.1)
    world.log.append(0, 10)
    world.log.append(1, 10)
    world.destination.answers.clear()
    await world.consumer.assign(0, 1)
    await until(lambda: world.sink.flushing)
    await asyncio.wait_for(world.consumer.assign(1), 5)
    assert not any(world.log.committed.values())
    world.destination.answers.set()
    await until(lambda: world.log.committed.get(1) == 10)
    assert {number for number, _ in world.destination.written} <= {1}
    world.check()


async def test_a_flush_under_way_at_a_rebalance_is_waited_for_and_committed(world: World) -> None:
    world.log.append(0, 10)
    world.destination.answers.clear()
    await world.consumer.assign(0)
    await until(lambda: world.sink.flushing)
    rebalance = asyncio.create_task(world.consumer.assign())
    await asyncio.sleep(0.05)
    world.destination.answers.set()
    await rebalance
    assert world.log.committed == {0: 10}


async def test_a_stop_flushes_and_commits(world: World) -> None:
    await world.kill()
    world.linger = 3600.0
    world.start()
    world.log.append(0, 40)
    await world.consumer.assign(0)
    await until(lambda: world.sink.held.records == 40)
    await world.end()
    assert world.log.committed == {0: 40}
    assert world.sink.closed
    world.check()


async def test_committed_records_are_not_shown_as_held(world: World) -> None:
    shown: dict[int, float] = {}
    commit = world.consumer.commit

    async def committing(offsets: Mapping[int, int]) -> None:
        shown[offsets[0]] = HELD_RECORDS.labels("fake")._value.get()
        await commit(offsets)

    world.consumer.commit = committing  # type: ignore[method-assign]
    world.log.append(0, 40)
    await world.consumer.assign(0)
    await world.done()
    assert shown[40] == 0


@pytest.mark.parametrize("away", ["hangs", "refuses connections"])
async def test_a_stop_does_not_wait_for_a_destination_that_is_away(away: str) -> None:
    world = World(1, shutdown_timeout=2.5)
    world.log.append(0, 40)
    await world.consumer.assign(0)
    await world.done()
    if away == "hangs":
        world.destination.answers.clear()
    world.destination.away = away != "hangs"
    world.log.append(0, 10)
    await until(lambda: world.sink.held.records == 10)
    began = time.monotonic()
    await world.end()
    assert time.monotonic() - began < 2.5
    assert world.log.committed == {0: 40}


async def test_kafka_away_is_waited_out(world: World) -> None:
    world.log.append(0, 40)
    world.log.away = True
    await world.consumer.assign(0)
    await asyncio.sleep(0.1)
    world.log.away = False
    await world.done()
    world.check()


async def test_a_new_sink_begins_where_the_log_does(world: World) -> None:
    world.log.append(0, 40)
    world.log.begins[0] = 15
    await world.consumer.assign(0)
    await world.done()
    assert min(offset for _, offset in world.destination.written) == 15


async def test_a_topic_that_is_made_anew_is_read_from_its_beginning(world: World) -> None:
    await world.kill()
    world.linger = 3600.0
    world.start()
    world.log.append(0, 40)
    await world.consumer.assign(0)
    await until(lambda: world.sink.held.records == 40)
    world.log.records[0] = []
    world.log.committed.clear()
    world.log.append(0, 5)
    await until(lambda: world.sink.held.records == 5)
    assert len(world.destination.written) == 40, "what was held is not lost"
    await world.end()
    assert [world.destination.written[0, offset] for offset in (0, 4, 5, 39)] == [2, 2, 1, 1]
    assert world.log.committed == {0: 5}


async def test_new_series_are_logged_before_the_commit(world: World) -> None:
    world.log.append(0, 40)
    await world.consumer.assign(0)
    await world.done()
    assert {series.device for series in world.series.noted} == {f"u0/d{number}" for number in range(10)}
    assert {series.field for series in world.series.noted} == {"temperature", "battery"}
    await world.end()
    world.start()
    world.log.append(0, 10)
    await world.consumer.assign(0)
    await world.done()
    assert len(world.series.noted) == 20, "a restart knows them"


async def test_series_over_the_limit_are_dropped_and_in_the_books() -> None:
    world = World(1, sink_cardinality_max=10)
    world.log.append(0, 50)
    await world.consumer.assign(0)
    await world.done()
    assert {offset % 10 for _, offset in world.destination.written} == {0, 1, 2, 3, 4}
    assert world.runner.books.outcomes == {"written": 25, "dropped_cardinality": 25}
    await world.end()


async def test_a_sink_that_reports_more_than_it_completed_is_detected(world: World) -> None:
    async def flush(_: MayWrite) -> Flushed:
        record = world.sink._held[0]
        return Flushed({0: 10}, [(record, "refused"), (record, "twice")])

    world.sink.flush = flush
    world.log.append(0, 1)
    await world.consumer.assign(0)
    with pytest.raises(BooksError, match="completed 0 records"):
        await asyncio.wait_for(world.task, 5)
