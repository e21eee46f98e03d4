"""How bad something is; the value is its colour."""

from enum import Enum


class Tone(Enum):
    """How bad a piece of text is: from nothing to say to an operator has to look."""

    PLAIN = ""
    GOOD = "green"
    WARNING = "yellow"
    BAD = "red"
