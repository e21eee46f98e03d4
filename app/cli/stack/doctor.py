"""`iot-stream doctor`: every dependency, the workers' books, and what to do about what is wrong."""

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Annotated

import typer

from app.cli.options import say
from app.cli.stack.deployment import local_more
from app.cli.stack.unread_env import unread_env
from app.doctor.examine import examine
from app.doctor.finding import Finding, Level, worst
from app.runtime.addresses import web
from app.settings import load

COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.BROKEN: "red"}


def doctor(
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="Metrics address of a program; repeatable. Default: the worker's of the settings."),
    ] = None,
    watch: Annotated[
        float, typer.Option(help="Look at each worker twice, this many seconds apart: counts may only grow.", min=0)
    ] = 0.0,
    count: Annotated[
        int, typer.Option(help="Look up the newest N committed records of each partition, one by one.", min=0)
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
) -> None:
    """Check Kafka, the database, the MQTT broker and every program, and say what to do. Changes nothing.

    Exit code 0: healthy, 1: warnings, 2: broken.

    Example: iot-stream doctor --metrics http://worker-1:9000 --metrics http://worker-2:9000 --watch 5 --count 1000
    """
    workers = [_address(text) for text in metrics or ()]
    logging.disable(logging.CRITICAL)  # what the clients have to say is in the findings
    findings = asyncio.run(examine(load(), workers, watch, count, local_more()))
    level = worst(findings)
    if as_json:
        print(json.dumps({"status": level.name.lower(), "findings": [_as_dict(finding) for finding in findings]}))
    else:
        show(findings)
        if level is Level.BROKEN and (more := unread_env()):
            say(more)
    raise typer.Exit(int(level))


def _address(text: str) -> str:
    """With the scheme that people leave out."""
    try:
        return web(text if "://" in text else f"http://{text}")
    except ValueError:
        raise typer.BadParameter("give each worker's as http://host:port", param_hint="--metrics") from None


def _as_dict(finding: Finding) -> dict[str, str]:
    return {**finding._asdict(), "level": finding.level.name.lower()}


def show(findings: Sequence[Finding]) -> None:
    """Print a table for a person, the worst last, where the eye is."""
    from rich.console import Console
    from rich.text import Text

    from app.cli.render.table import print_table

    console = Console()
    rows = []
    for finding in sorted(findings, key=lambda one: one.level):
        said = Text(finding.what)
        if finding.cure:
            said.append("\nto do: ", "bold").append(finding.cure)
        rows.append((Text(finding.level.name.lower(), COLOURS[finding.level]), finding.area, said))
    print_table(("level", "area", "what"), rows, console)
    counts = [f"{sum(one.level is level for one in findings)} {level.name.lower()}" for level in Level]
    console.print(f"[{COLOURS[worst(findings)]}]{', '.join(counts)}")
