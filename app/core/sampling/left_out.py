"""Readings that are no row: which of them change of value left out, and which of them it would have kept.

Pure. A worker's decision hangs on what it stored last and on the configuration of that moment; this module
takes the records at hand and the configuration of now instead. So a reading that does not fit is lost only where the
configuration is older than the record.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from app.core.model.arrival import said_ms
from app.core.model.namespaces import FLEET
from app.core.model.records import Reading, Record
from app.core.model.times import micros
from app.core.sampling.change_of_value import Policy, StoredChain

SETTLED_SECONDS = 60.0  # by then every worker goes by a change of the configuration
DEVICES_MAX = 200_000  # devices with change of value whose last row is known, about 100 MB
PolicyOf = Callable[[str, str], Policy | None]  # of a user's device


class AbsentReading(Enum):
    """What a reading that is no row is."""

    LEFT_OUT = "left out"  # change of value leaves it out
    DOUBTFUL = "doubtful"  # change of value would keep it as it is set now, and may have been set otherwise then
    LOST = "lost"


class StoredReadings:
    """The rows of devices with change of value, as far as they were seen: readings in the order of their logs."""

    def __init__(self, policy_of: PolicyOf, since: Mapping[str, float], devices_max: int = DEVICES_MAX) -> None:
        """`since`: when the configuration of each user was last changed, seconds since 1970. Of more than `devices_max`
        devices those that were seen longest ago are forgotten: what is absent of them next counts as left out.
        """
        self._policy_of, self._since, self._most = policy_of, since, devices_max
        self._chains: dict[tuple[str, str], StoredChain] = {}

    def stored(self, reading: Reading) -> None:
        """Note a reading that is a row."""
        policy = self._policy_of(reading.user_id, reading.device_id)
        if policy is not None:
            self._chain(reading).must_store(reading, micros(reading.time), policy, must=True)

    def absent(self, record: Record, reading: Reading, now_ms: int) -> AbsentReading:
        """What a reading is that is no row; `now_ms`, milliseconds since 1970, bounds what counts as a time of arrival
        of its record.
        """
        policy = self._policy_of(reading.user_id, reading.device_id)
        if policy is None:
            return AbsentReading.LOST
        if _within(self._chain(reading), reading, policy):
            return AbsentReading.LEFT_OUT
        changed = max(self._since.get(reading.user_id, 0.0), self._since.get(FLEET, 0.0))
        settled = changed + SETTLED_SECONDS
        return AbsentReading.DOUBTFUL if (said_ms(record, now_ms) or 0) / 1000 < settled else AbsentReading.LOST

    def _chain(self, reading: Reading) -> StoredChain:
        chains, name = self._chains, (reading.user_id, reading.device_id)
        chain = chains.pop(name, None) or StoredChain(0)
        if len(chains) >= self._most:
            del chains[next(iter(chains))]
        chains[name] = chain
        return chain


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

    `absent` are the offsets of records that are no row; `since` and `now_ms` as in StoredReadings. An absent record in
    neither set is lost.
    """
    found, rows = Absent(set(), set()), StoredReadings(policy_of, since)
    for record, reading in readings:
        if record.offset not in absent:
            rows.stored(reading)
            continue
        match rows.absent(record, reading, now_ms):
            case AbsentReading.LEFT_OUT:
                found.left_out.add(record.offset)
            case AbsentReading.DOUBTFUL:
                found.doubtful.add(record.offset)
            case AbsentReading.LOST:
                pass
    return found


def _within(chain: StoredChain, reading: Reading, policy: Policy) -> bool:
    """Whether the reading adds nothing to the last stored reading; True while no stored reading is known."""
    if chain.time is None:
        return True
    tried = StoredChain(0, chain.time, dict(chain.values))
    return not tried.must_store(reading, micros(reading.time), policy)
