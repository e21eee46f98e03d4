"""Gauges that no batch refreshes: in, the parts of the worker; out, their numbers as metrics."""

import math
import os
from collections.abc import Mapping
from pathlib import Path

from faust.types import TP

from app.core.deadletters.limit import DeadLetterLimit
from app.core.processing.processor import Processor
from app.core.sweeper.sweeper import Sweeper
from app.kafka.fetch.fetcher import fetched_bytes
from app.ops import metrics
from app.stream.transport import BatchConsumer
from app.worker.waiting_time import Waiting


def refresh(consumer: BatchConsumer, processor: Processor, sweep: Sweeper, limit: DeadLetterLimit) -> None:
    """Set the gauges of memory, devices and silence to what is so now."""
    metrics.BUFFERED.set(consumer.flight.weight)
    metrics.FETCHED.set(fetched_bytes(consumer.client))
    metrics.STATE_KEYS.set(processor.devices)
    metrics.DEVICES_ONLINE.set(sweep.watched)
    metrics.SILENCE_SUSPENDED.set(sweep.suspended)
    metrics.MASS_SILENCE.set(sweep.mass)
    metrics.MASS_SILENCE_USERS.set(len(sweep.users_held))
    metrics.DEAD_LETTER_ROW.set(limit.row)


def watch_disk(directory: Path) -> None:
    """Report the free bytes of a directory's file system, as of each scrape; NaN while the directory is not there."""

    def free() -> float:
        try:
            found = os.statvfs(directory)
        except OSError:
            return math.nan
        return float(found.f_bavail * found.f_frsize)

    metrics.STATE_DIR_FREE.set_function(free)


def set_lag(waiting: Mapping[TP, int]) -> None:
    """Set the lag of each partition, in records, a negative lag as 0; a partition that has gone to another worker is no
    longer reported by this worker.

    A partition left behind would count twice in the sum over all workers, with its lag at the time when it went.
    """
    metrics.LAG.clear()
    for tp, records in waiting.items():
        metrics.LAG.labels(str(tp.partition)).set(max(0, records))


def set_waiting(waiting: Mapping[TP, Waiting]) -> None:
    """Set the seconds that each partition's oldest record has waited; a partition that went is no longer reported."""
    metrics.LAG_SECONDS.clear()
    for tp, one in waiting.items():
        metrics.LAG_SECONDS.labels(str(tp.partition)).set(one.seconds)


def set_freshness(tenants: Mapping[str, float]) -> None:
    """Set how fresh the data of each of these tenants is, in seconds; a tenant that is no longer among these tenants is
    no longer reported.
    """
    metrics.FRESHNESS.clear()
    for tenant, seconds in tenants.items():
        metrics.FRESHNESS.labels(tenant).set(seconds)
