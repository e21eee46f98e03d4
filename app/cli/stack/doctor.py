"""`iot-stream doctor`: every dependency, the workers' books, and what to do about what is wrong."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from app.cli.options import quiet, say
from app.cli.render.findings import as_dict, show
from app.cli.stack import leftovers
from app.cli.stack.deployment import local_more
from app.cli.stack.unread_env import unread_env
from app.doctor.examine import examine
from app.doctor.finding import Finding, Level, worst
from app.doctor.fixes import Fix, fixes
from app.errors import PermanentError, TransientError
from app.local.layout import Layout, default_root
from app.runtime.addresses import web
from app.settings import Settings, load

Metrics = Annotated[
    list[str] | None,
    typer.Option(help="Metrics address of a program; repeatable. Default: the worker's of the settings."),
]
Watch = Annotated[
    float, typer.Option(help="Look at each worker twice, this many seconds apart: counts may only grow.", min=0)
]
Count = Annotated[
    int, typer.Option(help="Look up the newest N committed records of each partition, one by one.", min=0)
]
Fixing = Annotated[bool, typer.Option("--fix", help="Add what is missing, where that is safe; asks first.")]
Yes = Annotated[bool, typer.Option("--yes", help="With --fix: do it, and do not ask.")]
Bundle = Annotated[Path | None, typer.Option(help="Write an archive (.tar.gz) for whoever helps you, without secrets.")]
AsJson = Annotated[bool, typer.Option("--json", help="For a machine.")]


class Question(NamedTuple):
    """What is looked at, and how closely: as the options say."""

    settings: Settings
    layout: Layout
    metrics: Sequence[str]
    watch: float  # seconds
    newest: int  # records of each partition to look up

    def findings(self) -> list[Finding]:
        """Look once; the local stack last."""
        found = asyncio.run(examine(self.settings, self.metrics, self.watch, self.newest, local_more()))
        return [*found, *leftovers.look(self.layout)]


def doctor(
    metrics: Metrics = None,
    watch: Watch = 0.0,
    count: Count = 0,
    fix: Fixing = False,
    yes: Yes = False,
    bundle: Bundle = None,
    as_json: AsJson = False,
) -> None:
    """Check Kafka, the database, the MQTT broker and every program, and say what to do. Changes nothing without --fix.

    --fix makes topics, tables and columns that are missing, takes migrations that only add, and removes what a killed
    supervisor has left in .local; it shows each step before, and looks again afterwards. docs/doctor.md says what is
    in the archive of --bundle.

    Exit code 0: healthy, 1: warnings, 2: broken.

    Example: iot-stream doctor --metrics http://worker-1:9000 --metrics http://worker-2:9000 --watch 5 --count 1000
    """
    _refuse(fix, yes, bundle, as_json)
    urls = [_address(text) for text in metrics or ()]
    question = Question(load(), Layout(default_root()), urls, watch, count)
    quiet()  # what the clients have to say is in the findings
    findings = question.findings()
    done: list[str] = []
    if fix:
        done = _fixed(question, findings, yes, as_json)
        findings = question.findings() if done else findings
    if bundle:
        _write(bundle, question, findings)
    level = worst(findings)
    if as_json:
        fixed = {"fixed": done} if fix else {}
        print(json.dumps({"status": level.name.lower(), "findings": [*map(as_dict, findings)], **fixed}))
    elif done or not fix:
        show(findings)
        if level is Level.BROKEN and (more := unread_env()):
            say(more)
    raise typer.Exit(int(level))


def _refuse(fix: bool, yes: bool, bundle: Path | None, as_json: bool) -> None:
    """Raises BadParameter for options that do not go together, before anything is asked."""
    if yes and not fix:
        raise typer.BadParameter("goes with --fix", param_hint="--yes")
    if fix and not yes and (as_json or not sys.stdin.isatty()):
        raise typer.BadParameter("nobody can be asked here: add --yes", param_hint="--fix")
    if bundle and bundle.exists():
        raise typer.BadParameter(f"{bundle} is there already: name a file that is not", param_hint="--bundle")
    if bundle and not bundle.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no directory {bundle.absolute().parent}", param_hint="--bundle")


def _address(text: str) -> str:
    """With the scheme that people leave out."""
    try:
        return web(text if "://" in text else f"http://{text}")
    except ValueError:
        raise typer.BadParameter("give each program's as http://host:port", param_hint="--metrics") from None


def _fixed(question: Question, findings: Sequence[Finding], yes: bool, as_json: bool) -> list[str]:
    """Take the safe steps, once they and the `findings` are shown and agreed to; the steps that were taken."""
    steps = [*asyncio.run(fixes(question.settings)), *leftovers.fixes(question.layout)]
    if not as_json:
        show(findings)
        for step in steps:
            print(f"to be done: {step.what}")
        if not steps:
            print("nothing that --fix does is missing; the rest is for you: see `to do`")
    if not steps or not (yes or typer.confirm("Do it?")):
        return []
    return [step.what for step in steps if _taken(step, as_json)]


def _taken(step: Fix, as_json: bool) -> bool:
    try:
        asyncio.run(_apply(step))
    except (PermanentError, TransientError) as error:
        say(f"not done: {step.what}: {error}")
        return False
    if not as_json:
        print(f"done: {step.what}")
    return True


async def _apply(step: Fix) -> None:
    await step.apply()


def _write(path: Path, question: Question, findings: Sequence[Finding]) -> None:
    from app.cli.stack.support import entries, secrets_of
    from app.doctor.bundle import write
    from app.doctor.programs.workers import addresses
    from app.settings.resolved.secret_values import mask

    settings, layout = question.settings, question.layout
    urls = addresses(settings, question.metrics, local_more())
    made = asyncio.run(entries(settings, findings, urls, layout))
    write(path, made, mask(settings, secrets_of(layout)))
    say(f"written: {path}; names of users and devices may be in it, secrets are not")
