"""Faust's table recovery with a reader of our own: between a rebalance and the first batch, states are brought up."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.types import TP
from mode import Service

from app.kafka.rebalance_rounds import RebalanceRounds
from app.tables.changelog_reader import ChangelogReader


class StateRecovery(Recovery):  # type: ignore[misc]
    """Keeps Faust's order (states, then positions, then the flow), and reads changelogs past its streams."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _restart_recovery(self) -> None:
        """After each rebalance: the states of what is assigned now; the next rebalance ends it, wherever it is."""
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                return
            self.signal_recovery_start.clear()
            joined = self._rounds.joined
            self._set_recovery_started()
            try:
                await self._until_rebalanced(self._catch_up())
                await self._until_rebalanced(self.on_recovery_completed(joined))
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
            self._rounds.joined = self._rounds.rebalancing_count

    async def on_recovery_completed(self, joined: int = 0) -> None:
        """Find the positions, and let the flow run; not when another rebalance than number `joined` has begun."""
        app, consumer = self.app, self.app.consumer
        await app.on_rebalance_complete.send()
        self._set_recovery_ended()
        for table in self.tables.values():
            await table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])
        assignment = consumer.assignment()
        if self._rounds.rebalancing_count != joined:
            return  # it stops the flow, and its own recovery lets it run again
        consumer.resume_partitions({tp for tp in assignment if not self._is_changelog_tp(tp)})
        if assignment:
            await self._wait(consumer.perform_seek())
        if self._rounds.rebalancing_count != joined:
            return
        self.completed.set()
        app.flow_control.resume()  # it empties the queues of the agents
        consumer.resume_flow()
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        if self._rounds.rebalancing_count == joined:
            self._rounds.ended = joined
            app.on_rebalance_end()

    @property
    def _rounds(self) -> RebalanceRounds:
        rounds: RebalanceRounds = self.app
        return rounds

    @Service.task  # type: ignore[untyped-decorator]
    async def _slurp_changelogs(self) -> None:
        """Nothing comes this way: changelog partitions stay paused from their assignment on."""

    async def _catch_up(self) -> None:
        tables = {tp: self.tp_to_table[tp] for tp in self.active_tps}
        logs, changelogs = self.app.transport.logs, sorted(self.tables.changelog_topics)
        identities = {name: (await logs.topic_now(name)).identity for name in changelogs}
        await ChangelogReader(self.app).catch_up({tp: table.data for tp, table in tables.items()}, identities)
        for tp, table in tables.items():
            await table.owner.recovered(tp.partition, identities[tp.topic])

    async def _until_rebalanced(self, step: Coroutine[Any, Any, None]) -> None:
        """Do it to its end; or end it at the next rebalance, and wait until it has ended."""
        task = asyncio.ensure_future(step)
        try:
            await self._wait(task)
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        """Without a limit: Faust takes its end for that of the process, and would never recover again."""
        await super()._wait(coro)


class Tables(TableManager):  # type: ignore[misc]
    """A table manager with a StateRecovery."""

    async def on_start(self) -> None:
        """Start, without the second that Faust sleeps first."""
        await self._update_channels()
        await self.recovery.start()

    @property
    def recovery(self) -> Recovery:
        """The recovery service, made on first use."""
        if self._recovery is None:  # type: ignore[has-type]
            self._recovery = StateRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
