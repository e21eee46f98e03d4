"""What is known of one device, and its encoding: compact, and readable by older and newer programs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from app.core.model.times import EPOCH, MICROSECOND, micros, moment
from app.core.state.clock_run import ClockBack
from app.core.state.episode import Episode
from app.core.state.message_marks import MessageMarks
from app.core.state.rule_memory import RuleMemory
from app.core.state.samples import Samples
from app.errors import PermanentError

VERSION = 1  # of the encoding; raise it only when an older program would misread it, not for fields added at the end
Ack = tuple[str, str]  # who sees to the alert; a comment
_SHORT = b"\x93"  # how an encoded state begins that has neither episodes nor anything after them
_NOTHING = msgspec.Raw()
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class DeviceState:
    """A device's state: a private working copy that app.core.alerts.evaluate changes in place. `DeviceState()` is the
    state of a device of which nothing is known.

    Not a Struct: setting a slot takes 10 ns instead of 25, and the flags stay out of the encoding.
    """

    applied_offset: int = -1
    latest: datetime = NEVER  # newest event time applied; a datetime because converting one costs 180 ns
    episodes: dict[str, Episode] = field(default_factory=dict)  # the open episodes, by rule id
    # Rule id -> (time, count) of episodes that opened and closed at one instant: the next episode needs another id.
    instants: dict[str, tuple[int, int]] = field(default_factory=dict)
    notes: dict[str, RuleMemory] = field(default_factory=dict)  # by rule id
    # Rule id -> the episode that was sent, moved or ended last, since `decode` or `mark_persisted`: its row changes.
    touched: dict[str, Episode] = field(default_factory=dict, compare=False)
    # These three are not changed in place, and most devices have none: empty containers would take 300 bytes each.
    acks: Mapping[str, Ack] | None = None  # of open alerts, by rule id, if anything was said with ACK
    # Until when the user's mutes (app.core.rules.mutes) hold as of the latest reading, by rule id; microseconds.
    held: Mapping[str, int] | None = field(default=None, compare=False)
    # Ids of rules whose snooze or DISABLE is over, since `decode` or `mark_persisted`: their rows go.
    unmuted: frozenset[str] = field(default=frozenset(), compare=False)
    episodes_changed: bool = False  # an episode opened or closed since `decode` or `mark_persisted`
    way: str = field(default="", compare=False)  # of the device (app.core.model.namespaces), as its key says
    persisted_offset: int = -1  # applied_offset at `decode` or `mark_persisted`
    samples: Samples | None = None  # of a device with change of value or rolling windows
    back: ClockBack | None = None  # of a device whose clock may have been set back, or was
    sampled: bool = field(default=False, compare=False)  # a window moved since `decode` or `mark_persisted`
    log: int = 0  # generation of the log that the offsets are of (app.core.state.partition_log)
    marks: MessageMarks | None = None  # of the last messages of a device of iot/* that sends no time
    replayed: MessageMarks | None = field(default=None, compare=False)  # of messages that came again in this epoch

    @property
    def latest_time(self) -> int | None:
        """Newest event time applied, in microseconds since 1970; None before the first reading."""
        return None if self.latest is NEVER else micros(self.latest)

    @property
    def newest(self) -> datetime:
        """The newest event time ever applied: `latest`, unless the device's clock was set back."""
        return self.latest if self.back is None else max(self.latest, moment(self.back.high))

    @property
    def dirty(self) -> bool:
        """Whether anything at all changed since `decode` or `mark_persisted`; true whenever episodes_changed is."""
        return self.applied_offset != self.persisted_offset

    def begin_anew(self, log: int, applied: int = -1) -> None:
        """The device's partition has another log, of generation `log`: no offset of the log before means anything, all
        else is kept. `applied` is the offset up to which the other log is applied.
        """
        self.log, self.applied_offset, self.persisted_offset = log, applied, applied
        for episode in self.episodes.values():
            episode.heard = -1
        if self.latest is not NEVER:
            self.back = self.back or ClockBack()
            self.back.run, self.back.anew = None, True
        if self.samples is not None and self.samples.chain is not None:
            self.samples.chain.since, self.samples.chain.offsets = applied + 1, []

    def mark_persisted(self) -> None:
        """Clear the flags; for a caller that keeps the state beyond its batch."""
        self.persisted_offset = self.applied_offset
        self.episodes_changed = self.sampled = False
        if self.touched:
            self.touched = {}
        self.unmuted = frozenset()

    def note(self, rule_id: str, fingerprint: str) -> RuleMemory:
        """The rule's note; a new note if there is none about this meaning of the rule."""
        found = self.notes.get(rule_id)
        if found is None or found.fingerprint != fingerprint:
            found = self.notes[rule_id] = RuleMemory(fingerprint)
        return found

    def forget_others(self, fingerprints: Mapping[str, str]) -> None:
        """Forget what is known of rules that the device does not have, or that mean something else now.

        `fingerprints`: of the device's rules, by rule id. A user may change rules for ever: what is kept of a rule is
        bounded by the number of rules that a device may have.
        """
        for rule_id, note in tuple(self.notes.items()):
            if fingerprints.get(rule_id) != note.fingerprint:
                if note.disabled or note.snoozed_until:
                    self.unmuted |= {rule_id}
                del self.notes[rule_id]
        self.instants = {name: seen for name, seen in self.instants.items() if name in fingerprints}


class _Version(Struct, array_like=True):
    version: int


class _Encoded(Struct, array_like=True):
    version: int
    applied_offset: int
    latest_time: int | None = None
    episodes: dict[str, Episode] = {}
    instants: dict[str, tuple[int, int]] = {}
    notes: dict[str, RuleMemory] = {}
    samples: Samples | None = None
    log: int | None = None
    back: ClockBack | None = None
    marks: MessageMarks | None = None
    acks: dict[str, Ack] = {}


class _Seen(Struct, array_like=True):
    """What a state and a device's presence have in the same places."""

    version: int
    applied_offset: int
    _2: msgspec.Raw = _NOTHING
    _3: msgspec.Raw = _NOTHING
    _4: msgspec.Raw = _NOTHING
    _5: msgspec.Raw = _NOTHING
    _6: msgspec.Raw = _NOTHING
    log: int | None = None


class _OpenEpisode(Struct, array_like=True):
    version: int
    applied_offset: int
    latest_time: int | None = None
    episodes: dict[str, msgspec.Raw] = {}


_version_of = msgspec.msgpack.Decoder(_Version).decode
_decode = msgspec.msgpack.Decoder(_Encoded).decode
_seen_of = msgspec.msgpack.Decoder(_Seen).decode
_open_of = msgspec.msgpack.Decoder(_OpenEpisode).decode
_encode = msgspec.msgpack.Encoder().encode


def encode(state: DeviceState) -> bytes:
    """MessagePack array: version, applied offset, latest time; then episodes, instants, notes, samples, generation of
    the log, what is known of the clock, marks, and what was said with ACK.

    Empty parts at the end are left out, and so are notes that say nothing more: the state of a device at rest is as
    small as that of a device that never alerted.
    """
    notes, latest, samples, back = state.notes, state.latest, state.samples, state.back
    time = None if latest is NEVER else (latest - EPOCH) // MICROSECOND  # `latest_time`, written out: 0.1 us of 1.2
    marks = state.marks
    empty = not notes and not state.episodes and not state.instants and samples is None
    if empty and marks is None and back is None and not state.log:  # no episode, no ACK
        return _encode((VERSION, state.applied_offset, time))
    if notes:
        now = time or 0
        notes = {rule_id: note for rule_id, note in notes.items() if not note.spent(now)}
    fields = (VERSION, state.applied_offset, time, state.episodes, state.instants, notes)
    if state.acks:
        return _encode((*fields, samples, state.log, back, marks, state.acks))
    if marks is not None:
        return _encode((*fields, samples, state.log, back, marks))
    if back is not None:
        return _encode((*fields, samples, state.log, back))
    if state.log:
        return _encode((*fields, samples, state.log))
    if samples is not None:
        return _encode((*fields, samples))
    return _encode(fields if notes else fields[:5] if state.instants else fields[:4] if state.episodes else fields[:3])


def decode(data: bytes) -> DeviceState:
    """A private copy of what `encode` made, also in an older or newer program; fields unknown here are dropped.

    Raises PermanentError for bytes that are no state, or a state of a version this program cannot read.
    """
    try:
        version = _version_of(data).version
        if version != VERSION:
            raise PermanentError(
                f"device state has version {version}, this program reads {VERSION}: run a newer program"
            )
        encoded = _decode(data)
        offset, time = encoded.applied_offset, encoded.latest_time
        latest = NEVER if time is None else moment(time)
        for episode in encoded.episodes.values():
            moment(episode.first_seen), moment(episode.last_seen)
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError) as error:
        raise PermanentError(f"not a device state ({error}): {data[:40]!r}") from error
    state = DeviceState(offset, latest, encoded.episodes, encoded.instants, encoded.notes, persisted_offset=offset)
    state.samples, state.log, state.marks = encoded.samples, encoded.log or 0, encoded.marks
    state.back, state.acks = encoded.back, encoded.acks or None
    return state


def seen(data: bytes) -> tuple[int, int]:
    """Generation of the log and applied offset of a state that `encode` made, of any version; the rest is not decoded.

    Bytes that are no state have seen nothing: (-1, -1).
    """
    try:
        found = _seen_of(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return (-1, -1)
    return (found.log or 0, found.applied_offset)


def at_rest(data: bytes) -> bool:
    """Whether no episode is open in a state that `encode` made, without decoding the rest; False for other bytes."""
    try:
        return data[:1] == _SHORT or not _open_of(data).episodes
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
