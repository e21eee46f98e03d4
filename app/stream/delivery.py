"""Messages on their way to an agent: in, Faust's consumer; out, the same, with no task for what waits for nothing."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any

from faust.transport.drivers import aiokafka as driver
from mode.services import WaitResults


class Delivery(driver.Consumer):  # type: ignore[misc]
    """A consumer that hands messages over."""

    async def wait_first(self, *coros: Any, timeout: float | None = None) -> Any:
        """Faust's. It comes here with each message, and makes four tasks; one that nothing holds up needs none."""
        if timeout is None and len(coros) == 2 and all(map(asyncio.iscoroutine, coros)):
            left = run_eagerly(*coros)
            if left is None:
                return WaitResults([], [], self.should_stop)
            coros = left
        return await super().wait_first(*coros, timeout=timeout)


Work = Coroutine[Any, Any, Any]


def run_eagerly(work: Work, other: Work) -> tuple[Work, Work] | None:
    """Run `work` up to where it waits: returns the rest of it and `other`, or None when it has ended.

    `other` has not begun, and is closed unless returned. Raises what `work` raises. Up to where `work` waits, the
    current task is the caller's.
    """
    try:
        awaited = work.send(None)
    except BaseException as end:
        other.close()
        if isinstance(end, StopIteration):
            return None
        raise
    return _rest(work, awaited), other


async def _rest(work: Work, awaited: Any) -> None:
    try:
        await _go_on(work, awaited)
    finally:
        work.close()


@types.coroutine
def _go_on(work: Work, awaited: Any) -> Generator[Any, Any, None]:
    """What a task does: hand on what is awaited, and send back what becomes of it."""
    while True:
        failure: BaseException | None = None
        try:
            answer = yield awaited
        except BaseException as error:  # noqa: BLE001 - handed on, as a task does
            failure = error
        try:
            awaited = work.send(answer) if failure is None else work.throw(failure)
        except StopIteration:
            return
