"""One idempotent Kafka producer for all that a process writes: in, messages; out, the broker's ack for all of them."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NoReturn

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter
from tenacity.stop import stop_base

from app.errors import TransientError

log = structlog.get_logger()

# A dead letter carries its payload in base64: 1 MiB becomes 1.4 MB, and headers come on top.
MAX_REQUEST_BYTES = 4 << 20


class Outgoing(Struct, frozen=True, gc=False):
    """One message to send; `partition` None lets the key decide (murmur2)."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = []
    partition: int | None = None


class GiveUp(stop_base):
    """Stop retrying when the process stops or its partitions are taken away."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def __call__(self, retry_state: Any) -> bool:
        """Whether to stop (tenacity's contract)."""
        return self._event.is_set()


def gave_up(state: Any) -> NoReturn:
    """What tenacity calls once it stops: the outage has not ended before we had to."""
    raise TransientError(f"told to give up while waiting for Kafka: {state.outcome.exception()!r}")


class Producer:
    """Sends and waits for acks=all; waits out an outage of Kafka, for as long as nobody says `give_up`."""

    def __init__(self, brokers: str, client_id: str, give_up: asyncio.Event) -> None:
        self._options: dict[str, Any] = {
            "bootstrap_servers": brokers,
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": "lz4",
            "max_request_size": MAX_REQUEST_BYTES,
            "max_batch_size": 1 << 18,
            "linger_ms": 0,
        }
        self._client: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._give_up = give_up

    async def send(self, topic: str, messages: Sequence[Outgoing]) -> list[int]:
        """Return the offsets once the broker has acked every message; order is kept per partition.

        Raises TransientError when told to give up first; some messages may then have been written.
        """
        if not messages:
            return []
        async for attempt in self._retrying(topic):
            with attempt:
                return await self._send_once(topic, messages)
        raise AssertionError("unreachable: tenacity returns or raises")

    async def partitions(self, topic: str) -> int:
        """How many partitions `topic` has. Raises TransientError when told to give up first."""
        async for attempt in self._retrying(topic):
            with attempt:
                client = await self._connected()
                return len(await client.partitions_for(topic))
        raise AssertionError("unreachable: tenacity returns or raises")

    async def stop(self) -> None:
        """Flush and close; safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    async def _connected(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._client is None:
                client = AIOKafkaProducer(**self._options)
                try:
                    await client.start()
                except BaseException:
                    await client.stop()
                    raise
                self._client = client
        return self._client

    async def _send_once(self, topic: str, messages: Sequence[Outgoing]) -> list[int]:
        client = await self._connected()
        pending = [
            await client.send(topic, m.value, key=m.key, partition=m.partition, headers=m.headers) for m in messages
        ]
        return [done.offset for done in await asyncio.gather(*pending)]

    def _retrying(self, topic: str) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type((KafkaError, OSError)),
            wait=wait_exponential_jitter(initial=0.1, max=5.0),
            stop=GiveUp(self._give_up),
            sleep=self._pause,
            before_sleep=lambda state: _log_retry(topic, state),
            retry_error_callback=gave_up,
        )

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._give_up.wait(), seconds)
        except TimeoutError:
            return


def _log_retry(topic: str, state: Any) -> None:
    error = state.outcome.exception()
    level = logging.WARNING if state.attempt_number <= 3 or state.attempt_number % 10 == 0 else logging.DEBUG
    log.log(level, "kafka_send_retry", topic=topic, attempt=state.attempt_number, error=f"{error!r}")
