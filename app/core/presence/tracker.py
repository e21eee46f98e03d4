"""Signs of life and claims of silence, record by record: what they change, and the rows and events of these changes.

Everything is decided from what is stored and from the log, in the order of the log; so a batch that comes again leads
to the same decisions, and an event that is sent twice has the same id.
"""

from collections.abc import Callable

import msgspec

from app.core.alerts.outputs import emit
from app.core.batch.effects import Effect, Statement
from app.core.batch.output import BatchOutput
from app.core.model.alert_event import MASS_RULE_ID, OFFLINE_RULE_ID, AlertEvent, Status, alert_id
from app.core.model.inactivity_claim import InactivityClaim, of_this_log
from app.core.model.namespaces import way_of
from app.core.model.records import Record
from app.core.presence.device_presence import DevicePresence, Name, encode
from app.core.presence.last_will import says_offline
from app.core.presence.registry import UNWATCHED, PresenceRegistry
from app.core.rules.mutes import FOREVER

MutedUntil = Callable[[Name, str, float], int]  # see app.core.user_config.rulebook.RuleBook.muted_until


class PresenceTracker:
    """Turns records and claims into online and offline. Has no state of its own."""

    def __init__(
        self,
        note_every: float,
        in_maintenance: Callable[[Name, float], bool],
        muted_until: MutedUntil = lambda *_: 0,
    ) -> None:
        """Every `note_every` seconds the `last_seen` of a device that stays online is noted."""
        self._note_every_ms, self._in_maintenance = int(note_every * 1000), in_maintenance
        self._muted_until = muted_until

    def on_record(
        self,
        work: BatchOutput,
        registry: PresenceRegistry,
        presence: DevicePresence,
        record: Record,
        at: int,
        now: float,
        skew: float | None = None,
    ) -> None:
        """The first record of a device in a batch, or since a claim was sent; it came in `at`, in ms since 1970.

        `skew` says by how many seconds the reading's time is ahead of the record's; None for a record without a time.
        Where nothing but `note_ms` matters, and there is no node, the caller may do this for itself. Of the device's
        later records in the batch only the time counts, the `last_ms` of a device that is online; its node has to hear
        of each record.
        """
        presence.seen_in = work.begin
        if presence is UNWATCHED:
            return
        presence.seen_at = now
        node = presence.node
        if node is not None:
            self.on_node_record(work, registry, node, record, at, now)
        if record.offset <= presence.applied or at <= presence.history_ms:
            # history that comes again; what follows it in this batch may be news
            presence.seen_in = -1
            return
        presence.history_ms = -1
        if not presence.note_ms and presence.online and not presence.claimed:  # read from the state table
            presence.note_ms = presence.noted_ms + self._note_every_ms
            # The worker before may have claimed that the device is silent: the next worker has to know of this record.
            presence.applied, presence.last_ms = record.offset, at
            work.states[presence.key] = encode(presence)
        if at < presence.note_ms:
            presence.last_ms = at
        else:
            self._note(work, registry, presence, record, at, skew)

    def on_node_record(
        self, work: BatchOutput, registry: PresenceRegistry, node: DevicePresence, record: Record, at: int, now: float
    ) -> None:
        """A record of a node's sensor came: a sign of life of the node, too."""
        if node.seen_in != work.begin:
            self.on_record(work, registry, node, record, at, now)
        elif node.online:
            node.last_ms = at

    def _note(
        self,
        work: BatchOutput,
        registry: PresenceRegistry,
        presence: DevicePresence,
        record: Record,
        at: int,
        skew: float | None,
    ) -> None:
        """The device is online again, or for the first time; or its last sign of life is noted."""
        if not presence.online:
            if presence.alert:
                self._emit(work, record, at, presence, Status.RESOLVED)
                presence.alert = False
            presence.online_now(record.offset, at)
            registry.comes(presence)
            for sensor in presence.held or ():
                if sensor.online:
                    sensor.seen_at = presence.seen_at
                    registry.arm(sensor)
            presence.held = None
        presence.claimed = False
        presence.applied = record.offset
        presence.last_ms = presence.noted_ms = at
        presence.note_ms = at + self._note_every_ms
        if not presence.timer:
            registry.arm(presence)
        _keep(work, presence, skew)
        if skew is not None:
            work.skews.append(skew)

    def on_inactivity_claim(
        self, work: BatchOutput, registry: PresenceRegistry, claim: InactivityClaim, record: Record, at: int
    ) -> bool:
        """A claim that a device is offline; whether the claim is true."""
        presence = registry.known(claim.name)
        if presence is None:
            return False
        presence.claimed = False
        if not presence.online or not of_this_log(claim, record) or at <= presence.history_ms:
            return False
        waits = self._in_maintenance(presence.name, at / 1000) or self._snoozed(presence.name, at)
        if presence.latest >= claim.up_to or waits:
            if presence.seen_at:
                registry.arm(presence)
            return False
        self._offline(work, registry, presence, record, at, claim.since)
        _keep(work, presence)
        return True

    def on_node_status(
        self, work: BatchOutput, registry: PresenceRegistry, node: str, word: str, record: Record, at: int, now: float
    ) -> None:
        """A node's status, or its last will. The node's row is the message's, but for history that comes again."""
        presence = registry.of((node, ""), sensor=False)
        if presence is UNWATCHED:
            return
        presence.seen, lives = record.offset, not says_offline(word)
        if lives:
            presence.note_ms = (
                0  # its row bears the time of this message: a later claim, of any worker, has to be as late
            )
            self.on_record(work, registry, presence, record, at, now)
        elif record.offset > presence.applied and at > presence.history_ms:
            if presence.online:
                self._offline(work, registry, presence, record, at, at)
            presence.applied = record.offset
            work.states[presence.key] = encode(presence)
        if presence.online is lives:
            work.presence.pop(presence.label, None)
        else:  # what came later holds, and the message has just been written once more
            work.presence[presence.label] = presence.row()

    def on_mass_claim(
        self, work: BatchOutput, registry: PresenceRegistry, claim: InactivityClaim, record: Record, at: int
    ) -> bool:
        """A claim that too many devices are silent to report each, or that this is over; whether that is news."""
        key, presence = registry.mass_of(claim.user_id)
        presence.claimed = False
        begins = claim.what == "mass"
        if record.offset <= presence.applied or at <= presence.history_ms or begins is not presence.online:
            return False
        if begins and self._muted_until((claim.user_id, ""), MASS_RULE_ID, at / 1000):
            return False  # the claim comes again
        presence.online, presence.applied = not begins, record.offset
        if begins:
            presence.since_ms = max(at, presence.since_ms + 1)
            presence.last_ms = claim.since or at
        self._emit(work, record, at, presence, Status.FIRING if begins else Status.RESOLVED, _words(claim))
        work.states[key] = encode(presence)
        return True

    def _offline(
        self,
        work: BatchOutput,
        registry: PresenceRegistry,
        presence: DevicePresence,
        record: Record,
        at: int,
        since_ms: int,
    ) -> None:
        presence.offline_now(record.offset, since_ms)
        registry.falls_silent(presence)
        presence.alert &= not self._in_maintenance(presence.name, at / 1000)
        presence.alert &= not self._muted_until(presence.name, OFFLINE_RULE_ID, at / 1000)
        if presence.alert:
            self._emit(work, record, at, presence, Status.FIRING)

    def _snoozed(self, name: Name, at: int) -> bool:
        """Whether the device is to be reported once a time is over; what is disabled is noted as offline at once."""
        return 0 < self._muted_until(name, OFFLINE_RULE_ID, at / 1000) < FOREVER

    def _emit(
        self,
        work: BatchOutput,
        record: Record,
        at: int,
        presence: DevicePresence,
        status: Status,
        mass: str | None = None,
    ) -> None:
        event = presence.event(status, at)
        if mass is not None:
            name = alert_id(*presence.name, MASS_RULE_ID, presence.since_ms * 1000)
            event = msgspec.structs.replace(
                event, alert_id=name, rule_id=MASS_RULE_ID, severity="critical", message=mass
            )
        way = way_of(presence.name[0])
        emit(work, record, [event], way)
        work.silent[event.user_id, event.device_id, event.rule_id, way] = _active(event, way)


def _keep(work: BatchOutput, presence: DevicePresence, skew: float | None = None) -> None:
    work.states[presence.key] = encode(presence)
    work.presence[presence.label] = presence.row(skew)


def _active(event: AlertEvent, way: str) -> Effect:
    key = (event.user_id, event.device_id, event.rule_id)
    if event.status is Status.RESOLVED:  # whatever is open there is older than this
        return Effect(Statement.DELETE_ACTIVE_ALERT, (*key, event.event_time, way))
    texts = (event.alert_id, event.severity, event.message)
    times = (event.first_seen, event.first_seen)
    rest = (Status.FIRING.value, None, way, None, None)
    return Effect(Statement.UPSERT_ACTIVE_ALERT, (*key, *texts, None, None, *times, *rest))


def _words(claim: InactivityClaim) -> str:
    if claim.what == "mass_over":
        return f"the mass silence is over: of {claim.watched} devices the ones still silent are reported on their own"
    return (
        f"{claim.silent} of {claim.watched} devices fell silent at once; no single one is reported until most are back"
    )
