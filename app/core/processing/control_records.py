"""Records that are no telemetry, one by one: commands, claims of silence, statuses and rule changes."""

from app.core.alerts.commands import Command, CommandAction, apply_command, command, is_open
from app.core.alerts.mute_commands import NO_MUTE, idle_note, mute_effect, muted_effect, unknown_rule
from app.core.alerts.outputs import emit
from app.core.alerts.staleness import mark_stale
from app.core.batch.effects import Effect
from app.core.batch.output import EMPTY, FORWARDED, HISTORY, Forward
from app.core.model.arrival import INGEST
from app.core.model.fault import printable
from app.core.model.headers import PACKET_ID, REDELIVERED
from app.core.model.inactivity_claim import claim_of
from app.core.model.keys import device_key
from app.core.model.namespaces import IOT, USERS, owner_of, way_of
from app.core.model.records import Kind, Reason, Record, Rejected, Stage
from app.core.presence.tracker import PresenceTracker
from app.core.processing.batch_context import BatchContext
from app.core.processing.cached_device import CachedDevice, PartitionState
from app.core.processing.control_effects import config_effect, status_effect
from app.core.processing.device_cache import DeviceCache
from app.core.processing.replies import answer, obeyed
from app.core.routing.address import Address
from app.core.schema.schema import Schema
from app.core.state.device_state import DeviceState


class ControlRecords:
    """Does what records ask for that are no telemetry. Such records are rare: this is no hot path."""

    def __init__(self, devices: DeviceCache, tracker: PresenceTracker, schema: Schema, *, watching: bool) -> None:
        self._devices, self._tracker, self._schema, self._watching = devices, tracker, schema, watching

    def __call__(self, batch: BatchContext, record: Record, address: Address, at: int) -> None:
        """Do what one record asks for, or reject the record, or leave it out; it came in `at`, in ms since 1970."""
        batch.output.count(address.kind)
        if not record.value and address.topic:  # the record cleared what the MQTT broker retained: nobody's mistake
            batch.output.drop(EMPTY)
            return
        match address.kind:
            case Kind.ALERTS_MANAGE if address.retained:  # obeyed long ago, or meant for an alert of then
                batch.output.drop(HISTORY)
            case Kind.ALERTS_MANAGE:
                self._command(batch, record, address, at)
            case Kind.SILENCE:
                self._silence(batch, record, at)
            case _:
                self._control(batch, record, address, at)

    def _command(self, batch: BatchContext, record: Record, address: Address, at: int) -> None:
        output = batch.output
        found = command(record, address, at)
        if isinstance(found, Rejected):
            _refuse(batch, found, address, at)
            return
        if found.broad:
            self._mute(batch, record, address, found)
            return
        wrong = f"no reading of device {printable(found.device_id)} has come here under a rule"
        if found.action is not CommandAction.ACK and not found.way:
            wrong += '; say "way": "users" or "iot" to mute it before its first'
        meant = self._meant(batch.partition, found)
        for device, state in meant:
            note = idle_note(found, state)
            again = record.offset <= state.applied_offset or (len(meant) > 1 and record.offset <= batch.partition.mark)
            refusal = None if again else apply_command(state, found, device.watch.rules, record.offset)
            if refusal is None:
                output.commands.append(record)
                output.commands_again += again
                batch.move(device)
                if not again:
                    self._obeyed(batch, record, found, note, muted_effect(found, way_of(device.name[0])))
                return
            wrong = refusal
        if found.way != USERS and record.key == device_key(found.user_id, found.device_id):
            output.drop(FORWARDED)  # the command came to the partition of a device of users/*
            if record.offset > batch.partition.mark:
                output.forwards.append(_forward(record, found, at))
            return
        refused = Rejected(record, Reason.INVALID_COMMAND, Stage.VALIDATE, wrong)
        _refuse(batch, refused, address, at, found.user_id)

    def _mute(self, batch: BatchContext, record: Record, address: Address, found: Command) -> None:
        """Mute more than a rule on a device, or end such a mute: the user's mutes come to all workers by the table."""
        wrong = unknown_rule(found, self._devices.rules_of(found.user_id))
        if wrong is not None and found.action is not CommandAction.ENABLE:
            refused = Rejected(record, Reason.INVALID_COMMAND, Stage.VALIDATE, wrong)
            _refuse(batch, refused, address, found.at, found.user_id)
        elif record.offset <= batch.partition.mark:
            batch.output.commands.append(record)
            batch.output.commands_again += 1
        else:
            batch.output.effects.append(mute_effect(found))
            batch.output.effect_sources.append(record)
            held = self._devices.has_mute(found.user_id, found.rule_id, found.device_id, found.at * 1000)
            self._obeyed(batch, record, found, "" if held or found.action is not CommandAction.ENABLE else NO_MUTE)

    def _obeyed(
        self, batch: BatchContext, record: Record, found: Command, note: str, effect: Effect | None = None
    ) -> None:
        """A command was obeyed, for the first time: its row, and the answer if its sender waits for one."""
        if effect is not None:
            batch.output.alert_effects.append(effect)
        if (reply := obeyed(found, note, batch.partition.number, record.offset)) is not None:
            batch.output.answers.append(reply)

    def _meant(self, partition: PartitionState, found: Command) -> list[tuple[CachedDevice, DeviceState]]:
        """The devices of this partition that a command may be for; first the devices with an open alert of the rule."""
        ways = (found.way,) if found.way else (USERS, IOT)
        names = [(owner_of(found.user_id, way), found.device_id) for way in ways]
        early = found.way and found.action is not CommandAction.ACK  # perhaps before the device's first reading
        look_up = self._devices.watched if early else self._devices.known
        known = [look_up(partition, name) for name in names]
        meant = [(device, device.state) for device in known if device is not None and device.state is not None]
        return sorted(meant, key=lambda one: not is_open(one[1], found.rule_id))

    def _silence(self, batch: BatchContext, record: Record, at: int) -> None:
        """Decide a claim of silence; nothing else looks at such a record."""
        output, partition = batch.output, batch.partition
        output.drop("silence")
        claim = claim_of(record)
        if claim is None:
            return
        if claim.what == "no_data":
            device = self._devices.known(partition, claim.name)
            if device is not None and device.state is not None:
                watch, state = device.watch, device.state
                events = mark_stale(state, claim, watch.rules, record, at, watch.maintenance, watch.mutes)
                emit(output, record, events, claim.way)
                if state.applied_offset == record.offset:
                    batch.move(device)
        elif self._watching:
            decide = self._tracker.on_inactivity_claim if claim.what == "offline" else self._tracker.on_mass_claim
            decide(output, partition.registry, claim, record, at)

    def _control(self, batch: BatchContext, record: Record, address: Address, at: int) -> None:
        """Take a status or a configuration, or reject its record."""
        output = batch.output
        match address.kind:
            case Kind.STATUS:
                found = status_effect(record, address, at)
            case Kind.CONFIG:
                found = config_effect(record, address, at, batch.partition.number, self._schema)
            case _:
                detail = f"{address.kind} records are not handled by this version; replay them to a version that does"
                found = Rejected(record, Reason.UNSUPPORTED_KIND, Stage.ROUTE, detail)
        if isinstance(found, Rejected):
            _refuse(batch, found, address, at)
            return
        output.effects.append(found)
        output.effect_sources.append(record)
        if self._watching and address.kind is Kind.STATUS and not address.retained:
            _, node, _, word, *_ = found.args
            self._tracker.on_node_status(output, batch.partition.registry, node, word, record, at, batch.clock)


def _forward(record: Record, found: Command, at: int) -> Forward:
    """The same command under the key of a device of iot/*, not marked as a redelivery, with the time `at` when it first
    came in.
    """
    headers = [(name, value) for name, value in record.headers if name not in (PACKET_ID, REDELIVERED, INGEST)]
    headers.append((INGEST, b"%d" % at))
    return Forward(found.user_id.encode(), record.value or b"", headers)


def _refuse(batch: BatchContext, found: Rejected, address: Address, at: int, user_id: str = "") -> None:
    """Reject a record, and answer its sender if somebody waits for an answer; nobody is notified of history."""
    batch.output.rejected.append(found)
    if found.record.offset > batch.partition.mark and not address.retained:
        reply = answer(found, address.kind, address.user_id or user_id, batch.partition.number, at)
        if reply is not None:
            batch.output.answers.append(reply)
