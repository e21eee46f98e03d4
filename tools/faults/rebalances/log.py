"""The log of a worker in; out, its rebalances and the times between them."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from tests.workers import Running


class Calm(NamedTuple):
    """The time between two rebalances at one worker, which has these partitions."""

    begin: float  # Unix seconds
    end: float  # infinity until the next rebalance begins
    partitions: Sequence[int]


class Log:
    """The rebalances in a worker's log; each read continues after the last."""

    def __init__(self, worker: Running) -> None:
        self._worker, self._read = worker, 0
        self.begun = 0
        self.calm = False
        self.partitions: Sequence[int] = ()  # the assignment since the last rebalance
        self.calms: list[Calm] = []

    def look(self) -> None:
        """Read the new lines of the log. Fails when the worker has ended."""
        assert self._worker.alive, f"{self._worker.name} ended by itself:\n{self._worker.tail()}"
        with self._worker.log.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        for line in new[:whole].splitlines():
            if b'"event": "rebalance_begins"' in line:
                self.begun, self.calm = self.begun + 1, False
                if self.calms:
                    self.calms[-1] = self.calms[-1]._replace(end=min(self.calms[-1].end, _at(_read(line))))
            elif b'"event": "rebalance_ended"' in line:
                entry = _read(line)
                self.calm, self.partitions = True, entry["partitions"]
                self.calms.append(Calm(_at(entry), math.inf, self.partitions))


def _read(line: bytes) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(line[line.find(b"{") :]))


def _at(entry: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp()
