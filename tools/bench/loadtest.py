"""Measure the load tester: readings a second of one process on a real Mosquitto, and the check of a million rows.

    python -m tools.bench.loadtest [rate] [connections] [seconds]

CPU seconds are those of this process, which runs nothing else, from the first reading to the last PUBACK.
"""

import asyncio
import sys
import time
from collections.abc import Sequence

import asyncpg
import psutil
import uvloop

from app.cli.load.target import open_files
from app.core.model.times import moment
from app.loadtest.check import RunCheck
from app.loadtest.connection import LoadBroker
from app.loadtest.device import LoadDevice
from app.loadtest.plan import LoadPlan, is_hot, payload, temperature_tenths
from app.loadtest.schedule import Profile, Schedule
from app.loadtest.senders import Senders
from app.loadtest.tracers import Tracer
from app.loadtest.traffic import Traffic
from app.runtime.tracing.tracing import NO_TRACING
from tests import servers
from tests.conftest import INIT_SQL

ROWS, DEVICES = 1_000_000, 5_000
COLUMNS = ["time", "user_id", "device_id", "sequence_id", "temperature", "battery", "extra_data"]


async def sending(rate: float, connections: int, seconds: float) -> None:
    """Measure sending at `rate` over all connections, one reading in a thousand with a traceparent, no subscriber."""
    with servers.mosquitto() as broker:
        plan, traffic = LoadPlan("bench", 1, connections, Schedule(Profile.STEADY, rate, seconds)), Traffic()
        where = LoadBroker(broker.host, broker.port, broker.username, broker.password, None)
        senders = Senders(plan, where, None, traffic, Tracer(plan, NO_TRACING, 0.001))
        began = time.perf_counter()
        await senders.connect(asyncio.Event())
        print(f"connected  {connections:,} in {time.perf_counter() - began:.1f} s")
        used, began = time.process_time(), time.perf_counter()
        await senders.run(Profile.STEADY, asyncio.Event())
        await senders.drain(30, asyncio.Event())
        took, used = time.perf_counter() - began, time.process_time() - used
        await senders.close()
    traffic.taken()
    print(
        f"sent       {traffic.acked:,} acknowledged in {took:.1f} s = {traffic.acked / took:,.0f}/s;"
        f" {1e6 * used / traffic.acked:.1f} us of CPU each = {traffic.acked / used:,.0f} a CPU second"
    )
    for name, times in (("late", traffic.behind), ("PUBACK", traffic.acks)):
        print(f"{name:10} {dict(times.figures())} ms")
    print(f"memory     {psutil.Process().memory_info().rss / 1e6:,.0f} MB")


async def checking() -> None:
    """Measure the check of a million rows, of which one is missing."""
    schedule = Schedule(Profile.STEADY, 20_000, ROWS / 20_000)
    plan = LoadPlan("bench", DEVICES // 10, 10, schedule, start_us=time.time_ns() // 1000 - 60_000_000)
    with servers.postgres() as postgres:
        connection = await asyncpg.connect(postgres.dsn)
        await connection.execute(INIT_SQL.read_text())
        await connection.copy_records_to_table("raw_telemetry", records=rows(plan), columns=COLUMNS)
        await connection.execute(
            "DELETE FROM raw_telemetry WHERE device_id = $1 AND sequence_id = 77", plan.name(DEVICES // 2)
        )
        devices = [
            LoadDevice(plan, number, Traffic(), Tracer(plan, NO_TRACING, 0.0), lambda: 0.0) for number in range(DEVICES)
        ]
        for device in devices:
            device.sent = plan.readings_of(device.number, ROWS)
        before, began = psutil.Process().memory_info().rss, time.perf_counter()
        found = await RunCheck(plan, devices).look(connection)
        took, more = time.perf_counter() - began, psutil.Process().memory_info().rss - before
        await connection.close()
    print(
        f"check      {found.rows:,} rows in {took:.1f} s, {more / 1e6:.0f} MB more; missing {found.missing.count}:"
        f" {found.missing.examples}; altered {found.altered.count}, doubled {found.doubled.count}"
    )


def rows(plan: LoadPlan) -> Sequence[tuple[object, ...]]:
    """The rows that a worker would have stored."""
    found = []
    for number in range(ROWS):
        device, sequence = number % DEVICES, number // DEVICES + 1
        due = plan.due_us(device, sequence)
        extra = payload(device, sequence, due)
        text = "{" + extra[extra.index(b'"load_due_us"') :].decode()
        tenths = temperature_tenths(device, sequence)
        assert (tenths > 800) == is_hot(device, sequence)
        battery = 1 + (sequence + device) % 100
        found.append((moment(due), plan.user(device), plan.name(device), sequence, tenths / 10, battery, text))
    return found


def main() -> None:
    """Run both measurements with the arguments of the command line."""
    asked = [float(one) for one in sys.argv[1:4]]
    rate, connections, seconds = asked + [20_000.0, 5_000.0, 30.0][len(asked) :]
    open_files(int(connections))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(sending(rate, int(connections), seconds))
        runner.run(checking())


if __name__ == "__main__":
    main()
