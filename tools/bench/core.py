"""Messages per second and core of the code without I/O: `python -m tools.bench.core [messages]`.

CPU time of this process over several runs; a table on stdout. Payloads have 130 to 140 bytes, as in other benchmarks.
"""

import gc
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from statistics import median
from time import process_time
from typing import Annotated

from msgspec import Struct

from app.core.decode.decoder import DecodeLimits, Decoder
from app.core.decode.run_decoder import RunDecoder
from app.core.model.records import Rejected, Row
from app.core.presence.device_classes import NOBODY, DeviceClasses
from app.core.presence.device_presence import PresenceLimits as PresenceLimits
from app.core.processing.processor import SLICE, Processor
from app.core.processing.run_routing import RunRouter
from app.core.routing.address import Address, address_of
from app.core.schema.column_types import Fields, Int32
from app.core.schema.schema import Schema, schema_of
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
RUNS = 7
BATCH = 5000  # the default batch_max_rows: rows of one batch are alive together, as in the worker


class Message(Struct):
    """A record as the consumer gives it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def telemetry(
    count: int, extra: str = '"humidity":41.2', *, headers: bool = True, devices: int = 5000, hot: int = 0
) -> list[Message]:
    """`count` valid messages, 1 ms apart; with `hot`, every `hot`-th message of a device is above the threshold."""
    messages = []
    for i in range(count):
        user, device = f"u{i % 50}", f"d{i % devices}"
        temperature = 95.5 if hot and i // devices % hot == hot - 1 else 21.5
        time = NOW - timedelta(hours=1) + timedelta(milliseconds=i)
        at = time.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        taken = round(time.timestamp() * 1000) + 5
        value = (
            f'{{"time":"{at}Z","user_id":"{user}","device_id":"{device}","sequence_id":{i},'
            f'"temperature":{temperature},"battery":80,{extra}}}'
        )
        topic = f"users/{user}/devices/{device}/telemetry".encode()
        known = (("mqtt_topic", topic), ("kind", b"telemetry"), ("ingest_ms", b"%d" % taken)) if headers else ()
        messages.append(Message(i, taken, f"{user}/{device}".encode(), value.encode(), known))
    return messages


def sensors(count: int) -> list[Message]:
    """`count` messages of iot/{node}/{sensor}/telemetry without sequence_id and time."""
    head = (("mqtt_topic", b"iot/n1/s1/telemetry"), ("kind", b"telemetry"), ("ingest_ms", b"1795226400000"))
    return [Message(i, 1795226400000, b"n1", b'{"value":%d.5,"unit":"C"}' % i, head) for i in range(count)]


def path(messages: Sequence[Message], schema: Schema = DEFAULT) -> None:
    """Route, decode and make rows, a batch at a time, in the processor's slices."""
    router, decoder = RunRouter(), RunDecoder(Decoder(DecodeLimits(), schema), schema)
    for start in range(0, len(messages), BATCH):
        router.begin(NOW_MS)
        decoder.begin()
        rows = list[Row | None]()
        for at in range(start, min(start + BATCH, len(messages)), SLICE):
            part = messages[at : at + SLICE]
            routed = router.route(part, [])
            rows += decoder.decode(part, routed.addresses, routed.arrivals).rows
        assert None not in rows


class Six(Struct):
    """A schema of six columns, each of one field."""

    temperature: float | None = None
    battery: Int32 | None = None
    humidity: float | None = None
    pressure: float | None = None
    state: str | None = None
    level: int | None = None


class TwoNames(Struct):
    """A schema with a column that two fields fill."""

    temperature: Annotated[float | None, Fields("temperature", "temp")] = None
    battery: Int32 | None = None


class Exact(Struct):
    """A schema with a column of decimals."""

    temperature: Decimal | None = None
    battery: Int32 | None = None


SIX = '"humidity":41.2,"pressure":1013.25,"state":"on","level":3'


FIVE_RULES = (
    '[{"key":"temperature","operator":">","threshold":80,"message":"hot","clear_threshold":75,"for_seconds":60},'
    '{"key":"battery","operator":"<","threshold":20,"message":"low","cooldown_seconds":600},'
    '{"key":"humidity","operator":">=","threshold":95,"message":"wet","consecutive":3},'
    '{"key":"engine.oil","operator":">","threshold":120,"message":"oil"},'
    '{"id":"both","all":[{"key":"temperature","operator":">","threshold":60},'
    '{"key":"humidity","operator":">","threshold":80}],"message":"sultry"}]'
)
RULES = (
    '[{"key":"temperature","operator":">","threshold":80,"message":"hot"},'
    '{"key":"battery","operator":"<","threshold":20,"message":"low"}]'
)


class Run(Struct):
    """A batch as the processor sees it."""

    records: Sequence[Message]
    next_offset: int
    partition: int = 0
    epoch: int = 0


def process(messages: Sequence[Message], rules: str | None = RULES, classes: DeviceClasses = NOBODY) -> None:
    """The whole processor: routing, decoding, two rules, device state and its encoding, rows; a batch at a time."""
    book = RuleBook(DEFAULT)
    if rules:
        assert not book.apply([(f"u{user}", rules) for user in range(50)])
    processor = Processor(DecodeLimits(), DEFAULT, book, lambda partition, key: None, classes)
    for start in range(0, len(messages), BATCH):
        part = messages[start : start + BATCH]
        work = processor(Run(part, part[-1].offset + 1), NOW.timestamp())  # type: ignore[arg-type]  # no ack here
        assert len(work.rows) == len(part)


def process_five_rules(messages: Sequence[Message]) -> None:
    """The whole processor with five rules: two on fields without a column, one with two conditions."""
    process(messages, FIVE_RULES)


def process_present(messages: Sequence[Message]) -> None:
    """The whole processor with five rules and a check of the presence of every device."""
    process(messages, FIVE_RULES, DeviceClasses((), PresenceLimits(5.0)))


def process_present_without_rules(messages: Sequence[Message]) -> None:
    """The whole processor without rules, with a check of the presence of every device."""
    process(messages, None, DeviceClasses((), PresenceLimits(5.0)))


def process_without_rules(messages: Sequence[Message]) -> None:
    """The whole processor for users without rules: no device state."""
    process(messages, None)


def refuse(messages: Sequence[Message]) -> None:
    """Decode messages that all become dead letters."""
    decoder = Decoder(DecodeLimits(), DEFAULT)
    for record in messages:
        address = address_of(record)
        assert type(address) is Address
        assert type(decoder.decode(record, address, NOW_MS)) is Rejected


def measure(run: Callable[[Sequence[Message]], None], messages: Sequence[Message]) -> tuple[float, float]:
    """Best and median CPU microseconds per message over RUNS runs."""
    times = []
    for _ in range(RUNS):
        gc.collect()
        began = process_time()
        run(messages)
        times.append((process_time() - began) / len(messages) * 1e6)
    return min(times), median(times)


def main() -> None:
    """Measure all cases and print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    bad = telemetry(count)
    for message in bad:
        assert message.value
        message.value = message.value[:-1]
    cases: list[tuple[str, Callable[[Sequence[Message]], None], list[Message]]] = [
        ("telemetry, one extra field", path, telemetry(count)),
        ("the same, no headers", path, telemetry(count, headers=False)),
        (
            "five extra fields, nested",
            path,
            telemetry(count, '"pressure":1013.25,"engine":{"oil":90.1,"rpm":900},"state":"on","level":3,"code":"é"'),
        ),
        ("four fields in extra_data", path, telemetry(count, SIX)),
        ("the same with columns of their own", partial(path, schema=schema_of(Six)), telemetry(count, SIX)),
        ("a column with two names", partial(path, schema=schema_of(TwoNames)), telemetry(count)),
        ("a column of decimals", partial(path, schema=schema_of(Exact)), telemetry(count)),
        ("an escape (slow way)", path, telemetry(count, '"name":"a\\nb"')),
        ("iot, no id and no time", path, sensors(count)),
        ("truncated JSON", refuse, bad),
        ("all of step 2, no rules", process_without_rules, telemetry(count, devices=500)),
        ("2 rules, state, alerts 1 in 50", process, telemetry(count, devices=500, hot=100)),
        ("2 rules, state, alerts 2 in 3", process, telemetry(count, devices=500, hot=3)),
        ("2 rules, state, 5000 devices", process, telemetry(count)),
        ("5 rules, state, 10000 devices", process_five_rules, telemetry(max(count, 100_000), devices=10_000)),
        ("the same, watched, new devices", process_present, telemetry(max(count, 100_000), devices=10_000)),
        ("no rules, watched", process_present_without_rules, telemetry(count, devices=500)),
        ("5 rules, alerts 2 in 3", process_five_rules, telemetry(count, devices=500, hot=3)),
    ]
    print(f"{'route + decode + row':36}{'bytes':>6}{'us best':>9}{'us median':>11}{'msg/s/core':>12}")
    for name, run, messages in cases:
        size = sum(len(message.value or b"") for message in messages) // len(messages)
        best, middle = measure(run, messages)
        print(f"{name:36}{size:>6}{best:>9.2f}{middle:>11.2f}{1e6 / middle:>12,.0f}")


if __name__ == "__main__":
    main()
