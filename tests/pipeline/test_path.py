"""The order of a batch's steps, and what holds when one of them fails, waits or is stopped."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.core.batch.effects import WriteResult
from app.core.batch.output import BatchOutput
from app.core.model.records import Reason, Rejected, Stage
from app.errors import PermanentError, TransientError
from app.kafka.session_lease import SessionLease, boottime
from app.pipeline.partition_queue import CoalesceLimit
from tests.pipeline.world import ABORT, Crash, Life, MemoryBatch, MemoryDeadLetters, MemoryStore, Worker, World
from tests.unit.records import Message
from tests.waiting import until


def batch(worker_or_world: Any, life: Life, partition: int = 0, first: int = 0, count: int = 1) -> MemoryBatch:
    world = worker_or_world if isinstance(worker_or_world, World) else worker_or_world.world
    return MemoryBatch(world, life.tick, partition, [Message(offset=first + n) for n in range(count)])


def everything(batch: Any, now: float) -> BatchOutput:
    """A Process that asks every port for something."""
    record = batch.records[0]
    work = BatchOutput()
    work.rejected.append(Rejected(record, Reason.BAD_JSON, Stage.DECODE, "x"))
    work.alerts.append((b"u1/d1", b"{}"))
    work.states[b"u1/d1"] = b"s%d" % batch.next_offset
    return work


async def test_steps_come_in_order_and_the_ack_is_last() -> None:
    world, life = World(), Life()
    worker = Worker(world, life, everything)
    one = batch(world, life)
    await worker.run([one])
    assert life.trace == [
        "dead letters", "dead letter",  # 3
        "store", "stored",  # 4
        "dead letters",  # 4a
        "outbox", "alert",  # 5
        "states", "state",  # 6
        "ack 0", "commit 0",  # 7
    ]  # fmt: skip
    assert (one.acked, worker.ledger.done, worker.ledger.given_up) == (True, [one], [])


async def test_what_the_database_refuses_is_dead_lettered_alone_before_the_ack() -> None:
    class Refusing(MemoryStore):
        async def write(self, rows: Any, effects: Any = (), origin: Any = None) -> WriteResult:
            return WriteResult(1, 0, ((1, "no room"),))

    def two_rows(batch: Any, now: float) -> BatchOutput:
        work = BatchOutput()
        work.rows += [("r1",), ("r2",)]
        work.sources += batch.records
        return work

    world, life = World(), Life()
    worker = Worker(world, life, two_rows, store=Refusing(world, life.tick))
    await worker.run([batch(world, life, count=2)])
    assert world.letters == [(0, 1, "refused_by_database")]
    assert life.trace.index("dead letter") < life.trace.index("ack 0")


class Failing:
    """A port whose every verb raises."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.calls = error, 0

    async def _fail(self, *_: Any) -> Any:
        self.calls += 1
        raise self.error

    write = send = put = _fail


PORTS = ["dead_letters", "store", "outbox", "states"]


@pytest.mark.parametrize("port", PORTS)
async def test_a_bug_in_any_port_is_raised_and_nothing_is_acked(port: str) -> None:
    world, life = World(), Life()
    failing = Failing(PermanentError("no such table"))
    ports: dict[str, Any] = {port: failing}
    worker = Worker(world, life, everything, **ports)
    one, two, other = batch(world, life), batch(world, life, first=1), batch(world, life, partition=1)
    with pytest.raises(PermanentError, match="no such table"):
        await worker.run([one, two, other])
    assert failing.calls
    assert not any(each.acked for each in (one, two))
    assert 0 not in world.committed
    assert one not in worker.ledger.done
    assert worker.pipeline.in_work == 0


async def test_a_bug_in_the_process_is_raised_and_the_batch_is_not_acked() -> None:
    def broken(batch: Any, now: float) -> BatchOutput:
        raise ZeroDivisionError

    world, life = World(), Life()
    one = batch(world, life)
    with pytest.raises(ZeroDivisionError):
        await Worker(world, life, broken).run([one])
    assert not one.acked


async def test_the_ports_in_front_of_the_failing_one_have_run_and_those_behind_have_not() -> None:
    behind = {"dead_letters": set(PORTS[1:]), "store": {"outbox", "states"}, "outbox": {"states"}, "states": set()}
    seen = {"store": "store", "outbox": "outbox", "states": "states"}
    for port in PORTS:
        world, life = World(), Life()
        replaced: dict[str, Any] = {port: Failing(PermanentError("x"))}
        with pytest.raises(PermanentError):
            await Worker(world, life, everything, **replaced).run([batch(world, life)])
        assert not {name for name in behind[port] if seen.get(name) in life.trace}
        assert "ack 0" not in life.trace


@pytest.mark.parametrize("port", PORTS)
async def test_giving_up_holds_the_partition_and_lets_the_others_go_on(port: str) -> None:
    """TransientError is what a port raises when interrupted: no crash, no ack, and none for what follows."""
    world, life = World(), Life()
    worker = Worker(world, life, everything)
    real = getattr(worker.pipeline._ports, port)

    class GivesUpOnce:
        """Fails at its first call; `real` for all after it."""

        failed = False

        def __getattr__(self, verb: str) -> Callable[..., Any]:
            async def act(*args: Any) -> Any:
                if not self.failed:
                    self.failed = True
                    raise TransientError("interrupted")
                return await getattr(real, verb)(*args)

            return act

    ports: dict[str, Any] = {port: GivesUpOnce()}
    worker = Worker(world, life, everything, **ports)
    first, second, third = (batch(world, life, first=n) for n in range(3))
    rest = [batch(world, life, partition=1, first=n) for n in range(2)]
    await worker.run([first, second, rest[0], third, rest[1]])
    assert [each.acked for each in (first, second, third)] == [False] * 3
    if port in ("outbox", "states"):  # batches of all partitions are closed together, and interrupted together
        rest = []
    assert all(each.acked for each in rest)
    assert world.committed == ({1: 2} if rest else {})
    assert {one for one, _ in worker.ledger.given_up} >= {first, second, third}
    assert worker.ledger.given_up[0][1] == "interrupted"
    assert worker.ledger.done == rest


async def test_a_new_epoch_owes_nothing_to_a_given_up_predecessor() -> None:
    world, life = World(), Life()
    worker = Worker(world, life, everything)
    failing = Failing(TransientError("interrupted"))
    worker = Worker(world, life, everything, store=failing)
    await worker.run([batch(world, life)])
    worker.pipeline._ports = Worker(world, life, everything).pipeline._ports
    again = MemoryBatch(world, life.tick, 0, [Message(offset=0)], epoch=2)
    await worker.run([again])
    assert again.acked


async def test_stale_batches_are_dropped_without_work() -> None:
    world, life = World(), Life()
    worker = Worker(world, life, everything)
    stale, fresh = batch(world, life), batch(world, life, partition=1)
    stale.stale = True
    await worker.run([stale, fresh, stale, stale, stale, stale, stale])  # and no slot is lost with them
    assert (stale.acked, fresh.acked) == (False, True)
    assert world.committed == {1: 1}
    assert worker.ledger.done == [fresh]


async def test_a_batch_that_goes_stale_between_slices_is_dropped_before_any_port() -> None:
    world, life = World(), Life()
    one, fresh = batch(world, life), batch(world, life, partition=1)

    def overtaken(given: Any, now: float) -> BatchOutput:
        one.stale = True  # a rebalance, while the loop was served
        return everything(given, now)

    worker = Worker(world, life, overtaken, slots=1)
    await worker.run([one, one, fresh])  # and its slot is free again
    assert (one.acked, fresh.acked) == (False, True)
    assert world.letters == [(1, 0, "bad_json")]
    assert world.committed == {1: 1}


async def test_the_source_s_end_waits_for_what_is_in_work_and_its_crash_does_not() -> None:
    world, life = World(), Life()
    one = batch(world, life)
    await Worker(world, life, everything).run([one])
    assert one.acked
    world, life = World(), Life()
    one = batch(world, life)
    with pytest.raises(Crash):
        await Worker(world, life, everything).run([one, ABORT])
    assert not one.acked


BYTES = len(Message().value or b"")


class Gate(MemoryStore):
    """A store whose writes wait until let through, partition by partition (rows carry the partition)."""

    def __init__(self, world: World, life: Life) -> None:
        super().__init__(world, life.tick)
        self.gates: dict[int, asyncio.Event] = {}
        self.writing: list[int] = []
        self.sizes: dict[int, list[int]] = {}
        self.most = 0

    async def write(self, rows: Any, effects: Any = (), origin: Any = None) -> WriteResult:
        partition = rows[0][0]
        self.writing.append(partition)
        self.sizes.setdefault(partition, []).append(len(rows))
        self.most = max(self.most, len(self.writing))
        assert self.writing.count(partition) == 1, "two writes of a partition at once"
        try:
            await self.gates.setdefault(partition, asyncio.Event()).wait()
        finally:
            self.writing.remove(partition)
        return WriteResult(len(rows))

    def open(self, *partitions: int) -> None:
        for partition in partitions:
            self.gates.setdefault(partition, asyncio.Event()).set()


def its_partition(batch: Any, now: float) -> BatchOutput:
    work = BatchOutput()
    work.rows += [(batch.partition,) for _ in batch.records]
    work.sources += batch.records
    return work


def gated(slots: int = 4, most: CoalesceLimit | None = None) -> tuple[Worker, Gate, Callable[..., MemoryBatch]]:
    world, life = World(), Life()
    gate = Gate(world, life)
    worker = Worker(world, life, its_partition, slots, most, store=gate)
    return worker, gate, lambda partition, first=0: batch(world, life, partition, first)


async def test_a_slow_write_holds_its_own_partition_only_and_its_batches_stay_in_order() -> None:
    worker, gate, make = gated(slots=6)
    gate.open(1)
    slow = [make(0, n) for n in range(3)]
    fast = [make(1, n) for n in range(3)]
    task = asyncio.create_task(worker.run([slow[0], slow[1], fast[0], fast[1], slow[2], fast[2]]))
    await until(lambda: fast[2].acked)
    assert not any(one.acked for one in slow)
    assert gate.writing == [0]
    gate.open(0)
    await task
    assert [one for one in worker.ledger.done if one.partition == 0] == slow


async def test_the_small_batches_that_wait_in_a_slow_partition_are_joined_and_take_no_slots() -> None:
    worker, gate, make = gated(slots=2)
    gate.open(1)
    slow, fast = [make(0, n) for n in range(30)], [make(1, n) for n in range(3)]
    task = asyncio.create_task(worker.run([*slow, *fast]))
    await until(lambda: fast[2].acked)
    assert not any(one.acked for one in slow)
    gate.open(0)
    await task
    assert all(one.acked for one in slow)
    assert worker.world.committed == {0: 30, 1: 3}
    assert gate.sizes[0] == [1, 1, 28]  # one batch was stored, one was ready, the rest had arrived


async def test_batches_are_joined_up_to_a_number_of_rows_and_of_bytes() -> None:
    for most, sizes in (
        (CoalesceLimit(rows=10), [1, 1, 10, 10, 8]),
        (CoalesceLimit(bytes=10 * BYTES), [1, 1, 10, 10, 8]),
    ):
        worker, gate, make = gated(slots=2, most=most)
        task = asyncio.create_task(worker.run([make(0, n) for n in range(30)]))
        # one batch is written, one is ready, all other batches have come
        await until(lambda worker=worker: [len(queue) for queue in worker.pipeline._queues] == [28])  # type: ignore[misc]
        assert gate.writing == [0]
        gate.open(0)
        await task
        assert gate.sizes[0] == sizes
        assert worker.world.committed == {0: 30}


async def test_no_part_of_a_joined_batch_is_acked_when_one_of_them_is_stale() -> None:
    worker, gate, make = gated()
    all_of_them = [make(0, n) for n in range(6)]
    task = asyncio.create_task(worker.run(all_of_them))
    await until(lambda: worker.pipeline.in_work == 2)
    all_of_them[4].stale = True
    gate.open(0)
    await task
    assert [one.acked for one in all_of_them] == [True, True, False, False, False, False]


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_slots_bound_what_is_in_work(slots: int) -> None:
    worker, gate, make = gated(slots)
    task = asyncio.create_task(worker.run([make(n) for n in range(6)]))
    await until(lambda: len(gate.writing) == slots)
    await asyncio.sleep(0.01)
    assert worker.pipeline.in_work == len(gate.writing) == slots
    gate.open(*range(6))
    await task
    assert gate.most <= slots
    assert len(worker.ledger.done) == 6


async def test_drain_lets_running_writes_end_and_their_offsets_count() -> None:
    worker, gate, make = gated()
    one = make(0)
    task = asyncio.create_task(worker.run([one]))
    await until(lambda: gate.writing == [0])
    asyncio.get_running_loop().call_later(0.02, gate.open, 0)
    await worker.pipeline.drain(5)
    assert one.acked
    assert not worker.interrupt.is_set()
    await task


async def test_drain_ends_waits_for_an_outage_at_once() -> None:
    world, life = World(), Life()
    world.store.available.clear()
    worker = Worker(world, life, everything)
    running, waiting = batch(world, life), batch(world, life, first=1)
    task = asyncio.create_task(worker.run([running, waiting]))
    await until(lambda: worker.pipeline.in_work == 2)
    async with asyncio.timeout(1):
        await worker.pipeline.drain(60)
    assert not running.acked
    assert not waiting.acked
    assert [one for one, _ in worker.ledger.given_up] == [running, waiting]
    assert not worker.interrupt.is_set()
    await task


async def leased() -> tuple[Worker, SessionLease]:
    """A worker whose lease lasts until it is ended, and the lease."""
    worker = Worker(World(), Life(), everything)
    lease = SessionLease(1e9, worker.interrupt)
    lease.renew(boottime())
    ports = replace(worker.pipeline._ports, lease=lease)
    worker.pipeline._ports = ports
    return worker, lease


async def test_without_the_lease_no_batch_is_begun_and_none_is_dropped() -> None:
    """Kafka may have been away for longer than the session, and nobody was expelled."""
    worker, lease = await leased()
    lease.end()
    ours = [batch(worker, worker.life, partition) for partition in range(3)]
    task = asyncio.create_task(worker.run(ours))
    await until(lambda: len(lease._waiting) == 3)
    assert not worker.life.trace
    lease.renew(boottime())
    await task
    assert all(one.acked for one in ours)
    assert not worker.ledger.given_up


async def test_a_batch_that_loses_the_lease_on_its_way_waits_before_its_rows() -> None:
    worker, lease = await leased()

    class Stalls(MemoryDeadLetters):
        async def send(self, batch: Any, rejected: Any) -> None:
            await super().send(batch, rejected)
            lease.end()

    worker.pipeline._ports = replace(worker.pipeline._ports, dead_letters=Stalls(worker.world, worker.life.tick))
    one = batch(worker, worker.life)
    task = asyncio.create_task(worker.run([one]))
    await until(lambda: bool(lease._waiting))
    assert worker.life.trace == ["dead letters", "dead letter"]
    async with asyncio.timeout(1):
        await worker.pipeline.drain(60)
    await task
    assert worker.life.trace == ["dead letters", "dead letter"]
    assert worker.ledger.given_up == [(one, "interrupted while Kafka may have given the partitions to others")]


async def test_a_drain_without_the_lease_drops_what_is_not_begun() -> None:
    worker, lease = await leased()
    lease.end()
    one, other = batch(worker, worker.life), batch(worker, worker.life, first=1)
    task = asyncio.create_task(worker.run([one, other]))
    await until(lambda: bool(lease._waiting))
    async with asyncio.timeout(1):
        await worker.pipeline.drain(60)
    await task
    assert not worker.life.trace
    assert not one.acked


async def test_drain_cancels_what_does_not_end_in_time_and_what_waits_behind_it() -> None:
    worker, gate, make = gated()
    stuck, behind, other = make(0), make(0, 1), make(1)
    gate.open(1)
    task = asyncio.create_task(worker.run([stuck, behind, other]))
    await until(lambda: other.acked)
    await worker.pipeline.drain(0.05)
    assert (stuck.acked, behind.acked) == (False, False)
    assert gate.writing == []
    await task  # the source has ended, and a cancelled batch is no error
    assert worker.pipeline.in_work == 0


async def test_drain_with_nothing_in_work() -> None:
    worker, _, _ = gated()
    await worker.pipeline.drain(5)
    assert not worker.interrupt.is_set()


async def test_after_a_drain_the_next_epoch_is_worked_on() -> None:
    worker, gate, make = gated(slots=2)
    stuck = make(0)
    first = asyncio.create_task(worker.run([stuck, make(0, 1)]))
    await until(lambda: worker.pipeline.in_work == 2)
    await worker.pipeline.drain(0.01)
    await first
    gate.open(0)
    again = [MemoryBatch(worker.world, worker.life.tick, 0, [Message(offset=n)], epoch=2) for n in range(3)]
    await worker.run(again)
    assert all(one.acked for one in again)
