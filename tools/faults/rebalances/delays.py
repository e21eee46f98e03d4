"""The delays of records after rebalances, and the report of these delays."""

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tools.faults.rebalances.log import Calm


class Late(NamedTuple):
    """The delay of one partition's record in one round: seconds in which a worker could have stored the record."""

    round: int
    partition: int
    seconds: float


def waited(calms: Iterable[Calm], partition: int, sent: float, stored: float) -> float:
    """The seconds between `sent` and `stored` in which a worker had the partition and no rebalance was running."""
    return sum(
        max(0.0, min(calm.end, stored) - max(calm.begin, sent)) for calm in calms if partition in calm.partitions
    )


def report(found: Sequence[Late], within: float) -> tuple[str, int]:
    """(the result as text, the number of rebalances with a late record)."""
    worst: dict[int, float] = {}
    for late in found:
        worst[late.round] = max(worst.get(late.round, 0.0), late.seconds)
    many = sum(seconds > within for seconds in worst.values())
    times = sorted(worst.values())
    return (
        f"{len(times) - many} of {len(times)} rebalances: every partition's last record stored within {within:g} s "
        f"(median {statistics.median(times):.2f}, 99 % {times[int(len(times) * 0.99)]:.2f}, longest {times[-1]:.2f})"
    ), many
