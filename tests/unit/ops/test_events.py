"""What is used up is read off the database's own words."""

import asyncpg
import pytest

from app.ops import metrics
from app.ops.events import StoreReport
from app.postgres.sqlstate import words


def counted(resource: str) -> float:
    return float(metrics.DB_EXHAUSTED.labels(resource)._value.get())


@pytest.mark.parametrize(
    ("error", "resource"),
    [
        (asyncpg.TooManyConnectionsError("sorry, too many clients already"), "connections"),
        (asyncpg.DiskFullError("could not extend file"), "disk"),
        (asyncpg.OutOfMemoryError("out of memory"), "memory"),
    ],
)
def test_what_is_used_up_is_counted_by_its_name(error: asyncpg.PostgresError, resource: str) -> None:
    before = counted(resource)
    StoreReport().database_failed("writes", "transient", words(error))
    assert counted(resource) == before + 1


def test_other_failures_use_nothing_up() -> None:
    before = {name: counted(name) for name in ("connections", "disk", "memory")}
    StoreReport().database_failed("writes", "transient", words(asyncpg.DeadlockDetectedError("deadlock detected")))
    StoreReport().database_failed("writes", "transient", words(ConnectionRefusedError(111, "refused")))
    assert {name: counted(name) for name in before} == before
