"""The core's one entrance: a batch in, its Work out. Decode, validate, step rules and state; no I/O.

State is looked up once a device and then kept between batches of one epoch (see app.ports.Batch): what is kept runs
ahead of what is stored, and an epoch ends whenever anything was not stored.

Beside its devices' states a partition has a mark: the offset up to which everything was stepped. A device that gets
its first state starts from there, so that replaying history alerts nobody, also where rules came later.
"""

from collections.abc import Callable, Generator
from datetime import UTC, datetime

import msgspec

from app.core.alerts import AlertEvent, outbox_key, to_json
from app.core.controls import config_effect, status_effect
from app.core.decode import Decoder, Limits
from app.core.model import Kind, Reason, Record, Rejected, Stage
from app.core.route import Address, route
from app.core.rows import row
from app.core.rulebook import RuleBook, Watch
from app.core.state import DeviceState, decode, encode, step
from app.core.work import Work
from app.ports import Batch

Load = Callable[[int, bytes], bytes | None]  # (partition, key) -> stored state

MARK_KEY = b"\0applied"  # no device has this key: ids hold no NUL
SLICE = 500  # records, about 2 ms: connections are not kept waiting longer than that
MARK_SECONDS = 5.0  # a mark alone is stored at most this often; with states it costs nothing


class Device:
    """A device's working state, its rules and where it is stored."""

    __slots__ = ("key", "moved_in", "rules_version", "state", "watch")

    def __init__(self, key: bytes, state: DeviceState | None, watch: Watch) -> None:
        self.key, self.state, self.watch = key, state, watch
        self.rules_version = -1
        self.moved_in: Work | None = None  # the batch that it is in the list of those that moved of


class Partition:
    """The devices of a partition that were seen in this epoch, and its mark."""

    __slots__ = ("devices", "mark", "marked_at")

    def __init__(self, mark: int) -> None:
        self.devices: dict[tuple[str, str], Device] = {}
        self.mark, self.marked_at = mark, 0.0


class Processor:
    """Makes Work of batches. Those of one partition must come in offset order within an epoch."""

    def __init__(self, limits: Limits, rules: RuleBook, load: Load) -> None:
        self._decode = Decoder(limits).decode
        self._rules, self._load = rules, load
        self._epoch = -1
        self._partitions: dict[int, Partition] = {}

    def __call__(self, batch: Batch, now: float) -> Work:
        """All that `batch` asks of the world, at one go. Never raises for any record."""
        steps = self.slices(batch, now)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                work: Work = done.value
                return work

    def slices(self, batch: Batch, now: float) -> Generator[None, None, Work]:
        """The same, with a pause after every SLICE records; `now` is in seconds since 1970.

        Only one batch may be between its first and its last slice.
        """
        work = Work()
        clock = datetime.fromtimestamp(now, UTC)
        partition = self._partition(batch)
        devices = partition.devices
        moved: list[Device] = []
        decode_record, rows, sources, version = self._decode, work.rows, work.sources, self._rules.version
        telemetry, pause = 0, SLICE
        for record in batch.records:
            if telemetry >= pause:  # anything else is rare, and quick
                yield
                pause += SLICE
            address = route(record)
            if type(address) is Rejected:
                _count(work, Kind.UNKNOWN)
                work.rejected.append(address)
                continue
            if address.kind is not Kind.TELEMETRY:  # type: ignore[union-attr]  # an Address
                _control(work, record, address)  # type: ignore[arg-type]
                continue
            telemetry += 1
            reading = decode_record(record, address, clock)  # type: ignore[arg-type]
            if type(reading) is Rejected:
                work.rejected.append(reading)
                continue
            rows.append(row(reading))  # type: ignore[arg-type]  # a Reading
            sources.append(record)
            name = (reading.user_id, reading.device_id)  # type: ignore[union-attr]
            device = devices.get(name)
            if device is None or device.rules_version != version:
                device = self._device(partition, batch.partition, name)
            state = device.state
            if state is not None:
                watch = device.watch
                events = step(state, reading, watch.rules, record.offset, watch.quiet)  # type: ignore[arg-type]
                if device.moved_in is not work:
                    device.moved_in = work
                    moved.append(device)
                if events:
                    _alert(work, record, events)
        if telemetry:
            _count(work, Kind.TELEMETRY, telemetry)
        if rows:
            work.oldest = rows[0][0].timestamp()  # looking for the minimum costs 0.1 us a row
        _encode_moved(work, moved)
        _mark(work, partition, batch.next_offset - 1, now)
        return work

    @property
    def devices(self) -> int:
        """How many devices are kept in memory."""
        return sum(len(partition.devices) for partition in self._partitions.values())

    def _partition(self, batch: Batch) -> Partition:
        if batch.epoch != self._epoch:
            self._epoch = batch.epoch
            self._partitions = {}
        found = self._partitions.get(batch.partition)
        if found is None:
            stored = self._load(batch.partition, MARK_KEY)
            found = self._partitions[batch.partition] = Partition(-1 if stored is None else int(stored))
        return found

    def _device(self, partition: Partition, number: int, name: tuple[str, str]) -> Device:
        device = partition.devices.get(name)
        if device is None:
            key = f"{name[0]}/{name[1]}".encode()
            stored = self._load(number, key)
            state = None if stored is None else decode(stored)
            device = partition.devices[name] = Device(key, state, self._rules.watch_for(*name))
        device.watch = self._rules.watch_for(*name)
        device.rules_version = self._rules.version
        if device.watch.rules and device.state is None:
            device.state = DeviceState(applied_offset=partition.mark, persisted_offset=partition.mark)
        return device


def _count(work: Work, kind: Kind, count: int = 1) -> None:
    work.kinds[kind] = work.kinds.get(kind, 0) + count


def _control(work: Work, record: Record, address: Address) -> None:
    _count(work, address.kind)
    match address.kind:
        case Kind.STATUS:
            found = status_effect(record, address)
        case Kind.CONFIG:
            found = config_effect(record, address)
        case Kind.SILENCE:
            work.dropped["silence"] = work.dropped.get("silence", 0) + 1
            return
        case _:
            detail = f"{address.kind} records are not handled by this version; they can be replayed to one that does"
            found = Rejected(record, Reason.UNSUPPORTED_KIND, Stage.ROUTE, detail)
    if isinstance(found, Rejected):
        work.rejected.append(found)
    else:
        work.effects.append(found)
        work.effect_sources.append(record)


def _mark(work: Work, partition: Partition, offset: int, now: float) -> None:
    """Note that everything up to `offset` was stepped; after the states, so that a mark never runs ahead of them."""
    if offset <= partition.mark:  # a replay
        return
    partition.mark = offset
    if work.states or now - partition.marked_at >= MARK_SECONDS:
        work.states[MARK_KEY] = b"%d" % offset
        partition.marked_at = now


def _alert(work: Work, record: Record, events: tuple[AlertEvent, ...]) -> None:
    trace = next((value for name, value in record.headers if name == "traceparent" and value), None)
    for event in events:
        if trace is not None:
            event = msgspec.structs.replace(event, traceparent=trace.decode("ascii", "replace"))
        work.events.append(event)
        work.alerts.append((outbox_key(event), to_json(event)))


def _encode_moved(work: Work, moved: list[Device]) -> None:
    for device in moved:
        device.moved_in = None
        if device.state is not None and device.state.dirty:
            work.states[device.key] = encode(device.state)
            device.state.mark_persisted()
