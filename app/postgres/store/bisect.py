"""What one transaction stores: one caller's rows and effects, or those of several whose rows are all new.

What the database refuses of one caller's is found and left out, alone, by binary splitting within savepoints. Short
cuts keep one bad row in thousands cheap: values that cannot be encoded are found without asking the server, COPY names
the line it stumbled over, and a constraint quotes the row.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.core.batch.effects import Effect, WriteResult
from app.core.model.records import Row
from app.core.schema.column_types import KEY
from app.errors import IotStreamError
from app.postgres.sqlstate import DATABASE_ERRORS, Failure, classify, limit_reached, words
from app.postgres.store.encode_check import EncodingError, fault
from app.postgres.store.session import WriteSession
from app.postgres.store.statements import STATEMENTS

_COLUMN = re.compile(r"COPY iot_batch, line \d+, column (\w+)")
_PARAMETER = re.compile(r"portal parameter \$(\d+)")  # "unnamed portal", and of a statement kept
_ARGUMENT = re.compile(r"query argument \$(\d+)")  # asyncpg's own words
_QUOTED = re.compile(r"Failing row contains \((.*)", re.DOTALL)
_LINE = re.compile(r"COPY iot_batch, line (\d+)")
_SUSPECTS = 4  # rows tried alone on the database's word; with more bad ones halving is quicker
_SMALL = 8  # a failing piece of this size is tried row by row
RETURNED_ROWS = 64  # up to so many the database returns which are new: less work than BEGIN and COMMIT


async def store(
    session: WriteSession, rows: Sequence[Row], effects: Sequence[Effect], copy_min_rows: int, first: str = ""
) -> WriteResult:
    """Store one caller's rows and effects. Raises DATABASE_ERRORS for anything but data: then nothing is stored.

    `first` is a statement for the beginning of the transaction.
    """
    copy = len(rows) >= copy_min_rows
    await session.lease.ensure()
    try:
        if not copy and not effects and not first and session.keeps_state:
            count = await session.insert(rows, copy=False)  # a single statement is its own transaction
        else:
            async with _transaction(session, first):
                count = await session.insert(rows, copy=copy)
                await session.apply(effects)
    except (EncodingError, *DATABASE_ERRORS) as error:
        if not is_data(error):
            raise
        return await _bisect(session, rows, effects, first, error)
    return WriteResult(count, len(rows) - count)


async def store_together(
    session: WriteSession, writes: Sequence[tuple[Sequence[Row], Sequence[Effect]]], copy_min_rows: int
) -> list[WriteResult] | None:
    """Store the rows and effects of several callers at once; the answer to each, or None: nothing is stored.

    Raises DATABASE_ERRORS for an outage. With a duplicate among many rows the server's count does not tell whose it
    was. Live traffic has hardly any, and a replay comes in batches too large to be grouped: so no large statement pays
    for telling them apart.
    """
    rows = [row for one, _ in writes for row in one]
    effects = [effect for _, each in writes for effect in each]
    try:
        if session.keeps_state and len(rows) <= RETURNED_ROWS and not effects:
            return _answers(writes, await session.insert_returning_keys(rows))
        async with session.connection.transaction():
            if await session.insert(rows, copy=len(rows) >= copy_min_rows) != len(rows):
                raise _NotAllNewError
            await session.apply(effects)
    except _NotAllNewError:
        return None
    except (EncodingError, *DATABASE_ERRORS) as error:
        if not is_data(error) and not limit_reached(error):
            raise
        return None
    return [WriteResult(len(one)) for one, _ in writes]


class _NotAllNewError(IotStreamError):
    """The answer to a group is not the sum of simple answers: its transaction is rolled back."""


def _answers(
    writes: Sequence[tuple[Sequence[Row], Sequence[Effect]]], new: set[tuple[object, ...]]
) -> list[WriteResult]:
    """Count for each write its keys that are new; a key that comes twice is new to the first."""
    answers = []
    for rows, _ in writes:
        count = len(new)
        new.difference_update(row[: len(KEY)] for row in rows)
        count -= len(new)
        answers.append(WriteResult(count, len(rows) - count))
    return answers


def is_data(error: BaseException) -> bool:
    """Whether a row or an effect is at fault, and not the database or its set-up."""
    return isinstance(error, EncodingError) or classify(error) is Failure.DATA


@asynccontextmanager
async def _transaction(session: WriteSession, first: str) -> AsyncIterator[None]:
    async with session.connection.transaction():
        if first:
            await session.connection.execute(first)
        yield


async def _bisect(
    session: WriteSession, rows: Sequence[Row], effects: Sequence[Effect], first: str, error: BaseException
) -> WriteResult:
    everything = list(range(len(rows)))
    refused: dict[int, str] = {}
    if (suspect := _suspect(error, rows, everything)) is not None:
        pieces = _apart(everything, suspect)
    elif refused := {index: wrong for index, row in enumerate(rows) if (wrong := fault(row, session.schema))}:
        pieces = [[index for index in everything if index not in refused]]
    else:  # the whole was sent already, and failed
        pieces = _split(everything)
    await session.lease.ensure()
    async with _transaction(session, first):
        count = await _sift_rows(session, rows, pieces, refused)
        refused_effects = await _sift_effects(session, effects)
    return WriteResult(count, len(rows) - count - len(refused), tuple(sorted(refused.items())), refused_effects)


async def _sift_rows(
    session: WriteSession, rows: Sequence[Row], pieces: list[list[int]], refused: dict[int, str]
) -> int:
    """Insert the rows of all pieces but those refused, which are added to `refused`; return how many are new."""
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
    """Where in `piece` the row is that the database names, if it names one."""
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


async def _insert_piece(session: WriteSession, rows: Sequence[Row]) -> int:
    copy = len(rows) > _SMALL
    async with session.connection.transaction():  # a savepoint
        count = await session.insert(rows, copy=copy)
        if copy:
            await session.clear_staging()
    return count


async def _sift_effects(session: WriteSession, effects: Sequence[Effect]) -> tuple[tuple[int, str], ...]:
    """Carry out the effects in order, each in a savepoint; return index and words of those refused."""
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
