"""When a call that failed is tried again, and when not."""

import asyncio
import logging

import pytest
from tenacity import stop_after_attempt, wait_none

from app.runtime.retry import backoff, log_level, retry


class Failing:
    """A call that fails with each of the errors, and then succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)

    async def __call__(self) -> str:
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def may_pass(error: BaseException) -> bool:
    return isinstance(error, OSError)


async def test_a_failure_that_may_pass_is_tried_again_and_counted() -> None:
    first, second = OSError(1), OSError(2)
    failures: list[tuple[int, BaseException]] = []
    call = Failing(first, second)
    assert await retry(call, may_pass, wait_none(), lambda *each: failures.append(each)) == "done"
    assert failures == [(1, first), (2, second)]


async def test_any_other_failure_is_raised_at_once() -> None:
    with pytest.raises(ValueError, match="never"):
        await retry(Failing(OSError(), ValueError("never")), may_pass, wait_none())


async def test_what_failed_last_is_raised_when_it_is_to_stop() -> None:
    failures: list[int] = []
    stop, note = stop_after_attempt(2), lambda count, error: failures.append(count)
    with pytest.raises(OSError, match="second"):
        await retry(Failing(OSError("first"), OSError("second"), OSError()), may_pass, wait_none(), note, stop=stop)
    assert failures == [1]  # the last one is not waited for


async def test_what_the_sleep_raises_ends_it() -> None:
    async def sleep(seconds: float) -> None:
        raise KeyError(seconds)

    with pytest.raises(KeyError):
        await retry(Failing(OSError()), may_pass, lambda state: 3.0, sleep=sleep)


async def test_a_cancelled_call_is_not_tried_again() -> None:
    with pytest.raises(asyncio.CancelledError):
        await retry(Failing(asyncio.CancelledError()), may_pass, wait_none())


def test_waits_double_to_the_longest() -> None:
    assert [backoff(failures, 0.5, 3.0) for failures in (0, 1, 2, 3, 10_000)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_the_first_failures_and_every_tenth_are_warnings() -> None:
    loud = [count for count in range(1, 31) if log_level(count, first=2) == logging.WARNING]
    assert loud == [1, 2, 10, 20, 30]
