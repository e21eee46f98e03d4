"""Polls that wait for records: in, the beginning of a rebalance; out, the end of each poll, which has taken nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import structlog
from aiokafka.errors import ConsumerStoppedError, KafkaError

from app.stream.offsets import RETRY_SECONDS

log = structlog.get_logger()


class Polls:
    """The polls of one client, in its thread. A poll waits for the next assignment, so would outlast a rebalance."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Task[Any], bool] = {}  # who polls, and whether a rebalance has ended that

    def __len__(self) -> int:
        return len(self._waiting)

    def end(self) -> None:
        """A rebalance begins: each poll returns at once, and has taken nothing."""
        for poll in self._waiting:
            self._waiting[poll] = poll.cancel()

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """The block around a poll, which ends early and without an error when a rebalance begins or Kafka refuses.

        Raises ConsumerStoppedError, and CancelledError when the cancellation is another's.
        """
        poll = asyncio.current_task()
        assert poll is not None
        self._waiting[poll] = False
        try:
            yield
        except asyncio.CancelledError:  # where the poll waits, so nothing is taken
            if not self._waiting[poll] or poll.uncancel():
                raise
        except ConsumerStoppedError:
            raise
        except KafkaError as error:  # of the group, or of a partition: the client has noted it, and goes on
            del self._waiting[poll]
            log.warning("kafka_fetch_failed", error=repr(error), next="fetching again")
            await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._waiting.pop(poll, None)
