"""Where one rule stands on one device."""

from enum import StrEnum


class Phase(StrEnum):
    """Where one rule stands on one device. All but NORMAL have an episode in the device's state."""

    NORMAL = "NORMAL"
    PENDING = "PENDING"  # the condition holds, nobody was notified
    FIRING = "FIRING"
    CLEARING = "CLEARING"  # sent, and the condition has ended, but not for long enough
    STALE = "STALE"  # sent, and then no reading came for too long that says whether the condition still holds
    MUTED = "MUTED"  # sent, then snoozed or disabled
    SUPPRESSED = "SUPPRESSED"  # due in a maintenance window: recorded, not sent
