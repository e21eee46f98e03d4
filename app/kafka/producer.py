"""One idempotent Kafka producer for all that a worker writes: in, messages; out, the broker's ack for all of them.

Messages go as whole batches, one future a batch: aiokafka's per-message `send` costs 12 us a message, this 1.5.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from app.errors import TransientError
from app.kafka.access import Access, start
from app.kafka.close_clients import close_producer
from app.kafka.messages import BATCH_BYTES, OutgoingMessage, PendingSend, Sent
from app.kafka.session_lease import guard
from app.kafka.write_health import NoWriteEvents, WriteEvents, WriteHealth
from app.ports import Lease, Unlimited
from app.runtime.retry import StopWhenInterrupted, gave_up

# A dead letter carries its payload in base64: 1 MiB becomes 1.4 MB, and headers come on top.
MAX_REQUEST_BYTES = 4 << 20
LAST_SECONDS = 2.0  # for acks under way when told to give up
METADATA_SECONDS = 2.0  # aiokafka would look for a missing topic for 40 s, deaf to `interrupt`


class Producer:
    """Sends and waits for acks=all; waits out an outage of Kafka for as long as nobody says `interrupt`."""

    def __init__(
        self,
        kafka: Access,
        client_id: str,
        interrupt: asyncio.Event,
        events: WriteEvents | None = None,
        lease: Lease | None = None,
    ) -> None:
        self._lease: Lease = lease or Unlimited()
        self.writes = WriteHealth(events or NoWriteEvents())
        self._kafka = kafka
        self._options: dict[str, Any] = {
            **kafka.options,
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": "lz4",
            "max_request_size": MAX_REQUEST_BYTES,
            "max_batch_size": BATCH_BYTES,
            "linger_ms": 0,
        }
        self._client: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._interrupt = interrupt

    async def send(self, topic: str, messages: Sequence[OutgoingMessage]) -> dict[int, int]:
        """Send in order per partition; return {partition: last offset} once the broker has acked every message.

        Raises TransientError when told to give up first; some messages may then have been written. When cancelled,
        what is not on its way yet is not sent any more.
        """
        if not messages:
            return {}
        try:
            unsent = PendingSend(messages)
            async for attempt in self._retrying(topic):
                with attempt:
                    await self._send_once(topic, unsent)
            return unsent.offsets
        finally:
            self.writes.resumed(topic)

    async def partitions(self, topic: str) -> int:
        """How many partitions `topic` has. Raises TransientError when told to give up first."""
        try:
            async for attempt in self._retrying(topic):
                with attempt:
                    return await self._count(await self._connected(), topic)
            raise AssertionError("unreachable: tenacity returns or raises")
        finally:
            self.writes.resumed(topic)

    async def stop(self) -> None:
        """Close; safe to call twice. Everything acked is written, everything else belongs to un-acked batches."""
        client, self._client = self._client, None
        if client is not None:
            await close_producer(client)

    async def _connected(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._client is None:
                client = AIOKafkaProducer(**self._options)
                try:
                    await start(client, self._kafka)
                except BaseException:
                    await client.stop()
                    raise
                guard(client.client, self._lease)
                self._client = client
        return self._client

    async def _count(self, client: AIOKafkaProducer, topic: str) -> int:
        try:
            async with asyncio.timeout(METADATA_SECONDS):
                return len(await client.partitions_for(topic))
        except TimeoutError:
            message = f"the brokers name no topic {topic}; if they are up, make it: iot-stream topics create"
            raise UnknownTopicOrPartitionError(message) from None

    async def _send_once(self, topic: str, unsent: PendingSend) -> None:
        """Send all of it, or take off what was acked and raise the first failure."""
        client = await self._connected()
        count = await self._count(client, topic)
        if not unsent.fit(count):  # it was given more a moment ago, which the client hears of in minutes
            await client.client.force_metadata_update()
            raise UnknownTopicOrPartitionError(f"{topic} has {count} partitions, as far as this client knows")
        sent: list[Sent] = []
        try:
            await self._until_told(self._put(client, topic, unsent.batches(client, count), sent))
        except (TransientError, asyncio.CancelledError):
            await self.stop()  # a batch sent later could overwrite what the partition's next owner has written
            raise
        failure = unsent.settle(sent)
        if failure is not None:
            await self.stop()  # a lost batch leaves a gap in the idempotent sequence: begin a new one
            raise failure

    async def _put(
        self, client: AIOKafkaProducer, topic: str, batches: dict[int, list[tuple[Any, int]]], sent: list[Sent]
    ) -> None:
        """Hand all batches over and wait until each is acked or has failed; `sent` says which.

        A batch of a partition waits for the ack of the one before it, and is not sent after a failure: the client may
        give up one and still write the next, whose messages would then be there before those that are sent again.
        """
        left = {partition: iter(of_it) for partition, of_it in batches.items()}
        while left:
            turn: list[Sent] = []
            for partition, waiting in left.items():
                if (one := next(waiting, None)) is None:
                    continue
                batch, size = one
                await self._lease.ensure()  # right before, or a stall falls in between
                try:
                    ack = await client.send_batch(batch, topic, partition=partition)
                except KafkaError as error:  # it finds no room for longer than a request may take
                    ack = asyncio.get_running_loop().create_future()
                    ack.set_exception(error)
                ack.add_done_callback(_look)
                turn.append(Sent(partition, size, ack))
                sent.append(turn[-1])
            if turn:
                await asyncio.wait([done.ack for done in turn])
            left = {done.partition: left[done.partition] for done in turn if not done.ack.exception()}

    async def _until_told(self, putting: Coroutine[Any, Any, None]) -> None:
        """Wait for all acks; raise TransientError when told to give up and they do not come soon."""
        task, signal = asyncio.ensure_future(putting), asyncio.ensure_future(self._interrupt.wait())
        try:
            await asyncio.wait({task, signal}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({task}, timeout=LAST_SECONDS)
            if not task.done():
                raise TransientError("told to give up while waiting for Kafka's ack")
            task.result()
        finally:
            task.cancel()
            signal.cancel()

    def _retrying(self, topic: str) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type((KafkaError, OSError)),
            wait=wait_random_exponential(multiplier=0.2, max=5.0),
            stop=StopWhenInterrupted(self._interrupt),
            sleep=self._pause,
            before_sleep=lambda state: self.writes.failed(topic, state),
            retry_error_callback=gave_up,
        )

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._interrupt.wait(), seconds)
        except TimeoutError:
            return


def _look(ack: "asyncio.Future[Any]") -> None:
    """A failure that comes after somebody has given up is nobody's, and not worth a traceback."""
    if not ack.cancelled():
        ack.exception()
