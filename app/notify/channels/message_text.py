"""An alert event, or several that came too fast for a user's budget -> the words of one message for people."""

from collections.abc import Sequence

from app.core.alerts.digest import HeldAlert, counted
from app.core.model.alert_event import AlertEvent

LISTED = 20  # events of a digest, one line each


def one_event(event: AlertEvent) -> tuple[str, str]:
    """Title and body of the message about one event; a control character in it becomes a space."""
    title = f"{event.status} {event.severity}: {event.rule_id} on {event.device_id or event.user_id}"
    lines = [
        event.message,
        "",
        f"value {event.value}, threshold {event.threshold}",
        f"at {event.event_time.isoformat()}, since {event.first_seen.isoformat()}",
        f"user {event.user_id}, device {event.device_id}, rule {event.rule_id}, alert {event.alert_id}",
    ]
    if isinstance(event.assignee, str):
        lines.insert(1, f"acknowledged by {event.assignee}")
    return _plain(title), "\n".join(map(_plain, lines))


def several_events(events: Sequence[AlertEvent], more: int = 0) -> tuple[str, str]:
    """Title and body of the message about events, at least one, that were held back; `more` were only counted."""
    held = [
        HeldAlert(one.alert_id, one.status, one.repeat or 0, one.device_id, one.rule_id, one.severity, one.event_time)
        for one in events
    ]
    counts = counted(held)
    devices = "" if more else f" of {counts.devices} devices"
    title = f"{counts.count + more} alert events{devices} of {events[0].user_id}"
    kinds = [f"{count} {status}" for status, count in counts.by_status.items()]
    lines = [", ".join(kinds + ([f"{more} not kept"] if more else [])), ""]
    lines += [one_event(one)[0] for one in events[:LISTED]]
    if (omitted := max(0, len(events) - LISTED) + more) > 0:
        lines.append(f"and {omitted} more: iot-stream alerts history --user {events[0].user_id}")
    return _plain(title), "\n".join(map(_plain, lines))


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
