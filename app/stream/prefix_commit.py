"""What is committed: in, how far each partition is done; out, offsets of a prefix, never past an un-acked batch."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

import structlog
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from app.stream.in_flight import InFlight

log = structlog.get_logger()

LAST_COMMIT_SECONDS = 2.0  # a stop does not wait longer: what is not committed is done again, and not stored twice


class PrefixCommit:
    """Commits one topic by prefix: an offset is committed once every batch before has been acked."""

    def __init__(self, topic: str, flight: InFlight) -> None:
        self._topic, self._flight = topic, flight

    def covers(self, tp: TP) -> bool:
        """Whether the partition is committed by prefix; Faust commits the partitions of other topics."""
        return bool(tp.topic == self._topic)

    def pending(self, topics: Any = None) -> Sequence[TP]:
        """Partitions with something done, of these topics or partitions, or of all."""
        return [tp for tp in self._flight.done if topics is None or tp in topics or tp.topic in topics]

    def offset(self, tp: TP) -> int | None:
        """The offset to commit: everything before it is done."""
        return self._flight.done.get(tp)

    def signed(
        self, offsets: Mapping[TP, int], ours: Collection[TP], signature: Callable[[int], str]
    ) -> Mapping[TP, OffsetAndMetadata]:
        """The offsets that may be committed now, with the log's signature: offsets of partitions that are ours, done
        since the last seek.

        They are signed here: an offset that was done before a take-over is not of the log that was found then.
        """
        return {
            tp: OffsetAndMetadata(offset, signature(tp.partition))
            for tp, offset in offsets.items()
            if tp in ours and self._still_done(tp, offset)
        }

    def _still_done(self, tp: TP, offset: int) -> bool:
        """False for an offset that was done before a seek: such an offset may be of another log than the seek found."""
        return not self.covers(tp) or offset <= self._flight.done.get(tp, -1)


async def commit_in_time(commit: Coroutine[Any, Any, None]) -> None:
    """Let the last commit of a stop end, or give it up. Raises what `commit` raises in time."""
    committing = asyncio.create_task(commit)
    await asyncio.wait({committing}, timeout=LAST_COMMIT_SECONDS)
    if not committing.done():
        log.warning("kafka_last_commit_given_up", note="what is done and not committed is done again, and dropped")
        committing.cancel()  # Faust may take that for the end of another commit, and begin one more
    elif not committing.cancelled():
        committing.result()
