"""Lines with a field that the server stores with another type."""

import pytest

from app.sinks.influx import conflicts
from app.sinks.influx.conflicts import HOUR, Alike, Conflict, Conflicts


def said(field: str, kind: str, measurement: str = "m") -> str:
    """The message of InfluxDB 1.6 and 2.7."""
    words = f'input field "{field}" on measurement "{measurement}" is type {kind}, already exists as type'
    return f"partial write: field type conflict: {words} boolean dropped=1"


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("string", 'm,a=b x="1" 1'),
        ("boolean", "m x=True,y=1 1"),
        ("boolean", "m y=1,x=f 1"),
        ("integer", "m x=-3i 1"),
        ("unsigned", "m x=3u,y=1 1"),
        ("float", "m x=3 1"),
        ("float", "m x=-3.5E-7,y=1 1"),
    ],
)
def test_a_line_with_such_a_value_is_a_suspect(kind: str, line: str) -> None:
    known = Conflicts()
    conflict = known.learn(said("x", kind))
    assert conflict
    assert conflict == Conflict("x", "m", kind)
    assert known.sorted(["m y=1 1", line], [0, 1]) == ([0], {Alike(conflict, 0): [1]})


@pytest.mark.parametrize(
    "line", ['m x="1" 1', "m x=True 1", "m x=3 1", "m xx=3i 1", 'm y="x=3i ",z=1 1', "other x=3i 1"]
)
def test_other_lines_are_none(line: str) -> None:
    known = Conflicts()
    known.learn(said("x", "integer"))
    assert known.sorted([line], [0]) == ([0], {})


def test_hours_are_kept_apart() -> None:
    """A shard begins with an hour, and stores its own types."""
    known = Conflicts()
    conflict = known.learn(said("x", "float"))
    assert conflict
    lines = [f"m x=1 {time}" for time in (0, HOUR - 1, HOUR, -1)]
    clean, suspects = known.sorted(lines, range(4))
    assert (clean, list(suspects.values())) == ([], [[0, 1], [2], [3]])


def test_names_are_as_lines_have_them() -> None:
    known = Conflicts()
    conflict = known.learn(said("a b", "float", "my m"))
    assert conflict
    assert known.sorted(["my\\ m a\\ b=1 1"], [0]) == ([], {Alike(conflict, 0): [0]})


@pytest.mark.parametrize("words", ["unable to parse 'x'", "", said("x", "tuple")])
def test_other_words_name_none(words: str) -> None:
    known = Conflicts()
    assert known.learn(words) is None
    assert known.sorted(["m x=1 1"], [0]) == ([0], {})


def test_the_oldest_is_forgotten() -> None:
    known = Conflicts()
    for number in range(conflicts.CONFLICTS_MAX + 1):
        known.learn(said(f"f{number}", "float"))
    clean, suspects = known.sorted(["m f0=1 1", "m f1=1 1"], [0, 1])
    assert clean == [0]
    assert list(suspects.values()) == [[1]]
