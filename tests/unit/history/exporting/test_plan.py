"""The parts of an export and its manifest."""

from datetime import UTC, datetime

import msgspec
import pytest

from app.core.model.times import micros
from app.errors import PermanentError
from app.history.exporting.plan import (
    ExportCounts,
    ExportManifest,
    ExportPart,
    parts_of_table,
    parts_of_topic,
    read_manifest,
)
from app.kafka.reading.offset_ranges import PartitionRange


def test_parts_cover_every_offset_once_and_have_the_same_borders_whatever_the_range() -> None:
    found = parts_of_topic("in", {1: PartitionRange(7, 25), 0: PartitionRange(3, 3)}, 10)
    assert [(part.partition, part.first, part.end) for part in found] == [(1, 7, 10), (1, 10, 20), (1, 20, 25)]
    assert found[0].name == "in-00001-000000000007-000000000009"
    assert parts_of_topic("in", {1: PartitionRange(7, 25)}, 10, whole=True) == [
        ExportPart("in-00001-000000000007-000000000024", 1, 7, 25)
    ]


def test_a_table_has_a_part_for_each_day() -> None:
    begin, end = datetime(2026, 11, 20, 23, 30, tzinfo=UTC), datetime(2026, 11, 22, 0, 0, 1, tzinfo=UTC)
    found = parts_of_table("rows", begin, end)
    assert [part.name for part in found] == ["rows-2026-11-20", "rows-2026-11-21", "rows-2026-11-22"]
    assert (found[0].first, found[-1].end) == (micros(begin), micros(end))
    assert [part.end for part in found[:-1]] == [part.first for part in found[1:]]
    assert parts_of_table("rows", end, end) == []
    (whole,) = parts_of_table("rows", begin, end, whole=True)
    assert (whole.first, whole.end) == (micros(begin), micros(end))


def test_a_manifest_goes_on_where_it_was() -> None:
    parts = parts_of_topic("in", {0: PartitionRange(0, 30)}, 10)
    made = ExportManifest({"since": "24h"}, ".csv", parts)
    made.done[parts[1].name] = ExportCounts(records=10, rows=8, refused={"bad_json": 2})
    made.done[parts[0].name] = ExportCounts(records=10, refused={"bad_json": 1, "bad_time": 9})
    found = read_manifest(msgspec.json.encode(made), "x")
    assert found == made
    assert (found.complete, found.left()) == (False, [parts[2]])
    assert found.files() == [f"{parts[1].name}.csv"], "a part without a row has no file"
    assert found.counts() == ExportCounts(records=20, rows=8, refused={"bad_json": 3, "bad_time": 9})


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff"])
def test_a_file_of_another_program_is_no_manifest(content: bytes) -> None:
    with pytest.raises(PermanentError, match="x is no manifest"):
        read_manifest(content, "x")
