"""Gauges that no batch refreshes: in, the parts of the worker; out, their numbers as metrics."""

from app.adapters.fetched import fetched_bytes
from app.adapters.transport import BatchConsumer
from app.core.limit import DeadLetterLimit
from app.core.process import Processor
from app.core.sweep import Sweep
from app.ops import metrics


def refresh(consumer: BatchConsumer, processor: Processor, sweep: Sweep, limit: DeadLetterLimit) -> None:
    """Set them to what is so now."""
    metrics.BUFFERED.set(consumer.flight.weight)
    metrics.FETCHED.set(fetched_bytes(consumer))
    metrics.STATE_KEYS.set(processor.devices)
    metrics.DEVICES_ONLINE.set(sweep.watched)
    metrics.SILENCE_SUSPENDED.set(sweep.suspended)
    metrics.MASS_SILENCE.set(sweep.mass)
    metrics.MASS_SILENCE_USERS.set(len(sweep.users_held))
    metrics.DEAD_LETTER_ROW.set(limit.row)
