"""Settings -> a Faust app: every Faust setting this project relies on, with its reason."""

import sys
from pathlib import Path
from typing import Any, NoReturn

import faust
from yarl import URL

from app.errors import DeadLetterLimitError
from app.settings import Settings

# A held partition (the database is away) is not polled. Kafka must not mistake that for a dead worker: a dead one is
# found by its missing heartbeats, which a thread of their own sends.
MAX_POLL_INTERVAL = 24 * 3600.0

LIMIT_EXIT_CODE = 3  # too many dead letters; 1 is any other crash, 2 wrong settings


class Process(faust.Worker):  # type: ignore[misc]
    """`faust worker`, with an exit code of its own where starting again does not help."""

    def execute_from_commandline(self) -> NoReturn:
        """Run until stopped; leaves by SystemExit: 0 stopped, 1 crashed, LIMIT_EXIT_CODE."""
        try:
            super().execute_from_commandline()
        except SystemExit:
            if isinstance(self.crash_reason, DeadLetterLimitError):
                print(f"iot-stream: {self.crash_reason}", file=sys.stderr)  # noqa: T201 - the last words, after logging
                raise SystemExit(LIMIT_EXIT_CODE) from None
            raise
        raise AssertionError("unreachable: faust leaves by SystemExit")


def build_app(settings: Settings, app_class: type[faust.App] = faust.App) -> faust.App:
    """A Faust app with no agents yet."""
    session = settings.kafka_session_timeout
    return app_class(
        settings.group_id,
        broker=[URL(f"kafka://{broker.strip()}") for broker in settings.kafka_broker.split(",")],
        datadir=Path(settings.state_dir),
        Worker=Process,
        store="memory://",  # the state table brings its own RocksDB store (adapters/states.py)
        # delivery: nothing is acked but by the pipeline, and a failure ends the process
        processing_guarantee="at_least_once",
        agent_supervisor="mode.CrashingSupervisor",
        stream_wait_empty=True,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=settings.kafka_commit_interval,
        broker_commit_every=10**9,  # by time alone: committing by count blocks the fetch loop
        # liveness
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 3.5,
        broker_rebalance_timeout=max(30.0, 2 * session),
        broker_request_timeout=max(60.0, 2 * session),
        broker_max_poll_interval=MAX_POLL_INTERVAL,
        stream_processing_timeout=MAX_POLL_INTERVAL,  # only ever logs, and a held partition is no error
        broker_commit_livelock_soft_timeout=MAX_POLL_INTERVAL,
        # throughput: one poll gives at most one batch of a busy partition
        broker_max_poll_records=settings.batch_max_rows,
        consumer_max_fetch_size=settings.kafka_max_fetch_bytes,
        stream_buffer_maxsize=1 << 16,  # counts batches; the transport bounds bytes
        # topics are made by `iot-stream topics create`, with the settings they need
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=settings.kafka_partitions,
        topic_replication_factor=settings.kafka_replication_factor,
        table_standby_replicas=0,
        # Faust's own web pages have no authentication; ours are in ops/http.py
        web_enabled=False,
        web_tables_enabled=False,
        web_router_enabled=False,
        worker_redirect_stdouts=False,
        **_unique_address(settings),
    )


def _unique_address(settings: Settings) -> dict[str, Any]:
    # The assignor tells workers apart by this URL, though nothing listens there: two with the same corrupt routing.
    import os
    import socket

    return {"canonical_url": URL(f"http://{socket.gethostname()}-{os.getpid()}:{settings.metrics_port or 1}")}
