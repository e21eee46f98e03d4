"""The runner of a sink without Kafka: a log in memory, its consumer group, and dead letters."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaConnectionError

from app.errors import TransientError
from app.settings import Settings
from app.sinks.cardinality.limits import SeriesId
from app.sinks.running.clients import SinkKafka
from app.sinks.running.consumer import LOST_END, LogPlaces, SinkConsumer
from app.sinks.running.runner import SinkRunner
from tests.fake_sink import Destination, FakeSink
from tests.sink_records import message
from tests.waiting import until

QUICK: Mapping[str, Any] = {
    "kafka_commit_interval": 0.005, "sink_retry_max": 0.02, "shutdown_timeout": 3.0, "sink_breaker_failures": 3,
}  # fmt: skip


class Log:
    """The input topic, and the committed offsets of a sink's group."""

    def __init__(self, partitions: int = 2) -> None:
        self.records: dict[int, list[Any]] = {number: [] for number in range(partitions)}
        self.committed: dict[int, int] = {}
        self.commits: list[dict[int, int]] = []
        self.begins: dict[int, int] = {}
        self.away = False
        self.identity, self.takes_no_commits = "topic-1", False

    def append(self, partition: int, count: int, **more: Any) -> None:
        """Append readings; the user of partition n is `u<n>`, its devices are `d0` to `d9` in turn."""
        log = self.records[partition]
        for _ in range(count):
            offset = len(log)
            log.append(message(offset, user=f"u{partition}", device=f"d{offset % 10}", **more))

    def places(self) -> set[tuple[int, int]]:
        """(partition, offset) of every record."""
        return {(number, record.offset) for number, records in self.records.items() for record in records}


class LogConsumer(SinkConsumer):
    """A member of the group that reads a Log; the test is the coordinator (`assign`)."""

    def __init__(self, settings: Settings, log: Log, stop: asyncio.Event) -> None:
        super().__init__(settings, "fake", stop)
        self.log, self._mine, self._at = log, frozenset[int](), dict[int, int]()
        self._consumer = object()
        self.lease.renew(self.lease._clock() + 10**6)  # no other process has the partitions
        self.taken = self.stayed = 0
        self.most = 10_000

    async def assign(self, *partitions: int) -> None:
        """A rebalance that assigns these partitions to this process."""
        await self._revoked()
        self._mine, self._at = frozenset(partitions), {}
        self._assigned()

    @property
    def assigned(self) -> frozenset[int]:
        return self._mine if self._joined else frozenset()

    def stay(self) -> None:
        self.stayed += 1

    async def connect(self) -> None:
        if self.log.away:
            raise KafkaConnectionError("away")

    async def ends(self) -> Mapping[int, int]:
        return {number: len(self.log.records[number]) for number in self.assigned}

    async def starts(self) -> Mapping[int, int]:
        return {number: self.log.begins.get(number, 0) for number in self.assigned}

    async def identity(self) -> str:
        return self.log.identity

    async def positions(self, partitions: Collection[int]) -> LogPlaces:
        await asyncio.sleep(0)
        self._identity = self.log.identity
        starts = {number: self.log.begins.get(number, 0) for number in partitions}
        ends = {number: len(self.log.records[number]) for number in partitions}
        known = {number: self.log.committed[number] for number in partitions if number in self.log.committed}
        committed = {number: offset for number, offset in known.items() if offset <= ends[number]}
        others = dict.fromkeys(known.keys() - committed.keys(), LOST_END)
        latest = self._settings.sink_start == "latest"
        return LogPlaces(self.log.identity, starts, ends, ends if latest else starts, committed, others, latest)

    async def take(self, most: int, seconds: float) -> Mapping[int, Sequence[Any]]:
        await asyncio.sleep(0.001)
        if self.log.away:
            raise KafkaConnectionError("away")
        found: dict[int, Sequence[Any]] = {}
        for number in sorted(self._at) if self._joined else ():
            if self._at[number] > len(self.log.records[number]):  # as Kafka's client with auto_offset_reset
                self._at[number] = self.log.begins.get(number, 0)
            self._at[number] = max(self._at[number], self.log.begins.get(number, 0))  # the same, after a removal
            records = self.log.records[number][self._at[number] :][: min(most, self.most)]
            if records:
                found[number] = records
                self._at[number] = records[-1].offset + 1
                self.taken += len(records)
        return found

    def seek(self, offsets: Mapping[int, int]) -> None:
        assert set(offsets) <= self._mine
        self._at.update(offsets)

    async def commit(self, offsets: Mapping[int, int]) -> None:
        await asyncio.sleep(0)
        assert set(offsets) <= self._mine, "commits what is not ours"
        if self.log.takes_no_commits:
            raise KafkaConnectionError("away")
        self.log.committed.update(offsets)
        self.log.commits.append(dict(offsets))

    async def close(self) -> None:
        self._joined = False


class Letters:
    """SinkDeadLetters in memory."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []
        self.fails = 0

    async def send(self, refused: Sequence[tuple[Any, str]], begins: Mapping[int, int], epoch: int) -> None:
        await asyncio.sleep(0)
        assert all(begins[record.partition] <= record.offset for record, _ in refused)
        if refused and self.fails:
            self.fails -= 1
            raise TransientError("Kafka is away")
        self.sent += [(record.partition, record.offset) for record, _ in refused]

    def done(self, records: int, refused: int) -> None: ...

    async def stop(self) -> None: ...


class NotedSeries:
    """SeriesLog in memory."""

    def __init__(self) -> None:
        self.noted: list[SeriesId] = []

    async def read(self, know: Any) -> None:
        for series in self.noted:
            know(series)

    async def write(self, fresh: Sequence[SeriesId]) -> None:
        await asyncio.sleep(0)
        self.noted += fresh

    async def close(self) -> None: ...


class World:
    """A log, a destination, and one process at a time that runs a sink between them."""

    def __init__(self, partitions: int = 2, **settings: Any) -> None:
        self.settings = Settings(_env_file=None, **{**QUICK, **settings})
        self.log, self.destination = Log(partitions), Destination()
        self.letters, self.series = Letters(), NotedSeries()
        self.linger, self.due_at = 0.0, 1_000_000
        self.made: Callable[[], Any] = lambda: FakeSink(self.destination, linger=self.linger, due_at=self.due_at)
        self.start()

    def start(self) -> None:
        """A new process, with an empty memory."""
        self.stop = asyncio.Event()
        self.consumer = LogConsumer(self.settings, self.log, self.stop)
        self.sink = self.made()
        kafka: Any = self.consumer, self.letters, self.series
        self.runner = SinkRunner(self.settings, self.sink, self.stop, SinkKafka(*kafka))
        self.task = asyncio.create_task(self.runner.run())

    async def kill(self) -> None:
        """As kill -9: no flush and no commit."""
        self.task.cancel()
        await asyncio.wait({self.task})

    async def end(self) -> None:
        """SIGTERM; returns when the process has ended."""
        self.stop.set()
        await self.task

    async def done(self, seconds: float = 10.0) -> None:
        """Wait until everything in the log is committed."""
        await until(lambda: self.task.done() or self.all_committed(), seconds)
        if self.task.done():
            self.task.result()

    def all_committed(self) -> bool:
        """Whether the group has committed the end of each assigned partition."""
        return all(
            self.log.committed.get(number, 0) == len(self.log.records[number]) for number in self.consumer.assigned
        )

    def check(self) -> None:
        """What is committed is written or dead-lettered; no record is in the books twice (those that a flush under way
        has let go of are in them when it ends).
        """
        done = set(self.destination.written) | set(self.letters.sent)
        for number, end in self.log.committed.items():
            begin = self.log.begins.get(number, 0)
            missing = [offset for offset in range(begin, end) if (number, offset) not in done]
            assert not missing, f"partition {number}: committed {end}, not written {missing[:5]}"
        assert self.runner.books.balance(self.sink.held.records) >= 0
