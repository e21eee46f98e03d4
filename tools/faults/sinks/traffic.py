"""Messages on the input topic as the bridge writes them, running sinks, and the audit of their destinations."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from app.kafka.access import Access
from app.kafka.topics import create, wanted
from tests.servers import GivenMqtt
from tests.workers import Running, Site, behind, until
from tools.faults.senders import Pace, send_to_kafka
from tools.faults.sinks.destinations import Destination
from tools.faults.stream import Stream
from tools.faults.tail import Tail

DEVICES, SEED = 48, 7
ENDLESS = 10**12
LAST = 100  # messages
PATIENCE = 120.0  # seconds until all records are written
NOBODY = "postgresql://nobody@127.0.0.1:1/none"  # a sink uses no database


class SinkTraffic:
    """A stream of messages, `rate` a second, the sinks of `destinations` by name, and the auditor of the topic."""

    def __init__(self, site: Site, destinations: Sequence[Destination], rate: float) -> None:
        begin = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=1)
        self.site, self.destinations = site, {one.sink: one for one in destinations}
        self.stream = Stream("k", site.unique, DEVICES, SEED, begin)
        self.pace = Pace(self.stream)
        self.pace.rate, self.pace.goal, self.pace.share = rate, ENDLESS, ENDLESS
        self.tail = Tail(site, [self.stream])
        self.sinks: dict[str, Running] = {}
        self._running: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Run the sinks and send messages while the context lasts, or until `settled`."""
        with ExitStack() as stack:
            self.sinks = {name: stack.enter_context(self.site.program(f"sink-{name}")) for name in self.destinations}
            for one in self.sinks.values():
                await one.ready(90)
            self._running = [asyncio.create_task(self.tail.run())]
            self._running.append(asyncio.create_task(send_to_kafka(self.site, self.pace)))
            try:
                yield
            finally:
                for task in self._running:
                    task.cancel()
                await asyncio.gather(*self._running, return_exceptions=True)

    async def settled(self) -> None:
        """Send the last messages, and wait until all sent messages are written."""
        self.pace.goal = self.pace.next + LAST  # the sender awaits all acks at its goal
        await until(self._seen, PATIENCE, lambda: f"sent: {self.stream.sent} of {self.pace.goal}")
        for name in self.destinations:
            await self.written(name)

    async def reached(self, count: int, seconds: float = 300.0) -> None:
        """Wait until `count` messages are on the topic."""

        async def sent() -> bool:
            self.check()
            return self.stream.sent >= count

        await until(sent, seconds, lambda: f"{self.stream.sent} of {count} are sent")

    async def written(self, name: str, seconds: float = PATIENCE) -> None:
        """Wait until a sink has committed all records that are on the topic now."""
        ends, group = await self.site.ends(), f"{self.site.settings.group_id}-sink-{name}"
        committed: dict[int, int] = {}

        async def done() -> bool:
            nonlocal committed
            committed = await self.site.committed(group=group)
            return all(committed.get(partition, 0) >= end for partition, end in ends.items())

        await until(done, seconds, lambda: f"{name}: {behind(committed, ends)}\n{self.sinks[name].tail()}")

    async def _seen(self) -> bool:
        self.check()
        return self.stream.sent >= self.pace.goal and self.tail.has(self.stream)

    def check(self) -> None:
        """Raise what the sender or the auditor raised."""
        for task in self._running:
            if task.done():
                task.result()

    async def audited(self) -> str:
        """Audit all destinations, and fail with every problem; otherwise a line for the log."""
        problems, repeats = list(self.tail.problems), list[str]()
        for name, one in self.destinations.items():
            audit = await one.audit([self.stream], self.tail.times)
            problems += audit.problems
            repeats.append(f"{name} {audit.repeats}")
        assert not problems, "\n".join(problems)
        bad = sum(self.stream.bad(n) is not None for n in range(self.stream.sent))
        assert bad > 0, "the stream has no bad messages"
        return f"{self.stream.sent:,} messages, {bad:,} of them bad; repeats: {', '.join(repeats)}"


async def books(sink: Running) -> dict[str, float]:
    """The sink's own counts since its last start: received, held, and each outcome."""
    _, text = await sink.get("/metrics")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "iot_sink_records_total":
                found[sample.labels["outcome"]] = sample.value
            elif sample.name in ("iot_sink_received_total", "iot_sink_held_records"):
                found[sample.name.removeprefix("iot_sink_").removesuffix("_total").removesuffix("_records")] = (
                    sample.value
                )
    return found


def balanced(found: dict[str, float]) -> bool:
    """Whether received = sum of the outcomes + held."""
    return found["received"] > 0 and found["received"] == sum(found.values()) - found["received"]


async def sink_site(
    kafka: str, unique: str, directory: Path, destinations: Sequence[Destination], **more: object
) -> Site:
    """A site with its own topics and the settings of its sinks and `more`, without a database and an MQTT broker."""
    for one in destinations:
        more |= one.settings
    site = Site(kafka, NOBODY, GivenMqtt("127.0.0.1", 1, "nobody", "none"), unique, directory, more)
    await create(Access(kafka), wanted(site.settings), 1)
    return site
