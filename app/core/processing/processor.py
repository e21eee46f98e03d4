"""The core's one entrance: a batch in, its BatchOutput out. Decode, validate, step rules and state; no I/O.

State is looked up once a device and then kept between batches of one epoch (see app.core.batch.batch.Batch): the kept
state runs ahead of the stored state, and an epoch ends whenever anything was not stored.

Beside its devices' states a partition has a mark: the offset up to which everything was stepped. A device that gets
its first state starts from there, so that replaying history alerts nobody, also where rules came later.
"""

from collections.abc import Generator

from app.core.batch.batch import Batch
from app.core.batch.output import EMPTY, HISTORY, BatchOutput
from app.core.decode.dated import is_dated
from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.arrival import INGEST, arrival
from app.core.model.headers import KIND, TOPIC
from app.core.model.records import Kind, Reading, Record, Rejected
from app.core.presence.device_classes import NOBODY, DeviceClasses
from app.core.presence.tracker import PresenceTracker
from app.core.processing.batch_context import BatchContext
from app.core.processing.batch_end import finish
from app.core.processing.cached_device import CachedDevice
from app.core.processing.control_records import ControlRecords
from app.core.processing.device_cache import IN_MEMORY, DeviceCache, Home, Load, LogOf, Unreadable
from app.core.processing.device_limit import DeviceLimit
from app.core.processing.presence_step import PresenceStep
from app.core.processing.reading_step import ReadingStep
from app.core.processing.redelivery import delivery, is_known
from app.core.routing.address import NO_CONTEXT_BEHIND, Address, address_in_order, address_of
from app.core.schema.schema import Schema
from app.core.state.partition_log import PartitionLog
from app.core.user_config.rulebook import RuleBook

Times = dict[tuple[str, bytes], int]
TIMES = 10_000  # headers that are kept, beside those of one batch: 2 MB
SLICE = 500  # records, about 2 ms: connections are not kept waiting any longer
OTHER_BYTES = 512  # of a record that is no telemetry (rules, for example) take as long as a record of telemetry

_TELEMETRY = Kind.TELEMETRY  # a global is quicker to look up than a member


class Processor:
    """Makes a BatchOutput of each batch. Batches of one partition must come in offset order within an epoch."""

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
        limit: DeviceLimit | None = None,
    ) -> None:
        """`rules` are compiled for readings of `schema`. `classes` say which devices are watched for being there,
        `note_every` seconds their last_seen is noted.

        `in_memory` devices are kept between batches. For `log_of`, `unreadable`, `home`, `limit` see device_cache.py.
        After `set_back_after` readings in a row a device's clock is believed to be set back (clock_back.py); 0: never.
        """
        self._times: Times = {}
        self._clock = 0
        self._decoder, self._row = Decoder(limits, schema), schema.row
        self._rules = rules
        self.partitions = DeviceCache(rules, load, classes, in_memory, log_of, unreadable, home, limit)
        self._devices = self.partitions
        self._watching, tracker = classes.watching, PresenceTracker(note_every, rules.in_maintenance)
        self._step, self._presence = ReadingStep(set_back_after), PresenceStep(tracker)
        self._other = ControlRecords(self._devices, tracker, schema, watching=classes.watching)

    def __call__(self, batch: Batch, now: float) -> BatchOutput:
        """All that `batch` asks of the world, at one go; `now` in seconds since 1970. Never raises for any record."""
        steps = self.run_sliced(batch, now)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                work: BatchOutput = done.value
                return work

    def run_sliced(self, batch: Batch, now: float) -> Generator[None, None, BatchOutput]:
        """All that `batch` asks of the world, with a pause after every SLICE records. A batch ends before the next."""
        context = self._begin(batch, now)
        output, devices, times = context.output, context.partition.devices, self._times
        rows, sources, annotated = output.rows, output.sources, output.annotated
        decode, row, note_presence, step = self._decoder.decode, self._row, self._presence.apply, self._step.apply
        watching, version, telemetry, pause = self._watching, self._rules.version, 0, SLICE
        for record in batch.records:
            if telemetry >= pause:
                yield
                pause += SLICE
            headers = record.headers
            if len(headers) > 2 and headers[0][0] == TOPIC and headers[1][0] == KIND and headers[2][0] == INGEST:
                address = address_in_order(record, headers, annotated)
                at = times.get(headers[2]) or arrival(record, self._clock, times)
            else:
                address, at = address_of(record), arrival(record, self._clock, times)
                if headers and headers[-1][0] not in NO_CONTEXT_BEHIND:
                    annotated.append(record)
            if type(address) is Rejected or address.kind is not _TELEMETRY:
                pause -= self._control(context, record, address, at)
                continue
            telemetry += 1
            reading = decode(record, address, at)
            if type(reading) is Rejected or (address.retained and not is_dated(record.value or b"")):
                _leave_out(output, reading)
                continue
            rows.append(row(reading))
            sources.append(record)
            device = devices.get(name := (address.owner or reading.user_id, reading.device_id))
            if device is None or device.rules_version != version:
                device = self._devices.watched(context.partition, name)
            if watching and not address.retained:
                note_presence(context, device, address.lenient, record, reading, at)
            if address.lenient and self._comes_again(device, record, at):
                output.take_back()
                continue
            if (state := device.state) is not None and not (address.retained and reading.time <= state.latest):
                step(context, device, state, record, reading, at)
        return finish(context, batch, self._devices, telemetry)

    def _begin(self, batch: Batch, now: float) -> BatchContext:
        clock = int(now * 1000)  # ms
        # What the last records' headers say: records that came in together, of all partitions, have the same header.
        if len(self._times) > TIMES or clock < self._clock:
            self._times = {}
        self._clock = clock
        self._decoder.begin()
        return BatchContext(BatchOutput(batch.next_offset), self._devices.partition(batch.epoch, batch.partition), now)

    def _control(self, context: BatchContext, record: Record, address: Address | Rejected, at: int) -> int:
        """Do what a record asks for that is no telemetry; returns as how many records of telemetry it counts."""
        if type(address) is Rejected:
            context.output.count(Kind.UNKNOWN)
            _refuse(context.output, address)
            return 0
        self._other(context, record, address, at)
        return 1 + len(record.value or b"") // OTHER_BYTES

    def _comes_again(self, device: CachedDevice, record: Record, at: int) -> bool:
        """Whether the record is a redelivery of a message without a time, whose row would have another key."""
        if device.over or is_dated(record.value or b"") or (delivered := delivery(record)) is None:
            return False
        return is_known(device.state or device.begins(), record, delivered, at)

    def closed(self, batch: Batch) -> None:
        """The states of the batch are stored and can be read again. Batches of a partition come here in their order."""
        self._devices.closed(batch.epoch, batch.partition, batch.next_offset)

    @property
    def devices(self) -> int:
        """How many devices are kept in memory."""
        return self._devices.count


def _leave_out(output: BatchOutput, found: Reading | Rejected) -> None:
    """Refuse a record, or drop a reading without a time, which would be stored each time that a bridge subscribes."""
    if type(found) is Rejected:
        _refuse(output, found)
    else:
        output.drop(HISTORY)


def _refuse(output: BatchOutput, found: Rejected) -> None:
    """Reject a record; a record without a payload that came by MQTT only cleared what the broker retains: drop it."""
    record = found.record
    if not record.value and any(name == "mqtt_topic" for name, _ in record.headers):
        output.drop(EMPTY)
    else:
        output.rejected.append(found)
