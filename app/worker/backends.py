"""What a worker talks to: Kafka, the database and Faust's state table. Nothing connects before the worker starts."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from app.core.processing.device_cache import Home
from app.kafka.access import Access
from app.kafka.dead_letter_reader import DeadLetterTail
from app.kafka.messages import key_partition
from app.kafka.producer import Producer
from app.kafka.record_times import record_times
from app.kafka.session_lease import SessionLease
from app.kafka.topic_ids import TopicIds
from app.ops.events import RebalanceReport, StateReport, StoreReport, TransportReport, WriteReport
from app.postgres.operator_advice import Advice
from app.postgres.store.store import TimescaleStore
from app.runtime.flushes import Flushes
from app.runtime.tracing.tracing import NO_TRACING, Tracing
from app.settings import Settings
from app.stream.batches import BatchLimits
from app.stream.log_book import Ids, LogBook
from app.stream.rebalance.sensor import RebalanceSensor
from app.stream.transport import BatchConsumer, BatchTransport
from app.tables.device_table import FaustStates
from app.tables.events import StateEvents
from app.worker.lifecycle import WorkerApp


@dataclass(frozen=True, slots=True)
class Backends:
    """What a worker talks to: real, or that of the simulation; the parts of a worker (app.worker.parts) do not know
    which.
    """

    interrupt: asyncio.Event  # set by a rebalance or a stop: nobody waits for an outage any more
    lease: SessionLease
    producer: Producer
    best_effort: Producer  # for messages that nobody waits for: closed when Kafka does not answer soon
    dead_letter_tail: DeadLetterTail
    topic_ids: Ids
    logs: LogBook
    states: FaustStates
    state_events: StateEvents
    store: TimescaleStore
    advice: Advice
    consumer: Callable[[], BatchConsumer]  # there is none before the worker starts
    home: Home | None
    flushes: Flushes = field(default_factory=Flushes)  # transactions of the store


def build_backends(settings: Settings, app: WorkerApp, kafka: Access, tracing: Tracing = NO_TRACING) -> Backends:
    """The real backends, not yet connected; gives `app` its transport, which must come before the first agent: that
    builds stock Faust's. Raises ValueError when TLS files of the settings cannot be used.
    """
    interrupt = asyncio.Event()
    lease = SessionLease(settings.kafka_session_timeout, interrupt)
    producer = Producer(kafka, f"{settings.group_id}-out", interrupt, WriteReport(), lease)
    state_report = StateReport()
    states = FaustStates(app, settings.kafka_partitions, producer, state_report)
    topic_ids, report = TopicIds(kafka), TransportReport()
    times = partial(record_times, kafka)
    logs = LogBook(settings.kafka_topic, report, topic_ids, times, states.get, states.items)
    app.transport = BatchTransport(app, _batch_limits(settings), report, lease, logs)
    app.sensors.add(RebalanceSensor(settings.kafka_topic, RebalanceReport()))
    flushes = Flushes()
    store_report = StoreReport(flushes, tracing)
    advice = Advice(store_report)
    return Backends(
        interrupt=interrupt,
        lease=lease,
        producer=producer,
        best_effort=Producer(kafka, f"{settings.group_id}-silence", interrupt, lease=lease),
        dead_letter_tail=DeadLetterTail(kafka, settings.kafka_dlq_topic, interrupt),
        topic_ids=topic_ids,
        logs=logs,
        states=states,
        state_events=state_report,
        store=TimescaleStore(settings, interrupt, store_report, advice, lease),
        advice=advice,
        consumer=lambda: app.consumer,
        home=lambda key: key_partition(key, settings.kafka_partitions),
        flushes=flushes,
    )


def _batch_limits(settings: Settings) -> BatchLimits:
    return BatchLimits(
        settings.kafka_topic, settings.batch_max_rows, settings.batch_max_bytes, buffer_bytes=settings.buffer_max_bytes
    )
