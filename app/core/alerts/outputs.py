"""Changed alerts -> Effects that keep `active_alerts` and `alert_history` in step with the device's state."""

import math
from collections.abc import Iterable, Iterator

import msgspec

from app.core.batch.effects import Effect, Statement
from app.core.batch.output import BatchOutput
from app.core.model.alert_event import AlertEvent, Value, outbox_key, to_json
from app.core.model.namespaces import user_of, way_of
from app.core.model.records import Record
from app.core.model.times import micros, moment
from app.core.rules.mutes import FOREVER
from app.core.state.device_state import DeviceState
from app.core.state.episode import Episode
from app.core.state.rule_memory import NOTHING


def active_effects(state: DeviceState, owner: str, device_id: str) -> Iterator[Effect]:
    """Yield an effect for each rule whose open alert changed since the state was persisted, whatever happened since."""
    user_id, way = user_of(owner), way_of(owner)
    for rule_id, last in state.touched.items():
        key = (user_id, device_id, rule_id)
        episode = state.episodes.get(rule_id)
        if episode is None or not episode.fired:
            yield Effect(Statement.DELETE_ACTIVE_ALERT, (*key, moment(last.first_seen), way))
            continue
        note = state.notes.get(rule_id, NOTHING)
        now = micros(state.latest)
        texts = (episode.alert_id, episode.severity, episode.message)
        numbers = (number(episode.value), number(episode.threshold))
        times = (moment(episode.first_seen), moment(episode.last_seen))
        snoozed_until = max(note.snoozed_until, (state.held or {}).get(rule_id, 0))
        word = _word(episode, note.disabled, snoozed_until, now)
        until = moment(snoozed_until) if now < snoozed_until < FOREVER else None
        assignee, comment = (state.acks or {}).get(rule_id, ("", ""))
        said = (assignee or None, comment or None)
        yield Effect(Statement.UPSERT_ACTIVE_ALERT, (*key, *texts, *numbers, *times, word, until, way, *said))


def unmuted_effects(state: DeviceState, owner: str, device_id: str) -> Iterator[Effect]:
    """Yield an effect for each rule of the device whose snooze or DISABLE is over since the state was persisted."""
    for rule_id in sorted(state.unmuted):
        yield Effect(Statement.DELETE_MUTED_ALERT, (user_of(owner), device_id, rule_id, way_of(owner)))


def adopted(state: DeviceState, owner: str, device_id: str) -> Iterator[Effect]:
    """Yield the effects that give the rows of a device of iot/* their way, if written before there were two ways."""
    user_id = user_of(owner)
    for rule_id, episode in state.episodes.items():
        if episode.fired:
            yield Effect(Statement.ADOPT_ACTIVE_ALERT, (user_id, device_id, rule_id, episode.alert_id))
    if state.samples is not None:
        yield Effect(Statement.ADOPT_AVERAGES, (user_id, device_id))


# What an event takes as a struct, as effects and as part of its device's state; and how often its text is in memory,
# from the state to what is on its way to PostgreSQL and Kafka.
EVENT_OVERHEAD = 1000
TEXT_COPIES = 4


def history_effect(event: AlertEvent, text: bytes) -> Effect:
    """The row of alert_history about a transition; `text` is the event as JSON."""
    ids = (event.alert_id, event.status.value, event.repeat or 0, event.user_id, event.device_id, event.rule_id)
    rest = (event.severity, event.message, number(event.value), number(event.threshold))
    return Effect(Statement.INSERT_HISTORY, (*ids, *rest, event.event_time, event.first_seen, text.decode()))


def number(value: Value) -> float | None:
    """The value for a numeric column; None for texts, booleans and integers beyond a double."""
    if isinstance(value, bool | str):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _word(episode: Episode, disabled: bool, snoozed_until: int, now: int) -> str:
    """active_alerts.state: what an operator has to know first."""
    if disabled or snoozed_until >= FOREVER:
        return "DISABLED"
    if snoozed_until > now:
        return "SNOOZED"
    if episode.suppressed:
        return "SUPPRESSED"
    if episode.stale:
        return "STALE"
    return "ACKED" if episode.acked else "FIRING"


def emit(work: BatchOutput, record: Record, events: Iterable[AlertEvent], way: str = "") -> None:
    """Add to `work` the events that `record` has caused, of a device with this way."""
    trace = next((value for name, value in record.headers if name == "traceparent" and value), None)
    for event in events:
        if trace is not None:
            event = msgspec.structs.replace(event, traceparent=trace.decode("ascii", "replace"))
        if way:
            event = msgspec.structs.replace(event, way=way)
        text = to_json(event)
        work.weight += EVENT_OVERHEAD + TEXT_COPIES * len(text)
        if event.suppressed is True:
            work.suppressed += 1
        else:
            work.events.append(event)
            work.alert_records.append(record)
            work.alerts.append((outbox_key(event), text))
        work.alert_effects.append(history_effect(event, text))
