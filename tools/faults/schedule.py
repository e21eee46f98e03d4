"""Which faults come, in which order and for how long: all of it follows from the seed."""

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
OFFSETS = (MADE_ANEW, PARTITIONS_ADDED, GROUP_RESET)  # each comes alone: everything has to be read before
CLOCK = "clock jump"
SESSION_LOST, ID_TAKEN = "session lost", "client id taken"
SLOW, HALF_OPEN, REPEATS = "slow clients", "half-open clients", "repeats"
CLIENT_FAULTS = (SLOW, HALF_OPEN, REPEATS)  # of a gateway's clients, beside the one that keeps accounts
DESTINATION = "destination "  # killed, frozen, without rights: of a sink

SHORT, MEDIUM, LONG = (0.2, 2.0), (2.0, 5.0), (7.0, 12.0)  # seconds; the last is longer than a session timeout
LENGTHS = (SHORT, MEDIUM, LONG)
TOGETHER = 0.1  # share of faults that come while the one before is on


class Kind(NamedTuple):
    """What is done to whom."""

    target: str
    action: str

    def __str__(self) -> str:
        return f"{self.target}: {self.action}"


class Fault(NamedTuple):
    """One fault: it is on for `seconds`; `lot` in [0, 1) decides the rest (which direction, how far a clock jumps)."""

    kind: Kind
    seconds: float
    lot: float
    together: bool  # begins while the one before is on


def kinds(*, clocks: bool, ways: Sequence[str] = (), sinks: Mapping[str, Sequence[str]] = {}) -> list[Kind]:
    """All there are, with these gateways, and these sinks with how their destinations can be hurt; clocks jump only
    where libfaketime is installed.
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
    """What a sink's program is called: a gateway may be called as the sink is."""
    return f"sink {sink}"


def schedule(seed: int, count: int, among: Sequence[Kind]) -> list[Fault]:
    """`count` faults; each kind comes once before any comes again. Same arguments, same result."""
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
    """The faults that are on at the same time, in order."""
    found: list[list[Fault]] = []
    for fault in faults:
        if fault.together:
            found[-1].append(fault)
        else:
            found.append([fault])
    return found
