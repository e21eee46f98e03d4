"""These tests run on the event loop that the gateways run on."""

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop's: its transports and handshakes are not asyncio's."""
    return {"uvloop": uvloop.new_event_loop}
