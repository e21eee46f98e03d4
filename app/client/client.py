"""The client for programs without an event loop: the same calls, which wait. A thread of the client's own does the
work.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any, Self, TypeVar

from app.client.async_client import AsyncIngestClient, log_failure
from app.client.pace import Pace
from app.client.sending import Failed, Sending
from app.client.sent_batch import Acked, Item, batches
from app.protobuf.ingest_pb2 import GetHealthResponse
from app.runtime.rpc.channel import ClientCredentials

T = TypeVar("T")


class IngestClient:
    """Speaks to one gateway; may be used from several threads. To be closed, or used with `with`."""

    def __init__(
        self,
        target: str,
        credentials: ClientCredentials | None = None,
        pace: Pace | None = None,
        failed: Failed = log_failure,
    ) -> None:
        """As AsyncIngestClient. `failed` is called in the thread of the client."""
        self._pace = pace or Pace()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="iot-stream-client", daemon=True)
        self._thread.start()
        try:
            self._client = self._wait(self._made(target, credentials, failed))
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all calls, and the thread. Closing again does nothing."""
        if self._thread.is_alive():
            self._wait(self._client.close())
            self._end()

    def push(self, items: Iterable[Item], force_flush: bool = False) -> Acked:
        """Send items of one kind; returns once Kafka has each item that is not refused. Raises as
        AsyncIngestClient.push.
        """
        return self._wait(self._client.push(list(items), force_flush))

    def stream(self, items: Iterable[Item]) -> Iterator[Acked]:
        """Send items of one kind without waiting for each ack; yields the outcome of each batch, once Kafka has it.

        `items` are read in the caller's thread, whenever an ack is asked for, and go out as full batches: items
        that come slowly are better pushed. Raises as `push`, and at once what `items` raises: items before that, whose
        outcome was not yielded, may be in Kafka or not.
        """
        sending = self._wait(self._sending())
        try:
            for batch in batches(items, self._pace):
                while sending.full and (acked := self._wait(sending.next_ack())):
                    yield acked
                self._wait(sending.put(batch))
            self._loop.call_soon_threadsafe(sending.end)
            while acked := self._wait(sending.next_ack()):
                yield acked
        finally:
            self._wait(sending.close())

    def flush(self) -> int:
        """Return once all that the gateway has taken is in Kafka: how many records waited. Raises as
        AsyncIngestClient.flush.
        """
        return self._wait(self._client.flush())

    def health(self) -> GetHealthResponse:
        """The gateway's health. Asked once; raises as AsyncIngestClient.health."""
        return self._wait(self._client.health())

    async def _made(self, target: str, credentials: ClientCredentials | None, failed: Failed) -> AsyncIngestClient:
        return AsyncIngestClient(target, credentials, self._pace, failed)

    async def _sending(self) -> Sending:
        return self._client.sending()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine in the thread; the coroutine is cancelled when waiting for it is interrupted."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
