"""Requests on a socket that has just been closed: in, aiokafka's connections; out, KafkaConnectionError, as asked.

aiokafka was written for asyncio's own transports, which drop what is written after their end; those of uvloop raise
RuntimeError. Between the end of a socket (a reset, say) and aiokafka's reader, which then closes the connection, there
is a turn of the loop, and a request in that turn ended the worker.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

Send = Callable[..., Any]


def raise_connection_errors() -> None:
    """Of every connection of aiokafka in this process, from now on. To call it again changes nothing."""
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
