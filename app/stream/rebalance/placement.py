"""Where reading goes on: in, what is committed and what Kafka holds; out, every assigned partition placed there."""

from collections.abc import MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.types import TP

from app.stream.batch_reader import BatchReader
from app.stream.events import TransportEvents
from app.stream.in_flight import InFlight
from app.stream.log_book import LogBook
from app.stream.offsets import Offsets
from app.stream.rebalance.start_position import Position


@dataclass(frozen=True, slots=True)
class Placement:
    """Places the partitions of one topic; `committed` and `read` are Faust's books of offsets committed and read."""

    topic: str
    app: Any
    reader: BatchReader
    flight: InFlight
    offsets: Offsets
    events: TransportEvents
    committed: MutableMapping[TP, int | None]
    read: MutableMapping[TP, int | None]

    async def place(self, logs: LogBook) -> None:
        """Forget everything in flight and go on from the committed offsets.

        Forgetting happens before AND after the seek: recovery lets the flow run meanwhile, and batches handed over then
        come from the old positions. Owed partitions are not forgotten: a poll that is under way may yet move the client
        on from the positions found here. Raises IllegalStateError when the group rebalances meanwhile.
        """
        self.reader.forget()
        asked = self.reader.now()
        positions = await logs.positions(partial(self.offsets.extents, self.topic))
        wanted = {tp: position.offset for tp, position in positions.items()}
        sought = await self.offsets.seek_to(wanted, self.app.rebalancing_count)
        if asked != self.reader.now() or len(sought) < len(wanted):
            raise IllegalStateError("the group rebalances again")  # the next recovery asks again
        self.reader.forget()
        self.reader.seek_back.in_doubt = False
        for tp, position in positions.items():
            self._place(tp, position)

    def _place(self, tp: TP, position: Position) -> None:
        self.flight.place(tp, position)
        self.committed[tp] = position.committed
        self.read[tp] = position.offset or None
        self.reader.moves(tp)
        if position.reset:
            self.events.position_reset(tp, position)
        if position.reset or position.anew:
            self.flight.done[tp] = position.offset  # committed at once, or each rebalance would report it again
