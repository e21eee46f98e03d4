"""Where one rule stands on one device."""

from enum import StrEnum


class Phase(StrEnum):
    """Where one rule stands on one device. All but NORMAL have an episode in the device's state."""

    NORMAL = "NORMAL"
    PENDING = "PENDING"  # the condition holds, nobody was told
    FIRING = "FIRING"
    CLEARING = "CLEARING"  # told, and the condition has ended, but not for long enough
    STALE = "STALE"  # told, and then nothing came for too long that says whether it still holds
    MUTED = "MUTED"  # told, then snoozed or disabled
    SUPPRESSED = "SUPPRESSED"  # due in a maintenance window: recorded, not sent
