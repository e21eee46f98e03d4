"""Attempt -> how long to wait; decides, never sleeps."""

import random


def delay(attempt: int, first: float = 0.1, longest: float = 10.0) -> float:
    """Seconds before try number `attempt` (0, 1, ...): doubled each time, with a jitter down to the half of it.

    The jitter keeps many bridges from coming back at the same moment after a broker's restart.
    """
    return min(longest, first * 2.0 ** min(attempt, 30)) * random.uniform(0.5, 1.0)
