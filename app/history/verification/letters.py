"""The dead letters of a topic's records: in, the dead-letter topic; out, their places, in a verification's store."""

from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition

from app.core.deadletters.envelope import delivery_mark, from_record
from app.core.model.headers import REDELIVERED
from app.core.model.records import Stage
from app.history.verification.store import VerifyStore
from app.history.verification.watch import SearchWatch
from app.kafka.dead_letter_reader import digest
from app.kafka.reading.record_log import RecordLog

CLOCKS_MS = 3_600_000  # milliseconds by which the clocks of those who write records and dead letters may differ
FOREVER = 1 << 62  # a time of arrival that no record has


class KeptLetters:
    """The dead letters of the workers, as far as Kafka still has them; those of sinks speak for rows that are there."""

    def __init__(self, store: VerifyStore) -> None:
        self._store = store
        self._since: Mapping[int, int] = {}  # partition -> ms since 1970: letters from before then may be gone

    async def read(self, log: RecordLog, topic: str, since_ms: int | None, watch: SearchWatch) -> None:
        """Take the letters of records of `topic` that came in at `since_ms`, milliseconds since 1970, or later (None:
        of all) from the dead-letter topic `log`; not all of them when stopped. Raises KAFKA_ERRORS.
        """
        starts, ends = await log.starts(), await log.ends()
        begin = starts if since_ms is None else await log.since(since_ms - CLOCKS_MS, ends)
        # Retention and purges take letters from the start on: of what is before the first one nothing can be said.
        kept = {tp.partition: 0 if starts[tp] == 0 or begin[tp] > starts[tp] else FOREVER for tp in log.tps}
        wanted = {tp: at for tp, at in begin.items() if at < ends[tp]}
        count = 0
        async for records in log.follow(wanted, ends) if wanted else _nothing():
            for record in records:
                kept[record.partition] = min(kept[record.partition], record.timestamp)
            self._keep(records, topic)
            count += len(records)
            watch.seen("dead letters", count)
            if watch.stopped:
                break
        self._since = kept

    def has(self, place: TopicPartition, record: Any) -> bool:
        """Whether there is a dead letter of a record."""
        payload = record.value or b""
        again = any(name == REDELIVERED for name, _ in record.headers)  # its first delivery has the letter
        mark = delivery_mark(payload, record.headers) if again else None
        return self._store.has_letter((place.partition, record.offset, digest(payload)), mark)

    def may_be_gone(self, partition: int, arrived_ms: int) -> bool:
        """Whether a letter of a record of this partition, which came in then, may have been removed since."""
        everywhere = max(self._since.values(), default=0)  # a topic with fewer partitions has it anywhere
        return arrived_ms < self._since.get(partition, everywhere)

    def _keep(self, records: Any, topic: str) -> None:
        letters, marks = [], []
        for record in records:
            letter = from_record(record.value, record.headers)
            if letter is None or letter.source_topic != topic or letter.stage.startswith(f"{Stage.SINK}:"):
                continue
            letters.append((letter.source_partition, letter.source_offset, digest(letter.payload)))
            if mark := delivery_mark(letter.payload, letter.headers):
                marks.append(mark)
        self._store.add_letters(letters, marks)


async def _nothing() -> Any:
    for _ in ():
        yield _
