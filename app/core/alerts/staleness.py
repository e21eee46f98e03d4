"""Open alerts about which no reading comes any more: a claim of silence in, the STALE events out."""

import msgspec

from app.core.alerts.events import event_of, name_assignees
from app.core.alerts.lifecycle import TRANSITIONS, Signal
from app.core.alerts.muting import hold_rule
from app.core.model.alert_event import AlertEvent
from app.core.model.alert_phase import Phase
from app.core.model.inactivity_claim import InactivityClaim, of_this_log
from app.core.model.records import Reading, Record
from app.core.model.times import moment
from app.core.rules.maintenance import Span
from app.core.rules.mutes import Mute, muted_until
from app.core.rules.rule import Rule
from app.core.state.device_state import DeviceState
from app.core.state.episode import Episode


def mark_stale(
    state: DeviceState,
    claim: InactivityClaim,
    rules: tuple[Rule, ...],
    record: Record,
    at: int,
    maintenance: tuple[Span, ...] = (),
    mutes: tuple[Mute, ...] = (),
) -> tuple[AlertEvent, ...]:
    """Apply a `no_data` claim to its device's state, in place; `record`, the claim's, came in `at`, in ms since 1970.

    An alert stays as it was when a reading has come since, when the alert is closed, when its rule has no
    no_data_seconds any more, and in a maintenance window. What the user has muted is muted, and not sent.
    """
    now = at * 1000
    if record.offset <= state.applied_offset or not of_this_log(claim, record):
        return ()
    if any(begin <= now < end for begin, end in maintenance):
        return ()
    events = []
    for rule in rules:
        episode = state.episodes.get(rule.id)
        if episode is None or rule.id not in claim.rule_ids or episode.heard >= claim.up_to:
            continue
        if goes_stale(rule, episode):
            state.applied_offset = record.offset
            state.touched[rule.id] = episode
            if until := muted_until(mutes, rule.id, now):
                hold_rule(state, rule, until)
                continue
            events.append(_stale(rule.id, episode, claim, now))
    return tuple(name_assignees(events, state.acks) if state.acks else events)


def goes_stale(rule: Rule, episode: Episode) -> bool:
    """Whether silence means anything to this alert now."""
    if not rule.no_data or not episode.fired or episode.fingerprint != rule.fingerprint:
        return False
    after, status = TRANSITIONS[episode.phase, Signal.SILENT]
    return after is Phase.STALE and status is not None


def _stale(rule_id: str, episode: Episode, claim: InactivityClaim, now: int) -> AlertEvent:
    _, status = TRANSITIONS[episode.phase, Signal.SILENT]
    assert status
    episode.stale, episode.clear_since = True, None  # after the gap the time to clear begins anew
    episode.repeat += 1
    value = episode.value if episode.last is None else episode.last
    age = max(0, now - (episode.heard_time or episode.last_seen)) / 1_000_000
    nothing = Reading(moment(now), claim.user_id, claim.device_id, 0, {}, "")
    return msgspec.structs.replace(event_of(rule_id, episode, nothing, status, value), age_seconds=age)
