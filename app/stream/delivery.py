"""Messages on their way to an agent: in, the coroutine that hands over; out, no task, unless the coroutine waits."""

import types
from collections.abc import Coroutine, Generator
from typing import Any

Work = Coroutine[Any, Any, Any]


def run_eagerly(work: Work, other: Work) -> tuple[Work, Work] | None:
    """Run `work` up to where it waits: returns the rest of `work` and `other`, or None when `work` has ended.

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
    """Do what a task does: hand on what is awaited, and send back its result."""
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
