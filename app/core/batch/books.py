"""The books of one batch: in, its BatchOutput and the store's answer; out, what became of its records, or a BooksError.

Each record must be in them once: as a row or an effect that is stored, was there already or was refused, as a rejected
record, or as one left out by a policy. The path checks this before it acknowledges, so a bug that loses or doubles a
record ends the worker with the offset where it was.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from app.core.batch.effects import WriteResult
from app.core.batch.output import BatchOutput
from app.core.model.records import Record
from app.errors import BooksError

_offset = attrgetter("offset")


class Books(NamedTuple):
    """Numbers of records; the fields are the outcomes of `iot_ledger_total`."""

    received: int
    stored: int  # rows that are new, every effect that was carried out, every command that was obeyed
    duplicate: int
    dead_lettered: int  # on the dead-letter topic now, whether sent this time or found there
    dropped_by_policy: int


def books(records: Sequence[Record], work: BatchOutput, written: WriteResult) -> Books:
    """Count what became of the records of a batch. Raises BooksError unless each record is accounted for once."""
    found = count(records, work, written)
    problem = _wrong_answer(work, written) or _wrong_work(found, records, work)
    if problem:
        where = f"batch of {len(records)} records from offset {records[0].offset if records else '?'}"
        raise BooksError(f"the books of a {where} do not balance: {problem}; {found}")
    return found


def count(records: Sequence[Record], work: BatchOutput, written: WriteResult) -> Books:
    """Count what became of the records of a batch, unchecked."""
    refused_effects = sum(index < len(work.effects) for index, _ in written.refused_effects)
    return Books(
        received=len(records),
        stored=written.rows + len(work.effects) - refused_effects + len(work.commands) - work.commands_again,
        duplicate=written.duplicates + work.commands_again + len(work.again),
        dead_lettered=len(work.rejected) + len(written.refused) + refused_effects,
        dropped_by_policy=sum(work.dropped.values()),
    )


def _wrong_answer(work: BatchOutput, written: WriteResult) -> str | None:
    """What is impossible about the store's answer to `work`."""
    if written.rows < 0 or written.duplicates < 0:
        return f"the store counts less than nothing: {written.rows} new, {written.duplicates} duplicates"
    answered = written.rows + written.duplicates + len(written.refused)
    if answered != len(work.rows):
        return f"{len(work.rows)} rows were given to the store and it answers for {answered}"
    effects = len(work.effects) + len(work.alert_effects)
    if not (_distinct(written.refused, len(work.rows)) and _distinct(written.refused_effects, effects)):
        return "the store refuses a row twice, or one that it was not given"
    return None


def _distinct(refused: Iterable[tuple[int, str]], count: int) -> bool:
    indices = [index for index, _ in refused]
    return len(set(indices)) == len(indices) and all(0 <= index < count for index in indices)


def _wrong_work(found: Books, records: Sequence[Record], work: BatchOutput) -> str | None:
    """What step 2 has lost or doubled."""
    if (len(work.sources), len(work.effect_sources)) != (len(work.rows), len(work.effects)):
        return "a row or an effect has no record it comes from"
    if found.received != sum(found[1:]):
        return f"{found.received} records came and {sum(found[1:])} are accounted for"
    # A lost record and a doubled one leave the numbers right. The sum of the offsets shows both, at 30 ns a record.
    if not found.dropped_by_policy:
        accounted = sum(map(_offset, work.sources)) + sum(map(_offset, work.effect_sources))
        accounted += sum(map(_offset, work.commands)) + sum(map(_offset, work.again))
        if accounted + sum(one.record.offset for one in work.rejected) != _sum_of_offsets(records):
            return "a record is missing and another one is there twice"
    return None


def _sum_of_offsets(records: Sequence[Record]) -> int:
    if not records:
        return 0
    first, last = records[0].offset, records[-1].offset
    if last - first + 1 == len(records):  # no gap, as nearly always
        return (first + last) * len(records) // 2
    return sum(map(_offset, records))
