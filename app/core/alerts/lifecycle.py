"""The life of an alert as a table: a reading, a command or silence gives a signal, which decides what is next and sent.

`app.core.alerts.evaluate` looks up every change here, and docs/alerts.md draws its diagram from it.
"""

from collections import defaultdict
from enum import StrEnum

from app.core.model.alert_event import Status
from app.core.model.alert_phase import Phase


class Signal(StrEnum):
    """What a reading, a command or silence says about the condition of a rule."""

    HOLDS = "holds"  # the condition holds and nothing is due
    DUE = "is due"  # the condition holds, and an event is due
    CLEARS = "clears"  # the condition does not hold, but not for long enough
    CLEARED = "cleared"  # the condition does not hold, for long enough
    CHANGED = "rule changed"  # the rule is gone, or means something else
    SILENT = "no data"  # nothing came for no_data_seconds
    MUTE = "mute"  # SNOOZE or DISABLE
    MAINTENANCE = "is due in maintenance"


# fmt: off
TRANSITIONS: dict[tuple[Phase, Signal], tuple[Phase, Status | None]] = {
    (Phase.NORMAL, Signal.HOLDS): (Phase.PENDING, None),
    (Phase.NORMAL, Signal.DUE): (Phase.FIRING, Status.FIRING),
    (Phase.NORMAL, Signal.MAINTENANCE): (Phase.SUPPRESSED, Status.FIRING),
    (Phase.PENDING, Signal.HOLDS): (Phase.PENDING, None),
    (Phase.PENDING, Signal.DUE): (Phase.FIRING, Status.FIRING),
    (Phase.PENDING, Signal.MAINTENANCE): (Phase.SUPPRESSED, Status.FIRING),
    (Phase.PENDING, Signal.CLEARED): (Phase.NORMAL, None),
    (Phase.PENDING, Signal.CHANGED): (Phase.NORMAL, None),
    (Phase.FIRING, Signal.HOLDS): (Phase.FIRING, None),
    (Phase.FIRING, Signal.DUE): (Phase.FIRING, Status.REMINDER),
    (Phase.FIRING, Signal.CLEARS): (Phase.CLEARING, None),
    (Phase.FIRING, Signal.CLEARED): (Phase.NORMAL, Status.RESOLVED),
    (Phase.FIRING, Signal.CHANGED): (Phase.NORMAL, Status.RESOLVED),
    (Phase.FIRING, Signal.SILENT): (Phase.STALE, Status.STALE),
    (Phase.FIRING, Signal.MUTE): (Phase.MUTED, None),
    (Phase.CLEARING, Signal.HOLDS): (Phase.FIRING, None),
    (Phase.CLEARING, Signal.DUE): (Phase.FIRING, Status.REMINDER),
    (Phase.CLEARING, Signal.CLEARS): (Phase.CLEARING, None),
    (Phase.CLEARING, Signal.CLEARED): (Phase.NORMAL, Status.RESOLVED),
    (Phase.CLEARING, Signal.CHANGED): (Phase.NORMAL, Status.RESOLVED),
    (Phase.CLEARING, Signal.SILENT): (Phase.STALE, Status.STALE),
    (Phase.CLEARING, Signal.MUTE): (Phase.MUTED, None),
    (Phase.STALE, Signal.HOLDS): (Phase.FIRING, Status.FIRING),
    (Phase.STALE, Signal.DUE): (Phase.FIRING, Status.REMINDER),
    (Phase.STALE, Signal.CLEARS): (Phase.CLEARING, Status.FIRING),
    (Phase.STALE, Signal.CLEARED): (Phase.NORMAL, Status.RESOLVED),
    (Phase.STALE, Signal.CHANGED): (Phase.NORMAL, Status.RESOLVED),
    (Phase.STALE, Signal.SILENT): (Phase.STALE, None),
    (Phase.STALE, Signal.MUTE): (Phase.MUTED, None),
    (Phase.MUTED, Signal.HOLDS): (Phase.MUTED, None),
    (Phase.MUTED, Signal.DUE): (Phase.FIRING, Status.FIRING),
    (Phase.MUTED, Signal.CLEARS): (Phase.MUTED, None),
    (Phase.MUTED, Signal.CLEARED): (Phase.NORMAL, Status.RESOLVED),
    (Phase.MUTED, Signal.CHANGED): (Phase.NORMAL, Status.RESOLVED),
    (Phase.MUTED, Signal.SILENT): (Phase.MUTED, None),
    (Phase.MUTED, Signal.MUTE): (Phase.MUTED, None),
    (Phase.SUPPRESSED, Signal.HOLDS): (Phase.SUPPRESSED, None),
    (Phase.SUPPRESSED, Signal.DUE): (Phase.FIRING, Status.FIRING),
    (Phase.SUPPRESSED, Signal.CLEARS): (Phase.SUPPRESSED, None),
    (Phase.SUPPRESSED, Signal.CLEARED): (Phase.NORMAL, Status.RESOLVED),
    (Phase.SUPPRESSED, Signal.CHANGED): (Phase.NORMAL, Status.RESOLVED),
    (Phase.SUPPRESSED, Signal.SILENT): (Phase.SUPPRESSED, None),
    (Phase.SUPPRESSED, Signal.MUTE): (Phase.SUPPRESSED, None),
}
# fmt: on


def diagram() -> str:
    """The table as a Mermaid state diagram; a signal that changes no state and sends no event is left out.

    Signals that lead to the same state and send the same event share an arrow.
    """
    arrows = defaultdict[tuple[Phase, Phase, Status | None], list[str]](list)
    for (before, signal), (after, status) in TRANSITIONS.items():
        if before is not after or status:
            arrows[before, after, status].append(signal)
    lines = [
        f"    {before.value} --> {after.value}: {', '.join(signals)}" + (f" / {status}" if status else "")
        for (before, after, status), signals in arrows.items()
    ]
    return "\n".join(["stateDiagram-v2", "    [*] --> NORMAL", *lines])
