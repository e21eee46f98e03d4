"""Functions of a schema's columns, compiled once as if written by hand: attrgetter takes twice as long.

Their source consists of names that schema.py has checked to be identifiers, and of names of JSON fields as literals;
nothing of a message comes here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any

from app.core.model.records import Reading

Care = Callable[[Any, dict[str, Any]], None]


def row_maker(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """A function from an object to the tuple of its attributes."""
    return _compiled(f"def made(it): return ({''.join(f'it.{name}, ' for name in names)})")


def columns_maker(names: Sequence[str]) -> Callable[[Sequence[Any]], tuple[list[Any], ...]]:
    """A function from objects to a list of each of their attributes, in the objects' order."""
    return _compiled(f"def made(them): return ({''.join(f'[it.{name} for it in them], ' for name in names)})")


def reading_maker(
    reading: Callable[..., Any],
    names: Sequence[str],
    fields: Sequence[str],
    encode: Callable[[Any], bytes],
    care: Care | None,
) -> Callable[..., Any]:
    """A function of a reading's time and ids, of its JSON fields and of what has its columns as attributes.

    The function takes `fields` out of the JSON fields; `care` has taken the fields of the columns that it sets before.
    One call does all and has no loop: as quick as the same lines in decoder.py.
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

    The function takes the arguments of `reading_maker`'s function, so that a caller can use either, and makes `extra`.
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


def extras_maker(names: Sequence[str], none: object) -> Callable[[Sequence[Any]], list[dict[str, Any]]]:
    """A function from objects to the dict of the fields `names` of each, which the object has as other_0, other_1, ...,
    or `none` where it lacks them. The function also sets the dict as the object's `extra`.
    """
    takes = "".join(
        f"  v = it.other_{number}\n  if v is not none: extra[name_{number}] = v\n" for number in range(len(names))
    )
    return _compiled(
        "def made(them):\n found = []\n for it in them:\n  it.extra = extra = {}\n"
        f"{takes}  found.append(extra)\n return found",
        none=none,
        **{f"name_{number}": name for number, name in enumerate(names)},
    )


def rows_maker(names: Sequence[str]) -> Callable[[Sequence[Any], Sequence[str]], list[tuple[Any, ...]]]:
    """A function from objects, and a last value of each, to the tuples of the objects' attributes and this value."""
    values = "".join(f"it.{name}, " for name in names)
    return _compiled(f"def made(them, last): return [({values}text) for it, text in zip(them, last)]")


@lru_cache(maxsize=256)  # one for each set of columns that some user's rules are about
def bounds_maker(names: tuple[str, ...]) -> Callable[..., Callable[[Any], bool]]:
    """A function of low0, high0, low1, ... that gives the test whether each attribute is None or within its bounds."""
    tests = "".join(
        f"  v = it.{name}\n  if v is not None and not low{at} < v < high{at}: return False\n"
        for at, name in enumerate(names)
    )
    limits = ", ".join(f"low{at}, high{at}" for at in range(len(names)))
    return _compiled(f"def made({limits}):\n def test(it):\n{tests}  return True\n return test")


def _compiled(source: str, **known: object) -> Callable[..., Any]:
    space: dict[str, Any] = known
    exec(_code(source), space)  # noqa: S102  # see above
    made: Callable[..., Any] = space["made"]
    return made


@lru_cache(maxsize=256)
def _code(source: str) -> CodeType:
    return compile(source, "<columns of a schema>", "exec")


Interval = tuple[float, float]  # both ends excluded


def within(bounds: Mapping[str, Interval]) -> Callable[[Reading], bool]:
    """A test whether the named columns of a reading lie within their bounds; a column that the reading lacks does."""
    return bounds_maker(tuple(bounds))(*(limit for interval in bounds.values() for limit in interval))
