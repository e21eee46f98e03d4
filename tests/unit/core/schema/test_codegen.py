"""What is compiled of a schema does what its source, written by hand, would do."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.json import encode

from app.core.schema.codegen import bounds_maker, reading_maker, row_maker

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Columns(Struct):
    """What a typed decoder gives."""

    a: float | None = None
    b: int | None = None


class Made(Struct):
    """What a reading is made to be."""

    time: datetime
    user_id: str
    device_id: str
    sequence_id: int
    extra: dict[str, Any]
    extra_json: str
    a: float | None
    b: int | None


def make(fields: list[str], care: Callable[[Any, dict[str, Any]], None] | None = None) -> Callable[..., Made]:
    return reading_maker(Made, ("a", "b"), fields, encode, care)


def test_a_reading_has_what_is_left() -> None:
    extra: dict[str, Any] = {"x": 1, "b": 2, "user_id": "u", "y": None}
    made = make(["user_id", "a", "b"])(NOW, "u", "d", 7, extra, Columns(1.5, 2))
    assert made == Made(NOW, "u", "d", 7, {"x": 1, "y": None}, '{"x":1,"y":null}', 1.5, 2)
    assert made.extra is extra


def test_care_comes_first_and_may_refuse() -> None:
    def care(it: Columns, extra: dict[str, Any]) -> None:
        it.a = extra.pop("careful")

    made = make(["b"], care)(NOW, "u", "d", 7, {"careful": 0.5, "b": 1}, Columns(None, 1))
    assert (made.a, made.b, made.extra_json) == (0.5, 1, "{}")
    with pytest.raises(KeyError):
        make(["b"], care)(NOW, "u", "d", 7, {}, Columns())


@pytest.mark.parametrize("field", ["'", '"', "'); raise SystemExit; ('", "\\", "\n", "{}", "%s", "名", "it", "pop"])
def test_a_field_is_a_name_whatever_it_looks_like(field: str) -> None:
    assert make([field])(NOW, "u", "d", 7, {field: 1, "x": 2}, Columns()).extra == {"x": 2}


def test_a_row_is_its_attributes_in_order() -> None:
    made = make([])(NOW, "u", "d", 7, {}, Columns(1.5, 2))
    assert row_maker(("time", "b", "a", "extra_json"))(made) == (NOW, 2, 1.5, "{}")
    assert row_maker(("a",))(made) == (1.5,)


LIMITS = st.sampled_from([-math.inf, -1.0, 0.0, 1.0, math.inf])
VALUES = st.none() | st.sampled_from([-math.inf, -1, -0.5, 0, 0.5, 1, math.nan]) | st.integers()


@given(st.lists(st.tuples(LIMITS, LIMITS), max_size=2), VALUES, VALUES)
def test_within_is_strictly_between(limits: list[tuple[float, float]], a: Any, b: Any) -> None:
    names = ("a", "b")[: len(limits)]
    test = bounds_maker(names)(*(limit for pair in limits for limit in pair))
    values = zip((a, b), limits, strict=False)
    assert test(Columns(a, b)) is all(v is None or low < v < high for v, (low, high) in values)
