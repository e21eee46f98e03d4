"""The part of a device's state that change of value and rolling windows need."""

from msgspec import Struct

from app.core.cov import Chain
from app.core.windows import Window


class Samples(Struct, array_like=True):
    """`windows` by name: see app.core.window_keys."""

    chain: Chain | None = None
    windows: dict[str, Window] = {}
