"""Waiting for the coordinator of a group."""

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, GroupCoordinatorNotAvailableError, KafkaError

from app.kafka.group_coordinator import coordinated


async def test_a_coordinator_that_comes_is_waited_for() -> None:
    errors: list[KafkaError] = [GroupCoordinatorNotAvailableError("coming")]

    async def ask() -> int:
        if errors:
            raise errors.pop()
        return 7

    assert await coordinated(lambda: ask()) == 7


async def test_other_errors_are_raised_at_once() -> None:
    async def ask() -> int:
        raise GroupAuthorizationFailedError("not allowed")

    with pytest.raises(GroupAuthorizationFailedError):
        await coordinated(ask)
