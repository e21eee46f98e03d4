"""The core's one entrance: a batch in, its Work out. Decode, validate, step rules and state; no I/O.

State is looked up once a device and then kept between batches of one epoch (see app.ports.Batch): what is kept runs
ahead of what is stored, and an epoch ends whenever anything was not stored.

Beside its devices' states a partition has a mark: the offset up to which everything was stepped. A device that gets
its first state starts from there, so that replaying history alerts nobody, also where rules came later.
"""

from collections.abc import Generator
from datetime import UTC, datetime

import msgspec

from app.core.active import active_effects, history_effect
from app.core.ahead import not_ahead, soonest_ahead
from app.core.alerts import AlertEvent, outbox_key, to_json
from app.core.answers import answer
from app.core.commands import command, obey
from app.core.controls import config_effect, status_effect
from app.core.decode import Decoder, Limits
from app.core.devices import MARK_KEY, Device, Devices, Load, Partition
from app.core.fault import printable
from app.core.model import Kind, Reason, Record, Rejected, Stage
from app.core.route import Address, route
from app.core.rows import row
from app.core.rulebook import RuleBook
from app.core.state import encode
from app.core.step import step
from app.core.work import Work
from app.ports import Batch

SLICE = 500  # records, about 2 ms: connections are not kept waiting longer than that
MARK_SECONDS = 5.0  # a mark alone is stored at most this often; with states it costs nothing


class Processor:
    """Makes Work of batches. Those of one partition must come in offset order within an epoch."""

    def __init__(self, limits: Limits, rules: RuleBook, load: Load) -> None:
        self._decode = Decoder(limits).decode
        self._rules = rules
        self._devices = Devices(rules, load)

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
        partition = self._devices.partition(batch.epoch, batch.partition)
        devices = partition.devices
        moved: list[Device] = []
        decode_record, rows, sources, version = self._decode, work.rows, work.sources, self._rules.version
        telemetry, pause, second, soon, usual = 0, SLICE, -1, clock, Kind.TELEMETRY
        for record in batch.records:
            if telemetry >= pause:  # anything else is rare, and quick
                yield
                pause += SLICE
            address = route(record)
            if type(address) is Rejected:
                _count(work, Kind.UNKNOWN)
                work.rejected.append(address)
                continue
            if address.kind is not usual:  # type: ignore[union-attr]  # an Address
                if address.kind is Kind.ALERTS_MANAGE:  # type: ignore[union-attr]
                    self._command(work, moved, partition, record, address)  # type: ignore[arg-type]
                else:
                    _control(work, partition, record, address)  # type: ignore[arg-type]
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
                device = self._devices.watched(partition, name)
            state = device.state
            if state is not None:
                if second != record.timestamp // 1000:
                    second = record.timestamp // 1000
                    soon = soonest_ahead(second)
                if reading.time > soon:  # type: ignore[union-attr]
                    reading = not_ahead(reading, record)  # type: ignore[arg-type]
                watch = device.watch
                events = step(state, reading, watch.rules, record.offset, watch.quiet, watch.maintenance)  # type: ignore[arg-type]
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

    def _command(self, work: Work, moved: list[Device], partition: Partition, record: Record, address: Address) -> None:
        """Obey a record of kind alerts_manage, or reject it."""
        _count(work, Kind.ALERTS_MANAGE)
        found = command(record, address)
        if isinstance(found, Rejected):
            _refuse(work, partition, found, address)
            return
        device = self._devices.known(partition, (found.user_id, found.device_id))
        if device is None or device.state is None:
            wrong: str | None = f"no reading of device {printable(found.device_id)} has come here under a rule"
        else:
            again = record.offset <= device.state.applied_offset
            wrong = obey(device.state, found, device.watch.rules, record.offset)
        if device is None or wrong is not None:
            refused = Rejected(record, Reason.INVALID_COMMAND, Stage.VALIDATE, str(wrong))
            _refuse(work, partition, refused, address, found.user_id)
            return
        work.commands.append(record)
        work.commands_again += again
        if device.moved_in is not work:
            device.moved_in = work
            moved.append(device)

    @property
    def devices(self) -> int:
        """How many devices are kept in memory."""
        return self._devices.count


def _count(work: Work, kind: Kind, count: int = 1) -> None:
    work.kinds[kind] = work.kinds.get(kind, 0) + count


def _refuse(work: Work, partition: Partition, found: Rejected, address: Address, user_id: str = "") -> None:
    """Reject a record, and tell its sender if somebody waits for an answer; a replay is told to nobody."""
    work.rejected.append(found)
    if found.record.offset > partition.mark:
        told = answer(found, address.kind, address.user_id or user_id, partition.number)
        if told is not None:
            work.answers.append(told)


def _control(work: Work, partition: Partition, record: Record, address: Address) -> None:
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
        _refuse(work, partition, found, address)
    else:
        work.effects.append(found)
        work.effect_sources.append(record)


def _mark(work: Work, partition: Partition, offset: int, now: float) -> None:
    """Note that everything up to `offset` was stepped; after the states, so that a mark never runs ahead of them."""
    if offset <= partition.mark:  # a replay
        return
    partition.mark = offset
    if work.states or work.answers or now - partition.marked_at >= MARK_SECONDS:
        work.states[MARK_KEY] = b"%d" % offset
        partition.marked_at = now


def _alert(work: Work, record: Record, events: tuple[AlertEvent, ...]) -> None:
    trace = next((value for name, value in record.headers if name == "traceparent" and value), None)
    for event in events:
        if trace is not None:
            event = msgspec.structs.replace(event, traceparent=trace.decode("ascii", "replace"))
        text = to_json(event)
        if event.suppressed is True:
            work.suppressed += 1
        else:
            work.events.append(event)
            work.alerts.append((outbox_key(event), text))
        work.alert_effects.append(history_effect(event, text))


def _encode_moved(work: Work, moved: list[Device]) -> None:
    for device in moved:
        device.moved_in = None
        state = device.state
        if state is not None and state.applied_offset != state.persisted_offset:  # dirty
            work.states[device.key] = encode(state)
            if state.touched:
                work.alert_effects += active_effects(state, *device.name)
            state.mark_persisted()
