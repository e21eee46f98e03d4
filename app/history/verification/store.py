"""Keys of millions of records in a temporary file: those of readings, of dead letters, and of rows that may be extra.

SQLite keeps the file, has CACHE_KIB of it in memory, and removes it when the store is closed or the program ends.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from xxhash import xxh3_64_intdigest

from app.core.model.times import micros, moment
from app.errors import PermanentError

CACHE_KIB = 65_536
StoredKey = tuple[int, int]  # microseconds since 1970, and a hash of the rest
LetterPlace = tuple[int, int, bytes]  # partition and offset of the original, and the digest of its payload

_SET_UP = f"""
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = FILE;
PRAGMA cache_size = -{CACHE_KIB};
CREATE TABLE readings (time INTEGER, hash INTEGER, PRIMARY KEY (time, hash)) WITHOUT ROWID;
CREATE TABLE letters (partition INTEGER, offset INTEGER, digest BLOB, PRIMARY KEY (partition, offset, digest))
  WITHOUT ROWID;
CREATE TABLE marks (mark BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE candidates (time INTEGER, hash INTEGER, user TEXT, device TEXT, sequence INTEGER,
  PRIMARY KEY (time, hash)) WITHOUT ROWID;
BEGIN;
"""


def stored_key(time: datetime, user_id: str, device_id: str, sequence_id: int) -> StoredKey:
    """What stands for the primary key of a row: 16 bytes, whatever the length of the ids."""
    text = f"{user_id}\0{device_id}\0{sequence_id}"
    return micros(time), xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) - (1 << 63)  # SQLite's are signed


class VerifyStore:
    """The keys of one verification. Each method raises PermanentError when the file cannot be written."""

    def __init__(self) -> None:
        with _on_disk():
            self._file = sqlite3.connect("", isolation_level=None)  # the empty name: a private file
            self._file.executescript(_SET_UP)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def add_readings(self, keys: Sequence[StoredKey]) -> int:
        """Keep the keys of readings; returns how many were new."""
        with _on_disk():
            return self._file.executemany("INSERT OR IGNORE INTO readings VALUES (?, ?)", keys).rowcount

    def readings(self, first: int, last: int) -> set[StoredKey]:
        """The keys of the readings of these event times, microseconds since 1970, both included."""
        with _on_disk():
            found = self._file.execute("SELECT time, hash FROM readings WHERE time BETWEEN ? AND ?", (first, last))
            return set(found)

    def add_letters(self, letters: Iterable[LetterPlace], marks: Iterable[bytes]) -> None:
        """Keep the places of dead letters, and the marks of their deliveries (envelope.delivery_mark)."""
        with _on_disk():
            self._file.executemany("INSERT OR IGNORE INTO letters VALUES (?, ?, ?)", letters)
            self._file.executemany("INSERT OR IGNORE INTO marks VALUES (?)", ((mark,) for mark in marks))

    def has_letter(self, place: LetterPlace, mark: bytes | None) -> bool:
        """Whether there is a dead letter of the record at a place, or of the same delivery."""
        with _on_disk():
            statement = "SELECT 1 FROM letters WHERE (partition, offset, digest) = (?, ?, ?)"
            if self._file.execute(statement, place).fetchone():
                return True
            return mark is not None and bool(
                self._file.execute("SELECT 1 FROM marks WHERE mark = ?", (mark,)).fetchone()
            )

    def add_candidates(self, rows: Iterable[tuple[datetime, str, str, int]]) -> None:
        """Keep rows that no reading so far has made."""
        with _on_disk():
            values = ((*stored_key(*row), *row[1:]) for row in rows)
            self._file.executemany("INSERT OR IGNORE INTO candidates VALUES (?, ?, ?, ?, ?)", values)

    def drop_candidates(self, keys: Iterable[StoredKey]) -> None:
        """Forget the rows that these readings have made."""
        with _on_disk():
            self._file.executemany("DELETE FROM candidates WHERE time = ? AND hash = ?", keys)

    def candidates(self) -> int:
        """How many rows are kept."""
        with _on_disk():
            (count,) = self._file.execute("SELECT count(*) FROM candidates").fetchone()
            return int(count)

    def first_candidates(self, most: int) -> list[tuple[datetime, str, str, int]]:
        """The rows that are kept, `most` at most, by time."""
        with _on_disk():
            statement = "SELECT time, user, device, sequence FROM candidates ORDER BY time, hash LIMIT ?"
            return [(moment(time), *ids) for time, *ids in self._file.execute(statement, (most,))]


@contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        cure = "free space where temporary files are, or name another directory in SQLITE_TMPDIR"
        raise PermanentError(f"the keys of a verification cannot be kept: {error}; {cure}") from error
