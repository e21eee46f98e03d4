"""`iot-stream tap`: records and messages as they come, decoded."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import typer

from app.cli.options import escape_unencodable, past, quiet
from app.cli.render.tap import Paint, lines, paint
from app.core.model.records import Kind, Reason
from app.inspect.decoding import RecordDecoder
from app.inspect.filters import ViewFilter
from app.inspect.text import json_line
from app.inspect.views import ANSWER, EVENT, MqttRecord, RecordView, Viewer, as_json
from app.kafka.access import access
from app.kafka.reading.record_log import record_log
from app.mqtt.subscription import subscription
from app.settings import Settings, load

KINDS = (*Kind, EVENT, ANSWER)


class TapTopic(StrEnum):
    """What can be looked at."""

    IN = "in"
    DLQ = "dlq"
    ALERTS = "alerts"
    MQTT = "mqtt"


class Begin(NamedTuple):
    """Where in a topic of Kafka to begin, and whether to go on when its present end is reached."""

    from_beginning: bool
    since_ms: int | None
    until_end: bool


Named = Annotated[TapTopic | None, typer.Argument(metavar="TOPIC", help="The same as --topic.")]
Topic = Annotated[
    TapTopic | None,
    typer.Option("--topic", help="Kafka's input, dead letters or alerts; or what the MQTT broker delivers.  [in]"),
]
User = Annotated[str | None, typer.Option("--user", help="Of this user (or node) alone.")]
Device = Annotated[str | None, typer.Option("--device", help="Of this device alone; a glob such as 'truck-*'.")]
OfReason = Annotated[list[str] | None, typer.Option("--reason", help="Refused for this reason alone; repeatable.")]
OfKind = Annotated[
    list[str] | None, typer.Option("--kind", help=f"Of this kind alone: {', '.join(KINDS)}; repeatable.")
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="End after so many records.")]
Once = Annotated[bool, typer.Option("--once", help="End after one record.")]
Beginning = Annotated[bool, typer.Option("--from-beginning", help="From the oldest record on that Kafka holds.")]
Since = Annotated[str | None, typer.Option("--since", help="From records on that are so old: 90s, 15m, 12h, 7d.")]
UntilEnd = Annotated[bool, typer.Option("--until-end", help="End at the present end, and do not wait for more.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, with every field.")]


def tap(
    named: Named = None,
    topic: Topic = None,
    user: User = None,
    device: Device = None,
    reason: OfReason = None,
    kind: OfKind = None,
    limit: Limit = None,
    once: Once = False,
    from_beginning: Beginning = False,
    since: Since = None,
    until_end: UntilEnd = False,
    as_json: AsJson = False,
) -> None:
    """Show live records of Kafka, or messages of the MQTT broker, decoded as a worker decodes.

    The command joins no group, commits nothing and takes over no MQTT session. Ends with Ctrl-C (exit code 130).

    Example: iot-stream tap dlq --since 1h --user alice --reason bad_time --json
    """
    if named and topic and named is not topic:
        raise typer.BadParameter(f"give one topic: {named} or {topic}", param_hint="--topic")
    where = topic or named or TapTopic.IN
    begin = _begin(where, from_beginning, since, until_end)
    wanted = ViewFilter(user, device, _known("--kind", kind, KINDS), _known("--reason", reason, tuple(Reason)))
    quiet()
    output = Output(wanted, 1 if once else limit, as_json)
    settings = load()
    if where is TapTopic.MQTT:
        if user is not None and any(mark in user for mark in "/+#\0"):
            raise typer.BadParameter("a user is one level of an MQTT topic", param_hint="--user")
        _tap_mqtt(settings, user, output)
    else:
        asyncio.run(_tap_kafka(settings, where, begin, output))


def _begin(where: TapTopic, from_beginning: bool, since: str | None, until_end: bool) -> Begin:
    if from_beginning and since:
        raise typer.BadParameter("give --since or --from-beginning", param_hint="--since")
    begin = Begin(from_beginning, None, until_end)
    if where is TapTopic.MQTT and (since or any(begin)):
        raise typer.BadParameter("MQTT has no past and no end: this goes with in, dlq and alerts", param_hint="mqtt")
    if since:
        begin = begin._replace(since_ms=int((time.time() - past(since, "--since").total_seconds()) * 1000))
    return begin


def _known(option: str, values: Sequence[str] | None, choices: Sequence[str]) -> Sequence[str]:
    for value in values or ():
        if value not in choices:
            raise typer.BadParameter(f"there is no {value!r}; choose from {', '.join(choices)}", param_hint=option)
    return values or ()


class Output:
    """Writes the wanted views to standard output. Raises typer.Exit after the last view, or when nobody reads them."""

    def __init__(self, wanted: ViewFilter, limit: int | None, as_json: bool) -> None:
        """`limit`: how many records are written, None: all."""
        self._wanted, self._left, self._as_json = wanted, limit, as_json
        self._paint: Paint = paint()
        escape_unencodable()

    def show(self, views: Iterator[RecordView]) -> None:
        """Write the views that are wanted, and flush. Raises typer.Exit after the last one, or when nobody reads them
        any more.
        """
        try:
            for view in views:
                if self._wanted.takes(view):
                    self._write(view)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
            raise typer.Exit(0) from None

    def _write(self, view: RecordView) -> None:
        text = [json_line(as_json(view))] if self._as_json else lines(view, self._paint)
        print(*text, sep="\n")
        if self._left is not None:
            self._left -= 1
            if not self._left:
                sys.stdout.flush()
                raise typer.Exit(0)


def _tap_mqtt(settings: Settings, user: str | None, output: Output) -> None:
    viewer = Viewer(RecordDecoder(settings))
    filters = settings.bridge_filters if user is None else (f"users/{user}/#", f"iot/{user}/#")
    with closing(subscription(settings, filters, f"tap-{os.getpid()}")) as messages:
        for one in messages:
            record = MqttRecord(one.payload, one.received_ms, one.properties)
            place = {"topic": one.topic, "qos": one.qos, "retained": one.retained}
            output.show(iter([viewer.mqtt(record, one.topic, one.received_ms, place)]))


async def _tap_kafka(settings: Settings, where: TapTopic, begin: Begin, output: Output) -> None:
    viewer = Viewer(RecordDecoder(settings))
    topics: dict[TapTopic, tuple[str, Callable[[Any, int], RecordView]]] = {
        TapTopic.IN: (settings.kafka_topic, viewer.input),
        TapTopic.DLQ: (settings.kafka_dlq_topic, viewer.dead_letter),
        TapTopic.ALERTS: (settings.kafka_alerts_topic, viewer.alert),
    }
    topic, view = topics[where]
    # Our records are in no transaction but on the input topic, and another program's transaction would hide them.
    async with record_log(access(settings), topic, committed=where is TapTopic.IN) as log:
        ends = await log.ends()
        starts = await log.starts() if begin.from_beginning else ends
        if begin.since_ms is not None:
            starts = await log.since(begin.since_ms, ends)
        async for records in log.follow(starts, ends if begin.until_end else None):
            now_ms = time.time_ns() // 1_000_000
            output.show(view(record, now_ms) for record in records)
