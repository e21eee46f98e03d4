"""How far the partitions are read: in, the consumer; out, a LogPosition of each partition whose states may be read."""

from collections.abc import Mapping

from app.core.sweeper.watermark import LogPosition
from app.kafka.fetch.fetcher import partition_state
from app.stream.transport import BatchConsumer


def log_positions(consumer: BatchConsumer) -> Mapping[int, LogPosition]:
    """{partition: LogPosition}; empty while a rebalance or a recovery is under way."""
    app = consumer.app
    if not consumer.flow_active or app.rebalancing or not app.tables.actives_ready:
        return {}
    found = {}
    for tp, start in consumer.flight.start.items():
        state = partition_state(consumer.client, tp)
        if state is None:  # the partition was taken away this moment
            return {}
        at = state.timestamp
        found[tp.partition] = LogPosition(consumer.flight.epoch, start, state.highwater, at and at / 1000)
    return found
