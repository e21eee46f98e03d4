"""What every worker is put together from, whatever is behind the ports: the path, and what looks after the path.

The real worker (app.worker.build) and the simulated one (tests/simulation) are both built here.
"""

from dataclasses import dataclass

from app.core.deadletters.limit import DeadLetterLimit
from app.core.decode.decoder import DecodeLimits
from app.core.ingress.tenant_freshness import TenantFreshness
from app.core.presence.device_classes import DeviceClasses
from app.core.presence.device_presence import PresenceLimits
from app.core.processing.processor import Processor
from app.core.sweeper.sweeper import Sweeper, SweeperConfig
from app.core.user_config.rulebook import RuleBook
from app.kafka.alert_outbox import KafkaOutbox
from app.kafka.dead_letters import KafkaDeadLetters
from app.kafka.inactivity_claims import KafkaInactivityClaims
from app.ops.ledger import BatchLedger
from app.ops.rejections import Rejections
from app.ops.spans.wrapped import with_spans
from app.pipeline.partition_queue import CoalesceLimit
from app.pipeline.pipeline import Pipeline
from app.ports import Ports
from app.runtime.tracing.tracing import NO_TRACING, Tracing
from app.settings import Settings
from app.stream.log_progress import log_positions
from app.worker.backends import Backends
from app.worker.device_states import DeviceStates
from app.worker.inactivity_task import InactivityTask
from app.worker.late_records import LateRecords
from app.worker.log_watch import LogWatch
from app.worker.watchdog import Watchdog


class PartClasses:
    """The classes of the parts; the simulation replaces single classes with a class that has a bug."""

    pipeline: type[Pipeline] = Pipeline
    processor: type[Processor] = Processor
    dead_letters: type[KafkaDeadLetters] = KafkaDeadLetters
    outbox: type[KafkaOutbox] = KafkaOutbox
    ledger: type[BatchLedger] = BatchLedger
    limit: type[DeadLetterLimit] = DeadLetterLimit


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The parts of a worker, built and not started."""

    rules: RuleBook
    processor: Processor
    limit: DeadLetterLimit
    rejections: Rejections
    pipeline: Pipeline
    sweeper: Sweeper
    inactivity: InactivityTask
    watchdog: Watchdog
    late: LateRecords
    freshness: TenantFreshness
    log_watch: LogWatch
    device_states: DeviceStates | None


def build_parts(
    settings: Settings, backends: Backends, classes: type[PartClasses] = PartClasses, tracing: Tracing = NO_TRACING
) -> WorkerParts:
    """The parts of a worker that talks to `backends`; `classes` has other classes for them in the simulation."""
    rules, rejections = RuleBook(settings.telemetry_schema), Rejections()
    freshness = TenantFreshness(settings.freshness_tenants)
    states = DeviceStates.of(settings)
    processor = _processor(settings, backends, rules, classes, states)
    limit = _dead_letter_limit(settings, rules, classes)
    ports = _ports(settings, backends, classes, limit, classes.ledger(limit, rejections, freshness))
    pipeline = classes.pipeline(
        _traced(ports, settings, tracing),
        processor,
        slots=settings.writes_in_flight + settings.kafka_partitions,  # small batches of all partitions share a write
        interrupt=backends.interrupt,
        most=CoalesceLimit(settings.batch_max_rows, settings.batch_max_bytes),
    )
    sweeper = Sweeper(processor.partitions, _sweeper_config(settings))
    return WorkerParts(
        rules=rules,
        processor=processor,
        limit=limit,
        rejections=rejections,
        pipeline=pipeline,
        sweeper=sweeper,
        inactivity=_inactivity_task(settings, backends, processor, sweeper),
        watchdog=Watchdog(settings.watchdog_seconds),
        late=LateRecords(settings.lag_warning_seconds),
        freshness=freshness,
        log_watch=_log_watch(settings, backends),
        device_states=states,
    )


def _ports(
    settings: Settings, backends: Backends, classes: type[PartClasses], limit: DeadLetterLimit, ledger: BatchLedger
) -> Ports:
    return Ports(
        store=backends.store,
        dead_letters=classes.dead_letters(
            backends.producer, settings.kafka_dlq_topic, backends.dead_letter_tail, limit
        ),
        outbox=classes.outbox(backends.producer, settings.kafka_alerts_topic, settings.kafka_topic),
        states=backends.states,
        ledger=ledger,
        lease=backends.lease,
    )


def _traced(ports: Ports, settings: Settings, tracing: Tracing) -> Ports:
    if not tracing.enabled:
        return ports
    return with_spans(ports, tracing, settings.group_id, settings.trace_incoming_per_second)


def _processor(
    settings: Settings,
    backends: Backends,
    rules: RuleBook,
    classes: type[PartClasses],
    states: DeviceStates | None,
) -> Processor:
    return classes.processor(
        DecodeLimits(
            settings.time_future_max, settings.time_past_max, settings.payload_max_bytes, settings.payload_max_depth
        ),
        settings.telemetry_schema,
        rules,
        backends.states.get,
        DeviceClasses(settings.offline_classes, PresenceLimits(settings.offline_after)),
        note_every=settings.last_seen_every,
        in_memory=settings.devices_in_memory,
        log_of=backends.logs.of,
        unreadable=backends.state_events.state_unreadable,
        set_back_after=settings.clock_back_readings,
        home=backends.home,
        limit=states.limit if states is not None else None,
        output_max=settings.batch_alerts_max_bytes,
    )


def _dead_letter_limit(settings: Settings, rules: RuleBook, classes: type[PartClasses]) -> DeadLetterLimit:
    return classes.limit(
        settings.dead_letters_in_a_row,
        settings.dead_letters_ratio,
        settings.dead_letters_window,
        settings.dead_letters_user_share,
        rules.some_users,
    )


def _sweeper_config(settings: Settings) -> SweeperConfig:
    return SweeperConfig(
        settings.offline_poll,
        settings.offline_grace,
        settings.offline_lag_max,
        settings.offline_mass_share,
        settings.offline_mass_hold,
    )


def _inactivity_task(settings: Settings, backends: Backends, processor: Processor, sweeper: Sweeper) -> InactivityTask:
    claims = KafkaInactivityClaims(backends.best_effort, settings.kafka_topic)
    return InactivityTask(
        processor.partitions, sweeper, claims, lambda: log_positions(backends.consumer()), backends.states.items
    )


def _log_watch(settings: Settings, backends: Backends) -> LogWatch:
    written = (settings.kafka_dlq_topic, settings.kafka_alerts_topic)
    return LogWatch(backends.topic_ids, backends.logs, backends.states, backends.advice, written)
