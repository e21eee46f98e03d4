"""The last minutes of each partition: Snapshots in, one after another; out, series for a sparkline."""

from collections import deque

from app.top.model.snapshot import Snapshot

LOOKS = 240  # kept of each


class PartitionHistory:
    """Lag and rows a second of every partition, of the last LOOKS looks."""

    def __init__(self) -> None:
        self._lag: dict[int, deque[float]] = {}
        self._rates: dict[int, deque[float]] = {}

    def add(self, snapshot: Snapshot) -> None:
        """Note a Snapshot; a figure that is not known counts 0."""
        for row in snapshot.partitions:
            self._lag.setdefault(row.partition, deque(maxlen=LOOKS)).append(row.lag or 0.0)
            self._rates.setdefault(row.partition, deque(maxlen=LOOKS)).append(row.rows_per_second or 0.0)

    def lag(self, partition: int) -> list[float]:
        """The lag of a partition in records, the oldest look first."""
        return list(self._lag.get(partition, ()))

    def rates(self, partition: int) -> list[float]:
        """The rows a second of a partition, the oldest look first."""
        return list(self._rates.get(partition, ()))
