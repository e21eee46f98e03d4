"""What is read again: in, partitions with records that were fetched and not handed over; out, seeks back to them.

Nothing here is on the way of a record that is handed over: only a rebalance, a poll that ends in between, a gap or a
doubt about the log bring a partition here.
"""

from collections.abc import Mapping, MutableMapping, Sequence

from aiokafka.errors import KafkaError
from faust.types import TP

from app.stream.events import TransportEvents
from app.stream.in_flight import READS, Follow, InFlight
from app.stream.offsets import Offsets
from app.stream.rebalance.rounds import RebalanceRounds


class SeekBack:
    """Knows which partitions of a topic are owed, or looked at for markers, and whether the log is in doubt."""

    def __init__(
        self,
        rounds: RebalanceRounds,
        topic: str,
        flight: InFlight,
        offsets: Offsets,
        events: TransportEvents,
        read_offsets: MutableMapping[TP, int | None],
    ) -> None:
        """`read_offsets` are Faust's: Faust drops messages before these offsets; a seek moves them."""
        self._rounds, self._topic, self._flight, self._offsets = rounds, topic, flight, offsets
        self._events, self._read_offsets = events, read_offsets
        self.markers = TransactionMarkers(flight)
        self.owed: set[TP] = set()  # fetched, or asked for, and not handed over to the end
        self.in_doubt = False  # whether the log is still the log of `flight`

    def placed(self, tp: TP) -> bool:
        """Whether fetched records reach the agent. Recovery lets the flow run, seeks, and then empties all queues: a
        batch that was thrown away there would stay un-acked for ever. Recovery's last act is to call the rebalance
        ended.
        """
        if tp.topic != self._topic:
            return True
        return tp in self._flight.expected and not self._rounds.rebalancing and not self.in_doubt

    async def put_back(self) -> None:
        """Between two polls, when nothing is under way: seek back in each placed partition that is owed."""
        expected = self._flight.expected
        await self._seek_to({tp: expected[tp] for tp in self.owed & expected.keys() if self.placed(tp)})
        for tp in self.markers.looking:
            position = await self._offsets.reached(tp)
            again = None if tp in self.owed else self.markers.reached(tp, position)
            if again is not None:
                await self._seek_to({tp: again})

    async def _seek_to(self, offsets: Mapping[TP, int]) -> None:
        """Read from these offsets on. A partition that a rebalance takes away meanwhile stays owed."""
        if not offsets:
            return
        for tp in await self._offsets.seek_to(offsets, self._rounds.rebalancing_count):
            self._read_offsets[tp] = offsets[tp] or None
            self.owed.discard(tp)

    async def may_skip(self, tp: TP, follow: Follow, expected: int, found: int) -> bool:
        """A run begins at `found`, and offset `expected` was to follow: whether it may be handed over all the same.

        False when the partition must be read again from `expected`.
        """
        match follow:
            case Follow.NEXT:
                return True
            case Follow.OVERLAP:  # the client began at the start: nothing was left where the client wanted to read on
                await self.doubt(f"{tp.topic}-{tp.partition} is read from {found} on, and {expected} was to follow")
                return False
            case Follow.GAP:
                self._events.gap_healed(tp, expected, found)
                return False
            case Follow.MISSING:
                return await self._passed_over(tp, expected, found)

    async def _passed_over(self, tp: TP, expected: int, found: int) -> bool:
        """Report what the log lacks from `expected` to `found`; False when Kafka does not say: then read again."""
        try:
            start = (await self._offsets.starts([tp]))[tp]
        except (KafkaError, TimeoutError):
            return False
        if start > expected:
            self._events.offsets_missing(tp, expected, min(start, found))
        return True  # from the log's start on only transactions, their markers or aborted ones, take such offsets

    async def look_again(self, tp: TP) -> None:
        """Read again from the end of the last batch; when nothing but markers comes, their offsets count as done.

        For a partition with all batches acked whose log goes on, by its end offset, and brings no records.
        """
        self.markers.look(tp)  # `put_back` begins, as a poll under way would move the client on

    async def doubt(self, what: str, *, rejoin: bool = True) -> None:
        """Nothing is read before a rebalance has shown what log there is; `rejoin`: the rebalance begins now."""
        if not self.in_doubt:
            self.in_doubt = True
            self._events.log_in_doubt(what)
        if rejoin:
            await self._offsets.rejoin()

    def forget(self) -> None:
        """A seek or a rebalance: no partition is looked at for markers any more, and what is owed stays owed."""
        self.markers.forget()


class TransactionMarkers:
    """Partitions that are read again from where their last batch ended, to see whether any record comes.

    Markers of transactions take offsets at the end of a log and are no records: nobody is going to ack these offsets.
    """

    def __init__(self, flight: InFlight) -> None:
        self._flight = flight
        self._from: dict[TP, tuple[int, int]] = {}  # offset, and how often the partition was read from there

    @property
    def looking(self) -> Sequence[TP]:
        """Partitions that are being looked at."""
        return list(self._from)

    def look(self, tp: TP) -> None:
        """Begin to look at a partition, unless one of its batches is in flight or the look has begun already."""
        expected = self._flight.expected.get(tp)
        if expected is not None and self._flight.idle(tp) and tp not in self._from:
            self._from[tp] = (expected, 0)

    def reached(self, tp: TP, offset: int | None) -> int | None:
        """The client reads `offset` next. When each read went past its start and no record came, the offsets in between
        are markers, and done.

        Returns the offset to seek to when the partition is to be read, or read once more. Not to be called while a poll
        is under way, nor for a partition that is owed, as its records are no markers.
        """
        expected, times = self._from.get(tp, (None, 0))
        flight = self._flight
        if expected is None or flight.expected.get(tp) != expected or not flight.idle(tp):
            self._from.pop(tp, None)
        elif not times or (offset is not None and offset > expected):
            if times < READS or offset is None:
                self._from[tp] = (expected, times + 1)
                return expected
            del self._from[tp]
            flight.pass_over(tp, offset)
        return None

    def forget(self) -> None:
        """A seek or a rebalance: no partition is looked at any more."""
        self._from.clear()
