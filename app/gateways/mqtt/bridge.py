"""MQTT -> Kafka, at least once: an MQTT message is acknowledged when Kafka has acknowledged its record.

    1 the session receives messages and makes records of them      (session, wire, records)
    2 they gather in the inbox, which pauses reading when it is full (inbox)
    3 a chunk is written, again and again until Kafka has all of it  (kafka; its spans: spans)
    4 PUBACKs go out, in the order received                          (session)

What is held in memory is what the broker still holds too: a crash at any point costs duplicates and nothing else, and
those fall on the primary key downstream. QoS 0 messages are forwarded as well, but a crash loses those in memory.
When the connection ends nothing is forgotten: the broker may come back without the session, or with less than it had
acknowledged to devices. What it does send again is not written twice (held).

Order per device: the broker sends in order, the inbox keeps it, chunks are written one after another, and one whose
write fails is written again before the next. After a reconnect the broker repeats what was not acked, in order; a copy
may then follow a later message, but every first occurrence is in order. With several bridges on one share the broker
deals them out, so a device must always meet the same bridge: EMQX does that when its shared subscription strategy is
`hash_topic` (its default, round robin, does not); Mosquitto knows only round robin, so run one bridge there.

Loops: own outputs lie below users/ too (alerts, alerts/errors, config/errors). They reach the bridge like any other
topic, are acked without being forwarded, and counted as iot_bridge_ignored_total. All else is forwarded, unknown
topics as kind=unknown.
"""

import asyncio
import ssl
import time
from collections import Counter

import structlog

from app.errors import TransientError
from app.gateways.admission import Admission
from app.gateways.dead_letter import rate_limited
from app.gateways.mqtt.held_records import HeldRecords
from app.gateways.mqtt.inbox import Inbox
from app.gateways.mqtt.metrics import (
    BYTES,
    CONNECTED,
    IGNORED,
    IN_FLIGHT,
    KAFKA_CONNECTED,
    MESSAGES,
    OLDEST,
    PAUSED,
    RECONNECTS,
    SESSIONS_LOST,
    WRITE_SECONDS,
)
from app.gateways.mqtt.session import Login, MqttSession, unshared
from app.gateways.record import IngestRecord, own_output
from app.gateways.spans import BridgeSpans
from app.gateways.writer import KafkaWriter
from app.runtime.flushes import Flushes
from app.runtime.interrupt import Interrupt, set_within
from app.runtime.retry import delay
from app.runtime.tls import words

log = structlog.get_logger()

CHUNK_RECORDS = 5_000  # acked together, so a crash repeats at most this many and what is under way
CHUNK_BYTES = 4 << 20  # twelve batches of 512 KiB hold it even when the keys are uneven
CHUNK_SECONDS = 0.003  # from one to the next at the least; saves a third of the CPU at 1,000 messages a second
CONNECT_SECONDS = 10.0
STEADY_SECONDS = 5.0  # a connection that lived this long resets the back-off
SILENT = f"no answer from the MQTT broker within {CONNECT_SECONDS:.0f} s"
SESSION_CURE = (
    "what the broker had queued beyond this is lost: does it keep sessions on its disk, and long enough"
    " (IOT_BRIDGE_SESSION_EXPIRY), and does anybody else use this client id?"
)


class Bridge:
    """Runs until stopped; waits out every absence of either side."""

    def __init__(
        self,
        address: tuple[str, int],
        tls: ssl.SSLContext | None,
        login: Login,
        writer: KafkaWriter,
        max_bytes: int,
        gate: Admission,
        spans: BridgeSpans | None = None,
    ) -> None:
        """`address` of the broker, `tls` None: not encrypted; `max_bytes` bounds what is held; `spans` None: nothing is
        traced.
        """
        self._address, self._tls, self._login, self._writer = address, tls, login, writer
        self._inbox, self._gate, self._spans = Inbox(max_bytes), gate, spans
        self._session: MqttSession | None = None
        self._held = HeldRecords()
        self._writing: list[IngestRecord] = []
        self._had_session = False
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.flushes = Flushes()  # of chunks that Kafka has acknowledged
        OLDEST.set_function(self._waiting)
        PAUSED.set_function(lambda: float(bool(self._session and self._session.paused)))
        KAFKA_CONNECTED.set_function(lambda: float(writer.answered))

    @property
    def connected(self) -> bool:
        """Whether messages can arrive: connected to the MQTT broker and subscribed."""
        return bool(self._session and self._session.subscribed.done() and not self._session.closed.done())

    @property
    def queue_depth(self) -> int:
        """Messages taken from the broker and not yet acknowledged."""
        return len(self._writing) + len(self._inbox)

    def _waiting(self) -> float:
        oldest = next(iter(self._writing or self._inbox), None)
        return max(0.0, time.time() - oldest.ingest_ms / 1000) if oldest else 0.0

    async def run(self, stop: asyncio.Event, stop_seconds: float) -> None:
        """Bridge until `stop` is set; then write and ack what was received, for at most `stop_seconds`. Raises bugs."""
        receiving = asyncio.create_task(self._receive(), name="receive")
        pumping = asyncio.create_task(self._pump(), name="pump")
        await Interrupt(stop).first_of(receiving, pumping)
        if stop.is_set():
            await self._drain(stop_seconds)
        if self._session:
            self._session.disconnect()
            await asyncio.wait([self._session.closed], timeout=1)  # until the last PUBACKs are out
        for task in (receiving, pumping):
            task.cancel()
        results = await asyncio.gather(receiving, pumping, return_exceptions=True)
        await self._writer.close()
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def _drain(self, seconds: float) -> None:
        """Take in nothing more and let the pump finish; what it cannot finish the broker sends again."""
        self._stopping = True
        if self._session:
            self._session.pause()
        if not await set_within(self._idle, seconds):
            left = [*self._writing, *self._inbox]
            kept = len(self._held) + sum(record.packet_id > 0 for record in left)
            note = "the broker keeps `kept_by_broker` of them; what is neither there nor in Kafka is lost"
            log.warning("bridge_unfinished", messages=len(left), kept_by_broker=kept, note=note)

    async def _receive(self) -> None:
        attempt = 0
        while not self._stopping:
            started = time.monotonic()
            try:
                reason = await self._connection()
            except (OSError, TransientError, TimeoutError) as error:
                reason = words(error, "the MQTT broker", "IOT_MQTT")
            CONNECTED.set(0)
            if self._stopping:
                return
            RECONNECTS.inc()
            self._held.keep(self._writing)
            self._inbox.orphan(self._held)
            if not self._writing:
                self._go_on()
            attempt = 0 if time.monotonic() - started > STEADY_SECONDS else attempt + 1
            wait = delay(attempt)
            log.warning("bridge_mqtt_disconnected", reason=reason, attempt=attempt, wait_seconds=round(wait, 2))
            await asyncio.sleep(wait)

    async def _connection(self) -> str:
        """Connect, subscribe and receive until the connection ends; returns why."""
        host, port = self._address
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                loop = asyncio.get_running_loop()
                _, session = await loop.create_connection(self._new_session, host, port, ssl=self._tls)
        except TimeoutError:
            raise TransientError(SILENT) from None
        # A full inbox stops reading at the first message that comes again, which may be before the broker's SUBACK.
        while not (await asyncio.wait([session.subscribed], timeout=CONNECT_SECONDS))[0]:
            if not session.paused:
                session.abort("")
                raise TransientError(SILENT)
        kept = session.subscribed.result()
        CONNECTED.set(1)
        filters = [unshared(pattern) for pattern in self._login.filters]
        log.info("bridge_mqtt_connected", host=host, port=port, session_kept=kept, filters=filters)
        return await asyncio.shield(session.closed)

    def _new_session(self) -> MqttSession:
        self._session = MqttSession(self._login, self._arrived, self._accepted)
        return self._session

    def _accepted(self, kept: bool) -> None:
        """The broker took the login, and has our session or has not; no message of this connection is here yet."""
        if not kept:
            self._held.forget()
            if self._had_session:
                SESSIONS_LOST.inc()
                log.error("bridge_session_lost", held=len(self._writing) + len(self._inbox), cure=SESSION_CURE)
        self._had_session = True

    def _arrived(self, records: list[IngestRecord]) -> None:
        if self._held:
            records = self._held.without_copies(records)
        if self._gate:
            records = self._gate.admit(records)
        if not records:
            return
        self._inbox.put(records)
        self._idle.clear()
        IN_FLIGHT.set(self.queue_depth)
        if self._inbox.full and self._session:
            self._session.pause()

    async def _pump(self) -> None:
        await self._writer.write([])  # connects, so that /ready is right before the first message
        began = 0.0
        while True:
            await self._inbox.arrived()
            await asyncio.sleep(max(0.0, began + CHUNK_SECONDS - time.perf_counter()))
            chunk = await self._inbox.take(CHUNK_RECORDS, CHUNK_BYTES)
            session, self._writing = self._session, chunk
            wanted = [record for record in chunk if not (record.written or record.over or own_output(record))]
            over = [record for record in chunk if record.over and not record.written] if self._gate else []
            began = time.perf_counter()
            if wanted or over:
                await self._write(wanted, over)
                seconds = time.perf_counter() - began
                WRITE_SECONDS.observe(seconds)
                self.flushes.add(len(wanted) + len(over), seconds)
            if session:
                session.ack([record.packet_id for record in chunk if record.packet_id])
            self._writing = []
            self._count(wanted, chunk, len(over))
            self._go_on()

    async def _write(self, wanted: list[IngestRecord], over: list[IngestRecord]) -> None:
        """Until Kafka has all of it, those over a limit as dead letters."""
        dead = [rate_limited(record, record.over or "", self._writer.topic) for record in over]
        if not self._spans:
            await self._writer.write(wanted, dead)
            return
        spans, refused = self._spans.begin(wanted), None
        try:
            refused = await self._writer.write(wanted, dead)
        finally:
            self._spans.end(spans, over, refused)

    def _go_on(self) -> None:
        if not len(self._inbox):
            self._idle.set()
        if self._session and self._inbox.roomy and not self._stopping:
            self._session.resume()

    def _count(self, wanted: list[IngestRecord], chunk: list[IngestRecord], dead: int) -> None:
        kinds = Counter([record.kind for record in wanted])
        for kind, number in kinds.items():
            MESSAGES.labels(kind.value).inc(number)
            of_it = wanted if len(kinds) == 1 else [record for record in wanted if record.kind is kind]
            BYTES.labels(kind.value).inc(sum([len(record.value) for record in of_it]))
        if len(wanted) < len(chunk):
            IGNORED.inc(len(chunk) - len(wanted) - dead - sum(record.written for record in chunk))
        IN_FLIGHT.set(len(self._inbox))
