"""The Kafka clients of a sink: its consumer group, its dead letters, its series."""

import asyncio
from typing import NamedTuple

from app.kafka.access import access
from app.settings import Settings
from app.sinks.cardinality.series_log import SeriesLog
from app.sinks.running.consumer import SinkConsumer
from app.sinks.running.refusals import SinkDeadLetters


class SinkKafka(NamedTuple):
    """The Kafka clients of a runner."""

    consumer: SinkConsumer
    letters: SinkDeadLetters
    series: SeriesLog


def sink_kafka(settings: Settings, sink: str, stop: asyncio.Event) -> SinkKafka:
    """The clients of the sink with this name, not connected. Raises ValueError for invalid TLS files."""
    kafka, consumer = access(settings), SinkConsumer(settings, sink, stop)
    letters = SinkDeadLetters(settings, kafka, sink, stop, consumer.lease)
    return SinkKafka(consumer, letters, SeriesLog(settings, kafka, sink, stop))
