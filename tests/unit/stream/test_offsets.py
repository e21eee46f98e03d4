"""A question of the recovery is asked until Kafka answers; a rebalance ends the asking."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError, KafkaConnectionError

from app.stream import offsets
from app.stream.offsets import Offsets
from app.stream.rebalance.rounds import RebalanceRounds

THREAD: Any = None  # not asked in these tests


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "RETRY_SECONDS", 0.001)


def question(*failures: BaseException, asked: list[int]) -> Callable[[], Awaitable[str]]:
    """A question that is answered after these failures; `asked` gets the number of each time it is asked."""
    left = iter(failures)

    async def ask() -> str:
        asked.append(len(asked))
        if failure := next(left, None):
            raise failure
        return "answer"

    return ask


@pytest.mark.parametrize("failure", [KafkaConnectionError("away"), TimeoutError(), ConnectionResetError()], ids=repr)
async def test_a_question_is_asked_until_kafka_answers(failure: BaseException) -> None:
    asked: list[int] = []
    assert await Offsets(THREAD, RebalanceRounds()).insist(question(failure, failure, asked=asked)) == "answer"
    assert asked == [0, 1, 2]


async def test_partitions_that_are_not_ours_are_not_asked_for_again() -> None:
    asked: list[int] = []
    with pytest.raises(IllegalStateError, match="not ours"):
        await Offsets(THREAD, RebalanceRounds()).insist(question(IllegalStateError("not ours"), asked=asked))
    assert asked == [0]


async def test_a_rebalance_ends_the_asking() -> None:
    asked: list[int] = []
    rounds = RebalanceRounds()
    ask = question(KafkaConnectionError("away"), asked=asked)

    async def rebalanced_meanwhile() -> str:
        rounds.rebalancing_count += 1
        return await ask()

    with pytest.raises(IllegalStateError, match="the group rebalances again"):
        await Offsets(THREAD, rounds).insist(rebalanced_meanwhile)
    assert asked == [0]
