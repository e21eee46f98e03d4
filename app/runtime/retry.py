"""How a call that failed is tried again: after how many seconds, until when, and how loudly each failure is logged."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_never
from tenacity.stop import stop_base

T = TypeVar("T")

Wait = Callable[[RetryCallState], float]  # tenacity's; seconds
Failed = Callable[[int, BaseException], None]  # failures in a row so far, and the latest


async def retry(
    call: Callable[[], Awaitable[T]],
    again: Callable[[BaseException], bool],
    wait: Wait,
    failed: Failed = lambda failures, error: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    stop: stop_base = stop_never,
) -> T:
    """Return what `call` returns, calling it again after each failure for which `again` is true; any other failure is
    raised at once.

    `wait` gives the seconds between two calls; `failed` is called before each wait. What `sleep` raises ends the
    retrying; so does `stop`, which is asked after a failure, and then that failure is raised.
    """

    try:
        return await call()  # nearly always: the machinery below costs 0.1 ms, more than the call itself
    except BaseException as error:
        if not again(error):
            raise
        first = [error]

    def before_sleep(state: RetryCallState) -> None:
        assert state.outcome is not None
        failed(state.attempt_number, state.outcome.exception() or AssertionError("only failures are tried again"))

    async def attempt() -> T:  # tenacity awaits what is a coroutine function, and no lambda
        if first:
            raise first.pop()  # what has failed above is the first attempt
        return await call()

    retrying = AsyncRetrying(
        retry=retry_if_exception(again), wait=wait, before_sleep=before_sleep, sleep=sleep, stop=stop, reraise=True
    )
    return await retrying(attempt)


def backoff(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after so many failures (0, 1, ...): doubled each time, from `first` to `longest`."""
    return min(longest, first * 2.0 ** min(failures, 30))


def delay(failures: int, first: float = 0.1, longest: float = 10.0) -> float:
    """The seconds of `backoff`, with a jitter down to the half of them.

    The jitter keeps many clients from coming back at the same moment after a server's restart.
    """
    return backoff(failures, first, longest) * random.uniform(0.5, 1.0)


def log_level(failures: int, first: int = 3) -> int:
    """WARNING for the `first` failures in a row and for every tenth, DEBUG for the rest."""
    return logging.WARNING if failures <= first or failures % 10 == 0 else logging.DEBUG
