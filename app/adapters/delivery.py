"""Messages on their way to an agent: in, Faust's consumer; out, the same, with no task for what waits for nothing."""

import asyncio
from typing import Any

from faust.transport.drivers import aiokafka as driver
from mode.services import WaitResults

from app.adapters.begun import begin


class Delivery(driver.Consumer):  # type: ignore[misc]
    """A consumer that hands messages over."""

    async def wait_first(self, *coros: Any, timeout: float | None = None) -> Any:
        """Faust's. It comes here with each message, and makes four tasks; one that nothing holds up needs none."""
        if timeout is None and len(coros) == 2 and all(map(asyncio.iscoroutine, coros)):
            left = begin(*coros)
            if left is None:
                return WaitResults([], [], self.should_stop)
            coros = left
        return await super().wait_first(*coros, timeout=timeout)
