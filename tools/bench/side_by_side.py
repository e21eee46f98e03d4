"""Two concurrent workers that drain the same topic, each into its own database; the ratio of their CPU.

On a machine whose speed changes from minute to minute, consecutive runs differ by a third, which hides any smaller
difference. Concurrent runs see the same speed: the ratio of two equal workers is 1 within 3 %.
"""

import asyncio
import math
import statistics
from argparse import Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import asyncpg
from pydantic import SecretStr

from app.kafka import topics
from app.kafka.access import Access
from app.local.servers.common import free_port
from app.settings import Settings
from tools.bench.end_to_end import CHECKOUT, Result, empty, prepare, run_worker


class Contender(NamedTuple):
    """A worker to be measured: its name, its environment variables and the checkout of its code."""

    name: str
    more: Mapping[str, str] = {}
    checkout: Path = CHECKOUT


class Pair(NamedTuple):
    """The results of two concurrent workers."""

    base: Result
    other: Result

    @property
    def ratio(self) -> float:
        """CPU seconds per million rows of `other`, divided by those of `base`."""
        return self.other.cpu / self.base.cpu


class SideBySide:
    """Runs of two workers on one Kafka and one PostgreSQL, whose input topic is filled."""

    def __init__(self, base: Settings, options: Namespace, home: str) -> None:
        """`base`: the settings of a worker of `end_to_end.filled`; `options`: those of `end_to_end.parser`."""
        self._base, self._options, self._home = base, options, home
        first = base.database_url.get_secret_value()
        self._databases = (first, asyncio.run(_second(first)))
        self._runs = 0

    def run(self, one: Contender, two: Contender) -> Pair:
        """Run both workers at once, each from the start of the topic into an empty table.

        Raises the errors of `run_worker`.
        """
        self._runs += 1
        turn = self._runs % 2  # the contenders take turns in the databases and in starting first
        sides = [(one, 0), (two, 1)]
        with ThreadPoolExecutor(2) as pool:
            began = {}
            for contender, number in sides[::-1] if turn else sides:
                settings = self._settings(contender, self._databases[(number + turn) % 2])
                began[number] = pool.submit(
                    run_worker, settings, self._options, self._home, contender.more, checkout=contender.checkout
                )
            return Pair(began[0].result(), began[1].result())

    def _settings(self, contender: Contender, database: str) -> Settings:
        asyncio.run(empty(database))
        update = {
            "app": f"n{self._runs}-{contender.name}",
            "database_url": SecretStr(database),
            "metrics_port": free_port(),
        }
        settings = self._base.model_copy(update=update)
        asyncio.run(topics.create(Access(settings.kafka_broker), topics.wanted(settings), 1))
        return settings


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median ratio, from order statistics; at least six ratios are needed.

    The number of n independent ratios that are below the true median has a binomial distribution with p = 1/2.
    """
    count, ordered = len(ratios), sorted(ratios)
    left_out, below = 0, 1 / 2**count
    while left_out < (count - 1) // 2 and 2 * below <= 0.05:
        left_out += 1
        below += math.comb(count, left_out) / 2**count
    left_out = max(0, left_out - 1)
    return ordered[left_out], ordered[-1 - left_out]


def words(ratios: Sequence[float]) -> str:
    """The median of the ratios and its confidence interval, as text."""
    low, high = interval(ratios)
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


async def _second(database: str) -> str:
    """Create a second database on the same server, prepared like the first; its URL."""
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE DATABASE beside")
    await connection.close()
    beside = f"{database.rpartition('/')[0]}/beside"
    await prepare(beside)
    return beside
