"""The audit of messages: in, the sent messages; out, all lost, doubled or altered messages, with examples.

The audit trusts only the servers: the rows in PostgreSQL, the records of the Kafka topics, the group's offsets and the
messages that a subscriber received over MQTT. The audit computes the expected alerts itself from the payloads.
"""

import base64
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.workers import Site, behind

EXAMPLES = 5


class Sent(NamedTuple):
    """One message: MQTT topic, Kafka key, payload; for a message that can never be stored, the dead letter's reason."""

    topic: str
    key: bytes
    payload: bytes
    reason: str | None = None


class Alert(NamedTuple):
    """The fields that identify an alert event to a person."""

    device: str
    first_seen: str
    status: str


@dataclass
class Books:
    """The result: `problems` is empty when each message is present once; the rest are counts."""

    problems: list[str] = field(default_factory=list)
    given: int = 0  # records on the input topic
    rows: int = 0
    dead: int = 0
    alerts: int = 0
    alert_repeats: int = 0  # the same (alert_id, status) again on the alert topic: allowed after a crash
    heard: int = 0

    def compare(self, what: str, found: Iterable[Any], wanted: Iterable[Any]) -> None:
        """Note lost items, unexpected items and doubled items as problems."""
        have, want = Counter(found), Counter(wanted)
        for name, difference in (("lost", want - have), ("doubled or unexpected", have - want)):
            if difference:
                examples = ", ".join(str(one)[:200] for one in list(difference)[:EXAMPLES])
                self.problems.append(f"{what}: {difference.total()} {name}, such as {examples}")

    def must_balance(self) -> None:
        """Fail with every problem found."""
        assert not self.problems, "\n".join(self.problems)


async def audit(
    site: Site,
    sent: Sequence[Sent],
    alerts: Sequence[Alert] = (),
    heard: Sequence[Mapping[str, Any]] | None = None,
    redelivered: bool = False,
) -> Books:
    """Compare all servers with the sent messages. Call `audit` after all processing has ended.

    `alerts`: the expected alerts; `heard`: the alerts received over MQTT. `redelivered`: messages came over MQTT,
    where QoS 1 may repeat a message, so a message may be on the input topic twice; its dead letter still comes once.
    """
    books = Books()
    records = await read(site, site.settings.kafka_topic)
    books.given = len(records)
    given: Counter[Any] = Counter((header(r, "mqtt_topic"), r.key, r.value) for r in records)
    wanted: Counter[Any] = Counter((one.topic.encode(), one.key, one.payload) for one in sent)
    books.compare("input topic", (given & wanted if redelivered else given).elements(), wanted.elements())
    await _rows(site, books, sent)
    await _dead_letters(site, books, sent, _first_of_each(records) if redelivered else records)
    await _alerts(site, books, alerts, heard)
    left = behind(await site.committed(), await site.ends())
    if left:
        books.problems.append(f"offsets: partition: (committed, end) {left}")
    return books


def _first_of_each(records: Sequence[Any]) -> list[Any]:
    """The first record of each message; payloads are all different, and `records` are in order."""
    firsts: dict[Any, Any] = {}
    for record in records:
        firsts.setdefault((header(record, "mqtt_topic"), record.value), record)
    return list(firsts.values())


def header(record: Any, name: str) -> bytes | None:
    """The value of the first header of that name; None without such a header."""
    return next((value for key, value in record.headers if key == name), None)


async def read(site: Site, topic: str) -> list[Any]:
    """All records of a topic up to its present end, by partition and offset."""
    found: list[Any] = []
    options = {"enable_auto_commit": False, "auto_offset_reset": "earliest"}
    async with AIOKafkaConsumer(bootstrap_servers=site.kafka, **options) as consumer:
        parts = [TopicPartition(topic, number) for number in range(site.settings.kafka_partitions)]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                found += batch
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def _rows(site: Site, books: Books, sent: Sequence[Sent]) -> None:
    rows = await site.fetch("SELECT user_id, device_id, sequence_id, temperature FROM raw_telemetry")
    books.rows = len(rows)
    good = [(one.topic.split("/"), json.loads(one.payload)) for one in sent if one.reason is None]
    wanted = [(t[1], t[3], p["sequence_id"], p.get("temperature")) for t, p in good if t[0] == "users"]
    books.compare("rows", map(tuple, rows), wanted)


async def _dead_letters(site: Site, books: Books, sent: Sequence[Sent], records: Sequence[Any]) -> None:
    """Compare the dead letters: one dead letter for each bad record, by its offset, with key, bytes and reason."""
    reasons: dict[Any, str] = {(one.topic.encode(), one.payload): one.reason for one in sent if one.reason}
    wanted = [
        (r.partition, r.offset, r.key, r.value, reasons[kind])
        for r in records
        if (kind := (header(r, "mqtt_topic"), r.value)) in reasons
    ]
    letters = await read(site, site.settings.kafka_dlq_topic)
    books.dead = len(letters)
    found = []
    for letter in letters:
        envelope = json.loads(letter.value)
        source, payload = envelope["source"], base64.b64decode(envelope["payload_base64"])
        found.append((source["partition"], source["offset"], letter.key, payload, envelope["reason"]))
    books.compare("dead letters", found, wanted)


async def _alerts(site: Site, books: Books, alerts: Sequence[Alert], heard: Sequence[Mapping[str, Any]] | None) -> None:
    reported = await read(site, site.settings.kafka_alerts_topic)
    events = [json.loads(record.value) for record in reported if not record.headers]  # answers have a header
    books.alerts = len(events)
    first = list({(event["alert_id"], event["status"]): event for event in reversed(events)}.values())[::-1]
    books.alert_repeats = len(events) - len(first)
    books.compare("alerts", map(identity, first), alerts)
    if heard is not None:
        books.heard = len(heard)
        books.compare("alerts over MQTT", map(identity, heard), alerts)
        for device in {alert.device for alert in alerts}:
            wanted = [alert for alert in alerts if alert.device == device]
            if [alert for alert in map(identity, heard) if alert.device == device] != wanted:
                books.problems.append(f"alerts over MQTT: the alerts of {device} are not in order")


def identity(event: Mapping[str, Any]) -> Alert:
    """The identity of an alert event, as in the list of expected alerts."""
    return Alert(event["device_id"], event["first_seen"], event["status"])


def expected_alerts(sent: Iterable[Sent], threshold: float) -> list[Alert]:
    """The alerts of one rule `temperature > threshold`: readings in the order sent, times rising per device.

    Times must be written as alert events write them: RFC 3339, in UTC, ending in Z.
    """
    opened: dict[str, str] = {}
    alerts = []
    for one in sent:
        if one.reason is not None:
            continue
        device, reading = one.topic.split("/")[3], json.loads(one.payload)
        if reading["temperature"] > threshold:
            if device not in opened:
                opened[device] = reading["time"]
                alerts.append(Alert(device, reading["time"], "FIRING"))
        elif device in opened:
            alerts.append(Alert(device, opened.pop(device), "RESOLVED"))
    return alerts
