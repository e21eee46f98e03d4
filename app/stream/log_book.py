"""Which log each partition of the input topic has: in, the notes beside the marks and what Kafka says; out, the logs.

Logs are looked up at every take-over, before a position is chosen. In between app.worker.log_watch looks every second
whether the topic is still the same.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Protocol

import structlog
from aiokafka.errors import KafkaError
from faust.types import TP
from msgspec import structs

from app.core.state.device_state import seen
from app.core.state.keys import MARK_KEY, mark_of
from app.core.state.partition_log import (
    LOG_KEY,
    NotedLog,
    PartitionLog,
    PresentLog,
    Verdict,
    commit_counts,
    judge,
    look_closer,
    noted,
    signature,
)
from app.kafka.topic_ids import TopicIdentity
from app.stream.events import TransportEvents
from app.stream.rebalance.start_position import Extent, Position, choose_position

log = structlog.get_logger()

RETRY_SECONDS = 1.0
Load = Callable[[int, bytes], bytes | None]  # (partition, key) -> stored state
Items = Callable[[int], Iterator[tuple[bytes, bytes]]]  # partition -> all its stored keys and states


Times = Callable[[Mapping[TP, int]], Awaitable[Mapping[TP, int]]]


class Ids(Protocol):
    """Says which topics there are (app.kafka.topic_ids)."""

    async def ask(self, names: Sequence[str]) -> Mapping[str, TopicIdentity]:
        """The identities of the topics that exist, by name. Raises KafkaError or OSError within some seconds."""


async def _no_times(places: Mapping[TP, int]) -> Mapping[TP, int]:
    return {}


class LogBook:
    """The logs of one topic. Without `ids` no broker is asked, and every log is taken for the same log as ever."""

    def __init__(
        self,
        topic: str,
        events: TransportEvents,
        ids: Ids | None = None,
        times: Times = _no_times,
        load: Load = lambda partition, key: None,
        items: Items = lambda partition: iter(()),
    ) -> None:
        """`times` looks up when records were written; `load` and `items` read the states, which are up to date."""
        self.topic, self._events, self.ids, self._look_up = topic, events, ids, times
        self._load, self._items = load, items
        self.identity = ""  # the topic's, as of the last take-over
        self._logs: dict[int, PartitionLog] = {}

    def of(self, partition: int) -> PartitionLog:
        """The log of a partition in this epoch."""
        return self._logs.get(partition, PartitionLog())

    def signature(self, partition: int) -> str:
        """The metadata that is committed beside the partition's offset."""
        return signature(self.of(partition))

    async def positions(self, ask: Callable[[], Awaitable[Mapping[TP, Extent]]]) -> Mapping[TP, Position]:
        """Choose where each partition of `ask`'s answer is read from; waits out an outage of Kafka."""
        while True:
            before = await self.topic_now(self.topic)
            extents = await ask()
            topic = await self.topic_now(self.topic)
            if topic.identity == before.identity:
                break
        self.identity = topic.identity
        known = {tp: self._before(tp.partition) for tp in extents}
        present = {
            tp: PresentLog(topic.identity, one.start, one.end, topic.elections.get(tp.partition, -1))
            for tp, one in extents.items()
        }
        times = await self._times(known, present)
        self._logs, found = {}, {}
        anew: dict[Verdict, list[int]] = {}
        for tp, extent in extents.items():
            now = structs.replace(present[tp], timestamp=times.get(tp))
            found[tp], verdict = self._place(tp, extent, known[tp], now)
            if found[tp].anew:
                anew.setdefault(verdict, []).append(tp.partition)
        for verdict, partitions in anew.items():
            self._events.log_made_anew(verdict.value, sorted(partitions))
        return found

    def _place(self, tp: TP, extent: Extent, before: NotedLog, now: PresentLog) -> tuple[Position, Verdict]:
        current, why = judge(before, now)
        self._logs[tp.partition] = current
        counts = commit_counts(extent.metadata, current, why)
        position = choose_position(extent.committed if counts else None, extent.start, extent.end)
        ours = counts and extent.metadata == signature(current)
        if why is Verdict.SAME and not counts and extent.committed is not None:
            why = Verdict.OTHER  # nothing was noted, but the committed offset is of another log
        if why is Verdict.SAME or (why is Verdict.OTHER and ours):  # reported by the worker that committed this offset
            return position, why
        return Position(position.offset, None, anew=True), why

    def _before(self, partition: int) -> NotedLog:
        """The note beside the partition's mark. An older program noted nothing but the offset."""
        data, mark = self._load(partition, LOG_KEY), mark_of(self._load(partition, MARK_KEY))
        found = noted(data) if data is not None else None
        if data is not None and found is None:
            log.error("log_note_unreadable", partition=partition, note=data[:40].hex(), next="states say which log")
            return NotedLog(1, mark, max((seen(value)[0] for _, value in self._items(partition)), default=0), "")
        if found is None:
            return NotedLog(1, mark, 0, "")
        if not found.generation and mark > found.offset:  # an older program went on from there
            return structs.replace(found, offset=mark, timestamp=-1)
        return found

    async def topic_now(self, name: str) -> TopicIdentity:
        """What a topic is now; waits until the topic exists and a broker answers."""
        while self.ids is not None:
            try:
                topics = await self.ids.ask([name])
                if name in topics:
                    return topics[name]
                log.warning("waiting_for_topics", missing=[name], cure="iot-stream topics create")
            except (KafkaError, OSError) as error:
                log.warning("waiting_for_kafka", step="identity of the topic", error=repr(error))
            await asyncio.sleep(RETRY_SECONDS)
        return TopicIdentity("", {})

    async def _times(self, known: Mapping[TP, NotedLog], present: Mapping[TP, PresentLog]) -> Mapping[TP, int]:
        """Times of the records at the noted offsets, where nothing else distinguishes one log from another."""
        wanted = {tp: before.offset for tp, before in known.items() if look_closer(before, present[tp])}
        return await self._look_up(wanted) if wanted else {}
