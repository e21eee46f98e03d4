"""The core's one entrance: a batch in, its BatchOutput out. Decode, validate, step rules and state; no I/O.

State is looked up once a device and then kept between batches of one epoch (see app.core.batch.batch.Batch): the kept
state runs ahead of the stored state, and an epoch ends whenever anything was not stored.

Beside its devices' states a partition has a mark: the offset up to which everything was stepped. A device that gets
its first state starts from there, so that replaying history alerts nobody, also where rules came later.
"""

from collections.abc import Generator, Sequence
from math import inf

from app.core.batch.batch import Batch
from app.core.batch.output import EMPTY, HISTORY, BatchOutput
from app.core.decode.dated import is_dated
from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.decode.run_decoder import RunDecoder
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
from app.core.processing.run_routing import RoutedRun, RunRouter
from app.core.routing.address import Address
from app.core.schema.schema import Schema
from app.core.state.partition_log import PartitionLog
from app.core.user_config.rulebook import RuleBook

SLICE = 500  # records, about 2 ms: connections are not kept waiting any longer
OTHER_BYTES = 512  # of a record that is no telemetry (rules, for example) take as long as a record of telemetry


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
        output_max: float = inf,
    ) -> None:
        """`rules` are compiled for readings of `schema`. `classes` say which devices are watched for being there,
        `note_every` seconds their last_seen is noted.

        `in_memory` devices are kept between batches. For `log_of`, `unreadable`, `home`, `limit` see device_cache.py.
        After `set_back_after` readings in a row a device's clock is believed to be set back (clock_back.py); 0: never.
        With alerts and large states of `output_max` bytes a batch ends; the rest is left over (BatchOutput.left_over).
        """
        self._router, self._decoder = RunRouter(), RunDecoder(Decoder(limits, schema), schema)
        self._rules = rules
        self.partitions = DeviceCache(rules, load, classes, in_memory, log_of, unreadable, home, limit)
        self._devices = self.partitions
        self._watching, tracker = classes.watching, PresenceTracker(note_every, rules.in_maintenance, rules.muted_until)
        self._step, self._presence = ReadingStep(set_back_after), PresenceStep(tracker)
        self._output_max = output_max
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
        """All that `batch` asks of the world, with a pause after every SLICE records. A batch ends before the next; one
        that alerts too much ends early, so that one reading of many devices with many rules fills no memory.
        """
        context, records = self._begin(batch, now), batch.records
        telemetry, left = 0, SLICE
        for start in range(0, len(records), SLICE):
            run = records[start : start + SLICE] if len(records) > SLICE else records
            if left <= 0:
                if context.ends_before(run[0]):
                    break
                yield
                left += SLICE
            routed = self._router.route(run, context.output.annotated)
            left = yield from self._steps(context, run, routed, left)
            found = _telemetry(run, routed, context.cut)
            telemetry, left = telemetry + found, left - found
            if context.cut is not None:
                break
        return finish(context, batch, self._devices, telemetry)

    def _steps(
        self, context: BatchContext, run: Sequence[Record], routed: RoutedRun, left: int
    ) -> Generator[None, None, int]:
        """Step one record after another; `left` records may still follow without a pause, and are returned. An alert
        event counts as a record: a reading may open and close the alerts of 200 rules. Ends at `context.cut` once the
        output is full.
        """
        output, devices, begin = context.output, context.partition.devices, context.begin
        rows, sources, version = output.rows, output.sources, self._rules.version
        decoded = self._decoder.for_run(len(run))(run, routed.addresses, routed.arrivals)
        for record, address, at, reading, row in zip(run, *routed[:2], *decoded, strict=True):
            if left <= 0:
                if context.ends_before(record):
                    return left
                yield
                left += SLICE
            if address is None:
                left -= self._control(context, record, next(routed.control), at)
                continue
            if row is None or type(reading) is Rejected or (address.retained and not is_dated(record.value or b"")):
                _leave_out(output, reading)
                continue
            rows.append(row)
            sources.append(record)
            device = devices.get(name := (address.owner or reading.user_id, reading.device_id))
            if device is None or device.rules_version != version:
                device = self._devices.watched(context.partition, name)
            if self._watching and not address.retained:
                seen = device.presence  # asked here too: a call takes longer
                if seen is not None and seen.seen_in == begin and seen.node is None:
                    seen.seen = record.offset
                    if seen.online:
                        seen.last_ms = at
                else:
                    self._presence.apply(context, device, address.lenient, record, reading, at)
            if address.lenient and self._comes_again(device, record, at):
                output.take_back()
            elif (state := device.state) is not None and not (address.retained and reading.time <= state.latest):
                left -= self._step.apply(context, device, state, record, reading, at)
        return left

    def _begin(self, batch: Batch, now: float) -> BatchContext:
        clock = int(now * 1000)  # ms
        self._router.begin(clock)
        self._decoder.begin()
        partition = self._devices.partition(batch.epoch, batch.partition)
        return BatchContext(BatchOutput(batch.records[0].offset), partition, now, self._output_max)

    def _control(self, context: BatchContext, record: Record, address: Address | Rejected, at: int) -> int:
        """Do what a record asks for that is no telemetry; returns as how many records of telemetry it counts."""
        if type(address) is Rejected:
            context.output.count(Kind.UNKNOWN)
            _refuse(context.output, address)
            return 0
        before = len(context.output.alert_effects)
        self._other(context, record, address, at)
        caused = len(context.output.alert_effects) - before
        return context.steps(1 + len(record.value or b"") // OTHER_BYTES + caused)

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


def _telemetry(run: Sequence[Record], routed: RoutedRun, cut: int | None) -> int:
    """How many records of the run, before offset `cut` if there is one, are telemetry."""
    stepped = len(run) if cut is None else sum(record.offset < cut for record in run)
    return stepped - routed.addresses[:stepped].count(None)


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
