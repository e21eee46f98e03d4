"""Receivers that acknowledge everything and store nothing, each in its own process; prints `serving` when ready.

python -m tools.bench.receivers http|grpc PORT
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvloop
from aiohttp import web
from grpc import aio

from app.local.servers.common import LOOPBACK
from app.protobuf.metrics_pb2 import BatchAck
from app.protobuf.receiver_pb2_grpc import ReceiverServicer, add_ReceiverServicer_to_server

PATH = "/predictive/ingest"


class TakesAll(ReceiverServicer):
    """A gRPC receiver that acknowledges each batch."""

    async def StreamEvents(self, request_iterator: Any, context: Any) -> AsyncIterator[BatchAck]:
        """Acknowledge each batch of events whole."""
        async for batch in request_iterator:
            yield BatchAck(batch_id=batch.batch_id, accepted=len(batch.events))

    async def StreamMetrics(self, request_iterator: Any, context: Any) -> AsyncIterator[BatchAck]:
        """Acknowledge each batch of metrics whole."""
        async for batch in request_iterator:
            yield BatchAck(batch_id=batch.batch_id, accepted=len(batch.metrics))


async def http(port: int) -> None:
    """Serve HTTP and answer 204 to every POST."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", PATH, take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()


async def grpc(port: int) -> None:
    """Serve TakesAll."""
    server = aio.server()
    add_ReceiverServicer_to_server(TakesAll(), server)
    server.add_insecure_port(f"{LOOPBACK}:{port}")
    await server.start()


async def main(kind: str, port: int) -> None:
    """Serve until the process is killed."""
    await {"http": http, "grpc": grpc}[kind](port)
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
