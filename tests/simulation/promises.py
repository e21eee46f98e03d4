"""P1 to P6 of the design, asked of a world: P1 at every commit, all of them when everything has drained."""

import json
from collections import Counter, defaultdict
from typing import Any

from app.core.deadletter import from_record
from app.core.devices import MARK_KEY
from app.core.state import decode
from app.ops import metrics
from tests.simulation import kafka as names
from tests.simulation.kafka import LogRecord
from tests.simulation.life import Life
from tests.simulation.script import Event, Message, Script
from tests.simulation.servers import Servers

OUTCOMES = ("received", "stored", "duplicate", "dead_lettered", "dropped_by_policy")


class BrokenPromise(AssertionError):
    """What was promised and does not hold."""


class Promises:
    """Watches one world from its start. Raises BrokenPromise."""

    def __init__(self, servers: Servers, script: Script, *, zombies_write: bool = False) -> None:
        """`zombies_write`: what a worker writes after it has lost its partitions is excused where it can be."""
        self._servers, self._kafka, self._script = servers, servers.kafka, script
        self._zombies_write = zombies_write
        servers.kafka.on_append, servers.database.on_begin = self.at_append, self.at_begin
        self._caused = {
            event: (partition, number)
            for partition, log in enumerate(script.messages)
            for number, message in enumerate(log)
            for event in message.events
        }
        self._letters: dict[tuple[int, int], list[LogRecord]] = defaultdict(list)  # by source
        self._marks: set[bytes] = set()
        self._told: dict[str, dict[tuple[str, str], Event]] = defaultdict(dict)  # device -> (alert_id, status) -> it
        self._applied: dict[tuple[int, bytes], int] = {}
        self._by_owners: dict[tuple[int, bytes], int] = {}  # the same, without what zombies wrote
        self._settled: dict[int, int] = {}  # offsets below were looked at
        self._books = self._counts()
        self.faulty = False

    # -- P1

    def at_commit(self, partition: int, offset: int) -> None:
        """Everything before a committed offset is durable: rows, dead letters, alerts and states."""
        messages = self._script.messages[partition]
        for number in range(self._settled.get(partition, 0), offset):
            self._durable(partition, number, messages[number])
        self._settled[partition] = max(offset, self._settled.get(partition, 0))

    def _durable(self, partition: int, number: int, message: Message) -> None:
        where = f"P1 {partition}/{number} is committed"
        match message.fate:
            case "row":
                _ensure(message.key in self._servers.database.rows, f"{where}, its row is not stored")
            case "effect":
                pass  # looked at in the end
            case "dropped":
                pass
            case reason:
                known = (partition, number) in self._letters or (message.redelivered and message.mark in self._marks)
                _ensure(known, f"{where}, its dead letter ({reason}) is not on the topic")
        if message.key is None:
            return
        _, user, device, _ = message.key
        applied = self._applied.get((partition, f"{user}/{device}".encode()), -1)
        _ensure(applied >= number, f"{where}, the state of {user}/{device} on the changelog is from {applied}")
        if not self._script.edits:
            told = self._told[f"{user}/{device}"].values()
            for event in message.events:
                _ensure(event in told, f"{where}, its alert {event} was not sent")

    # -- what the servers hold by now

    def at_append(self, topic: str, partition: int, record: LogRecord) -> None:
        """Look at what is written to the topics that only workers write to."""
        if topic != names.INPUT and not self._zombies_write:
            _ensure(not record.zombie, f"P3 P5 {record.by} has lost its partitions and writes to {topic}/{partition}")
        match topic:
            case names.LETTERS:
                self._take_letter(record)
            case names.ALERTS:
                self._take_alert(record)
            case names.CHANGELOG:
                self._take_state(partition, record)

    def at_begin(self, life: Life) -> None:
        """A worker begins to write to the database."""
        _ensure(self._zombies_write or not life.zombie, f"P3 {life.name} has lost its partitions and writes rows")

    def _take_letter(self, record: LogRecord) -> None:
        letter = from_record(record.value, record.headers)
        _ensure(letter is not None, f"P3 no dead letter: {record.value!r}")
        assert letter is not None
        partition, offset = letter.source_partition, letter.source_offset
        message = self._script.messages[partition][offset]
        _ensure(
            letter.reason == message.fate, f"P3 {partition}/{offset} is {message.fate}, dead letter {letter.reason}"
        )
        _ensure(letter.payload == (message.record.value or b""), f"P3 {partition}/{offset} with another payload")
        earlier = self._letters[partition, offset]
        excused = record.zombie or all(one.zombie or (one.unseen and one.by == record.by) for one in earlier)
        _ensure(excused, f"P3 {partition}/{offset} is dead-lettered again, by {record.by}")
        earlier.append(record)
        self._marks.add(message.mark)

    def _take_alert(self, record: LogRecord) -> None:
        event = json.loads(record.value or b"")
        device = f"{event['user_id']}/{event['device_id']}"
        value = float(event["value"])
        told = (device, event["rule_id"], event["status"], event["first_seen"], event["event_time"], value)
        known = self._told[device].setdefault((event["alert_id"], event["status"]), told)
        partition, number = self._caused.get(told, (0, -1))
        applied = self._by_owners.get((partition, device.encode()), -1)
        if not self._script.edits and not record.zombie:
            _ensure(number > applied, f"P5 {told} is told when the state that {partition}/{number} led to is durable")
        same = known[:4] == told[:4] if self._script.edits else known == told  # rules of another moment
        _ensure(same, f"P5 alert {event['alert_id']} {event['status']} says {told}, before it said {known}")

    def _take_state(self, partition: int, record: LogRecord) -> None:
        key, value = record.key or b"", record.value or b""
        applied = int(value) if key == MARK_KEY else decode(value).applied_offset
        self._applied[partition, key] = max(applied, self._applied.get((partition, key), -1))
        if record.zombie:
            return
        before = self._by_owners.get((partition, key), -1)
        _ensure(applied >= before, f"P5 the state of {key!r} on the changelog goes back from {before} to {applied}")
        self._by_owners[partition, key] = applied

    # -- when all has drained

    def at_end(self) -> None:
        """All that was sent has become what it must."""
        everything = [(p, n, m) for p, log in enumerate(self._script.messages) for n, m in enumerate(log)]
        for partition, number, message in everything:
            self._durable(partition, number, message)
        rows = {message.key for _, _, message in everything if message.fate == "row"}
        strange = self._servers.database.rows.keys() - rows
        _ensure(not strange, f"P2 rows that nobody sent: {strange}")
        marks = Counter(self._mark(p, n) for (p, n), all_of in self._letters.items() if not any_zombie(all_of))
        _ensure(max(marks.values(), default=1) == 1, f"P3 a redelivered message is dead-lettered twice: {marks}")
        self._alerts_are_the_model_s()
        self._books_balance(len(rows))

    def _mark(self, partition: int, number: int) -> Any:
        message = self._script.messages[partition][number]
        return partition, message.mark or number

    def _alerts_are_the_model_s(self) -> None:
        wanted: dict[str, list[Event]] = defaultdict(list)
        for log in self._script.messages:
            for message in log:
                for event in message.events:
                    wanted[event[0]].append(event)
        for device in wanted.keys() | self._told.keys():
            told = list(self._told[device].values())
            if self._script.edits:
                continue
            _ensure(told == wanted[device], f"P5 P6 alerts of {device}: {told} instead of {wanted[device]}")
        if not self._script.edits:
            self._tables_say_what_was_told()

    def _tables_say_what_was_told(self) -> None:
        told = {key for of_device in self._told.values() for key in of_device}
        open_now = {alert for alert, status in told if status == "FIRING"} - {a for a, s in told if s == "RESOLVED"}
        database = self._servers.database
        found = {row[3] for row in database.active.values()}
        _ensure(found == open_now, f"P5 active_alerts has {found}, and {open_now} are open")
        recorded = {key[:2] for key in database.history}
        _ensure(recorded == told, f"P5 alert_history has {recorded}, and {told} were told")

    def _books_balance(self, rows: int) -> None:
        total = 0.0
        for partition in range(self._kafka.partitions):
            books = {one: self._counts()[partition, one] - self._books[partition, one] for one in OUTCOMES}
            sums = sum(books.values()) - books["received"]
            _ensure(books["received"] == sums, f"P4 the books of partition {partition} do not balance: {books}")
            total += books["stored"]
        effects = sum(message.fate == "effect" for log in self._script.messages for message in log)
        if not self.faulty:
            _ensure(total == rows + effects, f"P4 {total} stored by the books, {rows} rows and {effects} effects")
        elif not effects:
            _ensure(total <= rows, f"P4 {total} stored by the books, but {rows} rows")

    def _counts(self) -> dict[tuple[int, str], float]:
        return {
            (partition, outcome): metrics.LEDGER.labels(str(partition), outcome)._value.get()
            for partition in range(self._kafka.partitions)
            for outcome in OUTCOMES
        }


def any_zombie(records: list[LogRecord]) -> bool:
    """Whether one of them was written by a worker that had lost its partitions."""
    return any(record.zombie for record in records)


def _ensure(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BrokenPromise(otherwise)
