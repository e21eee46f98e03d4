"""Keys of rules that ask for a rolling window, such as `avg(temperature,60s)`."""

import re

from msgspec import Struct

SECONDS_MAX = 86400  # a day
FUNCTIONS = ("avg", "min", "max", "count")
EXAMPLE = "avg(temperature,60s)"

_CALL = re.compile(rf"({'|'.join(FUNCTIONS)})\((.+),([1-9][0-9]{{0,8}})s\)")
_LIKE_A_CALL = re.compile(rf"(?:{'|'.join(FUNCTIONS)})\(")


class WindowKey(Struct, frozen=True, gc=False):
    """One of FUNCTIONS of the numbers under `key` in the last so many seconds."""

    function: str
    key: str
    seconds: int


def window_key(text: str) -> WindowKey | None:
    """The window that a rule's key asks for; None for the name of a field."""
    found = _CALL.fullmatch(text)
    return WindowKey(found[1], found[2], int(found[3])) if found else None


def looks_like_one(text: str) -> bool:
    """Whether the author of a key meant a window, written correctly or not."""
    return _LIKE_A_CALL.match(text) is not None


def name_of(key: str, seconds: int) -> str:
    """The name of a window of so many seconds in the state of a device."""
    return f"{key},{seconds}s"
