"""Simulated devices that send by a gateway: all is answered once, in order, over failures and restarts."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.errors import TransientError
from app.local.fleet import gateway_fleet
from app.local.fleet.gateway_fleet import GatewayFleet, Sample, named
from app.local.fleet.readings import BAD_EVERY, BROKEN


class Outlet:
    """A gateway that refuses what is broken, and every third time does not answer."""

    def __init__(self, broken: bool = False) -> None:
        self.asked, self.taken, self.closed = 0, list[Sample](), False
        self._broken = broken

    async def send(self, samples: Sequence[Sample]) -> int:
        self.asked += 1
        if self._broken:
            await asyncio.sleep(3600)
        if self.asked % 3 == 1:
            raise TransientError("no answer")
        self.taken += samples
        return sum(sample.sequence % 10 == 0 for sample in samples)

    async def close(self) -> None:
        self.closed = True


async def sent(memory: Path, outlet: Outlet, seconds: float = 1.6) -> GatewayFleet:
    fleet, stop = GatewayFleet(outlet, 4, 100.0, memory), asyncio.Event()
    running = asyncio.create_task(fleet.run(stop))
    await asyncio.sleep(seconds)
    stop.set()
    await running
    return fleet


async def test_each_reading_is_answered_once_and_in_order(tmp_path: Path) -> None:
    outlet = Outlet()
    fleet = await sent(tmp_path / "fleet.json", outlet)
    assert outlet.closed
    assert outlet.asked > 2
    assert fleet.problem == "no answer"
    assert fleet.answered + fleet.refused == len(outlet.taken) > 50
    assert fleet.refused == sum(sample.sequence % 10 == 0 for sample in outlet.taken)
    assert len({(sample.number, sample.sequence) for sample in outlet.taken}) == len(outlet.taken)
    for number in range(4):
        own = [sample.sequence for sample in outlet.taken if sample.number == number]
        assert own == sorted(own)


async def test_no_sequence_id_is_used_again_after_a_restart(tmp_path: Path) -> None:
    first, second = Outlet(), Outlet()
    await sent(tmp_path / "fleet.json", first, 1.4)
    await sent(tmp_path / "fleet.json", second, 1.4)
    assert max(sample.sequence for sample in first.taken) < min(sample.sequence for sample in second.taken)


async def test_a_gateway_that_does_not_answer_holds_up_no_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_fleet, "LAST", 0.5)
    outlet = Outlet(broken=True)
    async with asyncio.timeout(gateway_fleet.LAST + 3):
        fleet = await sent(tmp_path / "fleet.json", outlet, 0.3)
    assert (fleet.answered, outlet.closed) == (0, True)


def test_a_reading_names_its_device_and_broken_ones_are_lines() -> None:
    fields = json.loads(Sample(0, 1, 1e9).line())
    assert (fields["user_id"], fields["device_id"], fields["sequence_id"]) == ("fleet-1", "sensor-01", 1)
    lines = [Sample(0, number * BAD_EVERY, 1e9).line() for number in range(1, len(BROKEN) + 1)]
    assert not any(b"\n" in line for line in lines)
    assert {line for line in lines if b"user_id" not in line} < set(BROKEN)
    assert named(b"[1, 2]", "u", "d") == b"[1, 2]"
