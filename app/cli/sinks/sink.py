"""`iot-stream sink`: runs one or several sinks of the input topic, each with its own consumer group."""

from typing import Annotated

import typer

from app.cli.sinks.run import run
from app.settings import load
from app.sinks.router import KINDS, instances


def sink(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help=f"{', '.join(KINDS)}, or a table [sinks.NAME]; default: IOT_SINKS."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Connect, print what would be written for a sample, write nothing.")
    ] = False,
    compact: Annotated[bool, typer.Option("--compact", help="parquet: merge small files, and end.")] = False,
    records: Annotated[int, typer.Option(min=1, max=1000, help="With --check: records of the sample.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="With --check: for a machine.")] = False,
) -> None:
    """Write the records of iot-stream to destinations beside the database, at least once, in order per device.

    Each sink has its own consumer group, offsets, memory and dead letters: an unavailable destination delays no other
    sink, nor the worker. IOT_SINKS=parquet,redis, or tables sinks.NAME of the TOML file, define the sinks.

    Example, a check first, then the sink:

    \b
    export IOT_INFLUX_URL=http://127.0.0.1:8086
    iot-stream sink influx --check --records 20
    iot-stream sink influx
    """
    settings = load()
    found = instances(settings, names or ())
    if not found:
        raise typer.BadParameter("name a sink, or set IOT_SINKS", param_hint="NAME")
    if compact:
        from app.cli.sinks.compact import compacted

        raise typer.Exit(compacted(found, as_json))
    if check:
        from app.cli.sinks.check import checked

        raise typer.Exit(checked(found, records, as_json))
    run(settings, found)
