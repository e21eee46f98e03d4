"""The composition root of the worker: settings in, a worker out that connects when its Faust app starts."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from app.kafka.access import access
from app.ops import certificates
from app.ops.about import About, Check
from app.ops.health import HealthServer
from app.runtime.tracing.tracing import NO_TRACING, Tracing
from app.settings import Settings
from app.stream.faust_config import build_app
from app.worker import gauges
from app.worker.backends import Backends, build_backends
from app.worker.lifecycle import Resources, WorkerApp
from app.worker.parts import WorkerParts, build_parts
from app.worker.tasks import WorkerTasks


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that is built and not started: `faust -A app worker` starts `app`."""

    app: WorkerApp
    parts: WorkerParts


def build_worker(settings: Settings, tracing: Tracing = NO_TRACING) -> Worker:
    """Put the worker together: what the worker talks to, its parts, its tasks, its health page. Connects to nothing."""
    kafka, app = access(settings), build_app(settings, WorkerApp)
    backends = build_backends(settings, app, kafka, tracing)
    parts = build_parts(settings, backends, tracing=tracing)
    app.transport.drain = lambda: parts.pipeline.drain(settings.shutdown_timeout)
    tasks = WorkerTasks(settings, app, backends, parts)
    tasks.register()
    gauges.watch_disk(settings.state_dir)
    certificates.report(settings)
    producers = (backends.producer, backends.best_effort)
    health = _health(settings, app, backends, parts, tasks)
    app.resources = Resources(settings, kafka, backends.store, producers, health, backends.advice, tracing)
    return Worker(app, parts)


def _health(
    settings: Settings, app: WorkerApp, backends: Backends, parts: WorkerParts, tasks: WorkerTasks
) -> HealthServer:
    store, writes = backends.store, backends.producer.writes

    async def live() -> Mapping[str, bool]:
        """Whether the process is worth keeping."""
        return {"running": not app.should_stop}

    async def ready() -> Mapping[str, bool]:
        """Whether the worker does its job: partitions assigned, tables recovered, database reachable."""
        return {
            "assigned": not app.rebalancing and app.consumer_generation_id > 0,
            "tables_recovered": app.tables.actives_ready,
            "rules_loaded": tasks.rules_loaded.is_set(),
            "schema_fits": tasks.schema_fits.is_set(),
            "database": await store.ready(),
            "kafka_writes": not writes.held,
            "topics_agree": parts.log_watch.agree,
        }

    def advice() -> Mapping[str, str]:
        """What is held up, and what an operator does about that."""
        return {**store.advice, **writes.held}

    return HealthServer(
        settings.metrics_host,
        settings.metrics_port,
        live,
        ready,
        advice,
        _about(settings, app, backends, ready),
        refresh=lambda: gauges.set_freshness(parts.freshness.show(time.monotonic())),
    )


def _about(settings: Settings, app: WorkerApp, backends: Backends, ready: Check) -> About:
    lease, writes = backends.lease, backends.producer.writes

    def connected() -> Mapping[str, bool]:
        """Kafka answers the heartbeats of the consumer, and takes what is written."""
        return {"kafka": lease.valid() and not writes.held}

    def queue_depth() -> int:
        """Records that are taken and not done."""
        return app.consumer.flight.records if app.consumer_generation_id > 0 else 0

    return About("worker", settings.app, ready, queue_depth, backends.flushes, connected)
