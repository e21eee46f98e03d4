"""Polls that wait for records: in, a fetch; out, its records, or none once a rebalance has ended the waiting."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import structlog
from aiokafka.errors import ConsumerStoppedError, KafkaError

from app.stream.offsets import RETRY_SECONDS

log = structlog.get_logger()


class Polls:
    """Of one client, in its thread. A poll would outlast a rebalance: it waits for the next assignment."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Task[Any], bool] = {}  # who polls, and whether a rebalance has ended that

    def __len__(self) -> int:
        return len(self._waiting)

    def end(self) -> None:
        """A rebalance begins: each poll returns at once, and has taken nothing."""
        for poll in self._waiting:
            self._waiting[poll] = poll.cancel()

    async def wait(self, fetch: Awaitable[Any]) -> Any:
        """What `fetch` finds; {} when a rebalance ends it, or Kafka refuses. Raises ConsumerStoppedError."""
        poll = asyncio.current_task()
        assert poll is not None
        self._waiting[poll] = False
        try:
            return await fetch
        except asyncio.CancelledError:  # where it waits, so nothing is taken
            if not self._waiting[poll] or poll.uncancel():
                raise
            return {}
        except ConsumerStoppedError:
            raise
        except KafkaError as error:  # of the group, or of a partition: the client has noted it, and goes on
            del self._waiting[poll]
            log.warning("kafka_fetch_failed", error=repr(error), next="fetching again")
            await asyncio.sleep(RETRY_SECONDS)
            return {}
        finally:
            self._waiting.pop(poll, None)
