"""Lists of device ids and globs, as decoded JSON -> everything that is wrong with them, and what they may cost."""

from collections.abc import Iterable, Iterator
from typing import Any

from app.core.condition_checks import shown
from app.core.globs import WILD, Glob

DEVICES_MAX = 100
GLOB_MAX = 200
# Of all globs in a part of a configuration, each of which every new device of the user is compared with: together they
# take 2 ms to compile, and 1 ms a device. Ids without wildcards are looked up, and cost nothing.
GLOBS_MAX = 1_000
GLOBS_CHARS_MAX = 20_000
SEARCHED_MAX = 500  # characters; each is compared at each place of an id


def globs(value: Any) -> Iterator[str]:
    """Yield each problem."""
    if not isinstance(value, list) or not 1 <= len(value) <= DEVICES_MAX:
        yield f'{shown(value)} is not a list of 1 to {DEVICES_MAX} device ids or globs, for example ["truck-*"]'
        return
    for index, glob in enumerate(value):
        if not isinstance(glob, str) or not 1 <= len(glob) <= GLOB_MAX or "\0" in glob:
            yield f"[{index}]: {shown(glob)} is not a device id or glob of 1 to {GLOB_MAX} characters without NUL"


def too_costly(part: str, lists: Iterable[Iterable[str] | None], *, once: bool = False) -> Iterator[str]:
    """What is wrong with valid lists together; ids do not count, and globs that are equal count `once` if so said."""
    found = [glob for some in lists if some for glob in some if not WILD.isdisjoint(glob) and glob != "*"]
    wild = set(found) if once else found
    size = sum(map(len, wild))
    if len(wild) > GLOBS_MAX:
        yield (f"{part}: {len(wild)} globs in devices; at most {GLOBS_MAX} are allowed, while ids without *, ? "
               f"and [ do not count")  # fmt: skip
    elif size > GLOBS_CHARS_MAX:
        yield f"{part}: the globs in devices have {size} characters; at most {GLOBS_CHARS_MAX} are allowed"
    elif (searched := sum(Glob(glob).searched for glob in wild if "?" in glob or "[" in glob)) > SEARCHED_MAX:
        yield (f"{part}: globs in devices have ? or [ between two stars in parts of {searched} characters; at most "
               f"{SEARCHED_MAX} are allowed")  # fmt: skip
