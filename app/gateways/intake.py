"""Records of every gateway of a process -> Kafka, in order; in, a submission; out, a future of its result.

One chunk is under way at a time and the next one gathers meanwhile (writer.py), so that a key's records keep their
order, over retries too. What is in memory is bounded: when so much is not acknowledged, `full` says so, HTTP answers
503, and readers of connections wait for `room`. Nothing that was taken is dropped for lack of room.

    1 a gateway makes records, and asks over_limit of each          (telemetry_record, admission)
    2 the gateway submits the records, which wait in their order
    3 a chunk is written until Kafka has all of it                  (writer)
    4 the futures of its submissions are done, and the gateway answers
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import structlog

from app.errors import TransientError
from app.gateways.admission import Admission, Limited
from app.gateways.admission import account as whose
from app.gateways.blocks.record_block import joined, payload_of, topic_and_gateway
from app.gateways.dead_letter import refused_of
from app.gateways.gateway_metrics import (
    ACK_SECONDS,
    FULL,
    KAFKA_CONNECTED,
    OLDEST,
    PAYLOAD_BYTES,
    RECORDS,
    UNACKED,
    UNACKED_BYTES,
)
from app.gateways.record import ChunkSum, IngestRecord, Submission
from app.gateways.room import Room
from app.gateways.spans import BridgeSpans
from app.gateways.telemetry_record import Rejection
from app.gateways.writer import KafkaWriter
from app.ports import Account
from app.runtime.flushes import Flushes
from app.runtime.interrupt import Interrupt, set_within

log = structlog.get_logger()

RECORD_OVERHEAD = 500  # bytes a record takes next to its payload, as in inbox.py
CHUNK_RECORDS = 5_000  # written at once: a crash repeats at most this many, and what has gathered meanwhile
CHUNK_BYTES = 4 << 20
CHUNK_SECONDS = 0.003  # least time between two chunks: single requests gather, and a lone request waits for nothing
BUSY_SECONDS = 1.0  # which a user over his share has to wait, by the answer
STOPPED = "the gateway stops before Kafka has this: send it again"

Records = Sequence[IngestRecord]
Refused = list[tuple[int, Rejection]]  # index within the records of a submission


class Intake:
    """One a process, shared by its gateways; used in one event loop."""

    def __init__(self, writer: KafkaWriter, max_bytes: int, gate: Admission, spans: BridgeSpans | None = None) -> None:
        """`max_bytes` bounds what is not acknowledged, payloads and their records; `spans` None: nothing is traced."""
        self._writer, self._gate, self._spans = writer, gate, spans
        self.has_limits, self._room = bool(gate), Room(max_bytes)
        self._waiting: deque[Submission] = deque()
        self._writing: list[Submission] = []
        self._count = 0
        self._arrived, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._stopped = False
        self.flushes = Flushes()  # of chunks that Kafka has acknowledged
        UNACKED.set_function(lambda: float(self._count))
        UNACKED_BYTES.set_function(lambda: float(self._room.taken))
        FULL.set_function(lambda: float(self.full))
        OLDEST.set_function(self._oldest)
        KAFKA_CONNECTED.set_function(lambda: float(writer.answered))

    @property
    def available(self) -> bool:
        """Whether Kafka took what was written last; False until the first connection."""
        return self._writer.available

    @property
    def answered(self) -> bool:
        """Whether Kafka takes what is written now, which changes sooner than `available`."""
        return self._writer.answered

    @property
    def queue_depth(self) -> int:
        """Records taken and not yet acknowledged by Kafka."""
        return self._count

    @property
    def full(self) -> bool:
        """Whether nothing more should be taken: HTTP answers 503 with Retry-After, readers wait for `room`."""
        return self._room.full

    async def room(self, user: str = "") -> None:
        """Return at once unless `full`, then once there is room for one more read; of `user`, for his share too."""
        if not self._stopped:
            await self._room.wait(user.encode())

    def over_limit(self, account: Account, topic: bytes, size: int, *, waits: bool = False) -> Limited | None:
        """Which limit one more message of `account` is over: to be asked before `submit`, of each record.

        `topic`: of the record (its header mqtt_topic); `size`: bytes of its payload. None: it may come in, and counts.
        Besides the limits of IOT_INGRESS_*, a user may have a quarter of the room once half of it is taken; a
        reader that `waits` pauses instead (`crowded`), and without `has_limits` need not ask.
        """
        if not waits and self.crowded(account):
            self._gate.refused(account.user_id, "unacknowledged")
            detail = f"more than {self._room.share} bytes of one user await Kafka's ack: wait for answers"
            return Limited(detail, BUSY_SECONDS)
        return self._gate.limited(account.user_id, topic, size) if self.has_limits else None

    def crowded(self, account: Account) -> bool:
        """Whether half of the room is taken, and this user has more than a share: its readers pause."""
        return self._room.over_share(account.user_id.encode())

    def flushed(self) -> "asyncio.Future[Refused]":
        """A submission of nothing, done after Kafka's ack of all that was taken before it; it raises as `submit`."""
        if self._stopped or not self._count:
            return self.submit(())
        done: asyncio.Future[Refused] = asyncio.get_running_loop().create_future()
        self._waiting.append(Submission((), (), 0, 0, b"", b"", done, time.perf_counter()))
        return done

    def submit(self, records: Records, dead: Records = (), user: str | None = None) -> "asyncio.Future[Refused]":
        """Take records; the future is done after Kafka's ack of all of them, and belongs to this submission alone.

        Its result are those that Kafka refuses for ever, which have become dead letters. It raises TransientError when
        the process stops before the ack: answer 503, or nothing. Cancelling the future (a client went away) takes
        nothing back. Records of one key are written in the order of their submissions. `dead` are dead letters
        (dead_letter.refused_items), written alike. The sequences must not change afterwards. `user`: of the account
        that sends it, whose share of the room it counts for; None: the user of the first record.
        """
        done: asyncio.Future[Refused] = asyncio.get_running_loop().create_future()
        if self._stopped:
            done.set_exception(TransientError(STOPPED))
            done.exception()  # retrieved: nobody may be waiting
        elif records or dead:
            self._put(records, dead, done, user)
        else:
            done.set_result([])
        return done

    def _put(self, records: Records, dead: Records, done: "asyncio.Future[Refused]", sender: str | None) -> None:
        payload, count = payload_of(records), len(records)
        size = payload + RECORD_OVERHEAD * count
        if dead:
            size += sum([len(record.value) + RECORD_OVERHEAD for record in dead])
            count += len(dead)
        topic, gateway = topic_and_gateway(records or dead)
        user = whose(topic) if sender is None else sender.encode()
        self._waiting.append(Submission(records, dead, payload, size, user, gateway, done, time.perf_counter()))
        self._room.take(user, size)
        self._count += count
        if not self._arrived.is_set():
            self._idle.clear()
            self._arrived.set()

    async def run(self, stop: asyncio.Event, stop_seconds: float) -> None:
        """Write until `stop` is set, then what was taken until then, for at most `stop_seconds`, and close.

        Set `stop` once the gateways have stopped: what is submitted afterwards is refused. Raises what a bug raises.
        """
        pumping = asyncio.create_task(self._pump(), name="intake")
        await Interrupt(stop).first_of(pumping)
        self._stopped = True
        if stop.is_set() and not await set_within(self._idle, stop_seconds):
            log.warning("gateway_unfinished", records=self._count, note="no answer went out: senders send these again")
        pumping.cancel()
        await asyncio.wait([pumping])
        self._let_go()
        await self._writer.close()
        if not pumping.cancelled():
            pumping.result()

    def _let_go(self) -> None:
        """Nothing more is written: release all who wait."""
        for submission in (*self._writing, *self._waiting):
            if not submission.done.done():
                submission.done.set_exception(TransientError(STOPPED))
                submission.done.exception()
        self._room.close()

    async def _pump(self) -> None:
        await self._writer.write([])  # connects, so that /ready is right before the first record
        began = 0.0
        while True:
            await self._arrived.wait()
            if (pause := began + CHUNK_SECONDS - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            self._writing = self._take()
            began = time.perf_counter()
            refused = await self._write(self._writing)
            now = time.perf_counter()
            self.flushes.add(sum([len(one.records) + len(one.dead) for one in self._writing]), now - began)
            self._finish(refused, now)

    def _take(self) -> list[Submission]:
        """The next submissions, up to the bounds of a chunk, but at least one."""
        taken: list[Submission] = []
        count = size = 0
        while self._waiting and count < CHUNK_RECORDS and size < CHUNK_BYTES:
            submission = self._waiting.popleft()
            taken.append(submission)
            count += len(submission.records) + len(submission.dead)
            size += submission.payload
        return taken

    async def _write(self, chunk: list[Submission]) -> Sequence[IngestRecord]:
        """Until Kafka has all of it; returns what it refuses for ever."""
        records = joined([one.records for one in chunk])
        dead = joined([one.dead for one in chunk])
        if not self._spans:
            return await self._writer.write(records, dead)
        spans, refused = self._spans.begin(records := list(records)), None
        try:
            refused = await self._writer.write(records, dead)
        finally:
            self._spans.end(spans, (), refused)
        return refused

    def _finish(self, refused: Sequence[IngestRecord], now: float) -> None:
        """Kafka has the chunk under way."""
        lost = {id(record) for record in refused}
        chunk, self._writing = self._writing, []
        while self._waiting and not self._waiting[0].size:  # such a submission waits for this chunk alone
            chunk.append(self._waiting.popleft())
        of_gateways: dict[bytes, ChunkSum] = {}
        of_users: dict[bytes, ChunkSum] = {}
        for one in chunk:
            found = refused_of(one.records, lost) if lost else []
            for key, sums in ((one.gateway, of_gateways), (one.user, of_users)) if one.size else ():
                total = sums.get(key) or sums.setdefault(key, ChunkSum(began=one.began))
                total.records += len(one.records) - len(found)
                total.payload += one.payload
                total.size += one.size
            self._count -= len(one.records) + len(one.dead)
            if not one.done.done():
                one.done.set_result(found)
        for user, total in of_users.items():
            self._room.give(user, total.size)
            self._gate.count(user.decode("utf-8", "replace"), total.records, total.payload)
        for gateway, total in of_gateways.items():
            label = gateway.decode()
            ACK_SECONDS.labels(label).observe(now - total.began)
            RECORDS.labels(label).inc(total.records)
            PAYLOAD_BYTES.labels(label).inc(total.payload)
        if not self._waiting:
            self._arrived.clear()
            self._idle.set()
        self._room.wake()

    def _oldest(self) -> float:
        first = next(iter(self._writing or self._waiting), None)
        return time.perf_counter() - first.began if first else 0.0
