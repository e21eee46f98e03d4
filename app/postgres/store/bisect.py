"""A write that the database has refused: in, rows, effects and the error; out, all stored but what is at fault.

What is at fault is found by binary splitting within savepoints. Short cuts keep one bad row in thousands cheap: values
that cannot be encoded are found without asking the server, COPY names the line it stumbled over, and a constraint
quotes the row.
"""

import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from app.core.batch.effects import Effect, WriteResult
from app.core.model.records import Row
from app.core.schema.schema import Schema
from app.ports import Lease
from app.postgres.connect import Connection
from app.postgres.sqlstate import DATABASE_ERRORS, Failure, classify, words
from app.postgres.store.encode_check import EncodingError, fault
from app.postgres.store.statements import STATEMENTS

_COLUMN = re.compile(r"COPY iot_batch, line \d+, column (\w+)")
_PARAMETER = re.compile(r"portal parameter \$(\d+)")  # "unnamed portal", and of a statement kept
_ARGUMENT = re.compile(r"query argument \$(\d+)")  # asyncpg's own words
_QUOTED = re.compile(r"Failing row contains \((.*)", re.DOTALL)
_LINE = re.compile(r"COPY iot_batch, line (\d+)")
_SUSPECTS = 4  # rows tried alone on the database's word; with more bad rows halving is quicker
_SMALL = 8  # a failing piece of this size is tried row by row


class SavepointSession(Protocol):
    """The session on whose connection a write was refused (app.postgres.store.session.WriteSession)."""

    connection: Connection
    schema: Schema
    lease: Lease

    def transaction(self, first: str = "") -> AbstractAsyncContextManager[None]:
        """Begin a transaction, with the statement `first` if there is one; commit at the end, roll back on an error."""

    async def insert(self, rows: Sequence[Row], *, copy: bool) -> int:
        """Insert the rows that are not there yet; return how many were new. Raises EncodingError or DATABASE_ERRORS."""

    async def clear_staging(self) -> None:
        """Empty the staging table, so that the same transaction can COPY again."""

    async def apply(self, effects: Sequence[Effect]) -> None:
        """Carry out the effects in their order. Raises DATABASE_ERRORS."""


def is_data(error: BaseException) -> bool:
    """Whether a row or an effect is at fault, and not the database or its set-up."""
    return isinstance(error, EncodingError) or classify(error) is Failure.DATA


async def bisect(
    session: SavepointSession, rows: Sequence[Row], effects: Sequence[Effect], first: str, error: BaseException
) -> WriteResult:
    """Store the rows and effects that were refused with `error`, all but those at fault, in one transaction.

    `first` is a statement for the transaction's beginning. Raises DATABASE_ERRORS for anything but data: then nothing
    is stored.
    """
    everything = list(range(len(rows)))
    refused: dict[int, str] = {}
    if (suspect := _suspect(error, rows, everything)) is not None:
        pieces = _apart(everything, suspect)
    elif refused := {index: wrong for index, row in enumerate(rows) if (wrong := fault(row, session.schema))}:
        pieces = [[index for index in everything if index not in refused]]
    else:  # the whole was sent already, and failed
        pieces = _split(everything)
    await session.lease.ensure()
    async with session.transaction(first):
        count = await _sift_rows(session, rows, pieces, refused)
        refused_effects = await _sift_effects(session, effects)
    return WriteResult(count, len(rows) - count - len(refused), tuple(sorted(refused.items())), refused_effects)


async def _sift_rows(
    session: SavepointSession, rows: Sequence[Row], pieces: list[list[int]], refused: dict[int, str]
) -> int:
    """Insert the rows of all pieces; refused rows are added to `refused`. Returns how many rows are new."""
    count = suspects = 0
    while pieces:
        piece = pieces.pop()
        try:
            count += await _insert_piece(session, [rows[index] for index in piece])
        except (EncodingError, *DATABASE_ERRORS) as error:
            if not is_data(error):
                raise
            if len(piece) == 1:
                refused[piece[0]] = refusal(error, session.schema.names)
            elif suspects < _SUSPECTS and (suspect := _suspect(error, rows, piece)) is not None:
                suspects += 1
                pieces += _apart(piece, suspect)
            else:
                pieces += _split(piece)
    return count


def _suspect(error: BaseException, rows: Sequence[Row], piece: list[int]) -> int | None:
    """Where in `piece` the row is that the database names; None when the database names no row."""
    if line := _LINE.search(getattr(error, "context", None) or ""):
        return int(line[1]) - 1
    if not (quoted := _QUOTED.search(getattr(error, "detail", None) or "")):
        return None
    named = [at for at, index in enumerate(piece) if f", {_identity(rows[index])}, " in quoted[1]]
    return named[0] if len(named) == 1 else None


def _identity(row: Row) -> str:
    return ", ".join("null" if value is None else str(value) for value in row[1:4])


def _apart(piece: list[int], at: int) -> list[list[int]]:
    """One row alone, tried after the others."""
    return [[piece[at]], piece[:at] + piece[at + 1 :]]


def _split(piece: list[int]) -> list[list[int]]:
    """Cut a piece in two, a small one into single rows; last comes first, since pieces are taken from the end."""
    if len(piece) <= _SMALL:
        return [[index] for index in reversed(piece)]
    middle = len(piece) // 2
    return [piece[middle:], piece[:middle]]


async def _insert_piece(session: SavepointSession, rows: Sequence[Row]) -> int:
    copy = len(rows) > _SMALL
    async with session.connection.transaction():  # a savepoint
        count = await session.insert(rows, copy=copy)
        if copy:
            await session.clear_staging()
    return count


async def _sift_effects(session: SavepointSession, effects: Sequence[Effect]) -> tuple[tuple[int, str], ...]:
    """Carry out the effects in order, each in a savepoint; return index and words of the refused effects."""
    refused = []
    for index, effect in enumerate(effects):
        try:
            async with session.connection.transaction():
                await session.apply((effect,))
        except DATABASE_ERRORS as error:
            if not is_data(error):
                raise
            refused.append((index, refusal(error, tuple(STATEMENTS[effect.statement].parameters))))
    return tuple(refused)


def refusal(error: BaseException, columns: Sequence[str]) -> str:
    """The database's words, after the column that is at fault; `columns` are the statement's parameters in order."""
    context = getattr(error, "context", None) or ""
    column = getattr(error, "column_name", None)
    if found := _COLUMN.search(context):
        column = found[1]
    elif found := _PARAMETER.search(context) or _ARGUMENT.search(str(error)):
        column = columns[int(found[1]) - 1] if int(found[1]) <= len(columns) else None
    return f"{column}: {words(error)}" if column else words(error)
