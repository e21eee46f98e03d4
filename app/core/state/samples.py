"""The part of a device's state that change of value and rolling windows need."""

from msgspec import Struct

from app.core.sampling.change_of_value import StoredChain
from app.core.sampling.rolling_window import RollingWindow


class Samples(Struct, array_like=True):
    """`windows` by name: see app.core.rules.window_keys."""

    chain: StoredChain | None = None
    windows: dict[str, RollingWindow] = {}
