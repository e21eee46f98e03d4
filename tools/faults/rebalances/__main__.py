"""`python -m tools.faults.rebalances --times 500`: the delay of a partition's last record after a rebalance.

Two workers. A member is removed from the group, in every other round a second member, possibly during the first
rebalance. During the rebalance every partition gets one record and no further record: only the end of the rebalance
makes a worker consume the record. A record is late when, between its send and its visible row, a worker had the
partition without a rebalance for more than `--within` seconds in all; thus a record that is stored only after a second
rebalance is late, too. Exit code 1 when a record was late.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from tests.conftest import INIT_SQL
from tests.servers import GivenMqtt, kafka, postgres, server_directory
from tests.workers import Running, Site
from tools.faults.load import RULES
from tools.faults.rebalances.delays import report
from tools.faults.rebalances.rounds import LONGEST, rebalances

WITHIN = 1.0


@asynccontextmanager
async def _scene(directory: Path) -> AsyncIterator[tuple[Site, list[Running]]]:
    with kafka() as broker, postgres() as server, ExitStack() as stack:
        for dsn, sql in (
            (server.dsn, "CREATE DATABASE rebalances"),
            (server.dsn_of("rebalances"), INIT_SQL.read_text()),
        ):
            connection = await asyncpg.connect(dsn)
            await connection.execute(sql)
            await connection.close()
        nobody = GivenMqtt("127.0.0.1", 1883, "", "")
        site = Site(broker.bootstrap, server.dsn_of("rebalances"), nobody, "rebalances", directory)
        await site.prepare(RULES)
        workers = [stack.enter_context(site.program("worker", name)) for name in ("one", "two")]
        for worker in workers:
            await worker.ready(LONGEST)
        yield site, workers


async def _measure(directory: Path, options: Any) -> int:
    async with _scene(directory) as (site, workers):
        found = await rebalances(site, workers, options.times, options.seed, tell=True)
    said, late = report(found, options.within)
    print(said)
    return 1 if late else 0


def main() -> None:
    """Run with the options of the command line; see the module's docstring."""
    parser = argparse.ArgumentParser("python -m tools.faults.rebalances", description=__doc__)
    parser.add_argument("--times", type=int, default=500, help="number of rebalances")
    parser.add_argument("--within", type=float, default=WITHIN, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a directory for the workers' logs")
    options = parser.parse_args()
    with server_directory() as directory:
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
        sys.exit(asyncio.run(_measure(options.keep or directory, options)))


if __name__ == "__main__":
    main()
