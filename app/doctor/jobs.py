"""TimescaleDB's own jobs: they compress, aggregate and remove in the background, and fail without a sound."""

from app.doctor.finding import Finding, ok, warning
from app.postgres.connect import Connection

_THERE = "SELECT to_regclass('timescaledb_information.job_stats') IS NOT NULL"
_JOBS = """SELECT job.job_id, job.proc_name, job.hypertable_name AS relation, done.last_run_status AS outcome,
    done.total_runs AS runs, done.total_failures AS failures
    FROM timescaledb_information.jobs job JOIN timescaledb_information.job_stats done USING (job_id)
    WHERE job.scheduled AND done.last_run_status IS NOT NULL ORDER BY 1"""
# Once may be for want of a free background worker; the next run is well then.
FAILURES = 2


async def look(area: str, connection: Connection) -> list[Finding]:
    """A warning for each job whose last run failed, and not for the first time; nothing without TimescaleDB. `area` is
    that of the findings. Raises DATABASE_ERRORS.
    """
    if not await connection.fetchval(_THERE):
        return []
    jobs = await connection.fetch(_JOBS)
    failing = [job for job in jobs if job["outcome"] == "Failed" and job["failures"] >= FAILURES]
    if not failing:
        return [ok(area, f"{len(jobs)} jobs of TimescaleDB have run, none keeps failing")]
    return [
        warning(
            area,
            f"the job {job['job_id']} of TimescaleDB, {job['proc_name']} on {job['relation'] or 'no table'}, fails:"
            f" {job['failures']} of {job['runs']} runs",
            "its owner finds the reason in timescaledb_information.job_errors and in the server's log;"
            f" CALL run_job({job['job_id']}) does its work until that is mended",
        )
        for job in failing
    ]
