"""Durations as people write and read them."""

import re
from datetime import timedelta

from app.errors import PermanentError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_written = re.compile(r"([0-9]{1,6})([smhdw])").fullmatch


def duration(text: str) -> timedelta:
    """The time that `90s`, `15m`, `12h`, `7d` or `2w` gives. Raises PermanentError for anything else, and for none at
    all.
    """
    found = _written(text)
    if not found or not int(found[1]):
        raise PermanentError(f"{text!r} is not a duration such as 90s, 15m, 12h, 7d or 2w")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def spoken(seconds: float) -> str:
    """Seconds in the two largest units that say something, such as `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    begin = next(i for i, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[begin : begin + 2] if number)
