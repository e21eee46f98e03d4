"""One step of a device: (state, reading, rules, offset) -> alerts.

Within its partition a device's readings are stepped in offset order, and:
- an offset at or below `applied_offset` was stepped before: it changes nothing and alerts nobody;
- a reading older than `latest` came late: it moves `applied_offset` and nothing else;
- a reading as old as `latest` counts, in offset order, like a newer reading.
So the same records give the same alerts however they are cut into batches, as long as each batch starts from the
whole state that the batch before left. Every duration is a span of event time, but for that of a snooze, which begins
and ends by arrival. Between two readings nothing happens, but for an alert that goes stale (app.core.alerts.staleness).
"""

from msgspec import UNSET, UnsetType

from app.core.alerts.events import event_of, fill_message, name_assignees, open_episode
from app.core.alerts.lifecycle import TRANSITIONS, Signal
from app.core.alerts.muting import held_note, hold_muted
from app.core.alerts.signals import clearing, counted, escalates, holding
from app.core.model.alert_event import AlertEvent, Cause, Status, Value
from app.core.model.alert_phase import Phase
from app.core.model.records import Reading
from app.core.model.times import micros
from app.core.rules.conditions import Shown
from app.core.rules.maintenance import Span
from app.core.rules.mutes import Mute
from app.core.rules.prefilter import Prefilter, any_holds
from app.core.rules.rule import Rule
from app.core.state.device_state import DeviceState
from app.core.state.episode import Episode
from app.core.state.rule_memory import NOTHING


def evaluate(
    state: DeviceState,
    reading: Reading,
    rules: tuple[Rule, ...],
    offset: int,
    quiet: Prefilter | None = None,
    maintenance: tuple[Span, ...] = (),
    at: int = 0,
    mutes: tuple[Mute, ...] = (),
) -> tuple[AlertEvent, ...]:
    """Apply one reading to its device's state, in place, and return the alerts that the reading causes, in order.

    `rules` are the device's own (`compile_for`), `quiet` is their `prefilter_for`, made once by a caller in a hurry;
    `offset` is the record's, in the one partition of the device; `maintenance` gives the spans of event time in which
    alerts are suppressed instead of sent; `at` is when the record came in, in ms since 1970, and ends snoozes and
    `mutes`, which are the user's for this device; 0: the reading's own time does.
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
    return tuple(_transitions(state, reading, rules, maintenance, at, mutes))


def _transitions(
    state: DeviceState,
    reading: Reading,
    rules: tuple[Rule, ...],
    maintenance: tuple[Span, ...],
    at: int,
    mutes: tuple[Mute, ...],
) -> list[AlertEvent]:
    now, events = micros(reading.time), list[AlertEvent]()
    suppress = any(begin <= now < end for begin, end in maintenance)
    if state.episodes or state.notes or state.instants:
        _end_changed(state, reading, now, {rule.id: rule.fingerprint for rule in rules}, events)
    if state.notes:
        _end_snoozes(state, at * 1000)
    if mutes or state.held:
        hold_muted(state, rules, mutes, at * 1000 or now)
    acks = state.acks
    for rule in rules:
        value = rule.read(reading)
        if value is None:  # missing, or of another kind: the reading says nothing about the condition
            continue
        episode = state.episodes.get(rule.id)
        verdict = rule.stays(value) if episode is not None and episode.fired else rule.holds(value)
        if verdict is None or (not verdict and episode is None):
            continue
        shown = rule.condition.show(value, verdict)
        if shown is not None:  # None: the value is NaN or beyond float64
            _transition(state, reading, now, rule, episode, verdict, shown, events, suppress)
    return name_assignees(events, acks) if acks else events


def _transition(
    state: DeviceState,
    reading: Reading,
    now: int,
    rule: Rule,
    episode: Episode | None,
    verdict: bool,
    shown: Shown,
    events: list[AlertEvent],
    suppress: bool,
) -> None:
    """What one verdict does to one rule: find the signal, look up what follows, carry that out."""
    before = Phase.NORMAL if episode is None else episode.phase
    episode = episode or _opened(state, reading, now, rule, shown)
    note = held_note(state, rule.id) if state.held else state.notes.get(rule.id, NOTHING)
    if verdict:
        episode.value, episode.threshold = shown
        episode.last_seen = max(episode.last_seen, now)  # the old time is later where the clock was set back
    if rule.of is None:
        episode.count += verdict and (before is Phase.PENDING or before is Phase.NORMAL)
        signal = holding(rule, episode, note, now, suppress) if verdict else clearing(rule, episode, now)
    else:
        episode.count = rule.of.after(episode.count, verdict)
        signal = counted(rule, rule.of, episode, note, now, verdict, suppress)
    after, status = TRANSITIONS[before, signal]
    if episode.fired:
        state.touched[rule.id] = episode
        episode.heard, episode.heard_time, episode.last = state.applied_offset, now, shown[0]
        since = now if episode.clear_since is None else episode.clear_since
        episode.clear_since = since if signal is Signal.CLEARS or signal is Signal.CLEARED else None
    if after is Phase.NORMAL:
        _close(state, rule.id, now)
        if status:
            episode.threshold = shown[1]
            _rest(state, rule, now)
            events.append(event_of(rule.id, episode, reading, status, shown[0]))
    elif status:
        cause = _note_emitted(state, rule, episode, (before, signal), now, suppress)
        events.append(_sent(rule, episode, reading, status, shown[0], cause))
    episode.stale = episode.stale and before is not Phase.MUTED


def _sent(
    rule: Rule, episode: Episode, reading: Reading, status: Status, value: Value, cause: Cause | UnsetType
) -> AlertEvent:
    if rule.fill is not None:
        fill_message(rule.fill, rule, episode, reading, value)
    return event_of(rule.id, episode, reading, status, value, cause)


def _opened(state: DeviceState, reading: Reading, now: int, rule: Rule, shown: Shown) -> Episode:
    salt = state.back.salt if state.back is not None else 0  # after a setback this time is passed again
    nth = _nth(state, rule.id, now) if state.instants else 0
    episode = open_episode(rule, reading, shown, salt + nth, state.way)
    state.episodes[rule.id] = episode
    state.episodes_changed = True
    return episode


def _note_emitted(
    state: DeviceState, rule: Rule, episode: Episode, why: tuple[Phase, Signal], now: int, suppress: bool
) -> Cause | UnsetType:
    """Note in the episode that its alert is sent now, for the first time or again; returns the cause."""
    before, signal = why
    state.touched[rule.id] = episode
    if not episode.fired:
        episode.fired, episode.fired_at, episode.suppressed = True, now, suppress
        episode.heard, episode.heard_time = state.applied_offset, now
        if rule.flap and _too_often(state, rule, now):
            episode.flapping = True
            return Cause.FLAPPING
        return UNSET
    episode.repeat += 1
    if signal is Signal.DUE and rule.escalate and escalates(rule, episode, now):
        episode.escalated, episode.severity = True, rule.escalate.severity
    if before is Phase.SUPPRESSED:
        episode.suppressed = episode.muted = False
        return Cause.MAINTENANCE_ENDED
    if before is Phase.MUTED:
        episode.muted = episode.acked = False
        return Cause.UNMUTED
    episode.stale = False
    return Cause.DATA_AGAIN if signal is not Signal.DUE else Cause.ESCALATED


def _too_often(state: DeviceState, rule: Rule, now: int) -> bool:
    """Whether the rule has fired `times` within the time already; notes that it fires now."""
    assert rule.flap
    note = state.note(rule.id, rule.fingerprint)
    recent = tuple(time for time in note.fired if now - time < rule.flap.within)
    note.fired = (*recent, now)[-rule.flap.times :]
    note.fired_until = now + rule.flap.within
    return len(recent) >= rule.flap.times


def _rest(state: DeviceState, rule: Rule, now: int) -> None:
    """An alert has resolved: its rule may rest now."""
    if rule.cooldown:
        state.note(rule.id, rule.fingerprint).rest_until = now + rule.cooldown


def _end_changed(
    state: DeviceState, reading: Reading, now: int, fingerprints: dict[str, str], events: list[AlertEvent]
) -> None:
    """End the episodes of rules that are gone, are no longer for this device, or mean something else now."""
    state.forget_others(fingerprints)
    for rule_id, episode in tuple(state.episodes.items()):
        if fingerprints.get(rule_id) == episode.fingerprint:
            continue
        _, status = TRANSITIONS[episode.phase, Signal.CHANGED]
        _close(state, rule_id, now)
        if status:
            state.touched[rule_id] = episode
            events.append(event_of(rule_id, episode, reading, status, episode.value, Cause.RULE_CHANGED))


def _end_snoozes(state: DeviceState, now: int) -> None:
    """End what was snoozed until `now`, a time of arrival: the clock of a device that lags would keep it on."""
    for rule_id, note in state.notes.items():
        if note.snoozed_until and note.snoozed_until <= now:
            note.snoozed_until = 0
            state.unmuted |= {rule_id}


def _close(state: DeviceState, rule_id: str, now: int) -> None:
    episode = state.episodes.pop(rule_id)
    if state.acks:
        state.acks = {name: ack for name, ack in state.acks.items() if name != rule_id} or None
    state.episodes_changed = True
    nth = _nth(state, rule_id, now)
    if state.instants:
        state.instants = {name: seen for name, seen in state.instants.items() if seen[0] == now}
    if episode.first_seen == now:
        state.instants[rule_id] = (now, nth + 1)


def _nth(state: DeviceState, rule_id: str, now: int) -> int:
    """How many episodes the rule has opened and closed at this instant."""
    if not state.instants:
        return 0
    instant, count = state.instants.get(rule_id, (0, 0))
    return count if instant == now else 0
