"""A key's value in a reading: the same however large what it is in, and for many keys in not much more time."""

import time
from typing import Any

import msgspec
import pytest

from app.core.model.records import Reading
from app.core.rules.field_readers import LARGE, SMALL, Kind, reader
from tests import DEFAULT
from tests.unit.records import GOOD, Message, read

PADS = ["", "x" * SMALL, "x" * LARGE * 2]


def reading(**fields: Any) -> Reading:
    found = read(Message(value=msgspec.json.encode({**msgspec.json.decode(GOOD), **fields})))
    assert isinstance(found, Reading)
    return found


@pytest.mark.parametrize("pad", PADS)
@pytest.mark.parametrize(
    ("key", "kind", "value"),
    [
        ("a.n", "number", 3), ("a.b.n", "number", 4.5), ("a.b.t", "text", "on"), ("a.b.y", "truth", True),
        ("a.b.t", "number", None), ("a.b.none", "number", None), ("a.n.n", "number", None), ("a.b", "number", None),
        ("a.no.n", "number", None), ("no.n", "number", None), ("a.nil", "number", None), ("a.nil.n", "number", None),
        ("w.n", "number", 9), ("list.n", "number", None),
    ],
)  # fmt: skip
def test_what_is_nested(key: str, kind: Kind, value: object, pad: str) -> None:
    inner = {"n": 4.5, "t": "on", "y": True}
    one = reading(a={"n": 3, "b": inner, "nil": None, "pad": pad}, list=[1, pad], w={"n": 1, "pad": pad}, **{"w.n": 9})
    assert reader(DEFAULT, key, kind)(one) == value
    assert reader(DEFAULT, key, kind)(one) == value  # also when it was looked at before


@pytest.mark.parametrize("pad", PADS)
def test_one_reading_says_nothing_of_the_next(pad: str) -> None:
    key = reader(DEFAULT, "a.n", "number")
    for n in range(50):
        assert key(reading(a={"n": n, "pad": pad})) == n
        assert key(reading(a={"pad": pad})) is None


def test_a_long_field_is_as_it_is() -> None:
    long = "x" * 10_000
    one = reading(field=long, a={"b": long})
    for key in ("field", "a.b"):
        assert reader(DEFAULT, key, "text")(one) == long
        assert reader(DEFAULT, key, "number")(one) is None
        assert reader(DEFAULT, key, "text")(one) == long


def test_a_thousand_keys_of_a_large_object_cost_about_what_one_does() -> None:
    one = reading(a={f"k{n}": n for n in range(40_000)}, text="x" * 300_000)
    keys = [reader(DEFAULT, f"a.k{n}", "number") for n in range(500)] + [
        reader(DEFAULT, f"a.no{n}.n", "number") for n in range(500)
    ]
    begin = time.thread_time()
    assert sum(key(one) is not None for key in keys) == 500
    for _ in range(1000):
        assert reader(DEFAULT, "text", "text")(one)
    assert time.thread_time() - begin < 0.5  # 20 ms alone; each by itself took 1 s
