"""A file of readings -> Readings, as a worker would take them, and why not where it would not.

JSON lines: what devices send, with `device_id` (and `user_id`) in it where there are several. CSV: a column a field,
also as psql writes raw_telemetry, with `extra_data` as a column of JSON.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec
from msgspec import Struct

from app.backtest.csv_cells import fields_of
from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.model.identity import ids_fault
from app.core.model.records import Kind, Reading, Rejected
from app.core.routing.address import Address
from app.core.schema.schema import Schema
from app.errors import PermanentError

NOBODY, NOTHING = "user", "device"  # ids where a file has none

_AGES = 300 * 365 * 86400.0  # seconds; a rehearsal may be of any time
_ANY_MS = 1_767_225_600_000


class Refused(Struct, frozen=True):
    """A line that would become a dead letter."""

    line: int
    reason: str
    detail: str


class _FileRecord(Struct):
    """As much of a Kafka record as decoding asks for."""

    value: bytes | None
    offset: int = 0
    timestamp: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class _Ids(Struct):
    user_id: str | int | None = None
    device_id: str | int | None = None


_ids = msgspec.json.Decoder(_Ids).decode


def read(path: Path, schema: Schema) -> Iterator[Reading | Refused]:
    """Each reading of the file, in its order, with the columns of `schema`; or why its line would be a dead letter.

    Raises PermanentError for a file that is neither JSON lines nor CSV, or is no UTF-8, and OSError.
    """
    decoder = Decoder(DecodeLimits(time_future_max=_AGES, time_past_max=_AGES), schema)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, payload in _csv(path, file, schema) if _is_csv(path, file) else _lines(path, file):
                yield _reading(decoder, line, payload)
    except UnicodeDecodeError as error:
        raise PermanentError(f"{path}: byte {error.start} is not UTF-8") from error


def _is_csv(path: Path, file: TextIO) -> bool:
    """By the file's name; by its first character where that says nothing."""
    if path.suffix in (".csv", ".json", ".jsonl", ".ndjson"):
        return path.suffix == ".csv"
    first = next((line for line in file if line.strip()), "")
    file.seek(0)
    return not first.lstrip().startswith(("{", "["))


def _lines(path: Path, file: TextIO) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(file, 1):
        text = line.strip()
        if text.startswith("["):
            raise PermanentError(f"{path}:{number}: an array; give one JSON object a line (jq -c '.[]' makes that)")
        if text:
            yield number, text.encode()


def _csv(path: Path, file: TextIO, schema: Schema) -> Iterator[tuple[int, bytes]]:
    rows: csv.DictReader[str] = csv.DictReader(file, strict=True)
    try:
        if not {"time", "timestamp"} & set(rows.fieldnames or ()):
            found = ", ".join(rows.fieldnames or ()) or "nothing"
            raise PermanentError(
                f"{path}: the first line has to name a column time or timestamp; the columns are {found}"
            )
        for row in rows:
            if None in row:  # what csv calls the cells beyond the last column
                raise PermanentError(f"{path}:{rows.line_num}: more cells than the first line has columns")
            yield rows.line_num, msgspec.json.encode(fields_of(row, schema.keys))
    except csv.Error as error:
        raise PermanentError(f"{path}:{rows.reader.line_num}: not CSV: {error}") from error


def _reading(decoder: Decoder, line: int, payload: bytes) -> Reading | Refused:
    record = _FileRecord(payload)
    try:
        named: Any = _ids(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        named = _Ids()  # decoding says what is wrong
    user, device = str(named.user_id or NOBODY), str(named.device_id or NOTHING)
    if fault := ids_fault(user, device):
        return Refused(line, fault.reason, fault.detail)
    found = decoder.decode(record, Address(Kind.TELEMETRY, user, device, lenient=True), _ANY_MS)
    if isinstance(found, Rejected):
        return Refused(line, found.reason, found.detail)
    return found
