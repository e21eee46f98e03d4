"""What every store promises: run on the fake, on PostgreSQL, as PgBouncer shows it, and with all rows late; staged, and
with COPY straight into the table wherever there are rows.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from app.core.batch.copy_policy import CopyPolicy, PartitionEpoch
from app.core.batch.effects import Effect, Statement, WriteResult
from app.core.model.records import Row
from app.errors import TransientError
from app.ports import Store
from app.postgres.store.store import TimescaleStore
from app.settings import Settings
from tests.fakes import FakeStore

START = datetime(2026, 5, 4, 3, 2, 1, 5, tzinfo=UTC)
EDITED = datetime(2025, 5, 4, tzinfo=UTC)  # of rules that came over MQTT: whole milliseconds
LOG = (0, 1, True)  # their place: partition and offset, and that they were sent on just then
SMALL, LARGE = 5, 1200  # a count on either side of copy_min_rows


def row(sequence: int = 0, **changes: Any) -> Row:
    """A valid row; `changes` by column name."""
    columns: dict[str, Any] = {
        "time": START,
        "user_id": "u1",
        "device_id": "d1",
        "sequence_id": sequence,
        "temperature": 21.5,
        "battery": 80,
        "extra_data": '{"humidity": 41.5}',
    }
    return tuple((columns | changes).values())


class Hopeful(CopyPolicy):
    """Expects no duplicate, whatever came before."""

    def goes_direct(self, origin: PartitionEpoch | None) -> bool:
        return origin is not None


class OfAPartition:
    """A store all of whose rows come from one partition."""

    def __init__(self, store: TimescaleStore) -> None:
        self._store = store

    async def write(
        self, rows: Sequence[Row], effects: Sequence[Effect] = (), origin: PartitionEpoch | None = None
    ) -> WriteResult:
        return await self._store.write(rows, effects, origin or PartitionEpoch(0, 1))


class Subject:
    """A store and a view of what it holds."""

    def __init__(self, store: Store, interrupt: asyncio.Event, database: str | None) -> None:
        self.store, self.interrupt, self._database = store, interrupt, database

    async def ask(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        assert self._database
        connection = await asyncpg.connect(self._database)
        try:
            return [tuple(record) for record in await connection.fetch(query, *args)]
        finally:
            await connection.close()

    async def rows(self) -> list[Row]:
        if isinstance(self.store, FakeStore):
            return sorted(self.store.rows.values(), key=lambda row: row[3])
        return await self.ask("SELECT * FROM raw_telemetry ORDER BY sequence_id")

    async def configs(self) -> dict[str, str]:
        if isinstance(self.store, FakeStore):
            return self.store.configs
        return dict(await self.ask("SELECT user_id, rules::text FROM user_configs"))

    async def maintenance(self) -> dict[str, str]:
        if isinstance(self.store, FakeStore):
            return self.store.maintenance
        return dict(await self.ask("SELECT user_id, maintenance::text FROM user_configs"))

    async def sampling(self) -> dict[str, str]:
        if isinstance(self.store, FakeStore):
            return self.store.sampling
        return dict(await self.ask("SELECT user_id, sampling::text FROM user_configs"))

    async def averages(self) -> list[tuple[Any, ...]]:
        if isinstance(self.store, FakeStore):
            return sorted(self.store.averages.values())
        return await self.ask("SELECT * FROM rolling_averages ORDER BY device_id, window_seconds")

    async def alerts(self) -> list[tuple[Any, ...]]:
        if isinstance(self.store, FakeStore):
            return list(self.store.active_alerts.values())
        return await self.ask("SELECT * FROM active_alerts")

    async def history(self) -> list[tuple[Any, ...]]:
        if isinstance(self.store, FakeStore):
            return [(*key[:2], event[7]) for key, event in self.store.history.items()]
        return await self.ask("SELECT alert_id, status, message FROM alert_history")

    async def statuses(self) -> list[tuple[Any, ...]]:
        if isinstance(self.store, FakeStore):
            return list(self.store.statuses.values())
        return await self.ask("SELECT * FROM device_status")

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Nobody gets at the data."""
        if isinstance(self.store, FakeStore):
            self.store.available.clear()
            yield
            self.store.available.set()
            return
        assert self._database
        server, _, name = self._database.rpartition("/")
        admin = await asyncpg.connect(f"{server}/postgres")
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await admin.close()


@pytest.fixture(
    params=[
        "fake",
        pytest.param("postgres", marks=pytest.mark.integration),
        pytest.param("pgbouncer", marks=pytest.mark.integration),
        pytest.param("late", marks=pytest.mark.integration),
        pytest.param("direct", marks=pytest.mark.integration),
        pytest.param("direct pgbouncer", marks=pytest.mark.integration),
        pytest.param("direct late", marks=pytest.mark.integration),
    ]
)
def place(request: pytest.FixtureRequest) -> tuple[str, str | None]:
    """What kind of store, and its database; not async, because `database` is not."""
    return request.param, None if request.param == "fake" else request.getfixturevalue("database")


@pytest.fixture
async def subject(place: tuple[str, str | None]) -> AsyncIterator[Subject]:
    kind, database = place
    interrupt = asyncio.Event()
    if database is None:
        yield Subject(FakeStore(interrupt), interrupt, None)
        return
    settings = Settings(
        database_url=SecretStr(database),
        database_statement_cache="pgbouncer" not in kind,
        late_after=3600 if "late" in kind else None,
        direct_copy_min_rows=1,
        late_batch_rows=300,
        breaker_reset_min=0.2,
        breaker_reset_max=0.4,
    )
    store = TimescaleStore(settings, interrupt, policy=Hopeful())
    await store.start()
    yield Subject(OfAPartition(store) if "direct" in kind else store, interrupt, database)
    await store.stop()


@pytest.mark.parametrize("count", [SMALL, LARGE])
async def test_counts_what_is_new_and_what_was_there(subject: Subject, count: int) -> None:
    rows = [row(n) for n in range(count)]
    assert await subject.store.write(rows) == WriteResult(count, 0)
    assert await subject.store.write(rows) == WriteResult(0, count)
    assert await subject.store.write([*rows, row(count)]) == WriteResult(1, count)
    assert len(await subject.rows()) == count + 1


@pytest.mark.parametrize("count", [SMALL, LARGE])
async def test_a_row_twice_in_one_write_is_a_duplicate_once(subject: Subject, count: int) -> None:
    rows = [row(n) for n in range(count)]
    assert await subject.store.write([*rows, rows[0], rows[-1]]) == WriteResult(count, 2)


@pytest.mark.parametrize("filler", [0, LARGE])
async def test_of_a_bad_row_and_a_good_one_with_one_key_the_good_one_is_stored(subject: Subject, filler: int) -> None:
    """A row that repeats another's key is no duplicate of a row that was never stored."""
    bad, good = row(7, extra_data='{"a":NaN}'), row(7)
    written = await subject.store.write([*(row(100 + n) for n in range(filler)), bad, good])
    assert (written.rows, written.duplicates) == (filler + 1, 0)
    assert [index for index, _ in written.refused] == [filler]
    assert good in await subject.rows()


@pytest.mark.parametrize("known", [0, 600, LARGE - 1])
async def test_a_row_that_was_there_already_keeps_its_values(subject: Subject, known: int) -> None:
    await subject.store.write([row(known, battery=1)])
    assert await subject.store.write([row(n, battery=2) for n in range(LARGE)]) == WriteResult(LARGE - 1, 1)
    assert [kept[3] for kept in await subject.rows() if kept[5] == 1] == [known]


async def test_nothing_to_write(subject: Subject) -> None:
    assert await subject.store.write([]) == WriteResult()


@pytest.mark.parametrize("filler", [0, LARGE])
async def test_values_are_kept_exactly(subject: Subject, filler: int) -> None:
    rows = [
        row(1, temperature=None, battery=None, extra_data="{}"),
        row(2, temperature=-0.1, battery=-(2**31), extra_data='{"n": 12345678901234567890123}'),
        row(3, time=datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), user_id="ü/😀", device_id="\x01 \\ \t\"'"),
        row(2**63 - 1, temperature=1e308, battery=2**31 - 1),
    ]
    low = row(-(2**63), temperature=math.nan)
    rest = [row(n + 10) for n in range(filler)]
    assert await subject.store.write([low, *rows, *rest]) == WriteResult(5 + filler, 0)
    kept = await subject.rows()
    assert [*kept[1:4], kept[-1]] == rows
    assert kept[0][3] == low[3]
    assert math.isnan(kept[0][4] or 0)


POISON = {
    "sequence beyond int64": row(7, sequence_id=2**63),
    "battery beyond int32": row(7, battery=2**31),
    "battery as text": row(7, battery="90"),
    "NUL in an id": row(7, user_id="a\0b"),
    "lone surrogate in an id": row(7, device_id="\ud800"),
    "null id": row(7, user_id=None),
    "NUL escaped in JSON": row(7, extra_data='{"a":"\\u0000"}'),
    "lone surrogate escaped in JSON": row(7, extra_data='{"a":"\\ud800"}'),
    "NaN in JSON": row(7, extra_data='{"a":NaN}'),
    "number beyond numeric": row(7, extra_data='{"a":1e200000}'),
    "JSON too deep": row(7, extra_data="[" * 20_000 + "]" * 20_000),
    "broken JSON": row(7, extra_data='{"a":'),
}


@pytest.mark.parametrize("count", [SMALL, LARGE])
@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
async def test_a_bad_row_is_refused_alone(subject: Subject, poison: Row, count: int) -> None:
    rows = [row(100 + n) for n in range(count)]
    rows[3] = poison
    written = await subject.store.write(rows)
    assert (written.rows, written.duplicates, [index for index, _ in written.refused]) == (count - 1, 0, [3])
    assert 0 < len(written.refused[0][1]) <= 300
    assert "\n" not in written.refused[0][1]
    assert len(await subject.rows()) == count - 1


async def test_only_bad_rows(subject: Subject) -> None:
    written = await subject.store.write(list(POISON.values()))
    assert [index for index, _ in written.refused] == list(range(len(POISON)))
    assert (written.rows, written.duplicates) == (0, 0)
    assert await subject.rows() == []


async def test_many_bad_rows_and_duplicates_among_thousands(subject: Subject) -> None:
    await subject.store.write([row(n) for n in range(100)])
    rows = [row(n) if n % 5 else row(n, extra_data='{"a":NaN}') for n in range(5000)]
    written = await subject.store.write(rows)
    assert [index for index, _ in written.refused] == list(range(0, 5000, 5))
    assert (written.rows, written.duplicates) == (3920, 80)
    assert len(await subject.rows()) == 4020


async def test_each_of_many_writers_gets_its_own_counts(subject: Subject) -> None:
    await subject.store.write([row(n) for n in range(0, 60, 10)])

    def part(n: int) -> list[Row]:
        rows = [row(n), row(n + 1), row(n + 2)]
        return [*rows, row(n, extra_data="}")] if n == 30 else rows

    answers = await asyncio.gather(*(subject.store.write(part(n)) for n in range(0, 100, 5)))
    for n, written in zip(range(0, 100, 5), answers, strict=True):
        old = 1 if n < 60 and n % 10 == 0 else 0
        assert (written.rows, written.duplicates) == (3 - old, old), n
        assert [index for index, _ in written.refused] == ([3] if n == 30 else [])


async def test_the_same_rows_from_many_writers_are_new_to_one(subject: Subject) -> None:
    rows = [row(n) for n in range(3)]
    answers = await asyncio.gather(*(subject.store.write(rows) for _ in range(12)))
    assert sum(written.rows for written in answers) == 3
    assert all(written.rows + written.duplicates == 3 for written in answers)


def alert(value: float, state: str = "FIRING") -> Effect:
    args = ("u1", "d1", "r1", "id", "warning", "hot", value, 30.0, START, START, state, None, "", None, None)
    return Effect(Statement.UPSERT_ACTIVE_ALERT, args)


async def test_effects_come_with_the_rows_in_order(subject: Subject) -> None:
    gone = Effect(Statement.DELETE_ACTIVE_ALERT, ("u1", "d1", "r1", START, ""))
    config = Effect(Statement.UPSERT_CONFIG, ("u1", '[{"key": "a"}]', None, EDITED, *LOG))
    assert await subject.store.write([row(1)], [alert(31), gone, config, alert(32), alert(33)]) == WriteResult(1, 0)
    assert [kept[6] for kept in await subject.alerts()] == [33.0]
    assert await subject.configs() == {"u1": '[{"key": "a"}]'}
    assert await subject.store.write([], [gone]) == WriteResult()
    assert await subject.alerts() == []


def open_alert(alert_id: str, first: int, last: int, way: str = "") -> Effect:
    times = (START + timedelta(seconds=first), START + timedelta(seconds=last))
    args = ("u1", "d1", "r1", alert_id, "warning", "hot", 31.0, 30.0, *times, "FIRING", None, way, "ann", None)
    return Effect(Statement.UPSERT_ACTIVE_ALERT, args)


def history(alert_id: str, status: str, repeat: int = 0) -> Effect:
    args = (alert_id, status, repeat, "u1", "d1", "r1", "warning", "hot", 31.0, None, START, START, "{}")
    return Effect(Statement.INSERT_HISTORY, args)


async def test_what_comes_too_late_changes_no_open_alert(subject: Subject) -> None:
    """A writer that lost its partition may still commit: it brings nothing back and takes nothing away."""

    async def open_now() -> list[tuple[str, datetime]]:
        return [(kept[3], kept[9]) for kept in await subject.alerts()]

    def gone(first: int) -> Effect:
        return Effect(Statement.DELETE_ACTIVE_ALERT, ("u1", "d1", "r1", START + timedelta(seconds=first), ""))

    later = START + timedelta(seconds=9)
    await subject.store.write([], [history("a", "FIRING"), open_alert("a", 1, 9)])
    assert await subject.store.write([], [open_alert("a", 1, 5), gone(0)]) == WriteResult()
    assert await open_now() == [("a", later)]
    await subject.store.write([], [history("a", "RESOLVED"), gone(1)])
    await subject.store.write([], [open_alert("a", 1, 12)])
    assert await open_now() == []
    twice = [history("b", "FIRING"), history("b", "FIRING"), history("b", "FIRING", 1), open_alert("b", 9, 9)]
    assert await subject.store.write([], twice) == WriteResult()
    assert await subject.store.write([], [open_alert("c", 10, 10), gone(9)]) == WriteResult()
    assert [alert for alert, _ in await open_now()] == ["c"]


async def test_an_alert_that_is_over_keeps_out_none_that_is_open(subject: Subject) -> None:
    """As when a device's clock was set back: what is open is older than what is over."""
    await subject.store.write([], [history("a", "FIRING"), open_alert("a", 8, 9)])
    over = [history("a", "RESOLVED"), history("b", "FIRING"), open_alert("b", 2, 3)]
    for _ in range(2):
        assert await subject.store.write([], over) == WriteResult()
        assert [kept[3] for kept in await subject.alerts()] == ["b"]
    await subject.store.write([], [open_alert("c", 8, 9), history("c", "RESOLVED")])
    gone = Effect(Statement.DELETE_ACTIVE_ALERT, ("u1", "d1", "r1", START + timedelta(seconds=4), ""))
    assert await subject.store.write([], [gone]) == WriteResult()
    assert await subject.alerts() == []


async def test_rules_and_maintenance_leave_each_other_alone(subject: Subject) -> None:
    def config(rules: str | None, maintenance: str | None) -> Effect:
        return Effect(Statement.UPSERT_CONFIG, ("u1", rules, maintenance, EDITED, *LOG))

    await subject.store.write([], [config(None, "[1]")])
    assert (await subject.configs(), await subject.maintenance()) == ({"u1": "[]"}, {"u1": "[1]"})
    await subject.store.write([], [config("[2]", None)])
    await subject.store.write([], [config(None, "[3]"), config("[4]", None)])
    assert (await subject.configs(), await subject.maintenance()) == ({"u1": "[4]"}, {"u1": "[3]"})


async def test_sampling_beside_rules_and_maintenance(subject: Subject) -> None:
    def config(rules: str | None, sampling: str, milliseconds: int = 0) -> Effect:
        edited = EDITED + timedelta(milliseconds=milliseconds)
        return Effect(Statement.UPSERT_SAMPLED_CONFIG, ("u1", rules, None, edited, 0, milliseconds, True, sampling))

    await subject.store.write([], [config(None, '{"cov": []}')])
    assert (await subject.configs(), await subject.sampling()) == ({"u1": "[]"}, {"u1": '{"cov": []}'})
    await subject.store.write([], [Effect(Statement.UPSERT_CONFIG, ("u1", "[1]", "[2]", EDITED, *LOG))])
    assert await subject.sampling() == {"u1": '{"cov": []}'}
    await subject.store.write([], [config("[3]", "{}", 5), config("[4]", '{"cov": [4]}', 4)])
    assert (await subject.configs(), await subject.sampling()) == ({"u1": "[3]"}, {"u1": "{}"})
    assert await subject.maintenance() == {"u1": "[2]"}
    refused = (await subject.store.write([], [config(None, '{"\\u0000": 1}', 9)])).refused_effects
    assert [index for index, _ in refused] == [0]


async def test_the_newest_averages_stay(subject: Subject) -> None:
    def average(seconds: float, count: int, mean: float, device: str = "d1", window: int = 60, way: str = "") -> Effect:
        time = START + timedelta(seconds=seconds)
        args = ("u1", device, "engine.oil", window, time, count, mean, mean - 1, mean + 1.5, way)
        return Effect(Statement.UPSERT_AVERAGE, args)

    batch = [average(1, 2, 20), average(1, 9, 21, window=900), average(0, 1, 1, device="d2")]
    for _ in range(2):  # the batch comes again
        assert await subject.store.write([row(1)], [alert(31), *batch]) in (WriteResult(1), WriteResult(0, 1))
        assert await subject.averages() == [batch[0].args, batch[1].args, batch[2].args]
    # Older; as new, for a late reading counted; as new, before it did: a batch that comes again, or came too late.
    await subject.store.write([], [average(0.5, 1, 99), average(1, 3, 30), average(1, 2, 20)])
    assert (await subject.averages())[0] == average(1, 3, 30).args


async def test_an_older_config_that_comes_again_changes_nothing(subject: Subject) -> None:
    """A configuration's place in the log says whether it is older; where the place says nothing, its arrival does."""

    def config(rules: str, seconds: int, *log: Any) -> Effect:
        return Effect(Statement.UPSERT_CONFIG, ("u1", rules, None, EDITED + timedelta(seconds=seconds), *log))

    for rules, seconds, partition, offset, live, kept in (
        ("[1]", 100, 0, 10, True, "[1]"),
        ("[2]", -500, 0, 11, True, "[2]"),  # the bridge's clock was set back
        ("[1]", 100, 0, 10, True, "[2]"),  # all of it comes again
        ("[2]", -500, 0, 11, True, "[2]"),
        ("[3]", 3600, 0, 12, True, "[3]"),  # the clock is ahead
        ("[4]", 200, 0, 13, True, "[4]"),  # and right again
        ("[5]", 200, 0, 14, True, "[5]"),  # in the same millisecond
        ("[3]", 3600, 0, 12, True, "[5]"),
        ("[3]", 3600, 0, 15, False, "[5]"),  # a replay from the dead-letter topic
        ("[6]", 4000, 0, 16, False, "[6]"),  # a newer one
        ("[7]", 3900, 1, 0, True, "[6]"),  # in another partition: only its time says something
        ("[8]", 4100, 1, 1, True, "[8]"),
        ("[6]", 4000, 0, 16, True, "[8]"),
        ("[9]", 4200, 1, 0, True, "[9]"),  # the topic was made anew
    ):
        assert await subject.store.write([], [config(rules, seconds, partition, offset, live)]) == WriteResult()
        assert await subject.configs() == {"u1": kept}, (rules, seconds)


async def test_an_older_status_changes_nothing(subject: Subject) -> None:
    def status(word: str, seen: datetime) -> Effect:
        return Effect(Statement.UPSERT_STATUS, ("n1", "n1", "n1", word, seen, "{}"))

    await subject.store.write([], [status("online", START)])
    await subject.store.write([], [status("offline", START - timedelta(seconds=1))])
    assert [kept[3] for kept in await subject.statuses()] == ["online"]


async def test_many_events_of_history_at_once(subject: Subject) -> None:
    """One that is stored stays as it is, and so does the first of two that are the same; the rest is stored."""
    await subject.store.write([], [history("a1", "FIRING")])
    many = [history(f"a{n % 7}", status) for n in range(20) for status in ("FIRING", "RESOLVED")]
    changed = [Effect(one.statement, (*one.args[:7], "another text", *one.args[8:])) for one in many]
    for effects in (many, changed):
        assert await subject.store.write([row(1)], effects) in (WriteResult(1, 0), WriteResult(0, 1))
        assert sorted(await subject.history()) == sorted(
            (f"a{n}", status, "hot") for n in range(7) for status in ("FIRING", "RESOLVED")
        )


BAD_EVENTS = {12: ('"\\u0000"', "no JSON"), 7: ("a\0b", "\ud800"), 2: (2**31,)}  # argument -> what no column takes


async def test_bad_events_among_many_are_refused_alone(subject: Subject) -> None:
    many, bad = [history(f"a{n}", "FIRING") for n in range(12)], iter(range(1, 12, 2))
    for at, values in BAD_EVENTS.items():
        for value in values:
            args = many[place := next(bad)].args
            many[place] = Effect(Statement.INSERT_HISTORY, (*args[:at], value, *args[at + 1 :]))
    for rows in (1, 0):  # and again, when all that is good is there
        written = await subject.store.write([row(1)], many)
        assert (written.rows, [index for index, _ in written.refused_effects]) == (rows, [1, 3, 5, 7, 9])
        assert sorted(await subject.history()) == sorted((f"a{n}", "FIRING", "hot") for n in (0, 2, 4, 6, 8, 10, 11))


async def test_what_was_retained_is_taken_where_there_is_nothing(subject: Subject) -> None:
    def config(user: str, sampling: str | None) -> Effect:
        return Effect(Statement.INSERT_CONFIG, (user, "[9]", None, EDITED + timedelta(hours=1), sampling))

    def status(node: str) -> Effect:
        return Effect(Statement.INSERT_STATUS, (node, node, "", "retained", START + timedelta(hours=1), "{}"))

    await subject.store.write([], [Effect(Statement.UPSERT_CONFIG, ("u1", "[1]", None, EDITED, *LOG))])
    await subject.store.write([], [Effect(Statement.UPSERT_STATUS, ("n1", "n1", "", "online", START, "{}"))])
    for _ in range(2):
        effects = [config("u1", None), config("u2", '{"cov": []}'), config("u3", None), status("n1"), status("n2")]
        assert (await subject.store.write([], effects)).refused_effects == ()
        assert await subject.configs() == {"u1": "[1]", "u2": "[9]", "u3": "[9]"}
        assert (await subject.sampling())["u2"] == '{"cov": []}'
        assert [kept[3] for kept in await subject.statuses()] == ["online", "retained"]


async def test_two_ways_are_two_devices(subject: Subject) -> None:
    """Also where rows were written before there were two: rows that a worker names become the other device's."""

    def average(way: str) -> Effect:
        return Effect(Statement.UPSERT_AVERAGE, ("u1", "d1", "t", 60, START, 1, 2.0, 2.0, 2.0, way))

    def presence(way: str, word: str) -> Effect:
        return Effect(Statement.UPSERT_PRESENCE, ("u1/d1", "u1", "d1", word, START, None, way))

    async def found() -> list[list[str]]:
        alerts, averages = await subject.alerts(), await subject.averages()
        return [sorted(row[12] for row in alerts), sorted(row[9] for row in averages)]

    adopt = [
        Effect(Statement.ADOPT_ACTIVE_ALERT, ("u1", "d1", "r1", "a")),
        Effect(Statement.ADOPT_AVERAGES, ("u1", "d1")),
        Effect(Statement.ADOPT_STATUS, ("u1/d1",)),
    ]
    before = [open_alert("a", 1, 9), average(""), presence("", "online")]
    assert (await subject.store.write([], before)).refused_effects == ()
    for _ in range(2):
        assert (await subject.store.write([], adopt)).refused_effects == ()
        assert await found() == [["iot"], ["iot"]]
    assert len(await subject.statuses()) == 1
    assert (
        await subject.store.write([], [open_alert("b", 1, 9), average(""), presence("", "offline")])
    ) == WriteResult()
    assert (await subject.store.write([], adopt)).refused_effects == ()
    assert await found() == [["", "iot"], ["", "iot"]]
    assert sorted(row[3] for row in await subject.statuses()) == ["offline", "online"]
    gone = Effect(Statement.DELETE_ACTIVE_ALERT, ("u1", "d1", "r1", START + timedelta(seconds=9), "iot"))
    await subject.store.write([], [gone])
    assert [row[3] for row in await subject.alerts()] == ["b"]


async def test_a_bad_effect_is_refused_alone(subject: Subject) -> None:
    bad = Effect(Statement.UPSERT_CONFIG, ("u2", '["\\u0000"]', None, EDITED, *LOG))
    written = await subject.store.write(
        [row(1), row(1)], [alert(31), bad, Effect(Statement.UPSERT_CONFIG, ("u3", "[]", None, EDITED, *LOG))]
    )
    assert (written.rows, written.duplicates, written.refused) == (1, 1, ())
    assert [index for index, _ in written.refused_effects] == [1]
    assert await subject.configs() == {"u3": "[]"}
    assert len(await subject.alerts()) == 1


async def test_writers_with_effects_do_not_mix(subject: Subject) -> None:
    def effects(n: int) -> Sequence[Effect]:
        return [Effect(Statement.UPSERT_CONFIG, (f"u{n}", "not JSON" if n == 4 else "[]", None, EDITED, *LOG))]

    answers = await asyncio.gather(*(subject.store.write([row(n)], effects(n)) for n in range(10)))
    assert [written.rows for written in answers] == [1] * 10
    assert [len(written.refused_effects) for written in answers] == [int(n == 4) for n in range(10)]
    assert set(await subject.configs()) == {f"u{n}" for n in range(10) if n != 4}


async def test_an_outage_is_waited_out(subject: Subject) -> None:
    await subject.store.write([row(0)])
    async with subject.outage():
        writes = [asyncio.create_task(subject.store.write([row(n), row(n + 1)])) for n in range(0, 20, 2)]
        await asyncio.sleep(0.5)
        assert not any(write.done() for write in writes)
    answers = await asyncio.wait_for(asyncio.gather(*writes), 20)
    assert sum(written.rows for written in answers) == 19
    assert len(await subject.rows()) == 20


async def test_give_up_ends_the_wait_and_stores_nothing(subject: Subject) -> None:
    await subject.store.write([row(0)])
    async with subject.outage():
        writes = [asyncio.create_task(subject.store.write([row(n)])) for n in range(1, 10)]
        await asyncio.sleep(0.3)
        subject.interrupt.set()
        answers = await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 10)
        assert all(isinstance(answer, TransientError) for answer in answers)
        subject.interrupt.clear()
    assert len(await subject.rows()) == 1
    assert await asyncio.wait_for(subject.store.write([row(1)]), 20) == WriteResult(1, 0)
