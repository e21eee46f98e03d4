"""What is in flight between fetch and commit: per partition, batches handed over and how far everything is done.

Pure: this file keeps the books of the transport and does no I/O, so a plain test can ask each rule.
"""

from collections import deque
from collections.abc import Mapping
from enum import Enum

from faust.types import TP

from app.stream.batches import BatchLimits, BatchMessage
from app.stream.rebalance.start_position import Position

WAITING = 3  # batches of a partition that the pipeline has not taken up: when it takes a batch, the next is there
READS = 2  # more reads from the same offset before the answer is believed: the client may drop what it has fetched


class Follow(Enum):
    """How a run of records follows the batch that was handed over before."""

    NEXT = "next"  # the run starts where the last batch ended
    OVERLAP = "overlap"  # the run starts earlier: the log was made anew, or cut
    GAP = "gap"  # the run starts later: read again from where the last batch ended
    MISSING = "missing"  # the run starts later at each read: the log holds nothing in between


class InFlight:
    """The books of one assignment. `epoch` counts how often the books were begun anew; older batches are stale."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self.epoch = 0
        self.weight = 0  # estimated bytes of all batches in flight
        self.expected: dict[TP, int] = {}  # offset the next batch of a partition must start at
        self.start: dict[TP, int] = {}  # where reading began
        self.done: dict[TP, int] = {}  # up to here everything is acked
        self._out: dict[TP, deque[BatchMessage]] = {}  # not yet acked, in offset order
        self._weights: dict[TP, int] = {}  # of `_out`
        self._healing: dict[TP, tuple[int, int]] = {}  # from where a partition is read again, and how often it was

    def begin_anew(self) -> None:
        """Forget everything: what was in flight is stale from now on."""
        self.epoch += 1
        self.weight = 0
        for kept in (self.expected, self.start, self.done, self._out, self._weights, self._healing):
            kept.clear()

    def place(self, tp: TP, position: Position) -> None:
        """Reading of `tp` goes on here."""
        self.expected[tp] = self.start[tp] = position.offset

    def follow(self, tp: TP, found: int) -> Follow:
        """How a run that starts at offset `found` follows."""
        expected = self.expected[tp]
        if found == expected:
            self._healing.pop(tp, None)
            return Follow.NEXT
        if found < expected:
            return Follow.OVERLAP
        start, times = self._healing.get(tp, (expected, 0))
        if start != expected or times < READS:
            self._healing[tp] = (expected, times + 1 if start == expected else 1)
            return Follow.GAP
        del self._healing[tp]
        return Follow.MISSING

    def pass_over(self, tp: TP, offset: int) -> None:
        """Nothing is in flight, and there are no records before `offset`: as if reading began there."""
        self.expected[tp] = self.done[tp] = self.start[tp] = offset

    def hand_over(self, message: BatchMessage) -> None:
        """A batch goes to the agent."""
        self._out.setdefault(message.tp, deque()).append(message)
        self.weight += message.weight
        self._weights[message.tp] = self._weights.get(message.tp, 0) + message.weight
        self.expected[message.tp] = message.next_offset

    def acked(self, tp: TP) -> None:
        """A batch of `tp` was acked: move on over all acked batches at the head."""
        waiting = self._out.get(tp)
        while waiting and waiting[0].acked:
            message = waiting.popleft()
            self.weight -= message.weight
            self._weights[tp] -= message.weight
            self.done[tp] = message.next_offset

    def has_room(self, tp: TP) -> bool:
        """Whether more of `tp` may be fetched; a single batch always may, or a large batch could wait for ever.

        While the pipeline has not taken up the last WAITING batches, records wait in Kafka, where they become one
        batch: a busy worker would otherwise have a queue of thousands of small batches to take up one by one.
        """
        out = self._out.get(tp)
        if not out:
            return True
        return (
            (len(out) < WAITING or out[-WAITING].in_work)
            and self._weights[tp] < self._limits.partition_bytes
            and self.weight < self._limits.buffer_bytes
        )

    def idle(self, tp: TP) -> bool:
        """Whether nothing of `tp` is in flight."""
        return not self._out.get(tp)

    def heads(self) -> Mapping[TP, BatchMessage]:
        """The oldest un-acked batch of each partition that has one."""
        return {tp: waiting[0] for tp, waiting in self._out.items() if waiting}

    @property
    def records(self) -> int:
        """Handed over and not done; offsets that hold no record count too."""
        done = self.done_offsets()
        return sum(offset - done.get(tp, offset) for tp, offset in self.expected.items())

    def done_offsets(self) -> Mapping[TP, int]:
        """For each partition: the offset up to which everything is done; at first where reading began."""
        return {**self.start, **self.done}
