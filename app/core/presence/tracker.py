"""Signs of life and claims of silence, record by record: what they change, and what a batch asks for on their account.

Everything is decided from what is stored and from the log, in the order of the log; so a batch that comes again decides
the same, and an event that is told twice has the same id.
"""

from collections.abc import Callable

import msgspec

from app.core.alerts.outputs import emit
from app.core.batch.effects import Effect, Statement
from app.core.batch.output import BatchOutput
from app.core.model.alert_event import MASS_RULE_ID, AlertEvent, Status, alert_id
from app.core.model.inactivity_claim import InactivityClaim, of_this_log
from app.core.model.namespaces import way_of
from app.core.model.records import Record
from app.core.presence.device_presence import DevicePresence, Name, encode
from app.core.presence.last_will import says_offline
from app.core.presence.registry import UNWATCHED, PresenceRegistry


class PresenceTracker:
    """Has no state of its own."""

    def __init__(self, note_every: float, in_maintenance: Callable[[Name, float], bool]) -> None:
        """`note_every` seconds the `last_seen` of what stays online is noted."""
        self._note_every_ms, self._in_maintenance = int(note_every * 1000), in_maintenance

    def heard(
        self,
        work: BatchOutput,
        here: PresenceRegistry,
        thing: DevicePresence,
        record: Record,
        at: int,
        now: float,
        skew: float | None = None,
    ) -> None:
        """The first record of a thing in a batch, or since a claim was sent; it came in `at`, in ms.

        `skew` is by how many seconds the reading's time is ahead of the record's; None for what has no time. Where
        nothing but `note_ms` matters, and there is no node, the caller may do it for itself. Of those that follow
        nothing counts but their time, which is the `last_ms` of one that is online; and its node has to hear of each.
        """
        thing.seen_in = work.end
        if thing is UNWATCHED:
            return
        thing.seen_at = now
        node = thing.node
        if node is not None:
            self.node_heard(work, here, node, record, at, now)
        if record.offset <= thing.applied or at <= thing.history_ms:
            # history that comes again; what follows it in this batch may be news
            thing.seen_in = -1
            return
        thing.history_ms = -1
        if not thing.note_ms and thing.online and not thing.claimed:  # it was read from the state table
            thing.note_ms = thing.noted_ms + self._note_every_ms
            # The worker before may have claimed it: whoever comes next has to know.
            thing.applied, thing.last_ms = record.offset, at
            work.states[thing.key] = encode(thing)
        if at < thing.note_ms:
            thing.last_ms = at
        else:
            self._note(work, here, thing, record, at, skew)

    def node_heard(
        self, work: BatchOutput, here: PresenceRegistry, node: DevicePresence, record: Record, at: int, now: float
    ) -> None:
        """A record of a node's sensor."""
        if node.seen_in != work.end:
            self.heard(work, here, node, record, at, now)
        elif node.online:
            node.last_ms = at

    def _note(
        self,
        work: BatchOutput,
        here: PresenceRegistry,
        thing: DevicePresence,
        record: Record,
        at: int,
        skew: float | None,
    ) -> None:
        """It is online again, or for the first time; or its last sign of life is noted."""
        if not thing.online:
            if thing.alert:
                self._tell(work, record, at, thing, Status.RESOLVED)
                thing.alert = False
            thing.online_now(record.offset, at)
            here.comes(thing)
            for sensor in thing.held or ():
                if sensor.online:
                    sensor.seen_at = thing.seen_at
                    here.arm(sensor)
            thing.held = None
        thing.claimed = False
        thing.applied = record.offset
        thing.last_ms = thing.noted_ms = at
        thing.note_ms = at + self._note_every_ms
        if not thing.timer:
            here.arm(thing)
        _keep(work, thing, skew)
        if skew is not None:
            work.skews.append(skew)

    def silent(
        self, work: BatchOutput, here: PresenceRegistry, claim: InactivityClaim, record: Record, at: int
    ) -> bool:
        """A claim that a thing is offline; whether it is true."""
        thing = here.known(claim.name)
        if thing is None:
            return False
        thing.claimed = False
        if not thing.online or not of_this_log(claim, record) or at <= thing.history_ms:
            return False
        if thing.latest >= claim.up_to or self._in_maintenance(thing.name, at / 1000):
            if thing.seen_at:
                here.arm(thing)
            return False
        self._offline(work, here, thing, record, at, claim.since)
        _keep(work, thing)
        return True

    def said(
        self, work: BatchOutput, here: PresenceRegistry, node: str, word: str, record: Record, at: int, now: float
    ) -> None:
        """A node's status, or its last will. Its row is that of the message, but for history that comes again."""
        thing = here.of((node, ""), sensor=False)
        if thing is UNWATCHED:
            return
        thing.seen, lives = record.offset, not says_offline(word)
        if lives:
            thing.note_ms = 0  # its row bears the time of this message: a claim by whoever comes next has to be as late
            self.heard(work, here, thing, record, at, now)
        elif record.offset > thing.applied and at > thing.history_ms:
            if thing.online:
                self._offline(work, here, thing, record, at, at)
            thing.applied = record.offset
            work.states[thing.key] = encode(thing)
        if thing.online is lives:
            work.presence.pop(thing.label, None)
        else:  # what came later holds, and the message has just been written once more
            work.presence[thing.label] = thing.row()

    def mass(self, work: BatchOutput, here: PresenceRegistry, claim: InactivityClaim, record: Record, at: int) -> bool:
        """A claim that too many are silent for each to be told, or that this is over; whether that is news."""
        key, thing = here.mass_of(claim.user_id)
        thing.claimed = False
        begins = claim.what == "mass"
        if record.offset <= thing.applied or at <= thing.history_ms or begins is not thing.online:
            return False
        thing.online, thing.applied = not begins, record.offset
        if begins:
            thing.since_ms = max(at, thing.since_ms + 1)
            thing.last_ms = claim.since or at
        self._tell(work, record, at, thing, Status.FIRING if begins else Status.RESOLVED, _words(claim))
        work.states[key] = encode(thing)
        return True

    def _offline(
        self, work: BatchOutput, here: PresenceRegistry, thing: DevicePresence, record: Record, at: int, since_ms: int
    ) -> None:
        thing.offline_now(record.offset, since_ms)
        here.falls_silent(thing)
        thing.alert &= not self._in_maintenance(thing.name, at / 1000)
        if thing.alert:
            self._tell(work, record, at, thing, Status.FIRING)

    def _tell(
        self, work: BatchOutput, record: Record, at: int, thing: DevicePresence, status: Status, mass: str | None = None
    ) -> None:
        event = thing.event(status, at)
        if mass is not None:
            name = alert_id(*thing.name, MASS_RULE_ID, thing.since_ms * 1000)
            event = msgspec.structs.replace(
                event, alert_id=name, rule_id=MASS_RULE_ID, severity="critical", message=mass
            )
        way = way_of(thing.name[0])
        emit(work, record, [event], way)
        work.silent[event.user_id, event.device_id, event.rule_id, way] = _active(event, way)


def _keep(work: BatchOutput, thing: DevicePresence, skew: float | None = None) -> None:
    work.states[thing.key] = encode(thing)
    work.presence[thing.label] = thing.row(skew)


def _active(event: AlertEvent, way: str) -> Effect:
    key = (event.user_id, event.device_id, event.rule_id)
    if event.status is Status.RESOLVED:  # whatever is open there is older than this
        return Effect(Statement.DELETE_ACTIVE_ALERT, (*key, event.event_time, way))
    texts = (event.alert_id, event.severity, event.message)
    times = (event.first_seen, event.first_seen)
    return Effect(Statement.UPSERT_ACTIVE_ALERT, (*key, *texts, None, None, *times, Status.FIRING.value, None, way))


def _words(claim: InactivityClaim) -> str:
    if claim.what == "mass_over":
        return f"it is over: of {claim.watched} devices those that are still silent are told on their own"
    return f"{claim.silent} of {claim.watched} devices fell silent at once; none is told alone until they are back"
