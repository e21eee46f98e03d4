"""The fetch of one poll of the worker: in, partitions and how many records; out, what is there, or comes in time."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from app.kafka.fetch.fetcher import take_ready, wait_ready


class PollFetch:
    """The fetch of one poll, in the client's thread: takes the place of Faust's ConsumerThread._fetch_records."""

    def __init__(
        self,
        thread: Any,
        waiting: Callable[[], AbstractAsyncContextManager[None]],
        fetch: Callable[..., Awaitable[Mapping[Any, list[Any]]]],
    ) -> None:
        """`waiting` ends a poll at a rebalance (Polls.waiting); `fetch` is Faust's, which waits for records."""
        self._thread, self._waiting, self._fetch = thread, waiting, fetch

    async def records(
        self, client: Any, active: Any, timeout: float | None = None, max_records: int | None = None
    ) -> Mapping[Any, list[Any]]:
        """At most `max_records` records of the `active` partitions: records fetched already, or else records that come
        within `timeout` seconds. {} when a rebalance ends the poll, or Kafka refuses. Raises ConsumerStoppedError.
        """
        consumer = self._thread.consumer
        if self._thread.app.rebalancing:
            return {}
        most = max_records if consumer.flow_active else None
        if most and (ready := take_ready(client, consumer.limits.topic, active, most)):
            return ready
        async with self._waiting():
            if most and timeout:
                asked = time.monotonic()
                found = await wait_ready(client, consumer.limits.topic, active, most, timeout)
                if found is not None:
                    return found
                timeout = max(0.0, timeout - (time.monotonic() - asked))
            return await self._fetch(client, active, timeout, max_records)
        return {}
