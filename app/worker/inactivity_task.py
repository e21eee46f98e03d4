"""The sweeper's task: every `poll` seconds a look who has fallen silent, and claims (app.core.sweeper.sweeper).

The task writes nothing but these claims. The claims come back as records of the input topic, in the partitions of their
devices, and only then anything is decided, stored and sent, on the path of every other record.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import structlog

from app.core.model.inactivity_claim import InactivityClaim
from app.core.processing.device_cache import DeviceCache
from app.core.sweeper.sweeper import Sweeper
from app.core.sweeper.watermark import LogPosition
from app.ops import metrics

log = structlog.get_logger()

SLICE = 500  # stored states between two breaths, about 2 ms


class InactivityClaims(Protocol):
    """Where claims that devices are silent go."""

    async def send(self, claims: Sequence[tuple[int, InactivityClaim]]) -> bool:
        """Send (partition, claim); whether Kafka has acked all of them. Never waits out an outage."""


class InactivityTask:
    """Looks for silent devices until cancelled."""

    def __init__(
        self,
        devices: DeviceCache,
        sweep: Sweeper,
        silences: InactivityClaims,
        positions: Callable[[], Mapping[int, LogPosition]],
        stored: Callable[[int], Iterator[tuple[bytes, bytes]]],
    ) -> None:
        """`positions` gives, by partition, how far each partition is read whose states may be read.

        `stored` gives (key, state) of all devices of such a partition.
        """
        self._devices, self.sweep, self._silences = devices, sweep, silences
        self._positions, self._stored = positions, stored

    async def run(self, poll: float) -> None:
        """Look, claim, and wait, so that a look begins every `poll` seconds, until cancelled."""
        while True:
            began = time.monotonic()
            await self.once()
            await asyncio.sleep(max(0.0, poll - (time.monotonic() - began)))

    async def once(self) -> int:
        """Look once; how many claims were sent: 0 as well when Kafka did not take them."""
        positions = self._positions()
        await self._seed(positions)
        positions = self._positions()  # seeding takes a while, in which a partition may go
        was_on, were_held = self.sweep.mass, self.sweep.users_held
        claims = self.sweep.look(positions, time.time(), time.monotonic())
        if self.sweep.mass is not was_on:
            log.warning("mass_silence" if not was_on else "mass_silence_over", watched=self.sweep.watched)
        if self.sweep.users_held != were_held:
            log.warning("mass_silence_of_users", users=self.sweep.users_held[:5], count=len(self.sweep.users_held))
        if not claims:
            return 0
        if not await self._silences.send(claims):
            log.warning("silence_not_sent", claims=len(claims), note="Kafka does not take them; claimed again later")
            return 0
        metrics.SILENCE_CLAIMS.inc(len(claims))
        return len(claims)

    async def _seed(self, positions: Mapping[int, LogPosition]) -> None:
        """Read from the stored states of a partition that is new here who has to be looked at."""
        for number, position in positions.items():
            partition = self._devices.partition(position.epoch, number)
            if partition.registry.seeded:
                continue
            now = time.time()
            for count, (key, value) in enumerate(self._stored(number), 1):
                self._devices.seed(partition, key, value, now)
                if count % SLICE == 0:
                    await asyncio.sleep(0)
                    if number not in self._positions() or not self._devices.holds(partition):
                        return
            partition.registry.seeded = True
