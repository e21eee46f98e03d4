"""Times that are refused and whose meaning can be guessed: what they are, and what would be right."""

import re
from datetime import datetime, timedelta

_NUMBER = re.compile(rb"[0-9]{1,25}(?:\.[0-9]*)?")
_TEXT = re.compile(
    r'"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?(\.[0-9]+)?([Zz]|[-+][0-9]{2}:?[0-9]{2})?"'
)
# Milliseconds since 1970 that anybody means: of the years 2000 to 2100.
_FROM, _TO = 946_684_800_000, 4_102_444_800_000


def odd_time(raw: bytes) -> str | None:
    """The end of a sentence about a JSON value that is no time; None where what the sender meant is unknown."""
    text = raw.decode("utf-8", "replace")
    if _NUMBER.fullmatch(raw):
        return _scaled(int(text.partition(".")[0]))
    if _NUMBER.fullmatch(raw[1:-1]):
        number = text[1:-1]
        return f"is a number in a text; send it without quotes: {number}" if len(number) <= _LONGEST else None
    return _on_the_clock(text)


_LONGEST = len(str(_TO))


def _scaled(number: int) -> str | None:
    for factor, unit in ((1000, "microseconds"), (1_000_000, "nanoseconds")):
        if _FROM <= number // factor < _TO:
            return f"looks like {unit} since 1970; send milliseconds: {number // factor}"
    return None


def _on_the_clock(text: str) -> str | None:
    found = _TEXT.fullmatch(text)
    if not found:
        return None
    date, hour, minute, second, fraction, zone = found.groups(default="")
    try:
        if hour == "24" and minute == "00" and not second.strip("0") and not fraction.strip(".0"):
            right, what = datetime.fromisoformat(f"{date}T00:00:00") + timedelta(days=1), "has hour 24"
        elif second == "60":
            right, what = datetime.fromisoformat(f"{date}T{hour}:{minute}:59") + timedelta(seconds=1), "has second 60"
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return f"{what}, which is the beginning of the next; send {right.isoformat()}{zone.upper() or 'Z'}"
