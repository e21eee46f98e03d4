"""Functions of a schema's columns, compiled once as one would have written them: attrgetter takes twice as long.

What they are made of are names that schema.py has checked to be identifiers, and names of JSON fields as literals;
nothing of a message comes here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from app.core.model.records import Reading

Care = Callable[[Any, dict[str, Any]], None]


def row_maker(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """A function from an object to the tuple of its attributes."""
    return _compiled(f"def made(it): return ({''.join(f'it.{name}, ' for name in names)})")


def reading_maker(
    reading: Callable[..., Any],
    names: Sequence[str],
    fields: Sequence[str],
    encode: Callable[[Any], bytes],
    care: Care | None,
) -> Callable[..., Any]:
    """A function of a reading's time and ids, of its JSON fields and of what has its columns as attributes.

    It takes `fields` out of the JSON fields; `care` has done so before with those of the columns that it sets. One call
    for all of it and no loop: as quick as if it stood in decoder.py.
    """
    careful = " care(it, extra)\n" if care else ""
    pops = "".join(f" extra.pop({field!r}, None)\n" for field in fields)  # 0.1 us quicker than with `pop = extra.pop`
    values = "".join(f", it.{name}" for name in names)
    return _compiled(
        f"def made(time, user_id, device_id, sequence_id, extra, it):\n{careful}{pops}"
        f" return reading(time, user_id, device_id, sequence_id, extra, encode(extra).decode(){values})",
        reading=reading,
        encode=encode,
        care=care,
    )


def shaped_maker(
    reading: Callable[..., Any],
    names: Sequence[str],
    extra_names: Sequence[str],
    none: object,
    encode: Callable[[Any], bytes],
) -> Callable[..., Any]:
    """A function of a reading's time and ids, and of what has its columns as attributes `names` and the JSON of the
    fields `extra_names` as other_0, other_1, ..., which is `none` where the payload lacks them.

    It takes the arguments of `reading_maker`'s function, so that a caller need not ask which it has, and makes `extra`.
    """
    takes = "".join(
        f" v = it.other_{number}\n if v is not none: extra[name_{number}] = v\n" for number in range(len(extra_names))
    )
    values = "".join(f", it.{name}" for name in names)
    return _compiled(
        f"def made(time, user_id, device_id, sequence_id, extra, it):\n extra = {{}}\n{takes}"
        f" return reading(time, user_id, device_id, sequence_id, extra, encode(extra).decode(){values})",
        reading=reading,
        encode=encode,
        none=none,
        **{f"name_{number}": name for number, name in enumerate(extra_names)},
    )


@lru_cache(maxsize=256)  # one for each set of columns that some user's rules are about
def bounds_maker(names: tuple[str, ...]) -> Callable[..., Callable[[Any], bool]]:
    """A function of low0, high0, low1, ... that gives the test whether each attribute is None or between its two."""
    tests = "".join(
        f"  v = it.{name}\n  if v is not None and not low{at} < v < high{at}: return False\n"
        for at, name in enumerate(names)
    )
    limits = ", ".join(f"low{at}, high{at}" for at in range(len(names)))
    return _compiled(f"def made({limits}):\n def test(it):\n{tests}  return True\n return test")


def _compiled(source: str, **known: object) -> Callable[..., Any]:
    space: dict[str, Any] = known
    exec(source, space)  # noqa: S102  # see above
    made: Callable[..., Any] = space["made"]
    return made


Interval = tuple[float, float]  # both ends excluded


def within(bounds: Mapping[str, Interval]) -> Callable[[Reading], bool]:
    """A test of the named columns; one that a reading lacks is within."""
    return bounds_maker(tuple(bounds))(*(limit for interval in bounds.values() for limit in interval))
