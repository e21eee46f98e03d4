"""Alert events -> what a batch asks for on their account: records of the outbox, and rows of alert_history."""

from collections.abc import Iterable

import msgspec

from app.core.active import history_effect
from app.core.alerts import AlertEvent, outbox_key, to_json
from app.core.model import Record
from app.core.work import Work


def tell(work: Work, record: Record, events: Iterable[AlertEvent], way: str = "") -> None:
    """Add the events that `record` has caused of a device of that way."""
    trace = next((value for name, value in record.headers if name == "traceparent" and value), None)
    for event in events:
        if trace is not None:
            event = msgspec.structs.replace(event, traceparent=trace.decode("ascii", "replace"))
        if way:
            event = msgspec.structs.replace(event, way=way)
        text = to_json(event)
        if event.suppressed is True:
            work.suppressed += 1
        else:
            work.events.append(event)
            work.alerts.append((outbox_key(event), text))
        work.alert_effects.append(history_effect(event, text))
