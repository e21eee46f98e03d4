"""The search for a message in a topic: in, its user, device and number, or its trace id; out, its records.

A topic is read back from its end in pieces, as a sought message is mostly new. The search ends with the piece in which
a record was found, at the oldest record that is asked for, or when its time is up.
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Struct

from app.core.deadletters.letters import read_letter
from app.core.model.keys import device_key
from app.inspect.decoding import TOPIC_HEADER, RecordDecoder, header, trace_id_of
from app.inspect.sighting import FoundLetter, FoundRecord
from app.kafka.messages import key_partition
from app.kafka.reading.record_log import Offsets

FIRST_PIECE, LARGEST_PIECE = 2_000, 128_000  # records; each piece has four times as many as the one before
KEPT = 50  # records of one message

Progress = Callable[[int, int], None]  # records read, and records to read in all
_TRACE_ID = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}|([0-9a-f]{32})").fullmatch


class SoughtMessage(Struct, frozen=True):
    """What is known of a message: its trace id, or user (or node), device and sequence_id."""

    user_id: str | None = None
    device_id: str | None = None
    sequence_id: int | None = None
    trace_id: str | None = None

    def partitions(self, count: int) -> list[int]:
        """The numbers of the partitions, of `count`, where a gateway puts the message: a device's by its own key, a
        sensor's of iot/* by its node's; all where user or device is not known.
        """
        if self.user_id is None or self.device_id is None:
            return list(range(count))
        keys = (device_key(self.user_id, self.device_id), self.user_id.encode())
        return sorted({key_partition(key, count) for key in keys})


def trace_id(text: str) -> str | None:
    """The 32 hex digits of a trace id or of a whole `traceparent`; None for anything else."""
    found = _TRACE_ID(text.strip().lower())
    return found[1] or found[2] if found else None


class Search(Struct):
    """The limits of a search, and its progress."""

    deadline: float  # on the monotonic clock
    progress: Progress
    read: int = 0
    total: int = 0
    complete: bool = True  # False: its time was up

    def is_over(self) -> bool:
        """Whether its time is up; that is noted in `complete`, as then not all was read."""
        if time.monotonic() > self.deadline:
            self.complete = False
        return not self.complete


class Matcher:
    """Distinguishes the records of one message from other records."""

    def __init__(self, sought: SoughtMessage, decoder: RecordDecoder) -> None:
        self._sought, self._decoder = sought, decoder
        topics = (f"users/{sought.user_id}/devices/{sought.device_id}/telemetry", "iot/{}/{}/telemetry")
        named = topics[1].format(sought.user_id, sought.device_id)
        self._topics = {topics[0].encode("utf-8", "replace"), named.encode("utf-8", "replace")}

    def record(self, record: Any, now_ms: int) -> FoundRecord | None:
        """A record of the input topic with its content, if it is of the message, else None. `now_ms` as in
        RecordDecoder.decode. Never raises.
        """
        sought = self._sought
        if sought.trace_id is not None and trace_id_of(record) != sought.trace_id:
            return None
        if sought.sequence_id is not None:
            topic = header(record, TOPIC_HEADER)
            if topic is not None and topic not in self._topics:
                return None  # the topic decides whose a record is: most need not be decoded
        found = FoundRecord(record, self._decoder.decode(record, now_ms))
        return found if self._is_sought(found) else None

    def letter(self, record: Any, now_ms: int) -> FoundLetter | None:
        """A dead letter whose original is of the message, else None. Never raises."""
        letter = read_letter(record.value, record.headers, record.key)
        if letter is None:
            return None
        original = _Original(letter.payload, letter.headers, letter.key, record.timestamp, letter.source_offset)
        found = self.record(original, now_ms)
        return FoundLetter(record, letter, found.decoded) if found else None

    def _is_sought(self, found: FoundRecord) -> bool:
        sought, decoded = self._sought, found.decoded
        pairs = (
            (sought.user_id, decoded.user_id),
            (sought.device_id, decoded.device_id),
            (sought.sequence_id, decoded.sequence_id),
        )
        return all(wanted in (None, has) for wanted, has in pairs)


class _Original(Struct):
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    key: bytes | None
    timestamp: int
    offset: int


class BackwardReader:
    """Reads partitions from their end back for what `matches` makes of their records, given a record and the present in
    milliseconds since 1970; what is None is passed over. Raises KAFKA_ERRORS.
    """

    def __init__(self, client: AIOKafkaConsumer, matches: Callable[[Any, int], Any], search: Search) -> None:
        self._client, self._matches, self._search = client, matches, search

    async def read(self, begin: Offsets, end: Offsets) -> list[Any]:
        """What was found from `begin` (included) to `end` (excluded), in each partition the newest first,
        at most KEPT.
        """
        found: list[Any] = []
        self._search.total += sum(max(0, end[tp] - offset) for tp, offset in begin.items())
        for tp, offset in begin.items():
            self._client.assign([tp])
            found += await self._partition(tp, offset, end[tp])
        return found

    async def _partition(self, tp: TopicPartition, begin: int, end: int) -> list[Any]:
        size = FIRST_PIECE
        while begin < end and not self._search.is_over():
            first = max(begin, end - size)
            if found := await self._piece(tp, first, end):
                return found[::-1]
            end, size = first, min(size * 4, LARGEST_PIECE)
        return []

    async def _piece(self, tp: TopicPartition, begin: int, end: int) -> list[Any]:
        client, search = self._client, self._search
        client.seek(tp, begin)
        found: list[Any] = []
        now_ms, at = time.time_ns() // 1_000_000, begin
        while at < end and not search.is_over():
            records = (await client.getmany(tp, timeout_ms=500)).get(tp, [])
            found += [one for record in records if record.offset < end and (one := self._matches(record, now_ms))]
            del found[:-KEPT]
            position = min(end, await client.position(tp))
            search.read += position - at
            at = position
            search.progress(search.read, search.total)
        return found
