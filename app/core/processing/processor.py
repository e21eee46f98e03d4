"""The core's one entrance: a batch in, its BatchOutput out. Decode, validate, step rules and state; no I/O.

State is looked up once a device and then kept between batches of one epoch (see app.core.batch.batch.Batch): what is
kept runs ahead of what is stored, and an epoch ends whenever anything was not stored.

Beside its devices' states a partition has a mark: the offset up to which everything was stepped. A device that gets
its first state starts from there, so that replaying history alerts nobody, also where rules came later.
"""

from collections.abc import Generator

from app.core.alerts.evaluate import evaluate
from app.core.alerts.outputs import active_effects, emit
from app.core.batch.batch import Batch
from app.core.batch.effects import Effect
from app.core.batch.output import EMPTY, HISTORY, BatchOutput
from app.core.decode.dated import is_dated
from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.decode.future_times import latest_allowed
from app.core.model.arrival import arrival, moment_of
from app.core.model.records import Kind, Record, Rejected
from app.core.presence.device_classes import NOBODY, DeviceClasses
from app.core.presence.tracker import PresenceTracker
from app.core.processing.clock_back import on_time
from app.core.processing.control_records import ControlRecords, RecordContext
from app.core.processing.device_cache import (
    IN_MEMORY,
    WEIGHS_ONE,
    CachedDevice,
    DeviceCache,
    Home,
    Load,
    LogOf,
    PartitionState,
    Unreadable,
)
from app.core.processing.redelivery import delivery, is_known
from app.core.processing.sampled_step import average_effects, evaluate_sampled
from app.core.routing.address import address_of
from app.core.schema.schema import Schema
from app.core.state.device_state import encode
from app.core.state.keys import MARK_KEY
from app.core.state.partition_log import LOG_KEY, PartitionLog, note
from app.core.user_config.rulebook import RuleBook

Times = dict[tuple[str, bytes], int]
TIMES = 10_000  # headers, and those of a batch: 2 MB
SLICE = 500  # records, about 2 ms: connections are not kept waiting longer than that
OTHER_BYTES = 512  # of a record that is no telemetry (rules, for example) take as long as one that is
MARK_SECONDS = 5.0  # a mark alone is stored at most this often; with states it costs nothing


class Processor:
    """Makes Work of batches. Those of one partition must come in offset order within an epoch."""

    def __init__(
        self,
        limits: DecodeLimits,
        schema: Schema,
        rules: RuleBook,
        load: Load,
        classes: DeviceClasses = NOBODY,
        note_every: float = 60.0,
        in_memory: int = IN_MEMORY,
        log_of: LogOf = lambda _: PartitionLog(),
        unreadable: Unreadable = lambda partition, key, error: None,
        set_back_after: int = 5,
        home: Home | None = None,
    ) -> None:
        """`rules` are compiled for readings of `schema`. `classes` say which devices are watched for being there,
        `note_every` seconds their last_seen is noted.

        `in_memory` devices are kept between batches. For `log_of`, `unreadable` and `home` see device_cache.py. After
        `set_back_after` readings in a row the clock of a device is believed to be set back (clock_back.py); 0: never.
        """
        self._set_back_after = set_back_after
        self._times: Times = {}
        self._clock = 0
        self._decoder, self._row = Decoder(limits, schema), schema.row
        self._rules = rules
        self.partitions = DeviceCache(rules, load, classes, in_memory, log_of, unreadable, home)
        self._devices = self.partitions
        self._watching, self._tracker = classes.watching, PresenceTracker(note_every, rules.in_maintenance)
        self._other = ControlRecords(self._devices, self._tracker, schema, watching=classes.watching)

    def __call__(self, batch: Batch, now: float) -> BatchOutput:
        """All that `batch` asks of the world, at one go. Never raises for any record."""
        steps = self.run_sliced(batch, now)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                work: BatchOutput = done.value
                return work

    def run_sliced(self, batch: Batch, now: float) -> Generator[None, None, BatchOutput]:
        """The same, with a pause after every SLICE records; `now` is in seconds since 1970.

        Only one batch may be between its first and its last slice.
        """
        end = batch.next_offset
        work = BatchOutput(end)
        clock = int(now * 1000)  # ms
        times = self._times_at(clock)
        partition = self._devices.partition(batch.epoch, batch.partition)
        devices, registry, watching = partition.devices, partition.registry, self._watching
        moved: list[CachedDevice] = []
        self._decoder.begin()
        decode_record, row, rows, sources = self._decoder.decode, self._row, work.rows, work.sources
        version = self._rules.version
        telemetry, pause, second, soon, usual = 0, SLICE, -1, moment_of(0), Kind.TELEMETRY
        for record in batch.records:
            if telemetry >= pause:
                yield
                pause += SLICE
            address = address_of(record)
            if type(address) is Rejected:
                work.count(Kind.UNKNOWN)
                _refuse(work, address)
                continue
            known = record.headers
            at = times.get(known[2]) if len(known) > 2 else None
            if at is None or known[0][0] == "ingest_ms" or known[1][0] == "ingest_ms":
                at, header = arrival(record, clock)
                if header is not None:
                    times[header] = at
            if address.kind is not usual:  # type: ignore[union-attr]  # an Address
                self._other(RecordContext(work, moved, partition, now, at), record, address)  # type: ignore[arg-type]
                pause -= 1 + len(record.value or b"") // OTHER_BYTES
                continue
            telemetry += 1
            reading = decode_record(record, address, at)  # type: ignore[arg-type]
            if type(reading) is Rejected:
                _refuse(work, reading)
                continue
            history = address.retained  # type: ignore[union-attr]
            if history and not is_dated(record.value):  # type: ignore[arg-type]
                work.drop(HISTORY)  # it would be stored again, as of now, each time that a bridge subscribes
                continue
            rows.append(row(reading))  # type: ignore[arg-type]  # a Reading
            sources.append(record)
            name = (address.owner or reading.user_id, reading.device_id)  # type: ignore[union-attr]
            device = devices.get(name)
            if device is None or device.rules_version != version:
                device = self._devices.watched(partition, name)
            offset = record.offset  # asked for, it makes a number anew
            if watching and not history:
                presence = device.presence
                if presence is None:
                    presence = device.presence = registry.of(name, address.lenient)  # type: ignore[union-attr]
                presence.seen = offset
                if presence.seen_in != end:
                    if at < presence.note_ms and presence.node is None:
                        presence.seen_in, presence.seen_at, presence.last_ms = end, now, at
                    else:
                        skew = reading.time.timestamp() - at / 1000  # type: ignore[union-attr]
                        self._tracker.on_record(work, registry, presence, record, at, now, skew)
                elif presence.online:
                    presence.last_ms = at
                    if presence.node is not None:
                        self._tracker.on_node_record(work, registry, presence.node, record, at, now)
            if address.lenient and self._comes_again(device, record, at):  # type: ignore[union-attr]
                rows.pop()
                work.again.append(sources.pop())
                continue
            state = device.state
            if state is not None and not (history and reading.time <= state.latest):  # type: ignore[union-attr]
                if second != at // 1000:
                    second = at // 1000
                    soon = latest_allowed(second)
                if not state.latest <= reading.time <= soon or state.back is not None:  # type: ignore[union-attr]
                    reading, found = on_time(state, reading, record, at, self._set_back_after)  # type: ignore[arg-type]
                    if found is not None:
                        work.set_back.append(found)
                watch = device.watch
                if watch.sampling is None:
                    events = evaluate(state, reading, watch.rules, offset, watch.quiet, watch.maintenance)  # type: ignore[arg-type]
                else:
                    events, dropped = evaluate_sampled(state, reading, watch.sampling, watch, offset)  # type: ignore[arg-type]
                    if dropped:
                        work.drop_last("cov")
                if device.moved_in != end:
                    device.moved_in = end
                    moved.append(device)
                if events:
                    emit(work, record, events, state.way)
        if telemetry:
            work.count(Kind.TELEMETRY, telemetry)
        if rows:
            work.oldest = rows[0][0].timestamp()  # looking for the minimum costs 0.1 us a row
        self._encode_moved(work, moved, partition, now)
        work.gather(partition.registry.adopted)
        partition.stepped = end
        _mark(work, partition, batch, now)
        return work

    def _times_at(self, clock: int) -> Times:
        """What headers say, of the last records: those of all partitions that came in together bear the same one."""
        if len(self._times) > TIMES or clock < self._clock:
            self._times = {}
        self._clock = clock
        return self._times

    def _comes_again(self, device: CachedDevice, record: Record, at: int) -> bool:
        """Whether it is a redelivery of a message that bears no time, without which it would be another reading."""
        if is_dated(record.value or b"") or (delivered := delivery(record)) is None:
            return False
        return is_known(device.state or device.begins(), record, delivered, at)

    def _encode_moved(
        self, work: BatchOutput, moved: list[CachedDevice], partition: PartitionState, now: float
    ) -> None:
        averages: list[Effect] = []
        for device in moved:
            state = device.state
            if state is not None and state.applied_offset != state.persisted_offset:  # dirty
                work.states[device.key] = stored = encode(state)
                if len(stored) >= WEIGHS_ONE or device.weight > 1:
                    self._devices.weigh(device, len(stored))
                if state.touched:
                    work.alert_effects += active_effects(state, *device.name)
                    if device.watch.no_data:
                        _set_alarms(device, partition, now)
                if state.sampled and device.watch.sampling:
                    averages += average_effects(state, device.watch.sampling, *device.name)
                state.mark_persisted()
        work.alert_effects += averages  # together, so that they are one statement

    def closed(self, batch: Batch) -> None:
        """Its states can be read from where they are stored. Tell it of the batches of a partition in their order."""
        self._devices.closed(batch.epoch, batch.partition, batch.next_offset)

    @property
    def devices(self) -> int:
        """How many devices are kept in memory."""
        return self._devices.count


def _refuse(work: BatchOutput, found: Rejected) -> None:
    """Reject a record; one without a payload that came by MQTT only cleared what the broker retains."""
    record = found.record
    if not record.value and any(name == "mqtt_topic" for name, _ in record.headers):
        work.drop(EMPTY)
    else:
        work.rejected.append(found)


def _mark(work: BatchOutput, partition: PartitionState, batch: Batch, now: float) -> None:
    """Note that everything of the batch was stepped; after the states, so that a mark never runs ahead of them."""
    offset, log = batch.next_offset - 1, partition.log
    if offset <= partition.mark:  # a replay
        return
    partition.mark = offset
    if work.states or work.answers or now - partition.marked_at >= MARK_SECONDS:
        if not log.generation:
            work.states[MARK_KEY] = b"%d" % offset
        if log.identity:
            work.states[LOG_KEY] = note(log, offset, batch.records[-1].timestamp)
        partition.marked_at = now


def _set_alarms(device: CachedDevice, partition: PartitionState, now: float) -> None:
    """A reading spoke of open alerts: from now on they may go stale."""
    registry = partition.registry
    for rule_id in device.state.touched:  # type: ignore[union-attr]  # it has moved
        if rule_id in device.watch.no_data:
            alarm = (device.name, rule_id)
            if alarm not in registry.heard:
                registry.alarms.arm(alarm, now + device.watch.no_data[rule_id])
            registry.heard[alarm] = now
