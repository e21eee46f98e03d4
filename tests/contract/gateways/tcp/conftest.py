"""The event loop of the program; for some tests asyncio's own as well, which calls protocols in another order."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

ON_BOTH = ("test_lines.py", "test_stop.py")


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop's, on which the gateways run."""
    loops = {"uvloop": uvloop.new_event_loop}
    return {**loops, "asyncio": asyncio.new_event_loop} if item.path.name in ON_BOTH else loops
