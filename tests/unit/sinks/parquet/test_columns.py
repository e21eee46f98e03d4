"""Records to columns: exact values in every kind of column, and encodings that fit the values."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from app.core.model.records import Kind
from app.core.model.times import moment
from app.core.schema.column_types import Int16, Int32
from app.core.schema.schema import schema_of
from app.sinks.parquet.columns import FileLayout
from app.sinks.parquet.day_file import encode
from app.sinks.parquet.footer import FileSource
from app.sinks.port import SinkMisconfigured
from app.sinks.record import SinkRecord


class Parcel(Struct):
    """A column of each kind."""

    weight: float
    price: Decimal | None = None
    stops: Int16 | None = None
    grams: Int32 | None = None
    number: int | None = None
    fragile: bool | None = None
    label: str | None = None


SCHEMA = schema_of(Parcel)
LAYOUTS = [FileLayout(SCHEMA, "zstd", True), FileLayout(SCHEMA, "snappy", True), FileLayout(SCHEMA, "none", False)]


def ints(bits: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


text = st.text(st.characters(codec="utf-8"))
ROW = st.tuples(
    st.integers(-(10**16), 10**16).map(moment),  # three centuries on either side of 1970
    text, text, st.integers(-(1 << 63), (1 << 63) - 1), text,
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.decimals(allow_nan=False, allow_infinity=False), ints(16), ints(32), ints(64),
    st.none() | st.booleans(), st.none() | text,
)  # fmt: skip


def record(offset: int, row: Sequence[Any]) -> SinkRecord:
    when, user, device, sequence, extra, *values = row
    reading = SCHEMA.reading(when, user, device, sequence, {}, extra, *values)
    return SinkRecord("t", 3, offset, 0, Kind.TELEMETRY, user, device, f"{user}/{device}", reading, b"", (), None)


@given(st.lists(ROW, min_size=1, max_size=40), st.sampled_from(LAYOUTS))
def test_every_value_is_read_again_as_it_was(rows: list[tuple[Any, ...]], layout: FileLayout) -> None:
    batch = layout.batch([record(offset, row) for offset, row in enumerate(rows)])
    footer = FileSource("t", "id", 3, "Parcel", "parquet").footer(0, len(rows) - 1, len(rows))
    content = encode(pa.Table.from_batches([batch]), layout, footer)
    table = pa.parquet.read_table(pa.BufferReader(content))
    assert table.column_names == [*SCHEMA.names, "kafka_partition", "kafka_offset"]
    for offset, (found, row) in enumerate(zip(table.to_pylist(), rows, strict=True)):
        when, user, device, sequence, extra, weight, price, *more = row
        exact = None if price is None else str(price)
        assert list(found.values()) == [when, user, device, sequence, weight, exact, *more, extra, 3, offset]


def test_a_time_keeps_its_microsecond() -> None:
    base = datetime(2026, 11, 30, 23, 59, 59, 999999, tzinfo=UTC)
    times = [base, base + timedelta(microseconds=1), datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
    rows = [record(0, (time, "u", "d", 1, "{}", 1.0, *[None] * 6)) for time in times]
    assert LAYOUTS[0].batch(rows).column("time").to_pylist() == times


def table_of(weights: Sequence[float]) -> Any:
    when = datetime(2026, 11, 30, tzinfo=UTC)
    rows = [
        record(offset, (when + timedelta(seconds=offset), "u", "d", offset, "{}", weight, None, None, 5, *[None] * 3))
        for offset, weight in enumerate(weights)
    ]
    return pa.Table.from_batches([LAYOUTS[0].batch(rows)])


def test_few_values_get_a_dictionary_and_many_an_encoding() -> None:
    few, many = table_of([n % 10 / 10 for n in range(1000)]), table_of([n / 7 for n in range(1000)])
    for layout, dictionary, encodings in zip(LAYOUTS, [True, True, True], [True, False, False], strict=True):
        with_few, with_many = layout.options_for(few), layout.options_for(many)
        assert ("weight" in with_few["use_dictionary"]) is dictionary
        assert "weight" not in with_many["use_dictionary"]
        assert "grams" in with_many["use_dictionary"]
        assert not {"time", "kafka_offset", "fragile"} & set(with_few["use_dictionary"])
        assert with_many.get("column_encoding", {}).get("weight") == ("BYTE_STREAM_SPLIT" if encodings else None)
        assert with_many.get("column_encoding", {}).get("kafka_offset") == (
            "DELTA_BINARY_PACKED" if encodings else None
        )


class Rival(Struct):
    """A schema with a column that every file has."""

    day: str | None = None


def test_a_column_of_our_own_names_is_refused() -> None:
    with pytest.raises(SinkMisconfigured, match="a column day of their own"):
        FileLayout(schema_of(Rival), "snappy", True)
