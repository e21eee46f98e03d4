"""Readings from the future: what rules see of them.

A reading that is ahead would make all readings after it look late: no alerts until its time has come. So to the rules
a reading is never later than the arrival of its record (arrival.py), which is the same at a replay.
"""

from datetime import datetime, timedelta

from app.core.model.arrival import moment_of

AHEAD_MAX = timedelta(seconds=1)  # clocks differ; a device that is ahead by less keeps its own times


def latest_allowed(second: int) -> datetime:
    """The latest time of a reading that is not ahead of its record, which came in in this second since 1970."""
    return moment_of(second * 1000) + AHEAD_MAX
