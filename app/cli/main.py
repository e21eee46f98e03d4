"""`iot-stream`: the list of its commands. Only the one that is asked for is imported, so that --help is quick."""

import importlib
import importlib.util
import sys
from typing import Any

import typer

from app.errors import IotStreamError, SettingsError

# name -> (module:function or module:Typer, one line)
COMMANDS = {
    "run": ("app.cli.run:run", "Start everything with a simulated fleet, and show what happens. No Docker needed."),
    "up": ("app.cli.up:up", "Start everything: Kafka, PostgreSQL, Mosquitto, bridge, worker, notifier, fleet."),
    "down": ("app.cli.down:down", "Stop everything `up` started, in order, losing nothing."),
    "status": ("app.cli.status:status", "Each process of the stack and how it is. Exit code 1 if one is not well."),
    "worker": ("app.cli.worker:worker", "Run one worker: `faust -A app worker` with the right settings."),
    "bridge": ("app.cli.bridge:bridge", "Bring MQTT messages into Kafka, acknowledged once Kafka has them."),
    "notifier": ("app.cli.notifier:notifier", "Send alerts from Kafka to MQTT users/<id>/alerts."),
    "fleet": ("app.cli.fleet:fleet", "Simulated devices that publish telemetry over MQTT."),
    "topics": ("app.cli.topics:topics", "Make or list the Kafka topics."),
    "db": ("app.cli.db:db", "Set up the database."),
    "schema": ("app.cli.schema:schema", "Your own columns: the SQL for them, and whether the database has them."),
    "users": ("app.cli.users:users", "Manage the MQTT accounts of devices."),
    "dlq": ("app.cli.dlq:dlq", "Look into dead letters and send them again."),
    "replay": ("app.cli.replay:replay", "Take a stretch of the topic again."),
    "alerts": ("app.cli.alerts:alerts", "The open alerts, what was told, and snooze, ack, disable, enable."),
    "rules": ("app.cli.rules:rules", "Check, try and store rule sets; see what they would have told."),
    "doctor": ("app.cli.doctor:doctor", "Check every dependency, and whether the books balance."),
}


def main() -> None:
    """Entry point of the console script. Exit code 1 after an error, 2 after wrong settings or arguments."""
    try:
        build(next((word for word in sys.argv[1:] if not word.startswith("-")), None))()
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except IotStreamError as error:
        print(f"iot-stream: {error}", file=sys.stderr)
        sys.exit(1)


def build(wanted: str | None) -> typer.Typer:
    """The command line with every command listed, and only `wanted` imported."""
    cli = typer.Typer(
        name="iot-stream",
        help="MQTT telemetry to TimescaleDB through Kafka, with stateful alerts, and nothing lost.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    cli.callback()(_group)
    for name, (target, summary) in COMMANDS.items():
        module, _, attribute = target.partition(":")
        if importlib.util.find_spec(module) is None:
            continue
        command: Any = getattr(importlib.import_module(module), attribute) if name == wanted else _unused
        if isinstance(command, typer.Typer):
            cli.add_typer(command, name=name, help=summary)
        else:
            cli.command(name, short_help=summary)(command)
    return cli


def _group() -> None:
    """Makes this a group even when it has one command."""


def _unused() -> None:
    """Stands for a command that is only listed."""
