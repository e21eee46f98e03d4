"""What is computed for one device beside its rules, compiled: change of value and rolling windows."""

from msgspec import Struct

from app.core.rules.field_readers import Read
from app.core.sampling.change_of_value import Policy


class WindowSpec(Struct, frozen=True, gc=False):
    """A rolling window over one key of a device's readings."""

    name: str
    key: str
    seconds: int
    read: Read


class WindowReference(Struct, frozen=True, gc=False):
    """A rule's key that asks for a figure of a window."""

    key: str  # as it is written in the rule
    function: str
    window: str  # the window's name


class Sampling(Struct, frozen=True, gc=False):
    """Change of value and all windows of one device."""

    policy: Policy | None
    windows: tuple[WindowSpec, ...]
    landing: tuple[WindowSpec, ...]  # the windows whose figures go to rolling_averages
    asked: tuple[WindowReference, ...]
