"""How far one TCP connection has come."""

from enum import Enum, auto


class State(Enum):
    """From first to last; steps may be left out."""

    LOGIN = auto()  # whose it is, is not known
    OPEN = auto()
    FINISHING = auto()  # no more lines are taken; what was taken is answered
    LINGERING = auto()  # everything is said; what still comes is thrown away


TAKING = (State.LOGIN, State.OPEN)
