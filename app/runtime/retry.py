"""How calls to Kafka are tried again (tenacity): until told to give up, and without a log line for every failure."""

import asyncio
import logging
import random
from typing import Any, NoReturn

import structlog
from tenacity.stop import stop_base

from app.errors import TransientError

log = structlog.get_logger()


class StopWhenInterrupted(stop_base):
    """Stop retrying when the process stops or its partitions are taken away."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def __call__(self, retry_state: Any) -> bool:
        """Whether to stop (tenacity's contract)."""
        return self._event.is_set()


def gave_up(state: Any) -> NoReturn:
    """What tenacity calls once it stops: the outage has not ended before we had to."""
    raise TransientError(f"told to give up while waiting for Kafka: {state.outcome.exception()!r}")


def log_retry(event: str, topic: str, state: Any) -> None:
    """What tenacity calls before each pause: the first failures of many, then every tenth."""
    error = state.outcome.exception()
    level = logging.WARNING if state.attempt_number <= 3 or state.attempt_number % 10 == 0 else logging.DEBUG
    log.log(level, event, topic=topic, attempt=state.attempt_number, error=f"{error!r}")


def delay(attempt: int, first: float = 0.1, longest: float = 10.0) -> float:
    """Seconds before try number `attempt` (0, 1, ...): doubled each time, with a jitter down to the half of it.

    The jitter keeps many bridges from coming back at the same moment after a broker's restart.
    """
    return min(longest, first * 2.0 ** min(attempt, 30)) * random.uniform(0.5, 1.0)
