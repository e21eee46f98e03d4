"""Readings that are no row: which of them change of value left out, and which of them it would have kept.

Pure. A worker's decision hangs on what it stored last and on the configuration of that moment; this module
takes the records at hand and the configuration of now instead. So a reading that does not fit is lost only where the
configuration is older than the record.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from app.core.model.arrival import said_ms
from app.core.model.records import Reading
from app.core.model.times import micros
from app.core.sampling.change_of_value import Policy, StoredChain

SETTLED_SECONDS = 60.0  # by then every worker goes by a change of the configuration
PolicyOf = Callable[[str, str], Policy | None]  # of a user's device


class Absent(NamedTuple):
    """Offsets of records that are no row."""

    left_out: set[int]  # change of value leaves them out
    doubtful: set[int]  # change of value would keep them as it is set now, and may have been set otherwise then


def judge(
    readings: Sequence[tuple[Any, Reading]],
    absent: Collection[int],
    policy_of: PolicyOf,
    since: Mapping[str, float],
    now_ms: int,
) -> Absent:
    """Take the readings of a partition, (record, reading) in the order of its log; offsets out.

    `absent` are the offsets of records that are no row, `since` when each user's configuration was last changed,
    seconds since 1970; `now_ms`, milliseconds since 1970, bounds what counts as a time of arrival. An absent record in
    neither set is lost.
    """
    found, chains = Absent(set(), set()), dict[tuple[str, str], StoredChain]()
    for record, reading in readings:
        name = (reading.user_id, reading.device_id)
        policy = policy_of(*name)
        if policy is None:
            continue
        chain = chains.setdefault(name, StoredChain(0))
        if record.offset not in absent:
            chain.must_store(reading, micros(reading.time), policy, must=True)
        elif _within(chain, reading, policy):
            found.left_out.add(record.offset)
        elif (said_ms(record, now_ms) or 0) / 1000 < since[reading.user_id] + SETTLED_SECONDS:
            found.doubtful.add(record.offset)
    return found


def _within(chain: StoredChain, reading: Reading, policy: Policy) -> bool:
    """Whether the reading adds nothing to the last stored reading; True while no stored reading is known."""
    if chain.time is None:
        return True
    tried = StoredChain(0, chain.time, dict(chain.values))
    return not tried.must_store(reading, micros(reading.time), policy)
