"""Readings into one file: in, readings with their places; out, CSV or Parquet, complete or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from msgspec import Struct

from app.core.schema.codegen import row_maker
from app.core.schema.column_types import KEY
from app.core.schema.schema import Schema
from app.errors import PermanentError
from app.history.exporting.readings_file import PLACE, Opened, ReadingsAt, ReadingsFile
from app.settings import Settings

INSTALL = "pip install 'iot-stream[sinks]'"


class CsvReadings:
    """Rows as CSV (RFC 4180), in UTF-8, with the names of the columns first: what PostgreSQL's COPY reads back exactly.

    Texts are quoted, so that an empty text and NULL, which is nothing at all, stay apart.
    """

    def __init__(self, file: BinaryIO, schema: Schema, *, origin: bool) -> None:
        self._file, self._origin = file, origin
        self._row = row_maker((*KEY, *(column.name for column in schema.columns), "extra_json"))
        file.write(",".join((*schema.names, *(PLACE if origin else ()))).encode() + b"\n")

    def write(self, found: ReadingsAt) -> None:
        """As in ReadingsFile."""
        lines = [",".join(map(_cell, self._row(reading))) for reading in found.readings]
        if self._origin and found.offsets is not None:
            lines = [f"{line},{found.partition},{at}" for line, at in zip(lines, found.offsets, strict=True)]
        if lines:
            self._file.write("\n".join([*lines, ""]).encode())

    def finish(self) -> None:
        """As in ReadingsFile."""

    def abandon(self) -> None:
        """As in ReadingsFile."""


def opener(settings: Settings, suffix: str, *, origin: bool) -> Opened:
    """What begins a file of this suffix, `.csv` or `.parquet`. `origin`: with columns for partition and offset.

    Raises PermanentError when Parquet is asked for and its package is not installed, SettingsError for a schema that
    has no place in its columns.
    """
    if suffix == ".csv":
        return lambda file: CsvReadings(file, settings.telemetry_schema, origin=origin)
    try:
        from app.history.exporting.parquet import ParquetReadings, layout_of
    except ModuleNotFoundError as error:
        raise PermanentError(f"Parquet needs the package {error.name}: {INSTALL}; or write CSV") from None
    layout = layout_of(settings, origin=origin)
    return lambda file: ParquetReadings(file, layout)


class WholeFile(Struct):
    """A file that is being written."""

    rows: ReadingsFile
    wanted: bool = True  # False: the file is not to be there in the end


@contextmanager
def whole_file(path: Path, opened: Opened) -> Iterator[WholeFile]:
    """A file that is there when it is complete and on the disk, and not before. Raises PermanentError when it cannot be
    written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            made = WholeFile(opened(file))
            try:
                yield made
                if made.wanted:
                    made.rows.finish()
            except BaseException:
                made.wanted = False
                raise
            finally:
                if not made.wanted:
                    made.rows.abandon()
            file.flush()
            os.fsync(file.fileno())
        if made.wanted:
            part.replace(path)
            _sync(path.parent)
    except OSError as error:
        raise PermanentError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file, whole or not at all. Raises PermanentError when it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise PermanentError(f"cannot write {path}: {error.strerror or error}") from error


def _sync(folder: Path) -> None:
    """Have the names in a directory on the disk."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return '"' + value.replace('"', '""') + '"'
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
        case Decimal():
            return f"{value:f}"
        case _:
            return repr(value)
