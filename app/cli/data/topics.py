"""`iot-stream topics`: make the Kafka topics, or list them."""

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli.options import quiet
from app.cli.render.table import print_table
from app.kafka.access import access
from app.kafka.topics import TopicSpec, existing, wanted
from app.kafka.topics import create as make
from app.settings import Settings, load
from app.sinks.cardinality.series_log import series_topic
from app.sinks.router import instances

topics = typer.Typer(no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="For a machine.")]


@topics.callback()
def group() -> None:
    """Make or list the Kafka topics."""


@topics.command()
def create(as_json: AsJson = False) -> None:
    """Make the topics that are missing, also those of the sinks that IOT_SINKS names; topics of records that exist must
    have IOT_KAFKA_PARTITIONS partitions.

    Example: IOT_KAFKA_BROKER=kafka:9092 iot-stream topics create
    """
    settings = load()
    quiet()
    made = asyncio.run(make(access(settings), _needed(settings), settings.kafka_replication_factor))
    print(json.dumps({"created": made}) if as_json else f"created: {', '.join(made) or 'none, all existed'}")


@topics.command("list")
def show(as_json: AsJson = False) -> None:
    """Each topic of this app with its partitions. Exit code 1 when a topic is missing or differs.

    Example: iot-stream topics list --json
    """
    settings = load()
    quiet()
    needed = _needed(settings)
    there = asyncio.run(existing(access(settings), [topic.name for topic in needed]))
    rows = [
        {"topic": topic.name, "partitions": there.get(topic.name, 0), "wanted": topic.partitions} for topic in needed
    ]
    if as_json:
        print(json.dumps(rows))
    else:
        print_table(("topic", "partitions", "state"), [_cells(row) for row in rows])
    if any(row["partitions"] != row["wanted"] for row in rows):
        raise typer.Exit(1)


def _cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    state = "ok" if row["partitions"] == row["wanted"] else "missing" if not row["partitions"] else "DIFFERS"
    return str(row["topic"]), f"{row['partitions']} of {row['wanted']}", state


def _needed(settings: Settings) -> list[TopicSpec]:
    """Those of the worker, and of the sinks that the settings name."""
    return wanted(settings) + [series_topic(one.settings, one.name) for one in instances(settings)]
