"""A file that grows in memory: its memory, its row groups, and an encoder that fails."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.sinks.parquet.columns import ROW_GROUP, FileLayout
from app.sinks.parquet.day_file import DayFile, EncodedFile, cut_below
from app.sinks.parquet.footer import FileSource, footer_of
from tests import DEFAULT
from tests.unit.sinks.parquet.lake import record, records

LAYOUT = FileLayout(DEFAULT, "zstd", encodings=True)
SOURCE = FileSource("iot-stream", "id", 0, "Telemetry", "parquet")


def test_encoded_rows_take_an_eighth_of_the_memory() -> None:
    with ThreadPoolExecutor(1) as encoder:
        file, batch = DayFile("2026-11-30", LAYOUT, encoder), LAYOUT.batch(records(0, 2048))
        for at in range(ROW_GROUP // 2048):
            file.add(batch, at, at)
        encoder.submit(int).result()  # the encoder has finished earlier work
        arrow = batch.nbytes * (ROW_GROUP // 2048)
        assert 0 < file.bytes < arrow / 8
        file.add(batch, 99, 99)
        assert batch.nbytes < file.bytes < arrow / 8 + batch.nbytes
        whole = file.finish(SOURCE.footer(file.first, file.last, file.rows)).result()
    assert file.rows == ROW_GROUP + 2048
    read = pq.ParquetFile(pa.BufferReader(whole.content))
    assert [read.metadata.row_group(at).num_rows for at in range(read.num_row_groups)] == [ROW_GROUP, 2048]


def test_rows_of_large_payloads_are_encoded_sooner() -> None:
    with ThreadPoolExecutor(1) as encoder:
        file = DayFile("2026-11-30", LAYOUT, encoder)
        batch = LAYOUT.batch([record(n, extra=f'{{"a":"{n}{"x" * 100_000}"}}') for n in range(100)])
        file.add(batch, 0, 99)
        assert file.bytes > 10_000_000
        file.add(batch, 100, 199)
        encoder.submit(int).result()
        assert file.bytes < 100_000


class _Broken(FileLayout):
    def options_for(self, table: Any) -> dict[str, Any]:
        """Raises MemoryError."""
        raise MemoryError("no room")


def test_an_encoder_failure_is_raised_at_the_end() -> None:
    with ThreadPoolExecutor(1) as encoder:
        file = DayFile("2026-11-30", _Broken(DEFAULT, "zstd", encodings=True), encoder)
        batch = LAYOUT.batch(records(0, ROW_GROUP))
        file.add(batch, 0, ROW_GROUP - 1)
        encoder.submit(int).result()
        assert file.bytes >= 0
        with pytest.raises(MemoryError):
            file.finish(SOURCE.footer(0, ROW_GROUP - 1, ROW_GROUP)).result()


def test_a_file_is_cut_at_an_offset() -> None:
    with ThreadPoolExecutor(1) as encoder:
        file = DayFile("2026-11-30", LAYOUT, encoder)
        file.add(LAYOUT.batch([record(offset) for offset in (3, 5, 9, 20)]), 3, 20)
        whole = file.finish(SOURCE.footer(3, 20, 4)).result()
    assert cut_below(whole, 3, LAYOUT) is whole
    assert cut_below(whole, 21, LAYOUT) is None
    for offset, left in ((4, [5, 9, 20]), (9, [9, 20]), (10, [20]), (20, [20])):
        cut = cut_below(whole, offset, LAYOUT)
        assert isinstance(cut, EncodedFile)
        read = pq.ParquetFile(pa.BufferReader(cut.content))
        assert read.read().column("kafka_offset").to_pylist() == left
        footer = footer_of(read.metadata.metadata)
        assert footer == cut.footer
        assert (footer.first, footer.last, footer.rows) == (left[0], 20, len(left))


@pytest.mark.parametrize("metadata", [None, {}, {b"iot-stream": b"{"}, {b"iot-stream": b'{"first":1}'}])
def test_a_footer_of_another_program_is_ignored(metadata: dict[bytes, bytes] | None) -> None:
    assert footer_of(metadata) is None
