"""Simulated devices that send by a gateway instead of MQTT: readings in batches, each again until it is answered."""

import asyncio
import json
import time
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from app.errors import TransientError
from app.local.fleet.devices import USERS
from app.local.fleet.readings import payload
from app.local.servers.common import write_private
from app.runtime.interrupt import Interrupt, set_within

PAUSE = 0.1  # seconds between two batches
AGAIN = 1.0  # and between two tries
LAST = 5.0  # that a batch under way has once the fleet is stopped
MOST = 500  # readings of a batch; what is due beyond that while a gateway is away is never made


class Sample(NamedTuple):
    """One reading of one device; `at` is seconds since 1970."""

    number: int  # of the device
    sequence: int
    at: float

    @property
    def user(self) -> str:
        """The user whose device it is."""
        return USERS[self.number % len(USERS)]

    @property
    def device(self) -> str:
        """The name of the device."""
        return f"sensor-{self.number + 1:02}"

    def line(self) -> bytes:
        """The reading as a JSON object that names its device itself; of readings.BAD_EVERY one is broken, and names
        no device.
        """
        return named(payload(self.number, self.sequence, self.at), self.user, self.device)


def named(reading: bytes, user: str, device: str) -> bytes:
    """A reading with its ids in it; a payload that is no JSON object stays unchanged."""
    try:
        fields = json.loads(reading)
    except ValueError:
        return reading
    return (
        json.dumps({"user_id": user, "device_id": device, **fields}).encode() if isinstance(fields, dict) else reading
    )


class Outlet(Protocol):
    """A connection to a gateway."""

    def send(self, samples: Sequence[Sample]) -> Coroutine[Any, Any, int]:
        """Return once the gateway has answered all of the samples: how many of them it has refused. Raises
        TransientError when they are to be sent again, PermanentError when the gateway will never take them.
        """

    async def close(self) -> None:
        """End the connection; safe twice."""


class GatewayFleet:
    """All devices, sending evenly spread over time through one outlet."""

    def __init__(self, outlet: Outlet, devices: int, rate: float, memory: Path) -> None:
        """`devices`: how many. `rate`: readings a second of each device. `memory`: the file where sequence ids are kept
        over restarts.
        """
        self._outlet, self._devices, self._rate, self._memory = outlet, devices, rate, memory
        self.answered, self.refused, self.problem = 0, 0, ""

    async def run(self, stop: asyncio.Event) -> None:
        """Send until stopped; a batch under way then has LAST seconds. A gateway that is away is tried again every
        AGAIN seconds; `problem` has its last words. Closes the outlet.

        Raises PermanentError when the gateway will never take what is sent.
        """
        try:
            await self._run(stop)
        finally:
            await self._outlet.close()

    async def _run(self, stop: asyncio.Event) -> None:
        # After a kill the file is up to a batch old: the next ids lie beyond any that can have been used since.
        samples = self._samples(self._remembered() + MOST)
        waiting: list[Sample] = []
        began, made, interrupt = time.monotonic(), 0, Interrupt(stop)
        while not stop.is_set():
            due = int((time.monotonic() - began) * self._rate * self._devices) - made
            if not waiting and due > 0:
                waiting = [next(samples) for _ in range(min(due, MOST))]
                made += due  # readings over MOST are left out: they were never sent
                self._remember(waiting[-1].sequence)
            sent = await self._send(waiting, interrupt) if waiting else True
            waiting = [] if sent else waiting
            await set_within(stop, PAUSE if sent else AGAIN)

    async def _send(self, samples: Sequence[Sample], interrupt: Interrupt) -> bool:
        try:
            refused = await interrupt.race(self._outlet.send(samples), LAST)
        except TransientError as error:
            self.problem = str(error)
            return False
        self.refused += refused
        self.answered += len(samples) - refused
        return True

    def _samples(self, base: int) -> Iterator[Sample]:
        sequence = base
        while True:
            sequence += 1
            for number in range(self._devices):
                yield Sample(number, sequence, time.time())

    def _remembered(self) -> int:
        try:
            return int(json.loads(self._memory.read_text())["sequence"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _remember(self, sequence: int) -> None:
        write_private(self._memory, json.dumps({"sequence": sequence}) + "\n")
