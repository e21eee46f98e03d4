"""The order of a rebalance, on recorders: what is done after what, and what a rebalance that comes meanwhile ends."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from app.stream.rebalance.order import Rebalance

ZERO = TP("readings", 0)
TAKE_OVER = ["recover_states", "activate", "perform_seek", "let_flow", "on_rebalance_end"]


class Recorder:
    """The consumer, its reader and the recovery; another rebalance begins in the call named `interrupted`."""

    def __init__(self, interrupted: str = "", assignment: set[TP] | None = None, stopping: bool = False) -> None:
        self.calls: list[str] = []
        self.app = SimpleNamespace(
            rebalancing_count=1, ended=0, should_stop=stopping, on_rebalance_end=lambda: self.note("on_rebalance_end")
        )
        self.unacked = {"a message"}
        self.in_doubt, self.seek_back = True, self
        self._interrupted = interrupted
        self._assignment = {ZERO} if assignment is None else assignment

    def note(self, name: str) -> None:
        self.calls.append(name)
        if name == self._interrupted:
            self.app.rebalancing_count += 1

    def assignment(self) -> set[TP]:
        return self._assignment

    def stop_flow(self) -> None:
        self.note("stop_flow")

    def forget(self) -> None:
        self.note("forget")

    def activate(self, assignment: set[TP]) -> None:
        assert assignment == self._assignment
        self.note("activate")

    async def drain(self) -> None:
        self.note("drain")

    async def commit_now(self) -> None:
        assert self.unacked == set()
        self.note("commit_now")

    async def perform_seek(self) -> None:
        self.note("perform_seek")

    async def recover_states(self) -> None:
        self.note("recover_states")

    async def let_flow(self) -> None:
        self.note("let_flow")


def rebalance(parts: Recorder) -> tuple[Rebalance, Any]:
    everything: Any = parts
    return Rebalance(everything, everything), everything


async def test_partitions_are_drained_and_committed_before_they_are_forgotten() -> None:
    steps, parts = rebalance(Recorder())

    async def revoke() -> None:
        parts.note("Faust")
        await steps.drain_and_commit()

    await steps.give_up(revoke())
    assert parts.calls == ["stop_flow", "Faust", "drain", "commit_now", "forget"]
    assert not parts.in_doubt


async def test_a_stop_commits_once_though_faust_asks_twice() -> None:
    steps, parts = rebalance(Recorder(stopping=True))
    await steps.drain_and_commit()
    await steps.drain_and_commit()
    assert parts.calls == ["drain", "commit_now", "drain"]


async def test_a_commit_that_hangs_does_not_hold_up_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.stream.prefix_commit.LAST_COMMIT_SECONDS", 0.01)
    steps, parts = rebalance(Recorder(stopping=True))

    async def hangs() -> None:
        await asyncio.sleep(3600)

    parts.commit_now = hangs
    async with asyncio.timeout(10):
        await steps.drain_and_commit()


async def test_what_is_taken_over_is_recovered_then_placed_then_flows() -> None:
    steps, parts = rebalance(Recorder())
    await steps.take_over(parts, 1)
    assert parts.calls == TAKE_OVER
    assert parts.app.ended == 1


async def test_a_worker_without_partitions_has_nothing_to_place() -> None:
    steps, parts = rebalance(Recorder(assignment=set()))
    await steps.take_over(parts, 1)
    assert parts.calls == [name for name in TAKE_OVER if name != "perform_seek"]


@pytest.mark.parametrize(
    ("interrupted", "last"),
    [
        ("recover_states", "recover_states"),
        ("activate", "perform_seek"),  # the seek finds out
        ("perform_seek", "perform_seek"),
        ("let_flow", "let_flow"),
    ],
)
async def test_a_rebalance_that_begins_meanwhile_is_not_ended_by_the_one_before(interrupted: str, last: str) -> None:
    steps, parts = rebalance(Recorder(interrupted))
    with pytest.raises(IllegalStateError):
        await steps.take_over(parts, 1)
    assert parts.calls == TAKE_OVER[: TAKE_OVER.index(last) + 1]
    assert parts.app.ended == 0
