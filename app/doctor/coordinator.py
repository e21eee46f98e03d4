"""Waiting for a group's coordinator: a broker that has just started answers everything else before it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
from tenacity import stop_after_delay, wait_fixed

from app.runtime.retry import retry

T = TypeVar("T")

SECONDS = 10.0  # a single broker makes the topic of its groups at the first question; seen to take 1 to 3 s
_COMING = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)


async def coordinated(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to `ask`, asked again for up to 10 s while the coordinator comes. Raises what `ask` raised last."""
    return await retry(ask, lambda error: isinstance(error, _COMING), wait_fixed(0.2), stop=stop_after_delay(SECONDS))
