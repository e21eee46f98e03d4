"""What is asked of Kafka about offsets: in, the thread that talks to Kafka; out, positions, first and last offsets."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Protocol, TypeVar

import structlog
from aiokafka.errors import IllegalStateError
from aiokafka.structs import TopicPartition
from faust.types import TP
from tenacity import wait_fixed

from app.kafka import group_coordinator
from app.kafka.access import kafka_away
from app.kafka.fetch.fetcher import log_ends, partition_state
from app.runtime.retry import retry
from app.stream.rebalance.rounds import RebalanceRounds
from app.stream.rebalance.start_position import Extent

log = structlog.get_logger()
T = TypeVar("T")

RETRY_SECONDS = 1.0
ASK_SECONDS = 10.0  # the watchdog asks again soon


class ClientThread(Protocol):
    """The thread of aiokafka's consumer (app.stream.consumer_thread)."""

    def connected(self) -> Any:
        """The consumer. Raises Faust's ConsumerNotStarted before its start."""

    async def call_thread(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What `ask` returns, called in the thread."""


class Offsets:
    """Questions to Kafka, each asked in the thread of the client, so that no poll moves a position in between."""

    def __init__(self, thread: ClientThread, rounds: RebalanceRounds) -> None:
        self._thread, self._rounds = thread, rounds

    def highwater(self, tp: TP) -> int | None:
        """Where the log ended when the partition was fetched last; None before, and when the partition is not ours."""
        state = partition_state(self._thread.connected(), tp)
        end: int | None = state and state.highwater
        return end

    async def ends(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        """End offsets. Raises KafkaError or TimeoutError within 10 s."""
        return await self._ask(lambda client: client.end_offsets(list(tps)))

    async def log_ends(self, tps: Collection[TP]) -> Mapping[TP, int]:
        """End offsets of the logs, with what open transactions have written. Raises as `ends` does."""
        return await self._ask(lambda client: log_ends(client, tps))

    async def starts(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        """First offsets kept. Raises as `ends` does."""
        return await self._ask(lambda client: client.beginning_offsets(list(tps)))

    async def reached(self, tp: TP) -> int | None:
        """The offset that the client reads next; None while the client looks for it, and for a partition not ours."""

        async def reached() -> int | None:
            state = partition_state(self._thread.connected(), tp)
            return int(state.position) if state is not None and state.has_valid_position else None

        found: int | None = await self._thread.call_thread(reached)
        return found

    async def seek_to(self, offsets: Mapping[TP, int], rebalances: int) -> Collection[TP]:
        """Seek in the partitions that are ours, if no rebalance has begun since number `rebalances`; returns them."""

        async def seek() -> Collection[TP]:
            client = self._thread.connected()
            ours = client.assignment() if self._rounds.rebalancing_count == rebalances else frozenset()
            sought = [tp for tp in offsets if tp in ours]
            for tp in sought:
                client.seek(TopicPartition(*tp), offsets[tp])
            return sought

        found: Collection[TP] = await self._thread.call_thread(seek)
        return found

    async def rejoin(self) -> None:
        """Let the group rebalance: all positions and states are looked up anew."""
        await self._thread.call_thread(lambda: group_coordinator.rejoin(self._thread.connected()))

    async def extents(self, topic: str) -> Mapping[TP, Extent]:
        """What there is of every assigned partition of `topic`; waits out an outage.

        Raises IllegalStateError when the group rebalances meanwhile.
        """
        found: Mapping[TP, Extent] = await self._thread.call_thread(lambda: self._extents(topic))
        return found

    async def _extents(self, topic: str) -> Mapping[TP, Extent]:
        client, rebalances = self._thread.connected(), self._rounds.rebalancing_count
        tps = [tp for tp in client.assignment() if tp.topic == topic]
        if not tps:
            return {}
        starts, ends, committed = await self.insist(
            lambda: asyncio.gather(
                client.beginning_offsets(tps),
                log_ends(client, tps),
                group_coordinator.committed_offsets(client, tps),
            )
        )
        if self._rounds.rebalancing_count != rebalances:
            raise IllegalStateError("the group rebalances again")
        found = {}
        for tp in tps:
            offset, metadata = (committed[tp].offset, committed[tp].metadata) if tp in committed else (None, "")
            found[TP(tp.topic, tp.partition)] = Extent(starts[tp], ends[tp], offset, metadata or "")
        return found

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until Kafka answers; to be called in the thread. Raises IllegalStateError when the group rebalances."""
        rebalances = self._rounds.rebalancing_count

        def failed(failures: int, error: BaseException) -> None:
            log.warning("waiting_for_kafka", step="recovery", error=repr(error))

        async def rest(seconds: float) -> None:
            await asyncio.sleep(seconds)
            if self._rounds.rebalancing_count != rebalances:
                raise IllegalStateError("the group rebalances again")

        return await retry(ask, _worth_asking_again, wait_fixed(RETRY_SECONDS), failed, rest)

    async def _ask(self, ask: Callable[[Any], Awaitable[Mapping[TP, int]]]) -> Mapping[TP, int]:
        async def within() -> Mapping[TP, int]:
            async with asyncio.timeout(ASK_SECONDS):
                return await ask(self._thread.connected())

        found: Mapping[TP, int] = await self._thread.call_thread(within)
        return found


def _worth_asking_again(error: BaseException) -> bool:
    return kafka_away(error) and not isinstance(error, IllegalStateError)  # not ours, or not any more
