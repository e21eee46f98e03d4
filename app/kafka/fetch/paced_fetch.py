"""Requests for records, no sooner after one another than need be: in, aiokafka's; out, the same, some of them later."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

FETCH_SECONDS = 0.005  # from one request to a broker to the next


class PacedFetch:
    """Asks a broker for records, at most once in so many seconds."""

    def __init__(self, ask: Callable[[Any, Any, Any], Awaitable[Any]], seconds: float) -> None:
        self._ask, self._seconds = ask, seconds
        self._asked: dict[Any, float] = {}  # broker -> when the broker was asked last

    async def __call__(self, assignment: Any, node_id: Any, request: Any) -> Any:
        """What aiokafka's _proc_fetch_request answers."""
        wait = self._asked.get(node_id, 0.0) + self._seconds - time.monotonic()
        if wait > 0:
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:  # as aiokafka answers a cancelled fetch: nothing new
                return False
        self._asked[node_id] = time.monotonic()
        return await self._ask(assignment, node_id, request)
