"""The end of Kafka clients and connections: in, an aiokafka client; afterwards its connections and tasks are gone.

aiokafka's own `stop` waits for Kafka: the producer's until all is delivered, the consumer's until it has left its
group. What is not acknowledged by then belongs to batches whose offsets are not committed, so nothing is lost.
Leans on private parts of aiokafka 0.14, which is pinned; tests/contract/kafka/test_close_clients.py and
test_closed_socket.py watch them.
"""

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError

log = structlog.get_logger()

Send = Callable[..., Any]

PRODUCER_SECONDS = 1.0
LEAVE_SECONDS = 2.0  # for the answer of the group's coordinator, which finds out by itself when the session ends
CUT_SECONDS = 0.5
GOODBYE_SECONDS = 1.0  # for the broker's part of the end of TLS: it lets a refused client wait for 100 ms


async def close_connection(connection: AIOKafkaConnection) -> None:
    """Close, and wait for the end of the socket, also after a `connect` that failed.

    TLS ends with a word of both sides. A loop that ends before the broker's leaves an open socket to the collector.
    """
    closed = connection.close()
    if closed is not None and connection._protocol is not None:  # there was a socket; without one nothing ever ends
        await asyncio.wait({closed}, timeout=GOODBYE_SECONDS)


async def close_producer(client: AIOKafkaProducer) -> None:
    """Close without delivering."""
    try:
        async with asyncio.timeout(PRODUCER_SECONDS):
            await client.client.close()  # ends the requests under way, and so what the sender waits for
            await client._sender.close()
    except (TimeoutError, KafkaError) as error:
        log.warning("kafka_producer_close", error=repr(error))
    finally:
        client._closed = True  # or the client complains when it is collected


async def close_consumer(client: AIOKafkaConsumer, seconds: float = LEAVE_SECONDS) -> None:
    """Leave the group and close, without Kafka's answer when none comes within `seconds`."""
    stopping = asyncio.create_task(client.stop())
    try:
        await asyncio.wait({stopping}, timeout=seconds)
    finally:
        if not stopping.done() or stopping.cancelled() or stopping.exception():
            await _cut(client, stopping)


async def _cut(client: AIOKafkaConsumer, stopping: "asyncio.Task[None]") -> None:
    """End whatever `stop` has left: `stop` waits for requests, and stumbles over its own cancelled tasks."""
    if not stopping.done():
        log.warning("kafka_consumer_cut_off", note="Kafka does not answer; the group goes on at the session's end")
    await asyncio.wait({asyncio.create_task(client._client.close())}, timeout=CUT_SECONDS)
    left = {stopping, *_tasks(client)}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _tasks(client: AIOKafkaConsumer) -> list["asyncio.Task[Any]"]:
    parts = [part for part in (client._coordinator, client._fetcher) if part is not None]
    values = [value for part in parts for value in vars(part).values()]
    return [each for each in values if isinstance(each, asyncio.Task)] + (
        list(client._fetcher._pending_tasks) if client._fetcher is not None else []
    )


def raise_connection_errors() -> None:
    """Let a request on a socket that was just closed raise KafkaConnectionError, in this process, from now on.

    aiokafka was written for asyncio's own transports, which drop what is written after their end; those of uvloop raise
    RuntimeError. Between the end of a socket (a reset, say) and aiokafka's reader, which then closes the connection,
    there is a turn of the loop, and a request in that turn ended the worker. A second call changes nothing.
    """
    for name in ("send", "_send_sasl_token"):
        send = getattr(AIOKafkaConnection, name)
        if not hasattr(send, "__wrapped__"):
            setattr(AIOKafkaConnection, name, _raising(send))


def _raising(send: Send) -> Send:
    @wraps(send)
    def raising(connection: Any, *args: Any, **options: Any) -> Any:
        try:
            return send(connection, *args, **options)
        except RuntimeError as error:
            if isinstance(error, NotImplementedError) or not connection._writer.is_closing():
                raise
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            where = f"{connection.host}:{connection.port}"
            raise KafkaConnectionError(f"the connection to {where} is closed: {error}") from error

    return raising
