"""The composition root of the worker: settings in, the Faust app out. The only file that knows everything; no logic.

`faust -A app worker` imports it. Connections open when the app starts, not when this is imported.
"""

import asyncio
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog

from app.core.deadletters.limit import DeadLetterLimit
from app.core.decode.decoder import DecodeLimits
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits as PresenceLimits
from app.core.processing.processor import Processor
from app.core.sweeper.sweeper import Sweeper, SweeperConfig
from app.core.user_config.rulebook import RuleBook
from app.errors import SettingsError
from app.kafka.access import access
from app.kafka.alert_outbox import KafkaOutbox
from app.kafka.closed_socket import raise_connection_errors
from app.kafka.dead_letter_reader import DeadLetterTail
from app.kafka.dead_letters import KafkaDeadLetters
from app.kafka.inactivity_claims import KafkaInactivityClaims
from app.kafka.messages import key_partition
from app.kafka.producer import Producer
from app.kafka.record_times import record_times
from app.kafka.session_lease import SessionLease
from app.kafka.topic_ids import TopicIds
from app.ops.events import RebalanceReport, StoreReport, TransportReport, WriteReport, state_unreadable, states_moved
from app.ops.health import HealthServer
from app.ops.ledger import BatchLedger
from app.ops.rejections import Rejections
from app.pipeline.coalesce import CoalesceLimit
from app.pipeline.pipeline import Pipeline
from app.ports import Ports
from app.postgres.operator_advice import Advice
from app.postgres.queries.config_feed import ConfigFeed
from app.postgres.store.store import TimescaleStore
from app.runtime.event_loop import use_uvloop
from app.settings import settings as settings_module
from app.stream.batches import BatchLimits, BatchTopic
from app.stream.faust_config import build_app
from app.stream.log_book import LogBook
from app.stream.log_progress import log_positions
from app.stream.rebalance.sensor import RebalanceSensor
from app.stream.source import FaustSource
from app.stream.transport import BatchTransport
from app.tables.device_table import FaustStates
from app.worker import gauges
from app.worker import gauges as lag
from app.worker.config_task import ConfigTask
from app.worker.inactivity_task import InactivityTask
from app.worker.lifecycle import Resources, WorkerApp
from app.worker.log_watch import LogWatch
from app.worker.schema_task import wait_for_schema
from app.worker.watchdog import Watchdog

log = structlog.get_logger()


try:
    settings = settings_module.load()
except SettingsError as error:
    print(error, file=sys.stderr)  # noqa: T201 - as `iot-stream` says it, and with its exit code
    raise SystemExit(2) from None
use_uvloop()
raise_connection_errors()
kafka = access(settings)
app = build_app(settings, WorkerApp)

interrupt = asyncio.Event()
lease = SessionLease(settings.kafka_session_timeout, interrupt)
producer = Producer(kafka, f"{settings.group_id}-out", interrupt, WriteReport(), lease)
states = FaustStates(app, settings.kafka_partitions, producer, states_moved)
transport_report = TransportReport()
topic_ids = TopicIds(kafka)
times = partial(record_times, kafka)
logs = LogBook(settings.kafka_topic, transport_report, topic_ids, times, states.get, states.items)
transport = BatchTransport(
    app,
    BatchLimits(
        settings.kafka_topic, settings.batch_max_rows, settings.batch_max_bytes, buffer_bytes=settings.buffer_max_bytes
    ),
    transport_report,
    lease,
    logs,
)
app.transport = transport  # before the first agent, which would build stock Faust's
app.sensors.add(RebalanceSensor(settings.kafka_topic, RebalanceReport()))

store_report = StoreReport()
advice = Advice(store_report)
store = TimescaleStore(settings, interrupt, store_report, advice, lease)
rules = RuleBook()
rules_loaded = asyncio.Event()
schema_fits = asyncio.Event()
processor = Processor(
    DecodeLimits(
        settings.time_future_max, settings.time_past_max, settings.payload_max_bytes, settings.payload_max_depth
    ),
    rules,
    states.get,
    DeviceClasses(settings.offline_classes, PresenceLimits(settings.offline_after)),
    settings.last_seen_every,
    settings.devices_in_memory,
    logs.of,
    state_unreadable,
    settings.clock_back_readings,
    lambda key: key_partition(key, settings.kafka_partitions),
)
# Of what is not waited for: it is closed when Kafka does not answer soon.
best_effort = Producer(kafka, f"{settings.group_id}-silence", interrupt, lease=lease)
care = SweeperConfig(
    settings.offline_poll,
    settings.offline_grace,
    settings.offline_lag_max,
    settings.offline_mass_share,
    settings.offline_mass_hold,
)
sweep = Sweeper(processor.partitions, care)
limit = DeadLetterLimit(
    settings.dead_letters_in_a_row,
    settings.dead_letters_ratio,
    settings.dead_letters_window,
    settings.dead_letters_user_share,
    rules.some_users,
)
rejections = Rejections()
tail = DeadLetterTail(kafka, settings.kafka_dlq_topic, interrupt)
pipeline = Pipeline(
    Ports(
        store=store,
        dead_letters=KafkaDeadLetters(producer, settings.kafka_dlq_topic, tail, limit),
        outbox=KafkaOutbox(producer, settings.kafka_alerts_topic, settings.kafka_topic),
        states=states,
        ledger=BatchLedger(limit, rejections),
        lease=lease,
    ),
    processor,
    slots=settings.writes_in_flight + settings.kafka_partitions,  # small ones of all partitions share a write
    interrupt=interrupt,
    most=CoalesceLimit(settings.batch_max_rows, settings.batch_max_bytes),
)
log_watch = LogWatch(topic_ids, logs, states, advice, (settings.kafka_dlq_topic, settings.kafka_alerts_topic))
watchdog = Watchdog(settings.kafka_topic, settings.watchdog_seconds)
transport.drain = lambda: pipeline.drain(settings.shutdown_timeout)

topic = BatchTopic(app, topics=[settings.kafka_topic], partitions=settings.kafka_partitions)


@app.agent(topic, name="ingest", concurrency=1)  # type: ignore[untyped-decorator]
async def ingest(stream: Any) -> None:
    """Take batches from Kafka and do the path with each (app.pipeline.pipeline)."""
    await schema_fits.wait()
    await pipeline.run(FaustSource(stream, app.consumer))


@app.task  # type: ignore[untyped-decorator]
async def follow_rules() -> None:
    """Keep the rules in force equal to user_configs."""
    answers = KafkaOutbox(best_effort, settings.kafka_alerts_topic)
    await ConfigTask(ConfigFeed(settings, advice), rules, answers, has_messages_of).follow(rules_loaded)


def has_messages_of(user_id: str) -> bool:
    """Whether this worker has the partition of the user's own messages."""
    return key_partition(user_id.encode(), log_watch.partitions or settings.kafka_partitions) in log_positions(
        app.consumer
    )


@app.task  # type: ignore[untyped-decorator]
async def look_for_silence() -> None:
    """Claim silence of those nothing comes from any more."""
    await schema_fits.wait()
    claims = KafkaInactivityClaims(best_effort, settings.kafka_topic)
    found = InactivityTask(processor.partitions, sweep, claims, lambda: log_positions(app.consumer), states.items)
    await found.run(settings.offline_poll)


@app.task  # type: ignore[untyped-decorator]
async def check_schema() -> None:
    """Let nothing start before the table has the columns in force."""
    await rules_loaded.wait()  # the database answers
    if await wait_for_schema(settings, app):
        schema_fits.set()


@app.task  # type: ignore[untyped-decorator]
async def watch() -> None:
    """End the process when a partition is stuck."""
    await schema_fits.wait()
    await watchdog.watch(app.consumer)


@app.task  # type: ignore[untyped-decorator]
async def watch_logs() -> None:
    """See that the topics are still those that the states are about."""
    await log_watch.watch(app.consumer)


@app.timer(1.0)  # type: ignore[untyped-decorator]
async def gauge() -> None:
    """Refresh the gauges that no batch refreshes."""
    gauges.refresh(app.consumer, processor, sweep, limit)
    rejections.report()
    lag.set_lag(watchdog.lag)


async def live() -> Mapping[str, bool]:
    """Whether the process is worth keeping."""
    return {"running": not app.should_stop}


async def ready() -> Mapping[str, bool]:
    """Whether the worker does its job: partitions assigned, tables recovered, database reachable."""
    return {
        "assigned": not app.rebalancing and app.consumer_generation_id > 0,
        "tables_recovered": app.tables.actives_ready,
        "rules_loaded": rules_loaded.is_set(),
        "schema_fits": schema_fits.is_set(),
        "database": await store.ready(),
        "kafka_writes": not producer.writes.held,
        "topics_agree": log_watch.agree,
    }


health = HealthServer(
    settings.metrics_host, settings.metrics_port, live, ready, lambda: {**store.advice, **producer.writes.held}
)
app.resources = Resources(settings, kafka, store, (producer, best_effort), health, advice)
