"""The accounts of a run: each message is one row or one dead letter and each alert is sent; otherwise a problem."""

import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.workers import Site, behind
from tools.audit import EXAMPLES, Alert
from tools.faults.mqtt import Heard
from tools.faults.stream import Stream
from tools.faults.tail import Tail


@dataclass
class AlertCounts:
    """The alerts: `episodes` that began, `seen` episodes, `doubled` ids, `repeats` of the same message."""

    wanted: int = 0
    episodes: int = 0
    seen: int = 0
    doubled: int = 0
    lost: int = 0
    repeats: int = 0


@dataclass
class Accounts:
    """For each message of each stream, by its number: its count of rows and its count of dead letters."""

    rows: dict[str, bytearray] = field(default_factory=dict)
    letters: dict[str, bytearray] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    dead_good: int = 0  # dead letters that should be rows
    kafka: AlertCounts = field(default_factory=AlertCounts)
    mqtt: AlertCounts = field(default_factory=AlertCounts)

    def problem(self, what: str, examples: Iterable[Any]) -> None:
        """Note a problem with some examples, if there are examples."""
        found = list(examples)
        if found:
            self.problems.append(f"{what}: {len(found)}, such as " + ", ".join(str(x)[:200] for x in found[:EXAMPLES]))


async def draw_up(site: Site, streams: Sequence[Stream], tail: Tail, heard: Sequence[Heard] | None) -> Accounts:
    """Compare rows, dead letters and alerts with the sent messages, after all processing has ended.

    `heard` None: the run had no notifier.
    """
    accounts = Accounts({s.letter: bytearray(s.sent) for s in streams}, {s.letter: bytearray(s.sent) for s in streams})
    accounts.problem("input topic", tail.problems)
    for stream in streams:
        times = tail.times[stream.letter]
        times = times.ljust(stream.sent, b"\0")
        accounts.problem(f"input topic: {stream.letter} lost", (n for n in range(stream.sent) if not times[n]))
    await _rows(site, streams, accounts)
    await _letters(site, streams, tail, accounts)
    await _alerts(site, streams, heard, accounts)
    topics = [site.settings.kafka_topic, *([] if heard is None else [site.settings.kafka_alerts_topic])]
    for topic in topics:
        group = site.settings.group_id + ("-notifier" if topic == site.settings.kafka_alerts_topic else "")
        accounts.problem(
            f"{topic}: offsets not at the end",
            behind(await site.committed(topic, group), await site.ends(topic)).items(),
        )
    return accounts


async def _rows(site: Site, streams: Sequence[Stream], accounts: Accounts) -> None:
    by_letter = {stream.letter: stream for stream in streams}
    foreign = []
    async for device, n, time, temperature in _every_row(site):
        stream = by_letter[device[0]]
        right = n < stream.sent and not stream.bad(n)
        if not right or (device, time, temperature) != (stream.device(n), stream.time(n), stream.temperature(n)):
            foreign.append((device, n, time, temperature))
            continue
        accounts.rows[stream.letter][n] += 1
    accounts.problem("unexpected or altered rows", foreign)
    for stream in streams:
        rows = accounts.rows[stream.letter]
        accounts.problem(f"rows: {stream.letter} doubled", (n for n, times in enumerate(rows) if times > 1))
        missing = (n for n, times in enumerate(rows) if not times and not stream.bad(n))
        accounts.problem(f"rows: {stream.letter} lost", missing)


async def _every_row(site: Site) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(site.database)
    try:
        async with connection.transaction():
            sql = "SELECT device_id, sequence_id, time, temperature FROM raw_telemetry"
            async for row in connection.cursor(sql, prefetch=20_000):
                yield row
    finally:
        await connection.close()


async def every_record(site: Site, topic: str) -> AsyncIterator[Any]:
    """Each record of a topic up to its present end, in order per partition."""
    options = {"enable_auto_commit": False, "auto_offset_reset": "earliest"}
    async with AIOKafkaConsumer(bootstrap_servers=site.kafka, **options) as consumer:
        parts = [TopicPartition(topic, number) for number in range(site.settings.kafka_partitions)]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        while any([await consumer.position(part) < end for part, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    yield record


async def _letters(site: Site, streams: Sequence[Stream], tail: Tail, accounts: Accounts) -> None:
    by_letter = {stream.letter: stream for stream in streams}
    wrong = []
    async for record in every_record(site, site.settings.kafka_dlq_topic):
        envelope = json.loads(record.value)
        source, reason = envelope["source"], envelope["reason"]
        where = (source["partition"], source["offset"])
        if where not in tail.bad:
            accounts.dead_good += 1
            wrong.append((where, reason, envelope["error"]))
            continue
        payload = base64.b64decode(envelope["payload_base64"])
        for letter, n in reversed(tail.bad[where]):  # the newest log's message first
            stream = by_letter[letter]
            if stream.is_message(n, record.key, payload) and stream.message(n).reason == reason:
                break
        else:
            wrong.append((where, reason, envelope["error"]))
        accounts.letters[letter][n] += 1
    accounts.problem("dead letters that are wrong", wrong)
    for stream in streams:
        letters = accounts.letters[stream.letter]
        if stream.each_record:
            _once_a_record(letters, tail.times[stream.letter])
        accounts.problem(f"dead letters: {stream.letter} doubled", (n for n, times in enumerate(letters) if times > 1))
        missing = (n for n, times in enumerate(letters) if not times and stream.bad(n))
        accounts.problem(f"dead letters: {stream.letter} lost", missing)


def _once_a_record(letters: bytearray, records: bytearray) -> None:
    """Count a message once if its dead letters are as many as its records on the input topic."""
    for n, times in enumerate(letters):
        if times > 1 and times == records[n]:
            letters[n] = 1


async def _alerts(site: Site, streams: Sequence[Stream], heard: Sequence[Heard] | None, accounts: Accounts) -> None:
    wanted = [alert for stream in streams for alert in stream.alerts()]
    reported = [record async for record in every_record(site, site.settings.kafka_alerts_topic)]
    events = [json.loads(record.value) for record in reported if not record.headers]  # answers have a header
    names = ("alert_id", "status", "device_id", "first_seen", "event_time")
    written = [Heard(*(event[name] for name in names)) for event in events]
    accounts.kafka = _compare("alerts", wanted, written, accounts)
    if heard is not None:
        accounts.mqtt = _compare("alerts over MQTT", wanted, heard, accounts)


def _compare(what: str, wanted: Sequence[Alert], found: Sequence[Heard], accounts: Accounts) -> AlertCounts:
    """The first message of each (alert_id, status) counts; an equal repeat does no harm."""
    first: dict[tuple[str, str], Heard] = {}
    for one in found:
        first.setdefault(one[:2], one)
    alerts = [Alert(one.device, one.first_seen, one.status) for one in first.values()]
    have, want = Counter(alerts), Counter(wanted)
    lost, doubled = want - have, have - want
    accounts.problem(f"{what}: lost", lost.elements())
    accounts.problem(f"{what}: doubled or unexpected", doubled.elements())
    order: dict[str, list[Alert]] = {}
    for alert in alerts:
        order.setdefault(alert.device, []).append(alert)
    right: dict[str, list[Alert]] = {}
    for alert in wanted:
        right.setdefault(alert.device, []).append(alert)
    if not lost and not doubled:
        accounts.problem(f"{what}: devices whose alerts are not in order", (d for d in right if right[d] != order[d]))
    firing = sum(alert.status == "FIRING" for alert in wanted)
    seen = sum(alert.status == "FIRING" for alert in have & want)
    return AlertCounts(len(wanted), firing, seen, doubled.total(), lost.total(), len(found) - len(first))
