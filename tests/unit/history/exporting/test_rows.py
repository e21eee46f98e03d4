"""Readings in files: every value comes back, and a file is complete or not there."""

import csv
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from app.core.model.records import Reading
from app.errors import PermanentError
from app.history.exporting.readings_file import ReadingsAt
from app.history.exporting.rows import opener, replace_file, whole_file
from app.settings import Settings
from tests import DEFAULT

AT = datetime(2026, 11, 21, 2, 0, 0, 123, tzinfo=UTC)


def reading(number: int, user: str = "u", temperature: float | None = 21.5, extra: str = "{}") -> Reading:
    made: Reading = DEFAULT.reading(AT, user, "d", number, {}, extra, temperature, 80)
    return made


def written(path: Path, found: Sequence[Sequence[Reading]], *, origin: bool = True) -> None:
    opened = opener(Settings(), path.suffix, origin=origin)
    offset = 0
    with whole_file(path, opened) as file:
        for part in found:
            offsets = range(offset, offset := offset + len(part))
            file.rows.write(ReadingsAt(part, 3, list(offsets) if origin else None))


def test_csv_has_every_value_and_tells_no_value_from_an_empty_text(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    odd = reading(-(1 << 63), 'a",\n"b', None, '{"a":"ü","n":1.50}')
    written(path, [[reading(1), odd], [], [reading(2, "")]])
    lines = path.read_text(encoding="utf-8")
    assert lines.startswith(
        "time,user_id,device_id,sequence_id,temperature,battery,extra_data,kafka_partition,kafka_offset\n"
        '2026-11-21T02:00:00.000123Z,"u","d",1,21.5,80,"{}",3,0\n'
    )
    rows = list(csv.reader(lines.splitlines(keepends=True)))
    assert rows[2] == [
        "2026-11-21T02:00:00.000123Z", 'a",\n"b', "d", str(-(1 << 63)), "", "80", '{"a":"ü","n":1.50}', "3", "1",
    ]  # fmt: skip
    assert ",-9223372036854775808,,80," in lines, "no value has no quotes"
    assert '0123Z,"","d",2' in lines, "an empty text has"


def test_parquet_has_the_columns_of_the_sink(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    written(path, [[reading(1), reading(2, temperature=None)], [], [reading(3)]])
    table = pq.read_table(path)
    assert table.column_names == [*DEFAULT.names, "kafka_partition", "kafka_offset"]
    assert table["sequence_id"].to_pylist() == [1, 2, 3]
    assert table["temperature"].to_pylist() == [21.5, None, 21.5]
    assert table["time"].to_pylist() == [AT] * 3
    assert (table["kafka_partition"].to_pylist(), table["kafka_offset"].to_pylist()) == ([3, 3, 3], [0, 1, 2])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_of_no_reading_has_the_columns_of_a_row(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    written(path, [], origin=False)
    names = pq.read_table(path).column_names if suffix == ".parquet" else path.read_text().strip().split(",")
    assert names == list(DEFAULT.names)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_that_is_not_finished_is_not_there(tmp_path: Path, suffix: str) -> None:
    path, opened = tmp_path / f"x{suffix}", opener(Settings(), suffix, origin=True)
    many = ReadingsAt([reading(number) for number in range(70_000)], 0, list(range(70_000)))
    with whole_file(path, opened) as file:
        file.rows.write(many)
        file.wanted = False
    with suppress(KeyboardInterrupt), whole_file(path, opened) as file:
        file.rows.write(many)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    path.write_text("of before")
    with pytest.raises(ZeroDivisionError), whole_file(path, opened):
        raise ZeroDivisionError
    assert path.read_text() == "of before"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_full_disk_is_one_line(tmp_path: Path, suffix: str) -> None:
    """/dev/full takes no byte."""
    path = tmp_path / f"x{suffix}"
    (tmp_path / f".x{suffix}.part").symlink_to("/dev/full")
    many = ReadingsAt([reading(number) for number in range(70_000)], 0, list(range(70_000)))
    with (
        pytest.raises(PermanentError, match=r"cannot write .*: No space left"),
        whole_file(path, opener(Settings(), suffix, origin=True)) as file,
    ):
        file.rows.write(many)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "none" / "x.csv"
    with pytest.raises(PermanentError, match=r"cannot write .*: No such file"):
        written(path, [])
    with pytest.raises(PermanentError, match=r"cannot write .*: No such file"):
        replace_file(path, b"x")


def test_without_pyarrow_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "app.history.exporting.parquet", raising=False)
    with pytest.raises(PermanentError, match=r"package pyarrow: pip install 'iot-stream\[sinks\]'; or write CSV"):
        opener(Settings(), ".parquet", origin=True)
    opener(Settings(), ".csv", origin=True)
