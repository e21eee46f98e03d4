"""PostgreSQL in memory, as far as the store talks to it: rows with a primary key, effects, transactions, refusals.

A transaction has the database to itself from its first statement to its end: what two of them could do to one another
is PostgreSQL's business, and tested against it (tests/integration/test_timescale_faults.py).
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import asyncpg

from app.core.batch.effects import Statement
from app.core.model.records import Row
from app.postgres.store.statements import STATEMENTS
from tests.simulation.life import Life
from tests.simulation.link import Link
from tests.simulation.world import World

POISON = '"poison"'  # in extra_data: a CHECK constraint refuses the row
_STATEMENTS = {" ".join(known.sql.split()): statement for statement, known in STATEMENTS.items()}
_TOGETHER = {" ".join(known.together.split()): statement for statement, known in STATEMENTS.items() if known.together}

Key = tuple[Any, str, str, int]


class Database:
    """What is committed, and who has the turn."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rows: dict[Key, Row] = {}
        self.configs: dict[str, str] = {}
        self.edited: dict[str, Any] = {}  # when the newest config came in, and its place in the log
        self.set_back: dict[str, frozenset[Any]] = {}
        self.averages: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.on_average: Callable[[tuple[Any, ...]], None] = lambda row: None
        self.statuses: dict[str, tuple[Any, ...]] = {}
        self.active: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # by user, device, rule and way
        self.muted: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # the same
        self.history: set[tuple[str, str, int]] = set()  # the keys alone
        self.owner: Connection | None = None
        self.on_begin: Callable[[Life], None] = lambda life: None
        self._queue: list[tuple[Connection, asyncio.Future[None]]] = []

    async def connect(self, life: Life) -> "Connection":
        """Raises what a try to connect raises during an outage."""
        if "database" in self.world.down:
            error = self.world.down["database"]
            await asyncio.sleep(0.05)
            raise error
        return Connection(self, life)

    async def turn(self, connection: "Connection") -> None:
        """Wait until the database is this connection's."""
        if self.owner is None:
            self.owner = connection
        elif self.owner is not connection:
            future: asyncio.Future[None] = self.world.loop.create_future()
            self._queue.append((connection, future))
            await future

    def release(self, connection: "Connection") -> None:
        """The next one's turn."""
        self._queue = [(other, future) for other, future in self._queue if other is not connection]
        if self.owner is connection:
            self.owner = None
            while self._queue and self.owner is None:
                other, future = self._queue.pop(0)
                if not future.done():
                    self.owner = other
                    future.set_result(None)

    def carry_out(self, statement: Statement, args: Sequence[Any]) -> None:
        """An effect, committed."""
        match statement:
            case Statement.UPSERT_CONFIG:
                at, partition, offset, live = args[3:7]
                last = self.edited.get(args[0])
                if last is None or (live and partition == last[1] and offset >= last[2]) or at > last[0]:
                    self.configs[args[0]] = args[1]
                    self.edited[args[0]] = (at if last is None else max(at, last[0]), partition, offset)
            case Statement.UPSERT_SET_BACK:
                self.set_back[args[0]] = self.set_back.get(args[0], frozenset()) | {tuple(args)}
            case Statement.INSERT_CONFIG:
                if args[0] not in self.edited:
                    self.configs[args[0]], self.edited[args[0]] = args[1], (args[3], None, None)
            case Statement.INSERT_STATUS:
                self.statuses.setdefault(args[0], tuple(args))
            case Statement.UPSERT_AVERAGE:
                args = args[:9]  # no device of the simulation has averages of iot/*
                key = tuple(args[:4])
                self.on_average(tuple(args))
                if key not in self.averages or self.averages[key][4:6] <= tuple(args[4:6]):
                    self.averages[key] = tuple(args)
            case Statement.UPSERT_STATUS:
                if args[0] not in self.statuses or self.statuses[args[0]][4] <= args[4]:
                    self.statuses[args[0]] = tuple(args)
            case Statement.UPSERT_PRESENCE:
                place = f"{args[6]}/{args[0]}" if args[6] else args[0]
                before = self.statuses.get(place, (*args[:5], "{}"))
                if before[4] <= args[4]:
                    self.statuses[place] = (*before[:3], *args[3:5], before[5])
            case Statement.UPSERT_ACTIVE_ALERT:
                stored = self.active.get((*args[:3], args[12]))
                older = stored is None or stored[9] <= args[9] or (stored[3], "RESOLVED", 0) in self.history
                if older and (args[3], "RESOLVED", 0) not in self.history:
                    self.active[*args[:3], args[12]] = tuple(args)
            case Statement.DELETE_ACTIVE_ALERT:
                stored = self.active.get((*args[:3], args[4]))
                if stored is not None and (stored[8] <= args[3] or (stored[3], "RESOLVED", 0) in self.history):
                    del self.active[*args[:3], args[4]]
            case Statement.UPSERT_MUTED_ALERT:
                self.muted[*args[:3], args[7]] = tuple(args)
            case Statement.DELETE_MUTED_ALERT:
                self.muted.pop((*args[:3], args[3]), None)
            case Statement.INSERT_HISTORY:
                self.history.add((args[0], args[1], args[2]))
            case _:
                raise NotImplementedError(f"the simulated database does not do {statement}")


class Connection:
    """Stands in for asyncpg's, with the statements of app.postgres.store.session."""

    def __init__(self, database: Database, life: Life) -> None:
        self._database, self._life = database, life
        self._link = Link(database.world, life, "database")
        self._link.on_close = self._lost
        self._levels: list[tuple[dict[Key, Row], list[tuple[Statement, Sequence[Any]]]]] = []  # open transactions
        self._staged: list[Row] = []
        self._copied = False  # COPY has put rows into the table, in the transaction that is open

    # -- asyncpg's names

    def is_closed(self) -> bool:
        return not self._link.open

    def terminate(self) -> None:
        self._link.close()

    async def close(self, timeout: float | None = None) -> None:
        self._link.close()

    def transaction(self, *, readonly: bool = False) -> Any:
        return contextlib.nullcontext() if readonly else Transaction(self)

    async def fetchval(self, sql: str, *args: Any) -> bool | None:
        """The table is one that COPY fits, is no hypertable, has no compression policy, and nobody left a COPY."""
        if "pg_terminate_backend" in sql:
            return False
        return True if "relrowsecurity" in sql else None

    async def execute(self, sql: str, *columns: Any) -> str:
        text = " ".join(sql.split())
        if text.startswith("INSERT INTO raw_telemetry") and "unnest" in text:
            return f"INSERT 0 {len(await self._insert(list(zip(*columns, strict=True))))}"
        if text.startswith("INSERT INTO raw_telemetry") and "FROM iot_batch" in text:
            return f"INSERT 0 {len(await self._insert(self._staged))}"
        if (statement := _TOGETHER.get(text)) is not None:
            every = list(zip(*columns, strict=True))
            await self.ask(f"{statement} x{len(every)}", lambda: self._apply(statement, every))
            return f"INSERT 0 {len(every)}"
        if (statement := _STATEMENTS.get(text)) is not None:
            await self.ask(f"{statement}", lambda: self._apply(statement, [columns]))
            return "INSERT 0 1"
        if text == "SELECT 1":
            await self._link.call("sql select 1", lambda: None)
            return "SELECT 1"
        if text.startswith(("CREATE TEMP TABLE", "TRUNCATE iot_batch", "SET ")):
            self._staged = []
            return "OK"
        raise NotImplementedError(f"the simulated database does not know: {text}")

    async def fetch(self, sql: str, *columns: Any) -> list[Key]:
        assert "RETURNING time, user_id, device_id, sequence_id" in sql
        return await self._insert(list(zip(*columns, strict=True)))

    async def copy_records_to_table(
        self, table: str, *, records: Iterable[Row], columns: Sequence[str], where: str | None
    ) -> str:
        rows = list(records)
        if table == "iot_batch":
            self._staged = rows
        else:
            self._begin_alone()
            await self.ask(f"copy {len(rows)} rows", lambda: self._copy(rows))
        return f"COPY {len(rows)}"

    async def executemany(self, sql: str, args: Iterable[Sequence[Any]]) -> None:
        statement = _STATEMENTS[" ".join(sql.split())]
        every = list(args)
        await self.ask(f"{statement} x{len(every)}", lambda: self._apply(statement, every))

    # -- the server's side

    async def ask(self, what: str, apply: Any) -> Any:
        """Do something in the transaction that is open, or in one of its own. Any error ends the connection."""
        await self._database.turn(self)
        try:
            return await self._link.call(f"sql {what}", apply)
        except asyncpg.IntegrityConstraintViolationError:
            raise
        except Exception:
            self._link.close()
            raise
        finally:
            if not self._levels:
                self._database.release(self)

    async def begin(self) -> None:
        if not self._levels:
            self._database.on_begin(self._life)
        self._levels.append(({}, []))

    async def end(self, *, keep: bool) -> None:
        """Commit or roll back the innermost level."""
        self._copied = False
        if len(self._levels) > 1:
            rows, effects = self._levels.pop()
            if keep:
                self._levels[-1][0].update(rows)
                self._levels[-1][1].extend(effects)
        elif keep and self._levels:
            rows, effects = self._levels[0]
            try:
                await self.ask("commit", lambda: self._commit(rows, effects))
            finally:
                self._levels.clear()
                self._database.release(self)
        else:
            self._levels.clear()
            self._database.release(self)

    def _begin_alone(self) -> None:
        if not self._levels:
            self._database.on_begin(self._life)

    async def _insert(self, rows: Sequence[Row]) -> list[Key]:
        self._begin_alone()
        new: list[Key] = await self.ask(f"insert {len(rows)} rows", lambda: self._new(rows))
        return new

    def _copy(self, rows: Sequence[Row]) -> None:
        """All rows or none: the first that is there already ends the COPY, wherever in the batch it stands."""
        if len(new := self._unknown(rows)) < len(rows):
            self._database.world.count("violation")
            raise asyncpg.UniqueViolationError('duplicate key value violates unique constraint "raw_telemetry_pkey"')
        self._put(new)
        self._copied = bool(self._levels)

    def _new(self, rows: Sequence[Row]) -> list[Key]:
        new = self._unknown(rows)
        self._put(new)
        return list(new)

    def _unknown(self, rows: Sequence[Row]) -> dict[Key, Row]:
        if any(POISON in row[6] for row in rows):
            raise asyncpg.CheckViolationError("a row violates the check constraint no_poison")
        seen = [self._database.rows, *(level[0] for level in self._levels)]
        return {row[:4]: row for row in reversed(rows) if not any(row[:4] in known for known in seen)}

    def _put(self, rows: dict[Key, Row]) -> None:
        (self._levels[-1][0] if self._levels else self._database.rows).update(rows)

    def _apply(self, statement: Statement, every: Sequence[Sequence[Any]]) -> None:
        for args in every:
            if self._levels:
                self._levels[-1][1].append((statement, args))
            else:
                self._database.carry_out(statement, args)

    def _commit(self, rows: dict[Key, Row], effects: list[tuple[Statement, Sequence[Any]]]) -> None:
        self._database.rows.update(rows)
        for statement, args in effects:
            self._database.carry_out(statement, args)

    def _lost(self) -> None:
        if self._copied:
            self._database.world.count("cut off after a COPY")
        self._database.release(self)


class Transaction:
    """`async with connection.transaction()`, and savepoints within."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def __aenter__(self) -> None:
        await self._connection.begin()

    async def __aexit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self._connection.terminate()
        await self._connection.end(keep=kind is None)
