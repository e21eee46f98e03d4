"""P1 to P6 of the design, asked of a world: P1 at every commit, all of them when everything has drained."""

import json
from collections import Counter, defaultdict
from typing import Any

from app.core.deadletters.envelope import DeadLetter, from_record
from app.core.presence.device_presence import PREFIX
from app.core.state.device_state import seen
from app.core.state.keys import MARK_KEY
from app.core.state.partition_log import LOG_KEY
from app.ops import metrics
from tests.simulation import kafka as names
from tests.simulation import tables
from tests.simulation.kafka import SOMEBODY, LogRecord
from tests.simulation.life import Life
from tests.simulation.oracle import OFFLINE, Oracle
from tests.simulation.script import Event, Message, Script
from tests.simulation.servers import Servers
from tests.simulation.tables import AlertEventKey, ensure

OUTCOMES = ("received", "stored", "duplicate", "dead_lettered", "dropped_by_policy")


class Promises:
    """Watches one world from its start. Raises BrokenPromise."""

    def __init__(self, servers: Servers, script: Script, *, zombies_write: bool = False) -> None:
        """`zombies_write`: what a worker writes after it has lost its partitions is excused where it can be."""
        self._servers, self._kafka, self._script = servers, servers.kafka, script
        self._zombies_write = zombies_write
        self._moving = False  # whether states are written into a changelog that was made anew
        servers.kafka.on_append, servers.database.on_begin = self.at_append, self.at_begin
        servers.database.on_average = self.at_average
        self._scripted = {id(message.record): message for log in script.messages for message in log}
        self._log: list[list[Message]] = [[] for _ in script.messages]  # what has come in, inactivity claims too
        self._oracles = [Oracle(script) for _ in script.messages]
        self._caused: dict[Event, tuple[int, int]] = {}
        self._letters: dict[tuple[int, int], list[LogRecord]] = defaultdict(list)  # by source
        self._marks: set[bytes] = set()
        self._reported: dict[str, dict[AlertEventKey, Event]] = defaultdict(dict)  # by device
        self._applied: dict[tuple[int, bytes], int] = {}
        self._by_owners: dict[tuple[int, bytes], int] = {}  # the same, without what zombies wrote
        self._logs: dict[tuple[int, bytes], int] = {}  # generation of the log that a state is of
        self._settled: dict[int, int] = {}  # offsets below were looked at
        self._books = self._counts()
        self.faulty = False

    # -- P1

    def at_commit(self, partition: int, offset: int) -> None:
        """Everything before a committed offset is durable: rows, dead letters, alerts and states."""
        messages = self._log[partition]
        for number in range(self._settled.get(partition, 0), offset):
            self._durable(partition, number, messages[number])
        self._settled[partition] = max(offset, self._settled.get(partition, 0))

    def _durable(self, partition: int, number: int, message: Message) -> None:
        where = f"P1 {partition}/{number} is committed"
        match message.fate:
            case "row":
                ensure(message.key in self._servers.database.rows, f"{where}, its row is not stored")
            case "effect" | "dropped" | "left out":
                pass  # looked at in the end
            case reason:
                known = (partition, number) in self._letters or (message.redelivered and message.mark in self._marks)
                ensure(known, f"{where}, its dead letter ({reason}) is not on the topic")
        if message.reading is not None:
            device = message.reading[0]
            applied = self._applied.get((partition, device.encode()), -1)
            ensure(applied >= number, f"{where}, the state of {device} on the changelog is from {applied}")
        if not self._script.edits:
            for event in message.events:
                ensure(event in self._reported[event[0]].values(), f"{where}, its alert {event} was not sent")

    # -- what the servers hold by now

    def at_append(self, topic: str, partition: int, record: LogRecord) -> None:
        """Look at what is written; all but the input topic only workers write to."""
        # What moves into a new changelog may be on its way when a stop cuts off a recovery: no state goes back by it.
        moves = topic == names.CHANGELOG and self._moving
        if topic != names.INPUT and not self._zombies_write and not moves:
            ensure(not record.zombie, f"P3 P5 {record.by} has lost its partitions and writes to {topic}/{partition}")
        match topic:
            case names.INPUT:
                self._take_input(partition, record)
            case names.LETTERS:
                self._take_letter(record)
            case names.ALERTS:
                self._take_alert(record)
            case names.CHANGELOG:
                self._take_state(partition, record)

    def at_begin(self, life: Life) -> None:
        """A worker begins to write to the database."""
        ensure(self._zombies_write or not life.zombie, f"P3 {life.name} has lost its partitions and writes rows")

    def _take_input(self, partition: int, record: LogRecord) -> None:
        message = self._scripted.get(id(record)) or Message(record, "dropped")
        self._log[partition].append(message)
        self._oracles[partition].take(message)
        self._caused |= dict.fromkeys(message.events, (partition, len(self._log[partition]) - 1))

    def at_average(self, row: tuple[Any, ...]) -> None:
        """What is written to rolling_averages was once true."""
        known = [average for oracle in self._oracles for average in oracle.averages[f"{row[0]}/{row[1]}"]]
        ensure(row in known, f"rolling_averages is told {row}, which never was one of {known}")

    def _take_letter(self, record: LogRecord) -> None:
        letter = from_record(record.value, record.headers)
        ensure(letter is not None, f"P3 no dead letter: {record.value!r}")
        assert letter is not None
        partition, offset = letter.source_partition, self._source(letter)
        message = self._log[partition][offset]
        ensure(letter.reason == message.fate, f"P3 {partition}/{offset} is {message.fate}, dead letter {letter.reason}")
        ensure(letter.payload == (message.record.value or b""), f"P3 {partition}/{offset} with another payload")
        earlier = self._letters[partition, offset]
        excused = len(self._kafka.bases) > 1  # of another log the dead-letter topic knows nothing
        excused = excused or record.zombie or all(one.zombie or (one.unseen and one.by == record.by) for one in earlier)
        ensure(excused, f"P3 {partition}/{offset} is dead-lettered again, by {record.by}")
        earlier.append(record)
        self._marks.add(message.mark)

    def _source(self, letter: DeadLetter) -> int:
        """The number of its record: of the log that is there now, or of the one before."""
        partition, offset = letter.source_partition, letter.source_offset
        numbers = [offset + bases[partition] for bases in self._kafka.bases.values()]
        fits = [n for n in numbers if n < len(self._log[partition]) and self._is_of(letter, self._log[partition][n])]
        return fits[-1] if fits else numbers[-1]

    def _is_of(self, letter: DeadLetter, message: Message) -> bool:
        return letter.reason == message.fate and letter.payload == (message.record.value or b"")

    def forget_states(self) -> None:
        """The changelog is gone: what workers have on their disks is all there is, and may be written again."""
        self._by_owners.clear()
        self._moving = True

    def states_are_there(self) -> bool:
        """Whether the changelog has all that was ever put into it."""
        there: dict[tuple[int, bytes], int] = defaultdict(lambda: -1)
        for partition in range(self._kafka.partitions):
            for record in self._kafka.log(names.CHANGELOG, partition):
                key, value = record.key or b"", record.value or b""
                there[partition, key] = max(there[partition, key], int(value) if key == MARK_KEY else seen(value)[1])
        return all(there[place] >= applied for place, applied in self._applied.items())

    def _take_alert(self, record: LogRecord) -> None:
        event = json.loads(record.value or b"")
        device, rule, value = f"{event['user_id']}/{event['device_id']}", event["rule_id"], event["value"]
        silence = rule == OFFLINE
        since, value = ("", value) if silence else (event["first_seen"], float(value))
        reported = (device, rule, event["status"], since, event["event_time"], value)
        key = (event["alert_id"], event["status"], event.get("repeat", 0))
        known = self._reported[device].setdefault(key, reported)
        ensure(
            self._script.edits or reported in self._caused, f"P5 {reported} is told, which nothing in the log causes"
        )
        partition, number = self._caused.get(reported, (0, 0))
        state = PREFIX + device.encode() if silence else device.encode()
        applied = self._by_owners.get((partition, state), -1)
        if not self._script.edits and not record.zombie:
            ensure(
                number > applied, f"P5 {reported} is told when the state that {partition}/{number} led to is durable"
            )
        same = known[:4] == reported[:4] if self._script.edits else known == reported  # rules of another moment
        ensure(same, f"P5 alert {event['alert_id']} {event['status']} says {reported}, before it said {known}")

    def _take_state(self, partition: int, record: LogRecord) -> None:
        key, value = record.key or b"", record.value or b""
        if record.by == SOMEBODY or key == LOG_KEY:
            return
        log, applied = (0, int(value)) if key == MARK_KEY else seen(value)
        if log and applied >= 0:
            applied = self._kafka.number(partition, applied)
        self._applied[partition, key] = max(applied, self._applied.get((partition, key), -1))
        if record.zombie:
            return
        before = self._by_owners.get((partition, key), -1)
        if log > self._logs.get((partition, key), 0):  # what was not committed before is read again
            before, self._logs[partition, key] = -1, log
        ensure(applied >= before, f"P5 the state of {key!r} on the changelog goes back from {before} to {applied}")
        self._by_owners[partition, key] = applied

    # -- when all has drained

    @property
    def settled(self) -> bool:
        """Whether no event is to be sent any more, as no device sends any more."""
        return all(oracle.settled for oracle in self._oracles)

    def at_end(self) -> None:
        """All that was sent has become what it must."""
        everything = [(p, n, m) for p, log in enumerate(self._log) for n, m in enumerate(log)]
        for partition, number, message in everything:
            self._durable(partition, number, message)
        rows = {message.key for _, _, message in everything if message.fate == "row"}
        strange = self._servers.database.rows.keys() - rows
        ensure(not strange, f"P2 rows that nobody sent: {strange}")
        marks = Counter(self._mark(p, n) for (p, n), all_of in self._letters.items() if not any_zombie(all_of))
        ensure(max(marks.values(), default=1) == 1, f"P3 a redelivered message is dead-lettered twice: {marks}")
        self._alerts_are_the_model_s()
        tables.averages_are(self._servers.database, self._oracles)
        tables.clocks_are(self._servers.database, self._oracles)
        if self._script.watched:
            tables.everybody_is_offline(self._servers.database, self._oracles)
        self._books_balance(len(rows))

    def _mark(self, partition: int, number: int) -> Any:
        message = self._log[partition][number]
        return partition, message.mark or number

    def _alerts_are_the_model_s(self) -> None:
        wanted: dict[str, list[Event]] = defaultdict(list)
        for log in self._log:
            for message in log:
                for event in message.events:
                    wanted[event[0]].append(event)
        for device in wanted.keys() | self._reported.keys():
            reported = list(self._reported[device].values())
            if self._script.edits:
                continue
            ensure(reported == wanted[device], f"P5 P6 alerts of {device}: {reported} instead of {wanted[device]}")
        if not self._script.edits:
            every = {key for of_device in self._reported.values() for key in of_device}
            tables.alerts_are_those_sent(self._servers.database, every)

    def _books_balance(self, rows: int) -> None:
        total, dropped, counts = 0.0, 0.0, self._counts()
        for partition in range(self._kafka.partitions):
            books = {one: counts[partition, one] - self._books[partition, one] for one in OUTCOMES}
            sums = sum(books.values()) - books["received"]
            ensure(books["received"] == sums, f"P4 the books of partition {partition} do not balance: {books}")
            total += books["stored"]
            dropped += books["dropped_by_policy"]
        fates = Counter(message.fate for log in self._log for message in log)
        effects, left_out = fates["effect"], fates["dropped"] + fates["left out"]
        if not self.faulty:
            ensure(total == rows + effects, f"P4 {total} stored by the books, {rows} rows and {effects} effects")
            ensure(dropped == left_out, f"P4 {dropped} dropped by the books, {left_out} to be left out")
        elif not effects:
            ensure(total <= rows, f"P4 {total} stored by the books, but {rows} rows")

    def _counts(self) -> dict[tuple[int, str], float]:
        return {
            (partition, outcome): metrics.LEDGER.labels(str(partition), outcome)._value.get()
            for partition in range(self._kafka.partitions)
            for outcome in OUTCOMES
        }


def any_zombie(records: list[LogRecord]) -> bool:
    """Whether one of them was written by a worker that had lost its partitions."""
    return any(record.zombie for record in records)
