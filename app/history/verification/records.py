"""Records in chunks against the table: in, records of the input topic; out, each of them in one count of the ledger.

The records are read once, in the order of their offsets; each chunk asks the database for all of its keys at once,
along the primary key. So a verification takes the same memory for a thousand records and for a billion.
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from aiokafka import TopicPartition
from msgspec import Struct

from app.core.decode.dated import is_dated
from app.core.decode.decoder import DecodeLimits
from app.core.model.arrival import arrived_ms, moment_of
from app.core.model.fault import printable
from app.core.model.records import Reading, Rejected
from app.core.processing.expected_outcome import CarriedOut, DroppedByPolicy, ExpectedOutcome, OutcomeJudge, named_user
from app.core.processing.redelivery import delivery
from app.core.sampling.left_out import AbsentReading, StoredReadings
from app.history.table_at_hand import TableAtHand
from app.history.verification.ledger import MissingRecord, VerifyLedger
from app.history.verification.letters import KeptLetters
from app.history.verification.store import VerifyStore, stored_key
from app.postgres.queries.telemetry_rows import RowKey
from app.settings import Settings

CENTURY = 100 * 365 * 86400.0  # a worker judged the time by the limits of then: any time may be a row
REPEAT_WITHIN = timedelta(hours=1)  # between a message without a time and its redelivery, at most


class LookedUp(Struct):
    """A record with what it must have become."""

    tp: TopicPartition
    record: Any
    reading: Reading

    @property
    def key(self) -> RowKey:
        """The primary key of its row."""
        one = self.reading
        return one.time, one.user_id, one.device_id, one.sequence_id

    @property
    def words(self) -> str:
        """The reading for a person."""
        one = self.reading
        name = f"{printable(one.user_id)}/{printable(one.device_id)}"
        return f"{name}, sequence_id {one.sequence_id} of {utc(one.time)}"


class RecordCheck:
    """Looks records up, and counts what they have become."""

    def __init__(
        self,
        settings: Settings,
        ledger: VerifyLedger,
        table: TableAtHand,
        letters: KeptLetters,
        rows: StoredReadings,
        store: VerifyStore,
        examples: int,
    ) -> None:
        """`rows`: the rows of devices with change of value; `examples` are kept of each kind of finding."""
        limits = DecodeLimits(CENTURY, CENTURY, settings.payload_max_bytes, settings.payload_max_depth)
        self._outcomes = OutcomeJudge(limits, settings.telemetry_schema)
        self._past, self._future = settings.time_past_max, settings.time_future_max
        self.ledger, self._at_hand, self._letters, self._rows = ledger, table, letters, rows
        self._store, self._examples = store, examples
        self.ahead = timedelta(seconds=min(self._future, CENTURY))  # how far a reading may be ahead of its arrival
        self.first_ms: dict[int, int] = {}  # by partition: the time of the first record that was looked at
        self.last_ms = 0  # the latest time of any record that was looked at

    def readings(self, records: Sequence[Any]) -> list[Reading]:
        """Of records that are not counted: their readings. Never raises."""
        now_ms = _now_ms()
        self._outcomes.begin()
        found = (self._outcomes.judge(record, now_ms, record.partition) for record in records)
        return [one for one in found if isinstance(one, Reading)]

    async def look(self, records: Sequence[Any]) -> None:
        """Count a chunk of records, in their order. Raises TransientError when the database is away, PermanentError
        when it refuses or when the store cannot be written.
        """
        now_ms = _now_ms()
        self._outcomes.begin()
        looked_up, rejected = list[LookedUp](), list[tuple[TopicPartition, Rejected]]()
        for record in records:
            self._note(record)
            found = self._outcomes.judge(record, now_ms, record.partition)
            if not self._is_asked(record, found):
                self.ledger.not_asked += 1
                continue
            tp = TopicPartition(record.topic, record.partition)
            match found:
                case Rejected():
                    rejected.append((tp, found))
                case DroppedByPolicy(policy=policy):
                    self.ledger.dropped[policy] += 1
                case CarriedOut():
                    self.ledger.carried_out += 1
                case _:
                    looked_up.append(LookedUp(tp, record, found))
        absent = await self._at_hand.absent([one.key for one in looked_up])
        for index, one in enumerate(looked_up):
            if index in absent:
                await self._absent(one, now_ms)
            else:
                self._rows.stored(one.reading)
        self._keep([one for index, one in enumerate(looked_up) if index not in absent])
        self._store.add_readings([stored_key(*one.key) for index, one in enumerate(looked_up) if index in absent])
        for tp, refused in rejected:
            self._rejected(tp, refused, now_ms)
        self.ledger.at.update((record.partition, record.offset + 1) for record in records)

    def _keep(self, found: Sequence[LookedUp]) -> None:
        """Count readings whose row is there, and those of them whose row an earlier record has made."""
        self.ledger.rows += len(found)
        self.ledger.repeats += len(found) - self._store.add_readings([stored_key(*one.key) for one in found])

    def _note(self, record: Any) -> None:
        self.ledger.records += 1
        self.first_ms.setdefault(record.partition, record.timestamp)
        self.last_ms = max(self.last_ms, record.timestamp)

    def _is_asked(self, record: Any, found: ExpectedOutcome) -> bool:
        wanted = self.ledger.user
        return wanted is None or wanted == named_user(record, found)

    async def _absent(self, one: LookedUp, now_ms: int) -> None:
        """Count a reading that is no row."""
        ledger, record, reading = self.ledger, one.record, one.reading
        arrived = arrived_ms(record, now_ms)
        ahead = (reading.time - moment_of(arrived)).total_seconds()
        missing = MissingRecord(one.tp.partition, record.offset, "row", one.words)
        if self._letters.has(one.tp, record):  # the database refused it, or a limit of then
            ledger.dead += 1
        elif await self._came_again(one):
            ledger.redelivered += 1
        elif (left_out := self._rows.absent(record, reading, now_ms)) is AbsentReading.LEFT_OUT:
            ledger.dropped["cov"] += 1
        elif self._is_expired(reading.time, now_ms):
            ledger.expired += 1
        elif not -self._past <= ahead <= self._future and self._letters.may_be_gone(one.tp.partition, arrived):
            ledger.letters_gone += 1
        elif left_out is AbsentReading.DOUBTFUL:
            ledger.doubtful.add(missing, self._examples)
        else:
            ledger.lose(missing, self._examples)

    async def _came_again(self, one: LookedUp) -> bool:
        """Whether a message without a time has its row under the time of its first delivery."""
        if is_dated(one.record.value or b"") or not (delivered := delivery(one.record)) or not delivered[1]:
            return False
        return await self._at_hand.has_earlier(one.key, REPEAT_WITHIN)

    def _is_expired(self, at: datetime, now_ms: int) -> bool:
        kept = self._at_hand.kept_for
        return kept is not None and at < moment_of(now_ms) - kept

    def _rejected(self, tp: TopicPartition, refused: Rejected, now_ms: int) -> None:
        """Count a record that must be a dead letter."""
        record = refused.record
        if self._letters.has(tp, record):
            self.ledger.dead += 1
        elif self._letters.may_be_gone(tp.partition, arrived_ms(record, now_ms)):
            self.ledger.letters_gone += 1
        else:
            what = f"{printable(refused.detail, 200)} ({refused.stage}: {refused.reason})"
            self.ledger.lose(MissingRecord(tp.partition, record.offset, "dead letter", what), self._examples)


def utc(at: datetime) -> str:
    """A time as RFC 3339, in UTC."""
    return at.isoformat().replace("+00:00", "Z")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
