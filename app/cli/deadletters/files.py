"""`iot-stream dlq export` and `dlq import`: dead letters as JSON Lines."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from app.cli.deadletters import selecting
from app.cli.deadletters.looking import topic_of
from app.cli.options import quiet, say
from app.cli.stopping import interruptible
from app.deadletters.group import course
from app.deadletters.lines import line_of, messages
from app.deadletters.outlets import PATIENCE, KafkaOutlet
from app.deadletters.scan import scan
from app.deadletters.selection import Selection
from app.errors import PermanentError, TransientError
from app.inspect.text import json_line
from app.kafka.access import access
from app.kafka.reading.record_log import record_log
from app.ops.audit import audited
from app.settings import Settings, load

AT_ONCE = 1_000  # letters of an import that are sent together

Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write. [standard output]")]
Input = Annotated[str, typer.Argument(metavar="FILE", help="A file of `export`, or `-` for standard input.")]
FromLine = Annotated[int, typer.Option("--from-line", min=1, help="Begin at this line: to go on after a failure.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this the file is only checked.")]


def export(
    output: Output = None,
    reason: selecting.Reasons = None,
    stage: selecting.Stages = None,
    topic: selecting.Topics = None,
    user: selecting.User = None,
    device: selecting.Devices = None,
    partition: selecting.Partitions = None,
    offset: selecting.Offsets = None,
    since: selecting.Since = None,
    until: selecting.Until = None,
    quarantine: selecting.Quarantine = False,
) -> None:
    """Write dead letters as JSON Lines, each with all that its record has.

    Example: iot-stream dlq export --reason bad_json --output letters.jsonl
    """
    chosen, times = selecting.selection(reason, stage, topic, user, device, partition, offset, since, until)
    quiet()
    settings = load()
    try:
        with _written(output) as file:
            count = asyncio.run(_export(settings, topic_of(settings, quarantine), chosen, times, file))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        raise typer.Exit(0) from None
    except OSError as error:
        raise PermanentError(f"cannot write {output or 'standard output'}: {error}") from error
    say(f"{count:,} dead letters written")


def import_letters(
    file: Input,
    from_line: FromLine = 1,
    yes: Yes = False,
    timeout: selecting.Patience = PATIENCE,
    as_json: selecting.AsJson = False,
) -> None:
    """Write the dead letters of a file to the dead-letter topic, where `dlq replay` and others find them.

    A line is one of `export`, or the four published fields of an envelope alone. The file is checked as a whole first.

    Example: iot-stream dlq import letters.jsonl --yes
    """
    quiet()
    settings = load()
    try:
        with _read(file) as lines:
            count = sum(1 for _ in messages(lines, from_line))
            if yes:
                lines.seek(0)
                count = asyncio.run(_import(settings, lines, (file, from_line), timeout))
    except OSError as error:
        raise PermanentError(f"cannot read {file}: {error}") from error
    if as_json:
        print(json_line({"letters": count, "written": yes}))
    else:
        print(f"{count:,} dead letters {'written' if yes else 'would be written to'} {settings.kafka_dlq_topic}")
        if not yes:
            say("nothing is done yet: give --yes")


async def _export(settings: Settings, topic: str, chosen: Selection, times: selecting.Times, file: BinaryIO) -> int:
    count, what = 0, {"topic": topic, "selection": chosen.words()}
    async with audited(settings, "dlq export", what) as audit:
        try:
            async with record_log(access(settings), topic, committed=False) as log:
                async for record, _ in scan(log, await course(log, chosen, times, {}, again=True)):
                    file.write(line_of(record) + b"\n")
                    count += 1
        finally:
            audit.counts = {"letters": count}
        audit.outcome = "done"
    return count


async def _import(settings: Settings, lines: BinaryIO, where: tuple[str, int], patience: float) -> int:
    """How many letters are written. `where`: the name of the file, and the line to begin at."""
    name, first = where
    what = {"file": name, "from_line": first, "topic": settings.kafka_dlq_topic}
    numbered, count, line = messages(lines, first), 0, first - 1
    async with record_log(access(settings), settings.kafka_dlq_topic, committed=False):
        pass  # says at once what is wrong; the outlet would wait out even a wrong password
    async with audited(settings, "dlq import", what) as audit:
        with interruptible() as stop:
            outlet = KafkaOutlet(access(settings), settings.kafka_dlq_topic, stop, patience)
            try:
                while not stop.is_set() and (part := list(islice(numbered, AT_ONCE))):
                    for refusal in await outlet.send([message for _, message in part]):
                        raise PermanentError(f"line {part[refusal.at][0]}: {refusal.why}")
                    count, line = count + len(part), part[-1][0]
                audit.outcome = "interrupted" if stop.is_set() else "done"
            except TransientError:
                if not stop.is_set():
                    raise
                audit.outcome = "interrupted"
            finally:
                audit.counts = {"letters": count}
                await outlet.close()
                if stop.is_set() or sys.exc_info()[0]:
                    say(f"{count:,} dead letters are written; to go on: --from-line {line + 1}")
    if stop.is_set():
        raise typer.Exit(130)
    return count


@contextmanager
def _written(path: Path | None) -> Iterator[BinaryIO]:
    """The file, complete or not there: a reader never takes half of it for all."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _read(name: str) -> Iterator[BinaryIO]:
    """The file, which is read twice."""
    if name != "-":
        with Path(name).open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.seek(0)
        yield kept
