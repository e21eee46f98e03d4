"""Settings -> a Faust app: every Faust setting this project relies on, with its reason."""

from pathlib import Path
from typing import Any, TypeVar

import faust
from faust.app.base import BootStrategy
from faust.auth import SASLCredentials, SSLCredentials
from yarl import URL

from app.kafka.access import Access, access
from app.settings import Settings
from app.stream.faust_process import FaustProcess
from app.stream.rebalance.assignor import EqualCountsAssignor
from app.stream.rebalance.recovery import Tables
from app.stream.rebalance.rounds import RebalanceRounds

# A held partition (the database is away) is not polled. Kafka must not mistake this for a dead worker: a dead worker is
# found by its missing heartbeats, which a thread of their own sends.
MAX_POLL_INTERVAL = 24 * 3600.0

# A worker hears of a rebalance with its next heartbeat, and until then all workers wait for this worker.
HEARTBEAT_SECONDS = 0.5

METADATA_SECONDS = 30.0  # what a broker says of topics while it starts is not always true; by default 5 min
# Beyond shutdown_timeout, which is for running writes: the last commit, leaving the group, closing connections.
STOP_REST_SECONDS = 6.0


class ConsumerAlone(BootStrategy):
    """Faust's own producer is left out: nobody sends with this producer, which would have to be started, flushed and
    stopped.

    Faust's web server, which shows tables to anybody on every address, is left out too: our own is in ops/health.py.
    The worker command switches `web_enabled` on again (--with-web is its default), so a setting alone does not keep the
    server out.
    """

    enable_kafka_producer = False
    enable_web = False


class RoundsApp(RebalanceRounds, faust.App):
    """A Faust app that counts rebalances."""


AppClass = TypeVar("AppClass", bound=RoundsApp)


def build_app(settings: Settings, app_class: type[AppClass]) -> AppClass:
    """A Faust app of class `app_class`, without agents yet."""
    app = app_class(
        settings.group_id,
        TableManager=Tables,
        PartitionAssignor=EqualCountsAssignor,
        broker=[URL(f"kafka://{broker}") for broker in settings.kafka_broker.split(",")],
        broker_credentials=_credentials(access(settings)),
        datadir=Path(settings.state_dir),
        Worker=FaustProcess,
        store="memory://",  # the state table brings its own RocksDB store (tables/device_table.py)
        worker_redirect_stdouts=False,
        **_delivery(settings),
        **_liveness(settings),
        **_throughput(settings),
        **_topics(settings),
        **_unique_address(settings),
    )
    app.boot_strategy = ConsumerAlone(app)
    app.stop_seconds = settings.shutdown_timeout + STOP_REST_SECONDS
    return app


def _delivery(settings: Settings) -> dict[str, Any]:
    """Nothing is acked but by the pipeline, and a failure ends the process."""
    return {
        "processing_guarantee": "at_least_once",
        "agent_supervisor": "mode.CrashingSupervisor",
        "stream_wait_empty": True,
        "consumer_auto_offset_reset": "earliest",
        "broker_commit_interval": settings.kafka_commit_interval,
        "broker_commit_every": 10**9,  # by time alone: committing by count blocks the fetch loop
    }


def _liveness(settings: Settings) -> dict[str, Any]:
    """When Kafka takes a worker for dead, and how long a worker waits for Kafka."""
    session = settings.kafka_session_timeout
    return {
        "broker_session_timeout": session,
        "broker_heartbeat_interval": min(session / 3.5, HEARTBEAT_SECONDS),
        "consumer_group_instance_id": settings.kafka_instance_id,
        "broker_rebalance_timeout": max(30.0, 2 * session),
        "broker_request_timeout": max(60.0, 2 * session),
        "broker_max_poll_interval": MAX_POLL_INTERVAL,
        "consumer_metadata_max_age_ms": int(METADATA_SECONDS * 1000),
        "stream_processing_timeout": MAX_POLL_INTERVAL,  # only ever logs, and a held partition is no error
        "broker_commit_livelock_soft_timeout": MAX_POLL_INTERVAL,
    }


def _throughput(settings: Settings) -> dict[str, Any]:
    """A poll gives at most one batch of a busy partition."""
    return {
        "broker_max_poll_records": settings.batch_max_rows,
        "consumer_max_fetch_size": settings.kafka_max_fetch_bytes,
        "stream_buffer_maxsize": 1 << 16,  # counts batches; the transport bounds bytes
    }


def _topics(settings: Settings) -> dict[str, Any]:
    """Topics are made by `iot-stream topics create`, with the settings that they need; nothing is shown on the web."""
    return {
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "topic_partitions": settings.kafka_partitions,
        "topic_replication_factor": settings.kafka_replication_factor,
        "table_standby_replicas": 0,
        "web_enabled": False,
        "web_tables_enabled": False,
        "web_router_enabled": False,
    }


def _credentials(kafka: Access) -> SASLCredentials | SSLCredentials | None:
    """The credentials of `kafka` in Faust's types; None where Kafka asks for none."""
    security = kafka.security
    if "sasl_mechanism" in security:
        return SASLCredentials(
            mechanism=security["sasl_mechanism"],
            username=security["sasl_plain_username"],
            password=security["sasl_plain_password"],
            ssl_context=security.get("ssl_context"),
        )
    return SSLCredentials(security["ssl_context"]) if "ssl_context" in security else None


def _unique_address(settings: Settings) -> dict[str, Any]:
    # The assignor distinguishes workers by this URL, though nothing listens there: two workers with the same URL
    # corrupt routing. A static member that comes back gets the assignment of its predecessor, which must have had the
    # same URL.
    import os
    import socket

    name = settings.kafka_instance_id or f"{socket.gethostname()}-{os.getpid()}"
    return {"canonical_url": URL(f"http://{name}:{settings.metrics_port or 1}")}
