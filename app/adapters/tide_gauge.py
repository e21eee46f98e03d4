"""How far the partitions are read: in, the consumer; out, a Tide of each whose states may be read now."""

from collections.abc import Mapping

from aiokafka.errors import IllegalStateError
from aiokafka.structs import TopicPartition

from app.adapters.transport import BatchConsumer
from app.core.tides import Tide


def tides(consumer: BatchConsumer) -> Mapping[int, Tide]:
    """{partition: Tide}; empty while a rebalance or a recovery is under way."""
    app = consumer.app
    if not consumer.flow_active or app.rebalancing or not app.tables.actives_ready:
        return {}
    found = {}
    for tp, start in consumer.flight.start.items():
        kafka = consumer._thread._consumer
        raw = TopicPartition(tp.topic, tp.partition)
        try:
            told, end = kafka.last_poll_timestamp(raw), kafka.highwater(raw)
        except IllegalStateError:  # taken away this moment
            return {}
        found[tp.partition] = Tide(consumer.flight.epoch, start, end, told and told / 1000)
    return found
