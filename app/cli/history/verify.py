"""`iot-stream history verify`: whether every record of a part of the input topic is where it must be."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Annotated

import typer

from app.cli.history import selecting
from app.cli.options import escape_unencodable, quiet, say
from app.cli.progress import Show, progress
from app.cli.render.verify import verify_lines, verify_notes, verify_progress
from app.cli.stopping import interruptible, until_stopped
from app.errors import IotStreamError
from app.history.verification.ledger import EXAMPLES, VerifyLedger, VerifyVerdict
from app.history.verification.verify import VerifyRequest
from app.history.verification.verify import verify as verified
from app.inspect.text import json_line
from app.kafka.reading.offset_ranges import PartError
from app.postgres.queries.telemetry_rows import TABLE
from app.settings import Settings, load

User = Annotated[str | None, typer.Option("--user", help="Records and rows of this user (or node) alone.")]
Table = Annotated[str, typer.Option("--table", help="The table with the rows, with or without its schema.")]
Group = Annotated[
    str | None, typer.Option("--group", help="Records that this group has committed. [that of the workers]")
]
Uncommitted = Annotated[bool, typer.Option("--uncommitted", help="Also records that no worker has committed.")]
Extra = Annotated[bool, typer.Option("--extra/--no-extra", help="Whether to look for rows without a record.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit code 1 for extra rows and doubtful records too.")]
Examples = Annotated[int, typer.Option("--examples", min=0, max=1000, help="So many of each finding by name.")]


def verify(
    since: selecting.Since = None,
    until: selecting.Until = None,
    offset: selecting.Offsets = None,
    partition: selecting.Partitions = None,
    user: User = None,
    table: Table = TABLE,
    group: Group = None,
    uncommitted: Uncommitted = False,
    extra: Extra = True,
    strict: Strict = False,
    examples: Examples = EXAMPLES,
    as_json: selecting.AsJson = False,
) -> None:
    """Compare records with rows: each record must be a row, a dead letter, or left out by a policy.

    Records are decoded as a worker decodes them. Nothing is written, and no group is joined.

    Exit code 1: a record is missing.

    Example: iot-stream history verify --since 24h
    """
    part = selecting.part_of_topic(partition, offset, since, until)
    if group is not None and uncommitted:
        raise typer.BadParameter("it does not go with --group", param_hint="--uncommitted")
    checked(table, user)
    quiet()
    settings = load()
    committed_by = None if uncommitted else group or settings.group_id
    asked = VerifyRequest(part, user, table, committed_by, extra, examples)
    try:
        found = asyncio.run(_verified(settings, asked))
    except PartError as error:
        raise typer.BadParameter(str(error), param_hint="--partition or --offset") from None
    escape_unencodable()
    print(*([json_line(found.as_json())] if as_json else verify_lines(found)), sep="\n")
    for note in verify_notes(found):
        say(f"iot-stream: {note}")
    raise typer.Exit(exit_code(found, strict))


def exit_code(found: VerifyLedger, strict: bool) -> int:
    """0: complete, 1: something is missing, 130: interrupted before that was known."""
    match found.verdict:
        case VerifyVerdict.MISSING:
            return 1
        case VerifyVerdict.INTERRUPTED:
            return 130
        case VerifyVerdict.COMPLETE:
            return int(strict and bool(found.doubtful.count or (found.extra and found.extra.count)))


def checked(table: str, user: str | None) -> None:
    """Raises BadParameter for what is no name of a table, and for an id that is not UTF-8."""
    selecting.table(table, "--table")
    try:
        (user or "").encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("an id is UTF-8", param_hint="--user") from None


async def _verified(settings: Settings, asked: VerifyRequest) -> VerifyLedger:
    with interruptible() as stop, ExitStack() as bars:
        watch = _VerifyScreen(stop, bars)
        try:
            return await until_stopped(verified(settings, asked, watch), stop, lambda: watch.begun)
        except IotStreamError:
            if watch.ledger is not None and (left := watch.ledger.left()):
                say(f"iot-stream: to go on: {' '.join(f'--offset {place}' for place in left)}")
            raise


class _VerifyScreen:
    """Shows how far a verification is; the first Ctrl-C ends it in order."""

    def __init__(self, stop: asyncio.Event, bars: ExitStack) -> None:
        self._stop, self._bars, self._whole = stop, bars, 0
        self._show: Show | None = None
        self.ledger: VerifyLedger | None = None

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def begun(self) -> bool:
        """Whether records are read."""
        return self._show is not None

    def begins(self, records: int) -> None:
        self._whole = records
        self._show = self._bars.enter_context(progress(records))

    def read(self, ledger: VerifyLedger) -> None:
        self.ledger = ledger
        left = self._whole - sum(at - ledger.begin[partition] for partition, at in ledger.at.items())
        self._shown(left, partial(verify_progress, ledger, self._whole))

    def seen(self, what: str, count: int) -> None:
        left = self._whole if self.ledger is None else 0
        self._shown(left, lambda seconds: f"{count:,} {what} looked at, {seconds:,.0f} s")

    def _shown(self, left: int, line: Callable[[float], str]) -> None:
        if self._show is not None:
            self._show(left, line)
