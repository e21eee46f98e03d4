"""`iot-stream rules backtest`: a rule set tried on what is stored in raw_telemetry."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from app.backtest import rules_file
from app.backtest.duration import duration, spoken
from app.backtest.stored import Backtest
from app.cli.options import moves_cursor
from app.core.model.namespaces import FLEET
from app.core.rules.rule import RuleSet, with_defaults
from app.core.schema.schema import Schema
from app.core.user_config.document import STORED_BYTES_MAX
from app.errors import PermanentError
from app.postgres.connect import Connection, operator_session
from app.postgres.queries.readings import pages
from app.postgres.queries.user_configs import stored
from app.settings import Settings, load

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[float], None]  # the share that is done, 0 to 1


def backtest(
    user: Annotated[str, typer.Option(help="Whose readings.")],
    since: Annotated[str, typer.Option(help="How far to look back: 90s, 15m, 12h, 7d, 2w.")] = "7d",
    rules: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Rules to try. Default: the user's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="Only devices that this glob takes in, such as 'truck-*'.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
) -> None:
    """Show what a rule set would have sent for the readings that are stored. Writes nothing, sends nothing.

    Each device's readings are taken in the order of their time, by the same code as in a worker.

    Example: iot-stream rules backtest --user alice --since 7d --rules rules.json --device 'truck-*'
    """
    settings, end, began = load(), datetime.now(UTC), time.monotonic()
    stretch = (end - duration(since), end)
    schema = settings.telemetry_schema
    given = rules_file.valid(str(rules), rules_file.text_of(rules), user, schema) if rules else None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not moves_cursor()) as progress:
        task = progress.add_task(f"readings of {user}", total=1.0)
        done = asyncio.run(
            _run(settings, user, device, given, stretch, lambda share: progress.update(task, completed=share))
        )
    seconds = time.monotonic() - began
    if as_json:
        print(_as_json(user, done, seconds))
        return
    _print(Console(), done, seconds)


async def _run(
    settings: Settings,
    user: str,
    glob: str,
    rules: RuleSet | None,
    stretch: tuple[datetime, datetime],
    report: Progress,
) -> Backtest:
    schema = settings.telemetry_schema
    async with operator_session(settings, "backtest") as connection:
        made = Backtest(rules or await _in_force(connection, user, schema), schema, glob, *stretch)
        async with aclosing(pages(connection, schema, user, *stretch, made.prefix)) as found:
            async for page in found:
                made.take(page)
                report(made.share(page[-1].time))
    made.finish()
    return made


async def _in_force(connection: Connection, user: str, schema: Schema) -> RuleSet:
    """The user's rules, and behind them those of the fleet."""
    found = [*await stored(connection, user), *(await stored(connection, FLEET) if user != FLEET else ())]
    if not found:
        raise PermanentError(f"user {user} has no rules in user_configs; name a file with --rules")
    sets = {
        one.user_id: rules_file.valid("user_configs", one.document, one.user_id, schema, STORED_BYTES_MAX)
        for one in found
    }
    return with_defaults(sets.get(user), sets.get(FLEET)) or RuleSet(user, ())


def _print(console: "Console", done: Backtest, seconds: float) -> None:
    from app.cli.render.rules import print_on, summary

    figures, begin = done.dry_run, done.summary.begin
    if figures.readings:
        print_on(console, summary(done.summary, done.rules))
    alerts = sum(one.alerts for one in done.summary.figures)
    took = f"{alerts:,} alerts (took {spoken(seconds)})"
    print(f"{figures.readings:,} readings of {figures.devices:,} devices since {begin:%Y-%m-%d %H:%M}Z: {took}")


def _as_json(user: str, done: Backtest, seconds: float) -> str:
    document = {
        "user_id": user,
        "begin": done.summary.begin,
        "end": done.summary.end,
        "readings": done.dry_run.readings,
        "devices": done.dry_run.devices,
        "seconds": round(seconds, 3),
        "rules": [rule.id for rule in done.rules.rules],
        "figures": done.summary.figures,
        "over_time": done.summary.over_time,
    }
    return msgspec.json.encode(document).decode()
