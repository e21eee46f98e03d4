"""`iot-stream rules backtest`: a rule set tried on what is stored in raw_telemetry."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from app.adapters.database import Connection
from app.adapters.inquiry import inquiry
from app.adapters.rule_sets import stored
from app.adapters.stored_readings import pages
from app.core.config import STORED_BYTES_MAX
from app.core.rules import RuleSet
from app.errors import PermanentError
from app.rehearsal import rules_file
from app.rehearsal.duration import duration, spoken
from app.rehearsal.rehearsal import Rehearsal
from app.rehearsal.spans import Spans
from app.rehearsal.summary import Summary
from app.settings import load

Told = Callable[[float], None]  # the share that is done, 0 to 1


def backtest(
    user: Annotated[str, typer.Option(help="Whose readings.")],
    since: Annotated[str, typer.Option(help="How far to look back: 90s, 15m, 12h, 7d, 2w.")] = "7d",
    rules: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Rules to try. Default: those in force.")
    ] = None,
    device: Annotated[str, typer.Option(help="Only devices that this glob takes in, such as 'truck-*'.")] = "*",
    as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
) -> None:
    """Show what a rule set would have told of the readings that are stored. Writes nothing, sends nothing.

    Each device's readings are taken in the order of their time, by the same code as in a worker.

    Example: iot-stream rules backtest --user alice --since 7d --rules rules.json --device 'truck-*'
    """
    end = datetime.now(UTC)
    summary, began = Summary(end - duration(since), end), time.monotonic()
    text = rules.read_bytes() if rules else None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task(f"readings of {user}", total=1.0)
        done, ruleset = asyncio.run(
            _run(user, device, text, str(rules), summary, lambda share: progress.update(task, completed=share))
        )
    seconds = time.monotonic() - began
    if as_json:
        print(_as_json(user, summary, done, ruleset, seconds))
        return
    from app.cli.rule_tables import print_on
    from app.cli.rule_tables import summary as table

    if done.readings:
        print_on(Console(), table(summary, ruleset))
    count = sum(one.alerts for one in summary.figures)
    print(f"{done.readings:,} readings of {done.devices:,} devices since {summary.begin:%Y-%m-%d %H:%M}Z: {count:,} "
          f"alerts (took {spoken(seconds)})")  # fmt: skip


async def _run(
    user: str, glob: str, text: bytes | None, name: str, summary: Summary, told: Told
) -> tuple[Rehearsal, RuleSet]:
    async with inquiry(load(), "backtest") as connection:
        if text is None:
            text, name = await _in_force(connection, user), f"the rules of {user} in user_configs"
        found = rules_file.read(text, user, STORED_BYTES_MAX)
        if not isinstance(found, RuleSet):
            lines = (f"{name}:{one.line}: {one.what}" for one in found)
            raise PermanentError("\n".join(["the rules are refused:", *lines]))
        rehearsal, spans = Rehearsal(found), Spans()
        await _rehearse(connection, user, glob, rehearsal, spans, summary, told)
    for span in spans.open.values():
        summary.add(span)
    return rehearsal, found


async def _in_force(connection: Connection, user: str) -> bytes:
    found = await stored(connection, user)
    if not found:
        raise PermanentError(f"user {user} has no rules in user_configs; name a file with --rules")
    return found[0].document


async def _rehearse(
    connection: Connection, user: str, glob: str, rehearsal: Rehearsal, spans: Spans, summary: Summary, told: Told
) -> None:
    prefix = glob[: next((at for at, char in enumerate(glob) if char in "*?["), len(glob))]
    wanted: dict[str, bool] = {}
    length = summary.end - summary.begin
    async with aclosing(pages(connection, user, summary.begin, summary.end, prefix)) as found:
        async for page in found:
            for reading in page:
                name = reading.device_id
                if name not in wanted:
                    wanted[name] = fnmatchcase(name, glob)
                if not wanted[name]:
                    continue
                for event in rehearsal.take(reading):
                    if (ended := spans.tell(event)) is not None:
                        summary.add(ended)
            told((page[-1].time - summary.begin) / length)


def _as_json(user: str, summary: Summary, done: Rehearsal, rules: RuleSet, seconds: float) -> str:
    document = {
        "user_id": user,
        "begin": summary.begin,
        "end": summary.end,
        "readings": done.readings,
        "devices": done.devices,
        "seconds": round(seconds, 3),
        "rules": [rule.id for rule in rules.rules],
        "figures": summary.figures,
        "over_time": summary.over_time,
    }
    return msgspec.json.encode(document).decode()
