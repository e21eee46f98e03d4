"""One reading of a watched device: the device is there, and so is its node."""

from app.core.model.records import Reading, Record
from app.core.presence.tracker import PresenceTracker
from app.core.processing.batch_context import BatchContext
from app.core.processing.cached_device import CachedDevice


class PresenceStep:
    """Hands to the tracker the few readings that say something new about presence."""

    def __init__(self, tracker: PresenceTracker) -> None:
        self._tracker = tracker

    def apply(
        self, batch: BatchContext, device: CachedDevice, sensor: bool, record: Record, reading: Reading, at: int
    ) -> None:
        """Note a reading whose record came in `at`, in ms since 1970; `sensor`: the device belongs to a node."""
        presence = device.presence
        if presence is None:
            presence = device.presence = batch.partition.registry.of(device.name, sensor)
        presence.seen = record.offset
        if presence.seen_in == batch.begin:
            if presence.online:
                presence.last_ms = at
                if presence.node is not None:
                    registry = batch.partition.registry
                    self._tracker.on_node_record(batch.output, registry, presence.node, record, at, batch.clock)
        elif at < presence.note_ms and presence.node is None:
            presence.seen_in, presence.seen_at, presence.last_ms = batch.begin, batch.clock, at
        else:
            skew = reading.time.timestamp() - at / 1000
            self._tracker.on_record(batch.output, batch.partition.registry, presence, record, at, batch.clock, skew)
