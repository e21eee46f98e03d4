"""`python -m tools.faults.neighbours`: accounts that misbehave beside one honest user; real servers, real programs.

Exit code 0 when all readings of the honest user are stored and all alerts are sent, 99 % of the alerts within 2 s;
otherwise exit code 1.
"""

import argparse
import asyncio
import json
import math
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
from msgspec import Struct

from app.local.servers.mosquitto import Mosquitto
from tests import servers
from tests.conftest import INIT_SQL
from tests.integration.bridges import Publisher
from tests.integration.test_notifier import listening
from tests.workers import Running, Site
from tools.faults.misbehaviour import Account

HONEST = "honest"
RULES: list[dict[str, object]] = [
    {"key": "temperature", "operator": ">", "threshold": 80, "clear_threshold": 75, "message": "hot"}
]
ALERT_EVERY = 1.5  # seconds: 40 alerts a minute, below the user's budget
READINGS = 10  # readings between two alerts
SLOWEST = 2.0  # seconds, the limit for 99 % of the honest user's alerts
WAIT = 60.0  # seconds for the last readings and alerts


class Outcome(Struct):
    """The figures of the honest user and of the other accounts."""

    readings: int
    stored: int
    alerts: int
    reported: int
    seconds: list[float]  # from a reading to its alert
    messages: int  # messages of the other accounts
    ended: list[str]  # programs that ended by themselves

    @property
    def lost(self) -> bool:
        """Whether a reading or an alert of the honest user is missing, or a program ended."""
        return self.stored < self.readings or self.reported < self.alerts or bool(self.ended)

    def slowest(self, share: float) -> float:
        """The seconds within which this share of the alerts was sent."""
        times = sorted(self.seconds)
        return times[min(len(times) - 1, math.ceil(share * len(times)) - 1)] if times else math.inf


@asynccontextmanager
async def place(accounts: Sequence[str], directory: Path) -> AsyncIterator[tuple[Site, Mosquitto]]:
    """Servers with the accounts, and topics; each user has a rule."""
    with ExitStack() as stack:
        kafka = stack.enter_context(servers.kafka())
        postgres = stack.enter_context(servers.postgres())
        broker = Mosquitto(directory / "mosquitto", accounts=[HONEST, *accounts])
        stack.callback(broker.stop)
        await asyncio.to_thread(broker.start)
        await asyncio.to_thread(broker.wait_ready)
        site = Site(kafka.bootstrap, postgres.dsn, broker, HONEST, directory, {"bridge_share": "-"})
        connection = await asyncpg.connect(postgres.dsn)
        await connection.execute(INIT_SQL.read_text())
        rows = [(name, json.dumps(RULES)) for name in accounts]
        await connection.executemany("INSERT INTO user_configs (user_id, rules) VALUES ($1, $2)", rows)
        await connection.close()
        await site.prepare(RULES)
        yield site, broker


class Honest:
    """Sends readings of one device and keeps the time at which each alert is caused."""

    def __init__(self) -> None:
        self.readings = 0
        self.due: list[float] = []  # times of time.time

    async def run(self, broker: Mosquitto, until: float) -> None:
        """Send readings until a time of time.monotonic."""
        reader, writer = await asyncio.open_connection(broker.host, broker.port)
        try:
            publisher = Publisher(reader, writer)
            await publisher.connect(broker, "honest-1")
            while time.monotonic() < until:
                hot = len(self.due) % 2 == 0
                for number in range(READINGS):
                    now = time.time()
                    if not number:
                        self.due.append(now)
                    body = {"sequence_id": self.readings, "timestamp": now, "temperature": 95 if hot else 20}
                    topic = f"users/{HONEST}/devices/honest-1/telemetry"
                    await publisher.publish([(topic, json.dumps(body).encode())])
                    self.readings += 1
                    await asyncio.sleep(ALERT_EVERY / READINGS)
        finally:
            writer.close()


async def run(accounts: int, seconds: float, seed: int) -> Outcome:
    """Run a number of misbehaving accounts for some seconds."""
    names = [f"account-{number}" for number in range(accounts)]
    with servers.server_directory() as home:
        async with place(names, home) as (site, broker), AsyncExitStack() as stack:
            heard = await stack.enter_async_context(listening(broker, HONEST))
            programs = [stack.enter_context(site.program(kind)) for kind in ("worker", "notifier", "bridge")]
            for program in programs:
                await program.ready(120)
            ports = [_port(program) for program in programs]
            rest = [Account(broker, name, broker.password_of(name), ports, seed + n) for n, name in enumerate(names)]
            until, honest = time.monotonic() + seconds, Honest()
            arrived: list[float] = []
            watch = asyncio.create_task(_watch(heard, arrived))
            await asyncio.gather(honest.run(broker, until), *[other.run(until) for other in rest])
            stored = await _settled(site, honest, arrived)
            watch.cancel()
            return Outcome(
                readings=honest.readings,
                stored=stored,
                alerts=len(honest.due),
                reported=len(arrived),
                seconds=[at - due for at, due in zip(arrived, honest.due, strict=False)],
                messages=sum(other.sent for other in rest),
                ended=[f"{program.name}:\n{program.tail(5)}" for program in programs if not program.alive],
            )


def _port(program: Running) -> int:
    (started,) = (program.events(f"{program.name}_started") or program.events(f"{program.name}_starting"))[-1:]
    return int(started["metrics_port"])


async def _watch(heard: Sequence[object], arrived: list[float]) -> None:
    """Note the arrival time of each alert; the alerts of a device arrive in order."""
    while True:
        while len(arrived) < len(heard):
            arrived.append(time.time())
        await asyncio.sleep(0.005)


async def _settled(site: Site, honest: Honest, arrived: Sequence[float]) -> int:
    """Wait for all rows and alerts of the honest user, or for WAIT seconds; the number of rows."""
    deadline = time.monotonic() + WAIT
    while True:
        ((rows,),) = await site.fetch("SELECT count(*) FROM raw_telemetry WHERE user_id = $1", HONEST)
        if (rows >= honest.readings and len(arrived) >= len(honest.due)) or time.monotonic() > deadline:
            return int(rows)
        await asyncio.sleep(0.5)


def main() -> None:
    """Run once and print the figures."""
    parser = argparse.ArgumentParser("python -m tools.faults.neighbours", description=__doc__)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="the same seed gives the same misbehaviour (default: random)")
    options = parser.parse_args()
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    found = asyncio.run(run(options.accounts, options.minutes * 60, seed))
    print(f"seed {seed}: {options.accounts} accounts sent {found.messages:,} messages in {options.minutes:g} minutes")
    print(
        f"the honest user: {found.stored} of {found.readings} readings stored,"
        f" {found.reported} of {found.alerts} alerts sent"
    )
    times = ", ".join(f"{share:.0%} within {found.slowest(share):.3f} s" for share in (0.5, 0.99, 1.0))
    print(f"alerts of the honest user: {times}")
    for one in found.ended:
        print(f"ended by itself: {one}")
    sys.exit(found.lost or found.slowest(0.99) > SLOWEST)


if __name__ == "__main__":
    main()
