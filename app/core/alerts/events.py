"""The alert events of an episode: its opening, and every later event."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from app.core.model.alert_event import AlertEvent, Cause, Status, Value, alert_id
from app.core.model.records import Reading
from app.core.model.times import micros, moment
from app.core.rules.messages import AlertFacts, Fill
from app.core.rules.rule import Rule
from app.core.state.device_state import Ack
from app.core.state.episode import Episode


def open_episode(rule: Rule, reading: Reading, shown: tuple[Value, Value], nth: int, way: str) -> Episode:
    """The episode that this reading opens, not yet sent; `shown` are the value and the threshold that it passed.

    `way` is the device's; `nth` counts the episodes that the rule opened at this instant before (see alert_id).
    """
    now = micros(reading.time)
    name = alert_id(reading.user_id, reading.device_id, rule.id, now, nth, way)
    value, threshold = shown
    return Episode(name, now, rule.fingerprint, rule.severity, rule.message, threshold, value, now, fired=False)


def fill_message(fill: Fill, rule: Rule, episode: Episode, reading: Reading, value: Value) -> None:
    """Fill in the message of an alert that this reading sends or sends again; events that no such reading causes, STALE
    and RESOLVED, repeat it.
    """
    ids = (reading.device_id, reading.user_id, rule.id, episode.severity)
    times = (_text(reading.time), _text(moment(episode.first_seen)))
    episode.message = fill(reading, AlertFacts(value, episode.threshold, *ids, *times))


def event_of(
    rule_id: str,
    episode: Episode,
    reading: Reading,
    status: Status,
    value: Value,
    cause: Cause | UnsetType = UNSET,
) -> AlertEvent:
    """The event about a change of the episode, caused by this reading."""
    once = status is Status.RESOLVED or not episode.repeat
    return AlertEvent(
        alert_id=episode.alert_id,
        user_id=reading.user_id,
        device_id=reading.device_id,
        rule_id=rule_id,
        status=status,
        severity=episode.severity,
        message=episode.message,
        value=value,
        threshold=episode.threshold,
        event_time=reading.time,
        first_seen=moment(episode.first_seen),
        cause=cause,
        repeat=UNSET if once else episode.repeat,
        suppressed=episode.suppressed or UNSET,
    )


def name_assignees(events: Iterable[AlertEvent], acks: Mapping[str, Ack]) -> list[AlertEvent]:
    """The events of a device, each with what was said with the ACK of its alert; `acks` are by rule id."""
    named = []
    for event in events:
        assignee, comment = acks.get(event.rule_id, ("", ""))
        if assignee or comment:
            event = msgspec.structs.replace(event, assignee=assignee or UNSET, comment=comment or UNSET)
        named.append(event)
    return named


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
