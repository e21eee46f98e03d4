"""COPY straight into the table, on a session that fails as it is asked to: what is an outage, and what is staged."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from app.core.batch.effects import Effect, Statement, WriteResult
from app.core.model.records import Row
from app.errors import TransientError
from app.ports import Lease, Unlimited
from app.postgres.events import NoStoreEvents
from app.postgres.sqlstate import KNOWN, LIMIT_REACHED, Failure
from app.postgres.store.direct_copy import DirectCopy, dead_rows
from app.postgres.store.encode_check import EncodingError
from tests import DEFAULT

ROWS: list[Row] = [(datetime(2026, 5, 4, tzinfo=UTC), "u1", "d1", number, None) for number in range(3)]
EFFECT = Effect(Statement.UPSERT_STATUS, ())
AS_INSERTED = None  # COPY's tag says as many rows as were sent


class Reported(NoStoreEvents):
    def __init__(self) -> None:
        self.rows: list[int] = []
        self.dead: list[int] = []

    def copied(self, rows: int) -> None:
        self.rows.append(rows)

    def copy_failed(self, dead_rows: int) -> None:
        self.dead.append(dead_rows)


class Session:
    """Notes what is asked of it in `done`."""

    def __init__(self, error: BaseException | None = None, count: int | None = AS_INSERTED, fits: Any = True) -> None:
        self.error, self.count, self.done = error, count, list[str]()
        self.schema, self.keeps_state = DEFAULT, True
        self.lease: Lease = Unlimited()
        self.connection: Any = SimpleNamespace(transaction=self.look, fetchval=self.fetchval)
        self.fitting = fits

    @contextlib.asynccontextmanager
    async def look(self, *, readonly: bool) -> AsyncIterator[None]:
        assert readonly
        yield

    async def fetchval(self, *asked: Any) -> Any:
        self.done.append("look")
        return self.fitting

    @contextlib.asynccontextmanager
    async def transaction(self, first: str = "") -> AsyncIterator[None]:
        self.done.append("begin")
        yield
        self.done.append("commit")

    async def copy_into(self, table: str, rows: Sequence[Row], where: str | None = None) -> int:
        self.done.append(f"copy {len(rows)} into {table}")
        if self.error:
            raise self.error
        return len(rows) if self.count is None else self.count

    async def apply(self, effects: Sequence[Effect]) -> None:
        self.done.append(f"apply {len(effects)}")

    async def insert(self, rows: Sequence[Row], *, copy: bool) -> int:
        raise NotImplementedError

    async def clear_staging(self) -> None:
        raise NotImplementedError


def direct(session: Session) -> tuple[DirectCopy, Reported]:
    reported = Reported()
    return DirectCopy(session, reported), reported


def of_the_server(code: str, context: str | None = None) -> BaseException:
    error = asyncpg.PostgresError.new({"C": code, "M": "words"} | ({"W": context} if context else {}))
    assert isinstance(error, asyncpg.PostgresError)
    assert error.sqlstate == code
    return error


CODES = {code if len(code) == 5 else f"{code}000": meaning.failure for code, meaning in KNOWN.items()} | {
    "23505": Failure.DATA, "23P01": Failure.DATA, "22021": Failure.DATA, "40P01": Failure.TRANSIENT,
    "57014": Failure.TRANSIENT, "57P01": Failure.TRANSIENT, "0A000": Failure.PERMANENT, "42809": Failure.PERMANENT,
    "XX000": Failure.PERMANENT,
}  # fmt: skip


@pytest.mark.parametrize(("code", "failure"), CODES.items(), ids=CODES)
async def test_an_outage_is_raised_and_anything_else_is_staged(code: str, failure: Failure) -> None:
    copy, reported = direct(Session(error := of_the_server(code)))
    assert await copy.fits()
    if failure is Failure.TRANSIENT and code != LIMIT_REACHED:
        with pytest.raises(type(error)):
            await copy.store(ROWS, ())
        assert reported.dead == []
    else:
        assert await copy.store(ROWS, ()) is None
        assert reported.dead == [3]
    assert reported.rows == []
    assert await copy.fits() == (failure is not Failure.PERMANENT)


async def test_a_row_that_cannot_be_encoded_is_staged() -> None:
    copy, reported = direct(Session(EncodingError("a row cannot be encoded")))
    assert await copy.store(ROWS, ()) is None
    assert reported.dead == [3]


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), asyncpg.InterfaceError("closed")])
async def test_a_connection_that_breaks_is_an_outage(error: Exception) -> None:
    copy, _ = direct(Session(error))
    with pytest.raises(type(error)):
        await copy.store(ROWS, ())


async def test_a_bug_is_raised() -> None:
    copy, _ = direct(Session(KeyError("a bug")))
    with pytest.raises(KeyError):
        await copy.store(ROWS, ())


async def test_rows_alone_are_one_statement() -> None:
    session = Session()
    copy, reported = direct(session)
    assert await copy.store([*ROWS, ROWS[0]], ()) == WriteResult(3, 1)
    assert (session.done, reported.rows) == (["copy 3 into raw_telemetry"], [3])


async def test_rows_of_one_key_that_differ_try_nothing() -> None:
    """The database may refuse the second, which it has to see for that."""
    session = Session()
    copy, reported = direct(session)
    assert await copy.store([*ROWS, (*ROWS[0][:4], 1.0)], ()) is None
    assert (session.done, reported.dead) == ([], [])


async def test_effects_come_after_the_rows_in_their_transaction() -> None:
    session = Session()
    await direct(session)[0].store(ROWS, [EFFECT])
    assert session.done == ["begin", "copy 3 into raw_telemetry", "apply 1", "commit"]


async def test_behind_pgbouncer_all_is_in_a_transaction() -> None:
    session = Session()
    session.keeps_state = False
    await direct(session)[0].store(ROWS, ())
    assert session.done == ["begin", "copy 3 into raw_telemetry", "apply 0", "commit"]


async def test_what_a_trigger_leaves_out_is_a_duplicate_of_one_writer_and_nobody_s_of_several() -> None:
    session = Session(count=2)
    copy, reported = direct(session)
    assert await copy.store(ROWS, ()) == WriteResult(2, 1)
    assert await copy.store_together([(ROWS[:2], ()), (ROWS[2:], ())]) is None
    assert session.done[-2:] == ["begin", "copy 3 into raw_telemetry"]
    assert (reported.rows, reported.dead) == ([2], [3])


async def test_several_writers_with_a_row_in_common_try_nothing() -> None:
    session = Session()
    copy, _ = direct(session)
    assert await copy.store_together([(ROWS, ()), (ROWS[:1], ())]) is None
    assert session.done == []
    assert await copy.store_together([(ROWS[:1], [EFFECT]), (ROWS[1:], ())]) == [WriteResult(1), WriteResult(2)]


async def test_rows_that_one_of_several_writers_repeats_are_its_duplicates() -> None:
    session = Session()
    copy, _ = direct(session)
    writes = [([*ROWS[:2], ROWS[0]], ()), (ROWS[2:], ())]
    assert await copy.store_together(writes) == [WriteResult(2, 1), WriteResult(1)]
    assert session.done == ["begin", "copy 3 into raw_telemetry", "apply 0", "commit"]
    differs = (*ROWS[0][:4], 1.0)
    assert await copy.store_together([([ROWS[0], differs], ()), (ROWS[2:], ())]) is None
    assert len(session.done) == 4


async def test_without_the_lease_nothing_begins() -> None:
    class Lost:
        async def ensure(self) -> None:
            raise TransientError("interrupted")

    session = Session()
    session.lease = Lost()
    copy, reported = direct(session)
    with pytest.raises(TransientError):
        await copy.store(ROWS, ())
    assert (session.done, reported.dead) == ([], [])


@pytest.mark.parametrize(("found", "fits"), [(True, True), (False, False), (None, False)])
async def test_the_table_is_looked_at_once(found: bool | None, fits: bool) -> None:
    session = Session(fits=found)
    copy, _ = direct(session)
    assert [await copy.fits(), await copy.fits()] == [fits, fits]
    assert session.done == ["look"]


@pytest.mark.parametrize(
    ("context", "rows", "dead"),
    [
        ("COPY raw_telemetry, line 1", 5000, 1000),
        ("COPY raw_telemetry, line 1000", 5000, 1000),
        ('COPY raw_telemetry, line 1001, column battery: "x"', 5000, 2000),
        ("COPY raw_telemetry, line 4999", 4999, 4999),
        ("COPY raw_telemetry, line 20", 300, 300),
        (None, 5000, 5000),
        ('SQL statement "INSERT INTO seen"\nPL/pgSQL function note()\nCOPY raw_telemetry, line 7', 3000, 1000),
    ],
)
def test_dead_rows_are_those_of_the_buffer_with_the_row_at_fault_and_before(
    context: str | None, rows: int, dead: int
) -> None:
    assert dead_rows(of_the_server("23505", context), rows) == dead
