"""Letters put back: in, a course through the dead-letter topic; out, each chosen letter at its outlet, acked, once.

A chunk is read, mended and sent; its offsets are committed once the broker has acked all of it. After a kill between
the two the chunk is sent again, and the key of its rows takes no row twice. An outage of Kafka is waited out, from the
last acked chunk on.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

from aiokafka import TopicPartition
from msgspec import Struct, field

from app.deadletters.group import Course
from app.deadletters.letter import Letter, letter_of
from app.deadletters.mending import LeftOut, Mending, mended
from app.deadletters.outlets import PATIENCE, LetterOutlet
from app.deadletters.sole_replay import SoleReplay
from app.errors import PermanentError, TransientError
from app.kafka.access import KAFKA_ERRORS, Access
from app.kafka.messages import OutgoingMessage
from app.kafka.reading.record_log import RecordLog, record_log
from app.runtime.interrupt import Interrupt

CHUNK, CHUNK_BYTES = 5_000, 8 << 20  # letters, and bytes of them, that are sent and committed together
PACES = 5  # chunks a second where a rate is set
LAST_SECONDS = 5.0  # for the chunk under way when the command is stopped
AGAIN_SECONDS = 1.0  # between two tries of reading
EXAMPLES = 3  # of letters left out, for each reason
QUARANTINED = "quarantined"  # header: why a letter is there


class ReplayCounts(Struct):
    """What became of the letters of a replay, as far as it is committed."""

    read: int = 0  # records of the topic looked at
    chosen: int = 0
    replayed: int = 0
    quarantined: int = 0
    refused: int = 0  # by the broker, for ever
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)


class Chunk(Struct):
    """Letters that are sent together, and where each partition is after them."""

    letters: list[Letter] = field(default_factory=list)
    at: dict[TopicPartition, int] = field(default_factory=dict)
    read: int = 0
    size: int = 0


class Replay:
    """One replay. `progress` is called after each chunk."""

    def __init__(
        self, kafka: Access, topic: str, course: Course, mending: Mending, outlet: LetterOutlet,
        quarantine: LetterOutlet, most: int | None, rate: float | None, sole: SoleReplay,
        progress: Callable[[ReplayCounts], None], patience: float = PATIENCE,
    ) -> None:  # fmt: skip
        """`most`: a letter that was replayed so often goes to `quarantine`; None: none does. `rate`: letters a second;
        None: as fast as the broker takes them. `sole`: its event ends the replay, and nothing is sent or committed
        while it is not sure.
        """
        self._kafka, self._topic, self.course = kafka, topic, course
        self._mending, self._outlet, self._quarantine, self._most = mending, outlet, quarantine, most
        self._rate, self._interrupt, self._progress = rate, Interrupt(sole.stop), progress
        self._sole = sole
        self._patience = patience
        self._chunk = CHUNK if rate is None else max(1, min(CHUNK, int(rate / PACES)))
        self.counts = ReplayCounts()

    async def run(self) -> bool:
        """Put back all that is left of the course; False when it was interrupted before its end. Raises TransientError
        when Kafka does not answer for as long as patience lasts; the next command goes on where this one was.
        """
        last = time.monotonic()
        while True:
            before, opened = self.course.left, False
            try:
                async with record_log(self._kafka, self._topic, committed=False) as log:
                    opened = True
                    await self._interrupt.race(self._pass(log), LAST_SECONDS)
                return not self.course.left
            except (TransientError, PermanentError) as error:
                if opened and isinstance(error, PermanentError):  # an outlet's; a topic is missing for a moment
                    raise
                now = time.monotonic()
                if self.course.left < before:
                    last = now
                if self._interrupt.is_set():
                    return False
                if now - last > self._patience:
                    raise
                await self._interrupt.pause(AGAIN_SECONDS)

    async def _pass(self, log: RecordLog) -> None:
        try:
            await self._sure()
            await self._sole.commit(self.course.marks())
            began, sent = time.monotonic(), 0
            async for chunk in self._chunks(log):
                await self._sure()
                await self._send(chunk)
                self.course.at |= chunk.at
                await self._sure()
                await self._sole.commit({tp: mark for tp, mark in self.course.marks().items() if tp in chunk.at})
                self._progress(self.counts)
                sent += len(chunk.letters)
                if self._rate:
                    await self._interrupt.pause(max(0.0, began + sent / self._rate - time.monotonic()))
                if self._interrupt.is_set():
                    return
        except KAFKA_ERRORS as error:
            raise TransientError(f"cannot read {self._topic} from Kafka at {self._kafka}: {error!r}") from error

    async def _sure(self) -> None:
        """Return while no other command can have begun the same replay; in an outage that is known after it."""
        try:
            async with asyncio.timeout(self._patience):
                await self._sole.ensure()
        except TimeoutError:
            what = f"Kafka at {self._kafka} has not answered this command's heartbeats for {self._patience:g} s"
            raise TransientError(what) from None

    async def _chunks(self, log: RecordLog) -> AsyncIterator[Chunk]:
        """The letters of the course that are chosen, with the records passed on the way."""
        begin = {tp: at for tp, at in self.course.at.items() if at < self.course.ends[tp]}
        chunk = Chunk()
        if not begin:
            return
        async for records in log.follow(begin, self.course.ends):
            for record in records:
                letter = letter_of(record)
                chunk.read += 1
                chunk.at[TopicPartition(record.topic, record.partition)] = record.offset + 1
                if letter is not None and self.course.chooser.takes(letter):
                    chunk.letters.append(letter)
                    chunk.size += len(letter.value)
                    if len(chunk.letters) >= self._chunk or chunk.size >= CHUNK_BYTES:
                        yield chunk
                        chunk = Chunk()
            if chunk.read > 20 * CHUNK or self._interrupt.is_set():
                yield chunk
                chunk = Chunk()
        # What follows the last record may be no record: the marks of transactions.
        chunk.at |= {tp: self.course.ends[tp] for tp in begin}
        yield chunk

    async def _send(self, chunk: Chunk) -> None:
        now_ms = time.time_ns() // 1_000_000
        messages: list[OutgoingMessage] = []
        sent: list[Letter] = []
        aside: list[Letter] = []
        left = list[tuple[Letter, LeftOut]]()
        for letter in chunk.letters:
            if self._most is not None and letter.dead.replay_count >= self._most:
                aside.append(letter)
                continue
            made = mended(letter, self._mending, now_ms)
            if isinstance(made, LeftOut):
                left.append((letter, made))
            else:
                messages.append(made)
                sent.append(letter)
        if aside:
            await self._quarantine.send([_as_it_is(letter, self._most or 0) for letter in aside])
        refused = await self._outlet.send(messages) if messages else ()
        self._count(chunk, sent, len(aside), [*left, *((sent[one.at], LeftOut("refused", one.why)) for one in refused)])
        self.counts.refused += len(refused)

    def _count(self, chunk: Chunk, sent: Sequence[Letter], aside: int, left: Sequence[tuple[Letter, LeftOut]]) -> None:
        counts = self.counts
        refused = {id(letter) for letter, one in left}
        for letter in sent:
            if id(letter) not in refused:
                counts.replayed += 1
                self.course.done[TopicPartition(self._topic, letter.partition)] += 1
        counts.read += chunk.read
        counts.chosen += len(chunk.letters)
        counts.quarantined += aside
        for letter, one in left:
            counts.left_out[one.why] += 1
            examples = counts.examples.setdefault(one.why, [])
            if len(examples) < EXAMPLES:
                examples.append(f"{letter.partition}:{letter.offset} {one.detail}")


def _as_it_is(letter: Letter, most: int) -> OutgoingMessage:
    """The letter unchanged, for the quarantine topic."""
    why = f"replayed {letter.dead.replay_count} times, {most} at most".encode()
    headers = [header for header in letter.headers if header[0] != QUARANTINED]
    return OutgoingMessage(letter.key, letter.value, [*headers, (QUARANTINED, why)], letter.partition)
