"""A request in the very turn of the loop in which its socket was closed: an error of Kafka's, as asyncio has it."""

import asyncio
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from app.kafka.close_clients import raise_connection_errors
from app.runtime.event_loop import Loop
from tests.servers import KafkaServer

pytestmark = pytest.mark.integration


def _after_a_reset(bootstrap: str, call: str, *args: Any) -> None:
    """Connect, lose the socket, and call before aiokafka's reader has noticed."""

    async def run() -> None:
        host, _, port = bootstrap.rpartition(":")
        connection = await create_conn(host, int(port), request_timeout_ms=5_000)
        try:
            connection._writer.transport.abort()
            await asyncio.sleep(0)
            await getattr(connection, call)(*args)
        finally:
            connection.close()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(run())


@pytest.mark.parametrize(("call", "argument"), [("send", MetadataRequest([])), ("_send_sasl_token", b"token")])
def test_it_is_an_error_of_the_connection(
    kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch, call: str, argument: Any
) -> None:
    plain = getattr(AIOKafkaConnection, call)
    monkeypatch.setattr(AIOKafkaConnection, call, getattr(plain, "__wrapped__", plain))
    with pytest.raises(RuntimeError, match="handler is closed"):  # what aiokafka makes of it by itself
        _after_a_reset(kafka.bootstrap, call, argument)
    raise_connection_errors()
    with pytest.raises(KafkaConnectionError, match="is closed"):
        _after_a_reset(kafka.bootstrap, call, argument)


def test_other_errors_stay_what_they_are(kafka: KafkaServer) -> None:
    raise_connection_errors()
    raise_connection_errors()
    wrapped: Any = AIOKafkaConnection.send
    assert not hasattr(wrapped.__wrapped__, "__wrapped__")

    async def run() -> None:
        host, _, port = kafka.bootstrap.rpartition(":")
        connection = await create_conn(host, int(port), request_timeout_ms=5_000)
        try:
            with pytest.raises(AttributeError):
                connection.send(None)
            assert (await connection.send(MetadataRequest([]))).brokers
        finally:
            connection.close()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(run())
