"""Faust's table recovery with a reader of our own: between a rebalance and the first batch, states are brought up.

The order in which its parts are called stands in app.stream.rebalance.order.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.types import TP
from mode import Service

from app.stream.rebalance.rounds import RebalanceRounds
from app.tables.changelog_reader import ChangelogReader


class StateRecovery(Recovery):
    """Reads changelogs past Faust's streams; the next rebalance ends a recovery, wherever the recovery is."""

    @Service.task
    async def _restart_recovery(self) -> None:
        """After each rebalance take over what is assigned now."""
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                return
            self.signal_recovery_start.clear()
            joined = self.rounds.joined
            self._set_recovery_started()
            try:
                await self._until_rebalanced(self.app.consumer.rebalance.take_over(self, joined))
            except (RebalanceAgain, IllegalStateError):
                continue
            except ServiceStopped:
                return

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Partitions are given; the consumer's thread waits for us, so no other rebalance begins meanwhile."""
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        if generation_id == self.app.consumer_generation_id:
            self.rounds.joined = self.rounds.rebalancing_count

    @property
    def rounds(self) -> RebalanceRounds:
        """The rebalances of this worker."""
        rounds: RebalanceRounds = self.app
        return rounds

    async def recover_states(self) -> None:
        """Bring the states of what is assigned up to the end of their changelogs; waits out an outage."""
        tables = {tp: self.tp_to_table[tp] for tp in self.active_tps}
        logs, changelogs = self.app.transport.logs, sorted(self.tables.changelog_topics)
        identities = {name: (await logs.topic_now(name)).identity for name in changelogs}
        await ChangelogReader(self.app).catch_up({tp: table.data for tp, table in tables.items()}, identities)
        for tp, table in tables.items():
            await table.owner.recovered(tp.partition, identities[tp.topic])
        await self.app.on_rebalance_complete.send()
        self._set_recovery_ended()
        for table in self.tables.values():
            await table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])

    def activate(self, assignment: set[TP]) -> None:
        """Partitions are asked for from here on; of a partition that is not placed nothing is handed over."""
        self.app.consumer.resume_partitions({tp for tp in assignment if not self._is_changelog_tp(tp)})

    async def let_flow(self) -> None:
        """Batches go to the agents from here on."""
        self.completed.set()
        self.app.flow_control.resume()  # which empties the queues of the agents
        self.app.consumer.resume_flow()
        await self.app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Nothing comes this way: changelog partitions stay paused from their assignment on."""

    async def _until_rebalanced(self, step: Coroutine[Any, Any, None]) -> None:
        """Do the step to its end; or end the step at the next rebalance, and wait until the step has ended."""
        task = asyncio.ensure_future(step)
        try:
            await self._wait(task)
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        """Wait without a limit, whose end Faust takes for the end of the process: Faust would never recover again."""
        await super()._wait(coro)


class Tables(TableManager):
    """A table manager with a StateRecovery."""

    async def on_start(self) -> None:
        """Start, without the second that Faust sleeps first."""
        await self._update_channels()
        await self.recovery.start()

    @property
    def recovery(self) -> Recovery:
        """The recovery service, made on first use."""
        if self._recovery is None:  # type: ignore[has-type]  # set by a class without types
            self._recovery = StateRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
