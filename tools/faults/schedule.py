"""The kinds of faults, their order and their duration, all derived from the seed."""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

LINKS = ("kafka link", "postgres link", "mqtt link")
LINK_FAULTS = ("cut", "stall", "delay", "half-open", "reset")
PROGRAMS = ("worker 1", "worker 2", "bridge", "notifier")
SERVERS = ("Kafka", "PostgreSQL", "Mosquitto")
PROCESS_FAULTS = ("kill -9", "freeze", "restart")
TOPIC, RETENTION = "input topic", "retention"
MADE_ANEW, PARTITIONS_ADDED, GROUP_RESET = "made anew", "partitions added", "group reset"
OFFSETS = (MADE_ANEW, PARTITIONS_ADDED, GROUP_RESET)  # never concurrent: all records must be consumed before
CLOCK = "clock jump"
SESSION_LOST, ID_TAKEN = "session lost", "client id taken"
SLOW, HALF_OPEN, REPEATS = "slow clients", "half-open clients", "repeats"
CLIENT_FAULTS = (SLOW, HALF_OPEN, REPEATS)  # of a gateway's clients, beside the audited sender
DESTINATION = "destination "  # of a sink: killed, frozen, without rights

SHORT, MEDIUM, LONG = (0.2, 2.0), (2.0, 5.0), (7.0, 12.0)  # seconds; LONG is longer than a session timeout
LENGTHS = (SHORT, MEDIUM, LONG)
TOGETHER = 0.1  # share of faults that begin during the fault before


class Kind(NamedTuple):
    """A kind of fault: its target and its action."""

    target: str
    action: str

    def __str__(self) -> str:
        return f"{self.target}: {self.action}"


class Fault(NamedTuple):
    """One fault of `seconds`; `lot` in [0, 1) decides the rest, such as the direction or the jump of a clock."""

    kind: Kind
    seconds: float
    lot: float
    together: bool  # begins during the fault before


def kinds(*, clocks: bool, ways: Sequence[str] = (), sinks: Mapping[str, Sequence[str]] = {}) -> list[Kind]:
    """All kinds of faults for these gateways and for these sinks, whose values are the faults of their destinations;
    `clocks`: with jumps of clocks.
    """
    out = [sink_name(sink) for sink in sinks]
    found = [Kind(link, action) for link in LINKS for action in LINK_FAULTS]
    found += [Kind(name, action) for name in (*PROGRAMS, *ways, *out, *SERVERS) for action in PROCESS_FAULTS]
    found += [Kind(name, CLOCK) for name in (*PROGRAMS, *ways, *out) if clocks]
    found += [Kind(sink_name(sink), f"{DESTINATION}{how}") for sink, hurts in sinks.items() for how in hurts]
    found += [Kind(way, action) for way in ways for action in CLIENT_FAULTS]
    found += [Kind("bridge", SESSION_LOST), Kind("bridge", ID_TAKEN)]
    return [*found, Kind(TOPIC, RETENTION), *(Kind(TOPIC, action) for action in OFFSETS)]


def sink_name(sink: str) -> str:
    """The name of a sink's program, with a prefix because a gateway may have the same name as a sink."""
    return f"sink {sink}"


def schedule(seed: int, count: int, among: Sequence[Kind]) -> list[Fault]:
    """`count` faults; each kind comes once before a kind repeats. Same arguments, same result."""
    chance = random.Random(seed)
    found: list[Fault] = []
    while len(found) < count:
        for kind in chance.sample(among, len(among)):
            low, high = chance.choices(LENGTHS, (6, 3, 1))[0]
            seconds, lot = round(chance.uniform(low, high), 2), chance.random()
            together = chance.random() < TOGETHER and bool(found) and not found[-1].together
            together = together and found[-1].kind.target != kind.target
            together = together and not {kind.action, found[-1].kind.action} & {*OFFSETS}
            found.append(Fault(kind, seconds, lot, together))
    return found[:count]


def groups(faults: Sequence[Fault]) -> list[list[Fault]]:
    """The faults in groups of concurrent faults, in order."""
    found: list[list[Fault]] = []
    for fault in faults:
        if fault.together:
            found[-1].append(fault)
        else:
            found.append([fault])
    return found
