"""An intake on a writer that a test holds and lets go, and records to give it."""

import asyncio
from collections.abc import Sequence
from typing import cast

from app.core.ingress.limits import IngressLimits
from app.gateways.admission import Admission
from app.gateways.intake import Intake
from app.gateways.record import IngestRecord
from app.gateways.telemetry_record import Arrival, sealed
from app.gateways.writer import KafkaWriter
from app.ports import Account

ARRIVAL = Arrival(b"http", 1_795_230_000_000)


class HeldWriter:
    """KafkaWriter in memory: writes one chunk at a time, while `open` is set; refuses what is in `refused`."""

    topic = "iot-stream"

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.written: list[IngestRecord] = []
        self.dead: list[IngestRecord] = []
        self.chunks: list[int] = []
        self.refused: set[bytes] = set()
        self.broken: Exception | None = None
        self.available = self.answered = True
        self.closed = False

    async def write(self, records: Sequence[IngestRecord], dead: Sequence[IngestRecord] = ()) -> Sequence[IngestRecord]:
        """As KafkaWriter.write."""
        await self.open.wait()
        if self.broken:
            raise self.broken
        await asyncio.sleep(0)
        self.chunks.append(len(records) + len(dead))
        refused = [record for record in records if record.value in self.refused]
        self.written += [record for record in records if record.value not in self.refused]
        self.dead += [*dead, *refused]
        return refused

    async def close(self) -> None:
        """As KafkaWriter.close."""
        self.closed = True


class IntakeWorld:
    """`async with IntakeWorld() as world`: the intake runs meanwhile."""

    def __init__(self, max_bytes: int = 1 << 20, limits: IngressLimits | None = None) -> None:
        self.writer = HeldWriter()
        self.intake = Intake(cast(KafkaWriter, self.writer), max_bytes, Admission(limits or IngressLimits()))
        self.stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "IntakeWorld":
        self._running = asyncio.create_task(self.intake.run(self.stop, 0.2))
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.end()

    async def end(self) -> None:
        """Stop it, and raise what it raised."""
        self.stop.set()
        if self._running:
            running, self._running = self._running, None
            await running


def record(user: str, device: str, payload: bytes = b"{}", arrival: Arrival = ARRIVAL) -> IngestRecord:
    """A record of a device."""
    made = sealed(Account(user), "users", user, device, payload, arrival)
    assert isinstance(made, IngestRecord)
    return made
