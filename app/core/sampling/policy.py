"""What is asked of one device beside its rules, compiled: change of value and rolling windows."""

from msgspec import Struct

from app.core.rules.field_readers import Read
from app.core.sampling.change_of_value import Policy


class WindowSpec(Struct, frozen=True, gc=False):
    """One rolling window of a device."""

    name: str
    key: str
    seconds: int
    read: Read


class WindowReference(Struct, frozen=True, gc=False):
    """A rule's key that is a figure of a window."""

    key: str  # as the rule has it
    function: str
    window: str  # its name


class Sampling(Struct, frozen=True, gc=False):
    """All of one device."""

    policy: Policy | None
    windows: tuple[WindowSpec, ...]
    landing: tuple[WindowSpec, ...]  # those of them that land in rolling_averages
    asked: tuple[WindowReference, ...]
