"""Snapshots as tables, lines and JSON: order, filter, what fits into a width, and nothing torn."""

import json

import pytest

from app.top.model.snapshot import AlertRow, BooksTotal, PartitionRow, ProgramRow, SinkRow, Snapshot, Totals
from app.top.text import columns, headline, plain
from app.top.text.tone import Tone

SNAPSHOT = Snapshot(
    at=0.0,
    totals=Totals(1234.0, 1300.0, 42, 12.5, 0.04, 1.2, "open", 360.0, 3, 20),
    books=BooksTotal(1000, 900, 10, 50, 30, 5, difference=5),
    programs=(
        ProgramRow("worker 1", "w1:9000", True, version="0.2.0", per_second=800.0, cpu=0.5, ready=True),
        ProgramRow("worker 2", "w2:9000", False, "Connection refused"),
        ProgramRow("bridge", "b:9001", True, "not ready: mqtt", per_second=1300.0, ready=False),
    ),
    partitions=(
        PartitionRow(0, 40.0, 12.5, 400.0, "worker 1", 100, 95, 0, 0, 0),
        PartitionRow(1, 2.0, 0.1, 700.0, "worker 1", 100, 100),
        PartitionRow(2, None, None, None, "", 0),
        PartitionRow(10, 0.0, 0.0, 134.0, "faust@10.0.0.7", 7, 7),
    ),
    group="iot-worker: Stable, 2 members",
    alerts=(AlertRow("critical", "u1/d1", "temperature", "FIRING", 75, "[red]too hot", "a1", 81.5),),
    sinks=(
        SinkRow(
            "influx-eu", "sink influx-eu", lag=10_000, breaker="open", received=100, outcomes={"written": 90}, held=9
        ),
        SinkRow(
            "parquet", "sink parquet", 50, 30.0, 12.5, 5 << 20, "closed", 500, 0, received=7, outcomes={"written": 7}
        ),
    ),
    problems=("Kafka at k:9092: gone",),
)


def order(sort: str | None, descending: bool = False, wanted: str = "") -> list[int]:
    return [row.partition for row in columns.arranged(columns.PARTITIONS, SNAPSHOT, sort, descending, wanted)]


def test_rows_are_sorted_and_what_is_not_known_is_last_both_ways() -> None:
    assert order(None) == [0, 1, 2, 10]
    assert order("lag") == [10, 1, 0, 2]
    assert order("lag", descending=True) == [0, 1, 10, 2]
    assert order("rows/s", descending=True) == [1, 0, 10, 2]
    assert order("partition", descending=True) == [10, 2, 1, 0], "as numbers"
    assert order("owner") == [10, 0, 1, 2]
    assert order("no such column") == [0, 1, 2, 10]


def test_rows_are_filtered_by_any_cell_whatever_its_case() -> None:
    assert order(None, wanted="FAUST") == [10]
    assert order("lag", wanted="worker") == [1, 0]
    assert order(None, wanted="nobody") == []


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_head_fits_and_is_torn_nowhere(width: int) -> None:
    parts = [*headline.pieces(SNAPSHOT), *headline.books(SNAPSHOT)]
    lines = headline.packed(parts, width)
    assert [part for line in lines for part in line] == parts
    assert max(len(headline.GAP.join(map(str, line))) for line in lines) <= width


def test_a_piece_that_is_too_long_stands_alone() -> None:
    long = headline.Piece("x", "y" * 100)
    assert headline.packed([long, long], 60) == [[long], [long]]


def test_what_is_wrong_is_marked() -> None:
    tones = {piece.name: piece.tone for piece in [*headline.pieces(SNAPSHOT), *headline.books(SNAPSHOT)]}
    assert (tones["breaker"], tones["difference"], tones["lag"]) == (Tone.BAD, Tone.BAD, Tone.WARNING)
    assert [piece.value for piece in headline.pieces(SNAPSHOT) if piece.name == "breaker"] == ["OPEN"]
    well = Snapshot(0.0, Totals(breaker="closed", lag_seconds=1.0), BooksTotal(), (), ())
    tones = {piece.name: piece.tone for piece in [*headline.pieces(well), *headline.books(well)]}
    assert (tones["breaker"], tones["difference"], tones["lag"]) == (Tone.GOOD, Tone.GOOD, Tone.PLAIN)


def test_a_line_says_all_in_short() -> None:
    line = plain.line(SNAPSHOT)
    assert "\n" not in line
    for words in ("rows/s 1,234", "in/s 1,300", "lag 42 (12s)", "breaker OPEN", "difference 5", "open alerts 3"):
        assert words in line
    assert "worker 2 down: Connection refused" in line
    assert "Kafka at k:9092: gone" in line


def test_a_page_has_every_table_and_fits() -> None:
    page = plain.page(SNAPSHOT, 80)
    for words in ("worker 2  down", "= rows 900", "faust@10.0.0.7", "FIRING", "iot-worker: Stable, 2 members"):
        assert words in page
    empty = plain.page(Snapshot(0.0, Totals(), BooksTotal(), (), ()))
    assert "received 0" in empty


def test_columns_that_have_no_room_are_left_out() -> None:
    assert [len(columns.shown(spec, 60)) for spec in columns.SPECS] == [6, 5, 7, 4, 5]
    assert [len(columns.shown(spec, 120)) for spec in columns.SPECS] == [len(spec.columns) for spec in columns.SPECS]


def test_json_has_all_of_it() -> None:
    text = plain.as_json(SNAPSHOT)
    assert "\n" not in text
    content = json.loads(text)
    assert content["totals"]["rows_per_second"] == 1234
    assert [row["difference"] for row in content["partitions"]] == [5, 0, 0, 0]
    assert content["programs"][1] == {
        "name": "worker 2", "where": "w2:9000", "up": False, "problem": "Connection refused", "version": "",
        "per_second": None, "cpu": None, "memory": None, "uptime": None, "ready": None,
    }  # fmt: skip
    assert content["alerts"][0]["device"] == "u1/d1"
    assert [(row["sink"], row["difference"]) for row in content["sinks"]] == [("influx-eu", 1), ("parquet", 0)]


def test_sinks_are_a_table_and_what_is_wrong_with_one_is_marked() -> None:
    page = plain.page(SNAPSHOT, 120)
    assert "influx-eu  open" in page
    cells = {row.sink: {c.title: c.cell(row) for c in columns.SINKS.columns} for row in SNAPSHOT.sinks}
    assert cells["influx-eu"] | {"lag": "10.0k", "oldest": "-", "difference": "1"} == cells["influx-eu"]
    assert cells["parquet"] | {"written/s": "12", "in memory": "5M", "series": "500", "limit": "-"} == cells["parquet"]
    tones = {c.title: c.tone(c.value(SNAPSHOT.sinks[0])) for c in columns.SINKS.columns}
    assert (tones["circuit"], tones["difference"]) == (Tone.BAD, Tone.BAD)
    assert "sink influx-eu" not in plain.page(Snapshot(0.0, Totals(), BooksTotal(), (), ()))
