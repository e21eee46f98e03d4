"""What is known of one device, and one step of it: (state, reading, rules, offset) -> alerts.

Within its partition a device's readings are stepped in offset order, and:
- an offset at or below `applied_offset` was stepped before: it changes nothing and alerts nobody;
- a reading older than `latest` came late: it moves `applied_offset` and nothing else;
- a reading as old as `latest` counts, in offset order, like a newer one.
So the same records give the same alerts however they are cut into batches, as long as each batch starts from the
whole state that the one before it left.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from app.core.alerts import AlertEvent, Cause, Status
from app.core.episodes import Episode, micros, moment, opened, told
from app.core.model import Reading
from app.core.readers import reportable
from app.core.rules import Quiet, Rule, any_holds
from app.errors import PermanentError

VERSION = 1  # of the encoding; raise it only when an older program would misread it, not for fields added at the end
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class DeviceState:
    """A device's state: a private working copy that `step` changes in place. `DeviceState()` knows nothing yet.

    Not a Struct: setting a slot takes 10 ns instead of 25, and the flags stay out of the encoding.
    """

    applied_offset: int = -1
    latest: datetime = NEVER  # newest event time applied; a datetime because converting one costs 180 ns
    episodes: dict[str, Episode] = field(default_factory=dict)  # the open ones, by rule id
    # Rule id -> (time, count) of episodes that opened and closed at one instant: the next one there needs another id.
    instants: dict[str, tuple[int, int]] = field(default_factory=dict)
    episodes_changed: bool = False  # an episode opened or closed since `decode` or `mark_persisted`
    persisted_offset: int = -1  # applied_offset at that moment

    @property
    def latest_time(self) -> int | None:
        """Newest event time applied, in microseconds since 1970; None before the first reading."""
        return None if self.latest == NEVER else micros(self.latest)

    @property
    def dirty(self) -> bool:
        """Whether anything at all changed since `decode` or `mark_persisted`; true whenever episodes_changed is."""
        return self.applied_offset != self.persisted_offset

    def mark_persisted(self) -> None:
        """Clear the flags; for a caller that keeps the state beyond its batch."""
        self.persisted_offset = self.applied_offset
        self.episodes_changed = False


class _Version(Struct, array_like=True):
    version: int


class _Encoded(Struct, array_like=True):
    version: int
    applied_offset: int
    latest_time: int | None = None
    episodes: dict[str, Episode] = {}
    instants: dict[str, tuple[int, int]] = {}


class _Applied(Struct, array_like=True):
    version: int
    applied_offset: int


_version_of = msgspec.msgpack.Decoder(_Version).decode
_decode = msgspec.msgpack.Decoder(_Encoded).decode
_applied_of = msgspec.msgpack.Decoder(_Applied).decode
_encode = msgspec.msgpack.Encoder().encode


def encode(state: DeviceState) -> bytes:
    """MessagePack array: version, applied offset, latest time; then, when there are any, episodes and instants."""
    fields = (VERSION, state.applied_offset, state.latest_time, state.episodes, state.instants)
    return _encode(fields if state.instants else fields[:4] if state.episodes else fields[:3])


def decode(data: bytes) -> DeviceState:
    """A private copy of what `encode` made, also in an older or newer program; fields unknown here are dropped.

    Raises PermanentError for bytes that are no state, or a state of a version this program cannot read.
    """
    try:
        version = _version_of(data).version
        if version != VERSION:
            raise PermanentError(f"device state has version {version}, this program reads {VERSION}: run a newer one")
        encoded = _decode(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise PermanentError(f"not a device state ({error}): {data[:40]!r}") from error
    offset, time = encoded.applied_offset, encoded.latest_time
    latest = NEVER if time is None else moment(time)
    return DeviceState(offset, latest, encoded.episodes, encoded.instants, persisted_offset=offset)


def applied_offset(data: bytes) -> int:
    """The applied offset of what `encode` made, of any version, without decoding the rest; -1 for what is no state."""
    try:
        return _applied_of(data).applied_offset
    except msgspec.DecodeError:
        return -1


def step(
    state: DeviceState, reading: Reading, rules: tuple[Rule, ...], offset: int, quiet: Quiet | None = None
) -> tuple[AlertEvent, ...]:
    """Apply one reading to its device's state, in place, and return the alerts it causes, in order.

    `rules` are the device's own (`compile_for`), `quiet` is `quiet_for` them, made once by a caller in a hurry;
    `offset` is the record's, in the one partition the device has.
    """
    if offset <= state.applied_offset:
        return ()
    state.applied_offset = offset
    time = reading.time
    if time < state.latest:
        return ()
    state.latest = time
    if not state.episodes and (quiet(reading) if quiet else not any_holds(rules, reading)):
        return ()
    return tuple(_transitions(state, reading, rules))


def _transitions(state: DeviceState, reading: Reading, rules: tuple[Rule, ...]) -> Iterator[AlertEvent]:
    yield from _end_changed(state, reading, {rule.id: rule.fingerprint for rule in rules})
    for rule in rules:
        value = rule.read(reading)
        shown = reportable(value)
        if shown is None:  # missing, of another kind, NaN: says nothing about the condition
            continue
        episode = state.episodes.get(rule.id)
        if episode is None:
            if rule.holds(value):
                episode = _open(state, rule, opened(rule, reading, shown, _nth(state, rule.id, reading)))
                yield told(rule.id, episode, reading, Status.FIRING, shown)
        elif rule.stays(value):
            episode.value, episode.last_seen = shown, micros(reading.time)
        elif _close(state, rule.id, reading).fired:
            yield told(rule.id, episode, reading, Status.RESOLVED, shown)


def _end_changed(state: DeviceState, reading: Reading, fingerprints: dict[str, str]) -> Iterator[AlertEvent]:
    """End the episodes whose rule is gone, no longer for this device, or means something else now."""
    for rule_id, episode in tuple(state.episodes.items()):
        if fingerprints.get(rule_id) != episode.fingerprint and _close(state, rule_id, reading).fired:
            yield told(rule_id, episode, reading, Status.RESOLVED, episode.value, Cause.RULE_CHANGED)


def _open(state: DeviceState, rule: Rule, episode: Episode) -> Episode:
    state.episodes[rule.id] = episode
    state.episodes_changed = True
    return episode


def _close(state: DeviceState, rule_id: str, reading: Reading) -> Episode:
    episode = state.episodes.pop(rule_id)
    state.episodes_changed = True
    now = micros(reading.time)
    state.instants = {name: seen for name, seen in state.instants.items() if seen[0] == now}
    if episode.first_seen == now:
        state.instants[rule_id] = (now, _nth(state, rule_id, reading) + 1)
    return episode


def _nth(state: DeviceState, rule_id: str, reading: Reading) -> int:
    """How many episodes the rule has opened and closed at the reading's instant."""
    if not state.instants:
        return 0
    instant, count = state.instants.get(rule_id, (0, 0))
    return count if instant == micros(reading.time) else 0
