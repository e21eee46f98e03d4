"""Faust's table recovery with a reader of our own: between a rebalance and the first batch, states are brought up."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from mode import Service

from app.adapters.changelog_reader import ChangelogReader


class StateRecovery(Recovery):  # type: ignore[misc]
    """Keeps Faust's order (states, then positions, then the flow), and reads changelogs past its streams."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _restart_recovery(self) -> None:
        """After each rebalance: the states of what is assigned now; the next rebalance ends it, wherever it is."""
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                return
            self.signal_recovery_start.clear()
            generation = self._generation_id
            self._set_recovery_started()
            try:
                await self._until_rebalanced(self._catch_up())
                await self._until_rebalanced(self.on_recovery_completed(generation))
            except (RebalanceAgain, IllegalStateError):
                continue
            except ServiceStopped:
                return

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
