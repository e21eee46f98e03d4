"""Waiting for a group's coordinator: a broker that has just started answers everything else before it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

T = TypeVar("T")

SECONDS = 10.0  # a single broker makes the topic of its groups at the first question; seen to take 1 to 3 s
_COMING = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)


async def coordinated(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to `ask`, asked again for up to 10 s while the coordinator comes. Raises what `ask` raised last."""
    patient = AsyncRetrying(
        retry=retry_if_exception_type(_COMING), stop=stop_after_delay(SECONDS), wait=wait_fixed(0.2), reraise=True
    )
    async for attempt in patient:
        with attempt:
            return await ask()
    raise AssertionError  # tenacity raises what was raised last
