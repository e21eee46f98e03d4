"""How bad something is; the value is its colour."""

from enum import Enum


class Tone(Enum):
    """From nothing to say to somebody has to look."""

    PLAIN = ""
    GOOD = "green"
    WARNING = "yellow"
    BAD = "red"
