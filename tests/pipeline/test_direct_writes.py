"""Which way a live write goes: straight into the table, or staged; and what of it a partition's next write goes by."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from app.core.batch.copy_policy import FIRST, CopyPolicy, PartitionEpoch
from app.core.batch.effects import Effect, Statement, WriteResult
from app.core.model.records import Row
from app.errors import LimitReachedError
from app.postgres.sqlstate import LIMIT_REACHED
from app.postgres.store.store import LiveWrites
from app.postgres.store.write_queue import PendingWrite

AT = datetime(2026, 5, 4, tzinfo=UTC)
EFFECT = Effect(Statement.UPSERT_STATUS, ())
Writes = Sequence[tuple[Sequence[Row], Sequence[Effect]]]


def rows(count: int, first: int = 0) -> list[Row]:
    return [(AT, "u1", "d1", first + number, None) for number in range(count)]


class Limit(OSError):
    sqlstate = LIMIT_REACHED


class Direct:
    """COPY straight into the table: takes everything, unless `fails`."""

    def __init__(self) -> None:
        self.fit, self.fails = True, False
        self.error: Exception | None = None
        self.sizes: list[list[int]] = []  # of each attempt

    async def fits(self) -> bool:
        return self.fit

    async def store(self, rows: Sequence[Row], effects: Sequence[Effect]) -> WriteResult | None:
        answers = await self.store_together([(rows, effects)])
        return answers[0] if answers else None

    async def store_together(self, writes: Writes) -> list[WriteResult] | None:
        self.sizes.append([len(one) for one, _ in writes])
        if self.error:
            raise self.error
        return None if self.fails else [WriteResult(len(one)) for one, _ in writes]


class Session:
    """The staged way: takes everything, of which `duplicates` of each write were there already."""

    def __init__(self) -> None:
        self.direct, self.duplicates = Direct(), 0
        self.error: Exception | None = None
        self.sizes: list[list[int]] = []

    async def store(self, rows: Sequence[Row], effects: Sequence[Effect], copy_min_rows: int) -> WriteResult:
        self.sizes.append([len(rows)])
        if self.error:
            raise self.error
        return WriteResult(len(rows) - self.duplicates, self.duplicates)

    async def store_together(self, writes: Writes, copy_min_rows: int) -> list[WriteResult] | None:
        self.sizes.append([len(one) for one, _ in writes])
        return None if self.duplicates else [WriteResult(len(one)) for one, _ in writes]


class Live:
    """Live writes with partitions of which a batch was clean already, unless a test says otherwise."""

    def __init__(self, clean: Sequence[int] = range(4), direct_min_rows: int = 10) -> None:
        self.policy, self.session = CopyPolicy(), Session()
        for partition in clean:
            self.policy.answered(PartitionEpoch(partition, 1), clean=True)
        self.writes = LiveWrites(500, direct_min_rows, self.policy)

    async def store(self, *group: PendingWrite) -> list[WriteResult]:
        session: Any = self.session
        await self.writes.store(session, group)
        return [await pending.answer for pending in group]

    def goes_direct(self, partition: int) -> bool:
        return self.policy.goes_direct(PartitionEpoch(partition, 1))

    @property
    def ways(self) -> tuple[list[list[int]], list[list[int]]]:
        """Sizes of the writes that tried to go straight in, and of those that were staged."""
        return self.session.direct.sizes, self.session.sizes


def write(count: int, partition: int | None = 0, effects: Sequence[Effect] = ()) -> PendingWrite:
    return PendingWrite(rows(count), effects, None if partition is None else PartitionEpoch(partition, 1))


async def test_what_is_expected_to_be_new_goes_straight_in() -> None:
    live = Live()
    assert await live.store(write(20)) == [WriteResult(20)]
    assert live.ways == ([[20]], [])


@pytest.mark.parametrize("pending", [lambda: write(9), lambda: write(20, 7), lambda: write(20, None)])
async def test_few_rows_and_rows_that_nothing_is_known_of_are_staged(pending: Any) -> None:
    live = Live()
    (written,) = await live.store(made := pending())
    assert (written.rows, live.ways) == (len(made.rows), ([], [[len(made.rows)]]))


async def test_the_setting_0_stages_everything() -> None:
    live = Live(direct_min_rows=0)
    await live.store(write(5000))
    await live.store(write(0, effects=[EFFECT]))
    assert live.ways == ([], [[5000], [0]])


async def test_a_table_that_copy_does_not_fit_is_staged_and_that_says_nothing_of_duplicates() -> None:
    live = Live()
    live.session.direct.fit = False
    await live.store(write(20))
    assert (live.ways, live.goes_direct(0)) == (([], [[20]]), True)


async def test_what_fails_is_staged_and_the_batches_after_it_too() -> None:
    live = Live()
    live.session.direct.fails, live.session.duplicates = True, 1
    assert await live.store(write(20)) == [WriteResult(19, 1)]
    live.session.direct.fails, live.session.duplicates = False, 0
    for _ in range(FIRST):
        await live.store(write(20))
    assert live.ways == ([[20]], [[20]] * (1 + FIRST))
    await live.store(write(20))
    assert live.ways[0] == [[20], [20]]


async def test_what_fails_and_then_turns_out_clean_counts_as_failed() -> None:
    """Or dead rows would have no bound: for example, where an effect is refused again and again."""
    live = Live()
    live.session.direct.fails = True
    assert await live.store(write(20)) == [WriteResult(20)]
    assert not live.goes_direct(0)


async def test_rows_that_repeat_one_another_say_nothing_of_the_table() -> None:
    live = Live(clean=())
    repeated = PendingWrite([*rows(20), *rows(2)], (), PartitionEpoch(0, 1))
    live.session.duplicates = 2
    assert await live.store(repeated) == [WriteResult(20, 2)]
    assert live.goes_direct(0)
    live.session.duplicates = 3
    await live.store(PendingWrite([*rows(20), *rows(2)], (), PartitionEpoch(1, 1)))
    assert not live.goes_direct(1)


async def test_a_write_without_rows_says_nothing() -> None:
    live = Live(clean=())
    await live.store(write(0, effects=[EFFECT]))
    assert not live.goes_direct(0)


async def test_writes_that_share_a_transaction_go_straight_in_together() -> None:
    live = Live()
    answers = await live.store(write(4, 0), write(5, 1), write(3, 2), write(0, 9, [EFFECT]))
    assert answers == [WriteResult(4), WriteResult(5), WriteResult(3), WriteResult()]
    assert live.ways == ([[4, 5, 3, 0]], [])


async def test_one_partition_that_is_staged_stages_those_it_shares_with() -> None:
    live = Live(clean=(0, 1))
    await live.store(write(20, 0), write(20, 7), write(20, 1))
    assert live.ways == ([], [[20, 20, 20]])
    assert live.goes_direct(7)


async def test_after_those_together_have_failed_each_is_staged_alone_and_all_next_time() -> None:
    live = Live()
    live.session.direct.fails, live.session.duplicates = True, 1
    assert await live.store(write(20, 0), write(30, 1)) == [WriteResult(19, 1), WriteResult(29, 1)]
    assert live.ways == ([[20, 30]], [[20], [30]])
    assert not live.goes_direct(0)
    assert not live.goes_direct(1)


async def test_an_attempt_that_met_an_outage_is_staged_when_it_is_made_again() -> None:
    live = Live()
    live.session.direct.error = ConnectionResetError("the answer is lost")
    pending = write(20)
    session: Any = live.session
    with pytest.raises(ConnectionResetError):
        await live.writes.store(session, [pending])
    live.session.direct.error, live.session.duplicates = None, 20
    assert await live.store(pending) == [WriteResult(0, 20)]
    assert live.ways == ([[20]], [[20]])
    assert not live.goes_direct(0)


async def test_rows_of_a_compressed_chunk_leave_the_way_of_live_rows() -> None:
    live = Live()
    live.session.direct.fails, live.session.error = True, Limit("tuple decompression limit exceeded")
    pending = write(20)
    session: Any = live.session
    await live.writes.store(session, [pending])
    with pytest.raises(LimitReachedError):
        await pending.answer
    assert not live.goes_direct(0)


async def test_a_write_nobody_waits_for_any_more_is_not_stored_alone() -> None:
    live = Live()
    live.session.direct.fails = True
    gone, wanted = write(20, 0), write(20, 1)
    gone.answer.cancel()
    session: Any = live.session
    await live.writes.store(session, [gone, wanted])
    assert await wanted.answer == WriteResult(20)
    assert live.session.sizes == [[20]]
