"""The part of a device's state that change of value and rolling windows need."""

from msgspec import Struct

from app.core.sampling.change_of_value import Chain
from app.core.sampling.rolling_window import Window


class Samples(Struct, array_like=True):
    """`windows` by name: see app.core.rules.window_keys."""

    chain: Chain | None = None
    windows: dict[str, Window] = {}
