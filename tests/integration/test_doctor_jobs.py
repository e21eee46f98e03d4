"""The doctor on TimescaleDB's jobs: its own where the server has it, else tables of the same names and columns."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.doctor import jobs
from app.doctor.finding import Level
from app.postgres.connect import Connection

pytestmark = pytest.mark.integration

STAND_IN = """
CREATE SCHEMA timescaledb_information;
CREATE TABLE timescaledb_information.jobs (job_id int, proc_name name, hypertable_name name, scheduled boolean);
CREATE TABLE timescaledb_information.job_stats (job_id int, last_run_status text, total_runs bigint,
  total_failures bigint, hypertable_name name);
INSERT INTO timescaledb_information.jobs VALUES (1000, 'policy_compression', 'raw_telemetry', true),
  (1001, 'policy_retention', 'raw_telemetry', true), (1002, 'mine', NULL, false), (1003, 'policy_new', 'x', true),
  (1004, 'policy_once', 'raw_telemetry', true);
INSERT INTO timescaledb_information.job_stats VALUES (1000, 'Failed', 9, 2, 'raw_telemetry'),
  (1001, 'Success', 9, 3, 'raw_telemetry'), (1002, 'Failed', 9, 9, NULL), (1003, NULL, NULL, NULL, 'x'),
  (1004, 'Failed', 9, 1, 'raw_telemetry');
"""
OWN = """
CREATE PROCEDURE breaks(job_id int, config jsonb) LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$;
SELECT add_job('breaks', '1 h');
"""


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


async def test_a_job_that_fails_is_reported(connection: Connection) -> None:
    installed = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')")
    if installed:
        await connection.execute(OWN)
        number = await connection.fetchval("SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'breaks'")
        await run_out(connection, number)
    else:
        assert await jobs.look("database", connection) == []
        await connection.execute(STAND_IN)
        number = 1000
    (found,) = [one for one in await jobs.look("database", connection) if f"job {number} of" in one.what]
    assert found.level is Level.WARNING
    assert "fails: 2 of" in found.what
    assert f"CALL run_job({number})" in found.cure
    if not installed:
        assert len(await jobs.look("database", connection)) == 1, (
            "neither paused, new, well again nor for the first time"
        )
        await connection.execute("UPDATE timescaledb_information.job_stats SET last_run_status = 'Success'")
        (well,) = await jobs.look("database", connection)
        assert (well.level, well.what) == (Level.OK, "4 jobs of TimescaleDB have run, none keeps failing")


async def run_out(connection: Connection, number: int) -> None:
    """Let the job fail twice, the second time at once instead of in five minutes."""
    asked = False
    for _ in range(600):
        failures = await connection.fetchval(
            "SELECT total_failures FROM timescaledb_information.job_stats WHERE job_id = $1", number
        )
        if failures == 2:
            return
        if failures == 1 and not asked:
            await connection.execute(f"SELECT alter_job({number}, next_start => now())")
            asked = True
        await connection.execute("SELECT pg_sleep(0.1)")
    raise TimeoutError(number)
