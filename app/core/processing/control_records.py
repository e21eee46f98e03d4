"""Records that are no telemetry, one by one: commands, claims of silence, statuses and rule changes."""

from typing import NamedTuple

from app.core.alerts.commands import Command, apply_command, command, is_open
from app.core.alerts.outputs import emit
from app.core.alerts.staleness import mark_stale
from app.core.batch.output import EMPTY, FORWARDED, HISTORY, BatchOutput, Forward
from app.core.model.arrival import INGEST
from app.core.model.fault import printable
from app.core.model.headers import PACKET_ID, REDELIVERED
from app.core.model.inactivity_claim import claim_of
from app.core.model.keys import device_key
from app.core.model.namespaces import IOT, USERS, owner_of
from app.core.model.records import Kind, Reason, Record, Rejected, Stage
from app.core.presence.tracker import PresenceTracker
from app.core.processing.control_effects import config_effect, status_effect
from app.core.processing.device_cache import CachedDevice, DeviceCache, PartitionState
from app.core.processing.replies import answer
from app.core.routing.address import Address
from app.core.schema.schema import Schema
from app.core.state.device_state import DeviceState


class RecordContext(NamedTuple):
    """Where a record is worked on: the batch's Work, the devices that have moved in it, its partition, the time."""

    work: BatchOutput
    moved: list[CachedDevice]
    partition: PartitionState
    clock: float  # seconds since 1970
    at: int  # when the record came in, ms since 1970

    def move(self, device: CachedDevice) -> None:
        """The device's state has changed in this batch."""
        if device.moved_in != self.work.end:
            device.moved_in = self.work.end
            self.moved.append(device)


class ControlRecords:
    """They are rare: this is no hot path."""

    def __init__(self, devices: DeviceCache, tracker: PresenceTracker, schema: Schema, *, watching: bool) -> None:
        self._devices, self._tracker, self._schema, self._watching = devices, tracker, schema, watching

    def __call__(self, place: RecordContext, record: Record, address: Address) -> None:
        """Do what one record asks for, or reject it, or leave it out."""
        place.work.count(address.kind)
        if not record.value and address.topic:  # it cleared what the MQTT broker retained: nobody's mistake
            place.work.drop(EMPTY)
            return
        match address.kind:
            case Kind.ALERTS_MANAGE if address.retained:  # obeyed long ago, or meant for an alert of then
                place.work.drop(HISTORY)
            case Kind.ALERTS_MANAGE:
                self._command(place, record, address)
            case Kind.SILENCE:
                self._silence(place, record)
            case _:
                self._control(place, record, address)

    def _command(self, place: RecordContext, record: Record, address: Address) -> None:
        work = place.work
        found = command(record, address, place.at)
        if isinstance(found, Rejected):
            _refuse(place, found, address)
            return
        wrong = f"no reading of device {printable(found.device_id)} has come here under a rule"
        meant = self._meant(place.partition, found)
        for device, state in meant:
            again = record.offset <= state.applied_offset or (len(meant) > 1 and record.offset <= place.partition.mark)
            refusal = None if again else apply_command(state, found, device.watch.rules, record.offset)
            if refusal is None:
                work.commands.append(record)
                work.commands_again += again
                place.move(device)
                return
            wrong = refusal
        if found.way != USERS and record.key == device_key(found.user_id, found.device_id):
            work.drop(FORWARDED)  # it came where a device of users/* would be
            if record.offset > place.partition.mark:
                work.forwards.append(_forward(record, found, place.at))
            return
        refused = Rejected(record, Reason.INVALID_COMMAND, Stage.VALIDATE, wrong)
        _refuse(place, refused, address, found.user_id)

    def _meant(self, partition: PartitionState, found: Command) -> list[tuple[CachedDevice, DeviceState]]:
        """The devices here that a command may be for; first those that have an open alert of the rule."""
        ways = (found.way,) if found.way else (USERS, IOT)
        names = [(owner_of(found.user_id, way), found.device_id) for way in ways]
        known = [self._devices.known(partition, name) for name in names]
        meant = [(device, device.state) for device in known if device is not None and device.state is not None]
        return sorted(meant, key=lambda one: not is_open(one[1], found.rule_id))

    def _silence(self, place: RecordContext, record: Record) -> None:
        """A claim of silence is decided here, and left out of everything else."""
        work, partition = place.work, place.partition
        work.drop("silence")
        claim = claim_of(record)
        if claim is None:
            return
        if claim.what == "no_data":
            device = self._devices.known(partition, claim.name)
            if device is not None and device.state is not None:
                events = mark_stale(device.state, claim, device.watch.rules, record, place.at, device.watch.maintenance)
                emit(work, record, events, claim.way)
                if events:
                    place.move(device)
        elif self._watching:
            decide = self._tracker.on_inactivity_claim if claim.what == "offline" else self._tracker.on_mass_claim
            decide(work, partition.registry, claim, record, place.at)

    def _control(self, place: RecordContext, record: Record, address: Address) -> None:
        """A status or a config."""
        work = place.work
        match address.kind:
            case Kind.STATUS:
                found = status_effect(record, address, place.at)
            case Kind.CONFIG:
                found = config_effect(record, address, place.at, place.partition.number, self._schema)
            case _:
                detail = f"{address.kind} records are not handled by this version; replay them to one that does"
                found = Rejected(record, Reason.UNSUPPORTED_KIND, Stage.ROUTE, detail)
        if isinstance(found, Rejected):
            _refuse(place, found, address)
            return
        work.effects.append(found)
        work.effect_sources.append(record)
        if self._watching and address.kind is Kind.STATUS and not address.retained:
            _, node, _, word, *_ = found.args
            self._tracker.on_node_status(work, place.partition.registry, node, word, record, place.at, place.clock)


def _forward(record: Record, found: Command, at: int) -> Forward:
    """The same command, keyed as what comes of iot/*; it is no redelivery, and counts from when it first came in."""
    headers = [(name, value) for name, value in record.headers if name not in (PACKET_ID, REDELIVERED, INGEST)]
    headers.append((INGEST, b"%d" % at))
    return Forward(found.user_id.encode(), record.value or b"", headers)


def _refuse(place: RecordContext, found: Rejected, address: Address, user_id: str = "") -> None:
    """Reject a record, and tell its sender if somebody waits for an answer; history is told to nobody."""
    place.work.rejected.append(found)
    if found.record.offset > place.partition.mark and not address.retained:
        reply = answer(found, address.kind, address.user_id or user_id, place.partition.number, place.at)
        if reply is not None:
            place.work.answers.append(reply)
