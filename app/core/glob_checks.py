"""A list of device ids and globs, as decoded JSON -> everything that is wrong with it."""

from collections.abc import Iterator
from typing import Any

from app.core.condition_checks import shown

DEVICES_MAX = 100
GLOB_MAX = 200


def globs(value: Any) -> Iterator[str]:
    """Yield each problem."""
    if not isinstance(value, list) or not 1 <= len(value) <= DEVICES_MAX:
        yield f'{shown(value)} is not a list of 1 to {DEVICES_MAX} device ids or globs, for example ["truck-*"]'
        return
    for index, glob in enumerate(value):
        if not isinstance(glob, str) or not 1 <= len(glob) <= GLOB_MAX or "\0" in glob:
            yield f"[{index}]: {shown(glob)} is not a device id or glob of 1 to {GLOB_MAX} characters without NUL"
