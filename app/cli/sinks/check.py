"""`iot-stream sink NAME --check`: connects to destinations, and prints what would be written for a sample."""

import asyncio
import json
from collections.abc import Sequence

from msgspec import Struct

from app.cli.options import quiet
from app.cli.sinks.sample import SinkSample, sample
from app.errors import IotStreamError
from app.sinks.decode import SinkDecoder
from app.sinks.port import Sink
from app.sinks.record import SinkRecord
from app.sinks.router import SinkInstance, build_sink

OPEN_SECONDS = 15.0


class CheckedSink(Struct):
    """The result of checking one sink."""

    sink: str
    kind: str
    connected: bool
    error: str | None
    sample: str  # source of its records
    lines: list[str]  # what would be written
    filtered: int
    skipped: dict[str, int]


def checked(sinks: Sequence[SinkInstance], most: int, as_json: bool) -> int:
    """Print the result of each sink, with about `most` records; returns the exit code, 1: a sink is not connected.

    Raises SettingsError and PermanentError for a sink that cannot run with its settings.
    """
    quiet()
    found = asyncio.run(_check(sinks, most))
    for one in found:
        print(json.dumps(_plain(one)) if as_json else _text(one))
    return 0 if all(one.connected for one in found) else 1


async def _check(sinks: Sequence[SinkInstance], most: int) -> list[CheckedSink]:
    built = [(one, build_sink(one)) for one in sinks]
    records = await sample(sinks[0].settings, most)
    return [await _check_one(instance, sink, records) for instance, sink in built]


async def _check_one(instance: SinkInstance, sink: Sink, records: SinkSample) -> CheckedSink:
    decoder = SinkDecoder(instance.settings)
    given = [one for partition, found in records.records.items() for one in decoder.decode(partition, found)]
    error = None
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await sink.open()
    except IotStreamError as failure:
        error = str(failure)
    except TimeoutError:
        error = f"no answer within {OPEN_SECONDS:g} s"
    finally:
        lines = list(_shown(sink, given))
        await sink.close()
    return CheckedSink(
        sink.name, sink.kind, error is None, error, records.source, lines, decoder.filtered, dict(decoder.skipped)
    )


def _shown(sink: Sink, records: Sequence[SinkRecord]) -> Sequence[str]:
    """What the sink would write; for a sink without `shown`, the records that it is given."""
    shown = getattr(sink, "shown", None)
    if shown is not None:
        lines: Sequence[str] = shown(records)
        return lines
    return [f"{one.kind} {one.key} {one.payload.decode('utf-8', 'replace')}" for one in records]


def _plain(one: CheckedSink) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def _text(one: CheckedSink) -> str:
    state = "connected" if one.connected else f"NOT CONNECTED: {one.error}"
    lines = [f"{one.sink} ({one.kind}): {state}", f"  sample: {one.sample}; nothing is written"]
    lines += [f"  {line}" for line in one.lines]
    if one.filtered or one.skipped:
        skipped = "".join(f", {count} skipped as {reason}" for reason, count in one.skipped.items())
        lines.append(f"  of the sample {one.filtered} filtered{skipped}")
    return "\n".join(lines)
