"""`iot-stream`: the list of its commands. Only the command that is asked for is imported, so that --help is quick."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from app.errors import IotStreamError
from app.runtime.ending.exit_codes import ErrorLine, ExitCode, last_words
from app.runtime.version import VERSION

# name -> (folder of its module, which has a function or a Typer of the same name; one line)
COMMANDS = {
    "run": ("stack", "Start everything with a simulated fleet, and show what happens. No Docker needed."),
    "up": ("stack", "Start everything: Kafka, PostgreSQL, Mosquitto, bridge, worker, notifier, fleet."),
    "down": ("stack", "Stop everything `up` started, in order, losing nothing."),
    "status": ("stack", "Each process of the stack and how it is. Exit code 1 if a process is not well."),
    "worker": ("programs", "Run one worker: `faust -A app worker` with the right settings."),
    "bridge": ("programs", "Bring MQTT messages into Kafka, acknowledged once Kafka has them."),
    "notifier": ("programs", "Send alerts from Kafka to MQTT users/<id>/alerts."),
    "ingest": ("ingest", "Take telemetry in by HTTP, TCP, gRPC and QUIC, several gateways in one process."),
    "grpc": ("ingest", "Take batches of metrics and events in over gRPC: a UNIX socket, and TLS."),
    "http": ("ingest", "Take telemetry in over HTTP: JSON, NDJSON, protobuf, Influx lines."),
    "tcp": ("ingest", "Take JSON lines or Influx lines in over TCP and TLS, acknowledged once Kafka has them."),
    "quic": ("ingest", "Take batches of metrics in over QUIC, from senders with client certificates."),
    "sink": ("sinks", "Write records out: Parquet, InfluxDB, Redis, an HTTP feed, gRPC; each holds up no other."),
    "push": ("ingest", "Push readings from a file or a pipe to a gateway, each acknowledged once Kafka has it."),
    "fleet": ("stack", "Simulated devices that send telemetry, over MQTT or by a gateway."),
    "load": ("load", "Send a measured load over MQTT, then check every row and every alert of it."),
    "topics": ("data", "Make or list the Kafka topics."),
    "db": ("data", "Set up the database."),
    "config": ("data", "The settings in force and where each came from; JSON Schemas of what you write."),
    "schema": ("data", "Your own columns: the SQL for them, and whether the database has them."),
    "users": ("data", "Manage the accounts of devices, for MQTT and the gateways, and their tokens."),
    "alerts": ("rules", "The open alerts, what was sent, and snooze, ack, disable, enable."),
    "channels": ("rules", "Where alerts of users go beside MQTT: e-mail, chats, pagers; list, add, remove, test."),
    "rules": ("rules", "Check, try and store rule sets; see what the rules would have sent."),
    "trace": ("inspect", "Where one message is now: stored, dead-lettered, waiting or not seen; and its spans."),
    "tap": ("inspect", "Show live records of Kafka, dead letters, alerts or MQTT, decoded."),
    "dlq": ("deadletters", "Dead letters: list, show, export, import, mend and put back, delete."),
    "history": ("history", "Read history again: set offsets back, store it into another table, verify, export."),
    "top": ("stack", "Watch a deployment: rates, lag, books, alerts, of every process and partition."),
    "doctor": ("stack", "Check every dependency, and whether the books balance."),
}
COMPLETION = "_IOT_STREAM_COMPLETE"  # the variable that a shell sets when it asks for completions
DOCS = Path(__file__).parents[2] / "docs" / "README.md"  # a wheel has no documentation


def main() -> None:
    """Entry point of the console script. An error that an operator understands is one line on standard error; the exit
    code is one of ExitCode.
    """
    words = spelled_out(sys.argv[1:])
    try:
        try:
            build(named(words))(words)
        finally:
            sys.stdout.flush()
    except (IotStreamError, OSError, ExceptionGroup) as error:
        said = last_words(error)
        if said is None:
            raise
        _end(said, named(words))
    except KeyboardInterrupt:  # while the command is imported; Typer handles the signal afterwards
        sys.exit(ExitCode.INTERRUPTED)


def _end(said: ErrorLine, command: str | None) -> NoReturn:
    """Leave with the last words, and for a command that goes by the settings with a word on those that it has not read.
    What standard output could not write, on a full disk, is not tried once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(said.line, file=sys.stderr)
    if said.code is ExitCode.FAILED and command in COMMANDS and COMMANDS[command][0] != "stack":
        from app.cli.stack.unread_env import unread_env

        if more := unread_env():
            print(more, file=sys.stderr)
    sys.exit(said.code)


def spelled_out(words: Sequence[str]) -> list[str]:
    """The arguments, with `help dlq replay` as `dlq replay --help`."""
    return [*words[1:], "--help"] if words[:1] == ["help"] else list(words)


def named(words: Sequence[str]) -> str | None:
    """The command that the arguments name, or that the line names which a shell wants completed; None: none."""
    if COMPLETION in os.environ:
        line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
        words = line.split()[1:]
    return next((word for word in words if not word.startswith("-")), None)


def build(wanted: str | None) -> typer.Typer:
    """The command line with every command listed, and only `wanted` imported; None: none of them. Raises what importing
    it raises, SettingsError too.
    """
    cli = typer.Typer(
        name="iot-stream",
        help="MQTT telemetry to TimescaleDB through Kafka, with stateful alerts, and nothing lost.",
        epilog=f"Documentation: {DOCS if DOCS.exists() else 'docs/README.md of the source'}",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # rich takes [words in brackets] for markup, and draws boxes into pipes
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    cli.callback()(_group)
    cli.command("help", short_help="Show the help of a command, as of `dlq replay`.")(_help)
    for name, (_, summary) in COMMANDS.items():
        command = _command(name) if name == wanted else _unused
        if isinstance(command, typer.Typer):
            _summarize(command)
            cli.add_typer(command, name=name, help=summary)
        else:
            cli.command(name, short_help=summary)(command)
    return cli


def _summarize(group: typer.Typer) -> None:
    """Have the list of a group's commands show the first sentence of each whole, however long it is."""
    for command in group.registered_commands:
        text = (command.callback.__doc__ or "") if command.callback else ""
        command.short_help = command.short_help or " ".join(text.partition("\n\n")[0].split())
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _summarize(inner.typer_instance)


def _command(name: str) -> Any:
    from app.runtime.allocator import quick_imports  # costs --help 10 ms

    with quick_imports():
        return getattr(importlib.import_module(module_of(name)), name)


def module_of(name: str) -> str:
    """The module of the command `name`, which has a function or a Typer of that name. Raises KeyError for
    no command.
    """
    return f"app.cli.{COMMANDS[name][0]}.{name}"


def _print_version(asked: bool) -> None:
    if asked:
        print(f"iot-stream {VERSION}")
        raise typer.Exit


def _group(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Makes the command line a group even when it has one command."""


def _help() -> None:
    """Show the help of the command that follows, as --help after it does.

    Example: iot-stream help dlq replay
    """


def _unused() -> None:
    """Stands for a command that is only listed."""
