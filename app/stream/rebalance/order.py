"""A rebalance, from the loss of the partitions to their first record; a stop of the worker ends with step 3.

| step | in which hook of Faust | who does it |
| --- | --- | --- |
| 1 revoke | ConsumerThread, BatchConsumer.on_partitions_revoked | Polls.end; Faust: flow stops, queues are emptied |
| 2 drain | BatchConsumer.wait_empty | Pipeline.drain: running writes end, or are interrupted in time |
| 3 commit | BatchConsumer.wait_empty | PrefixCommit, LogBook.signature; then BatchReader.forget |
| 4 assign | ConsumerThread.on_partitions_assigned, StateRecovery.on_rebalance | EqualCountsAssignor |
| 5 recover | StateRecovery._restart_recovery: `take_over` | ChangelogReader.catch_up, FaustStates.recovered |
| 6 place | BatchConsumer.perform_seek | Placement: LogBook.positions, Offsets.seek_to, InFlight.place |
| 7 flow | StateRecovery.let_flow | FlowControl, BatchConsumer.resume_flow; RebalanceRounds.ended |

Steps 1 and 4 begin in the thread of the Kafka client, which waits until the loop has done them: so no rebalance begins
within them. The next rebalance may begin anywhere in 5 to 7, and ends them wherever they are (RebalanceRounds counts).
"""

import gc
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from aiokafka.errors import IllegalStateError
from faust.types import TP

from app.stream.batch_reader import BatchReader
from app.stream.prefix_commit import commit_in_time


class FaustConsumer(Protocol):
    """What the steps ask of Faust's consumer (app.stream.transport.BatchConsumer)."""

    app: Any
    drain: Callable[[], Awaitable[None]]  # of the pipeline

    @property
    def unacked(self) -> set[Any]:
        """The messages that were handed over and are not acknowledged."""

    def assignment(self) -> set[TP]:
        """The partitions that this worker has now."""

    def stop_flow(self) -> None:
        """Take no more records from Kafka."""

    def commit_now(self) -> Coroutine[Any, Any, None]:
        """Commit all that is done at this moment."""

    async def perform_seek(self) -> None:
        """Forget everything in flight and go on from the committed offsets."""


class FaustRecovery(Protocol):
    """What the steps ask of Faust's recovery (app.stream.rebalance.recovery.StateRecovery)."""

    async def recover_states(self) -> None:
        """Bring the states of the assigned partitions up to their changelog; wait out an outage of Kafka."""

    def activate(self, assignment: set[TP]) -> None:
        """Ask Kafka for records of these partitions from now on."""

    async def let_flow(self) -> None:
        """Let records flow again, from where each partition stands."""


class Rebalance:
    """The steps of one worker's rebalances, in their order; the hooks of Faust come here."""

    def __init__(self, consumer: FaustConsumer, reader: BatchReader) -> None:
        self._consumer, self._reader = consumer, reader
        self._last_commit = False  # of a stop: begun

    async def give_up(self, revoke: Awaitable[None]) -> None:
        """Steps 1 to 3. `revoke` is Faust's step: it empties the queues of the agents, and calls `drain_and_commit`."""
        self._consumer.stop_flow()  # 1 revoke: Faust does so only when there is an assignment
        await revoke  # 2 drain, 3 commit
        self._reader.forget()
        self._reader.seek_back.in_doubt = False
        gc.collect()  # aiokafka's readers of what was fetched and not begun hold themselves, and 4 MiB each

    async def drain_and_commit(self) -> None:
        """Steps 2 and 3: let the pipeline finish, or interrupt it after its own time limit; commit the done prefix."""
        await self._consumer.drain()  # 2 drain
        self._consumer.unacked.clear()
        if not self._consumer.app.should_stop:
            await self._consumer.commit_now()  # 3 commit
        elif not self._last_commit:  # Faust comes here twice when it stops
            self._last_commit = True
            await commit_in_time(self._consumer.commit_now())

    async def take_over(self, recovery: FaustRecovery, joined: int) -> None:
        """Steps 5 to 7, after rebalance number `joined` has given partitions.

        Raises IllegalStateError when another rebalance has begun, whose own take-over does all of this again.
        """
        app, consumer = self._consumer.app, self._consumer
        await recovery.recover_states()  # 5 recover
        assignment = consumer.assignment()
        self._current(joined)
        recovery.activate(assignment)
        if assignment:
            await consumer.perform_seek()  # 6 place
        self._current(joined)
        await recovery.let_flow()  # 7 flow
        self._current(joined)
        app.ended = joined
        app.on_rebalance_end()

    def _current(self, joined: int) -> None:
        if self._consumer.app.rebalancing_count != joined:
            raise IllegalStateError("the group rebalances again")
