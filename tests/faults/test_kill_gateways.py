"""kill -9 of each gateway under load: each message that was answered is a row once, or a dead letter, in order.

All at once here, each killed once; with IOT_FAULTS=full one after another, each ten times while a million messages are
answered.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.local.layout import WAYS
from tests.faults.accounts import draw_up
from tests.faults.conftest import NO_BUDGET
from tests.faults.load import RULES
from tests.faults.senders import Pace
from tests.faults.tail import Tail
from tests.faults.ways.sender import send_over
from tests.faults.ways.setup import Door, door, open_account
from tests.faults.ways.streams import WayStream
from tests.servers import KafkaServer, MqttServer
from tests.workers import Running, Site, until

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(900)]

FULL = os.environ.get("IOT_FAULTS") == "full"
CASES: list[Sequence[str]] = [(way,) for way in WAYS] if FULL else [WAYS]
KILLS, MESSAGES = (10, 1_000_000) if FULL else (1, 2_000)  # of each way, at least
RATE, DEVICES, SEED = (20_000 if FULL else 1_000), 48, 5
ENDLESS = 10**12


class Traffic:
    """What is sent by some ways, and who looks on."""

    def __init__(self, site: Site, entrance: Door, ways: Sequence[str]) -> None:
        begin = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=1)
        self.streams = [WayStream(way, site.unique, DEVICES, SEED, begin) for way in ways]
        self.paces = [Pace(stream) for stream in self.streams]
        for pace in self.paces:
            pace.rate, pace.goal, pace.share = RATE, ENDLESS, ENDLESS
        self.tail, self._door = Tail(site, self.streams), entrance

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """While this is open messages are sent, and at its end all that were begun are answered."""
        running = [asyncio.create_task(self.tail.run())]
        running += [asyncio.create_task(send_over(pace.stream, self._door, pace)) for pace in self.paces]
        try:
            yield
            for pace in self.paces:
                pace.goal = max(pace.next, pace.stream.sent)
            async with asyncio.timeout(120):
                while not self.seen:
                    self.check(running)
                    await asyncio.sleep(0.05)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    @property
    def seen(self) -> bool:
        """Whether all is answered, and on the input topic."""
        answered = all(pace.stream.sent >= pace.goal for pace in self.paces)
        return answered and all(self.tail.has(stream) for stream in self.streams)

    @staticmethod
    def check(tasks: Sequence[asyncio.Task[None]]) -> None:
        """Raise what one of them raised."""
        for task in tasks:
            if task.done():
                task.result()


async def kill_again_and_again(gateway: Running, stream: WayStream, chance: random.Random) -> None:
    """At moments drawn by lot, spread over what is to be sent."""
    for number in range(KILLS):
        begun = number * MESSAGES // KILLS
        await until(lambda begun=begun: _sent(stream, begun), 300, lambda: f"{stream.way}: {stream.sent} are answered")  # type: ignore[misc]
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        gateway.kill()
        gateway.start()
        await gateway.ready()
    await until(lambda: _sent(stream, MESSAGES), 300, lambda: f"{stream.way}: {stream.sent} are answered")


async def _sent(stream: WayStream, count: int) -> bool:
    return stream.sent > count


@pytest.mark.parametrize("ways", CASES, ids=[" ".join(ways) for ways in CASES])
async def test_kill_gateways(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path, server_dir: Path,
    ways: Sequence[str],
) -> None:  # fmt: skip
    entrance = door(unique, server_dir)
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, NO_BUDGET | entrance.settings)
    await site.prepare(RULES)
    await open_account(site)
    traffic = Traffic(site, entrance, ways)
    with ExitStack() as stack:
        worker = stack.enter_context(site.program("worker"))
        gateways = [stack.enter_context(site.program(way)) for way in ways]
        for program in (worker, *gateways):
            await program.ready()
        async with traffic.flowing():
            await asyncio.gather(
                *(
                    kill_again_and_again(gateway, stream, random.Random(stream.way))
                    for gateway, stream in zip(gateways, traffic.streams, strict=True)
                )
            )
        for gateway in gateways:
            assert gateway.stop(12) < 10, f"{gateway.name} took longer to stop than it may"
        await site.settled_input()
    accounts = await draw_up(site, traffic.streams, traffic.tail, None)
    assert not accounts.problems, "\n".join(accounts.problems)
    assert accounts.kafka.episodes > 10 * len(ways)
    rows = {stream.way: sum(accounts.rows[stream.letter]) for stream in traffic.streams}
    dead = {stream.way: sum(accounts.letters[stream.letter]) for stream in traffic.streams}
    answered = {stream.way: stream.sent for stream in traffic.streams}
    assert {way: rows[way] + dead[way] for way in ways} == answered
    assert all(dead.values())
    print(
        f"{KILLS} kills each; answered {answered}, rows {rows}, dead letters {dead}, repeats {traffic.tail.repeats()}"
    )
