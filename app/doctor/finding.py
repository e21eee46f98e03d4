"""A finding: how bad it is, what was found, and what to do about it."""

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple


class Level(IntEnum):
    """How bad; the value is the exit code."""

    OK = 0
    WARNING = 1
    BROKEN = 2


class Finding(NamedTuple):
    """One line of the report. `cure` is empty where nothing has to be done."""

    level: Level
    area: str  # kafka, dead letters, database, mqtt, worker, bridge, notifier, gateway, sink, count
    what: str
    cure: str = ""


def ok(area: str, what: str) -> Finding:
    """A finding that all is well."""
    return Finding(Level.OK, area, what)


def warning(area: str, what: str, cure: str) -> Finding:
    """A finding that a part works, and an operator should look."""
    return Finding(Level.WARNING, area, what, cure)


def broken(area: str, what: str, cure: str) -> Finding:
    """A finding that a part does not work, or a promise is not kept."""
    return Finding(Level.BROKEN, area, what, cure)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level of all findings; OK without findings."""
    return max((finding.level for finding in findings), default=Level.OK)
