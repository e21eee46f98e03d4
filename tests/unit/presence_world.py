"""A worker's core and its log, with a clock that the test moves: readings in, who is reported offline out.

Processor, Sweep and Devices are the app's own. A crash may come between any two of: alerts sent, states stored, offset
committed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from app.core.batch.effects import Statement
from app.core.decode.decoder import DecodeLimits
from app.core.model.inactivity_claim import HEADERS, InactivityClaim, to_record
from app.core.presence.device_classes import DeviceClass, DeviceClasses
from app.core.presence.device_presence import PresenceLimits as PresenceLimits
from app.core.processing.processor import Processor
from app.core.sweeper.sweeper import Sweeper, SweeperConfig
from app.core.sweeper.watermark import LogPosition
from app.core.user_config.rulebook import RuleBook
from tests import DEFAULT
from tests.unit.records import Message

START = 1_795_230_000.0
AFTER = 5.0
Crash = Literal["", "told", "stored"]  # the alerts of the batch were sent, or its rows stored too, and never committed


class Given(msgspec.Struct):
    """A batch."""

    records: Sequence[Message]
    next_offset: int
    epoch: int
    partition: int = 0


@dataclass
class World:
    """A partition and one worker after another."""

    care: SweeperConfig = field(default_factory=lambda: SweeperConfig(mass_share=1.0))
    classes: tuple[DeviceClass, ...] = ()
    rules: tuple[dict[str, object], ...] = ()
    maintenance: tuple[dict[str, object], ...] = ()
    now: float = START
    log: list[Message] = field(default_factory=list)
    states: dict[bytes, bytes] = field(default_factory=dict)
    rows: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    ways: dict[str, str] = field(default_factory=dict)  # of the rows
    active: set[tuple[str, str, str]] = field(default_factory=set)
    reported: list[dict[str, Any]] = field(default_factory=list)  # each (alert_id, status, repeat) once
    repeats: int = 0
    claims: list[InactivityClaim] = field(default_factory=list)
    committed: int = 0
    epoch: int = 0
    in_memory: int = 2
    unclosed_max: int = 0  # batches whose alerts are sent, and that are not stored yet
    unclosed: list[tuple[Given, dict[bytes, bytes]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = RuleBook(DEFAULT)
        of_node = [{**window, "devices": ["*"]} for window in self.maintenance]
        for user, windows in ("u", self.maintenance), ("n", of_node):
            config = {"rules": self.rules, "maintenance": windows}
            assert not self.book.apply([(user, msgspec.json.encode(config).decode())])
        self.begin()

    def begin(self) -> None:
        """A new worker; what the old one had in memory is lost."""
        self.epoch += 1
        self.position, self.unclosed = self.committed, []
        classes = DeviceClasses(self.classes, PresenceLimits(AFTER))
        self.processor = Processor(
            DecodeLimits(), DEFAULT, self.book, lambda _, key: self.states.get(key), classes, 20, self.in_memory
        )
        self.sweep = Sweeper(self.processor.partitions, self.care)

    def passes(self, seconds: float) -> None:
        self.now = round(self.now + seconds, 3)

    def append(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> int:
        """Put a record into the log; its offset."""
        self.log.append(Message(value, headers, key, round(self.now * 1000), len(self.log)))
        return len(self.log) - 1

    def reads(self, device: str, **fields: object) -> int:
        """A reading: of the user u, of another when `device` is user:device, or of a node when it is node/sensor."""
        user, _, device = device.rpartition(":")
        node, _, sensor = device.rpartition("/")
        time = {"time": datetime.fromtimestamp(self.now, UTC), "sequence_id": len(self.log)}
        topic = f"iot/{node}/{sensor}/telemetry" if node else f"users/{user or 'u'}/devices/{device}/telemetry"
        return self.append(b"", msgspec.json.encode(time | fields), [("mqtt_topic", topic.encode())])

    def says(self, node: str, word: str) -> int:
        """A node's status."""
        return self.append(node.encode(), word.encode(), [("mqtt_topic", f"iot/{node}/status".encode())])

    def work(self, most: int = 10**6, crash: Crash = "") -> None:
        """Process a batch; with `crash`, up to there, and a new worker begins."""
        records = self.log[self.position : self.position + most]
        if not records:
            return
        given = Given(records, records[-1].offset + 1, self.epoch)
        work = self.processor(given, self.now)  # type: ignore[arg-type]
        assert not work.rejected
        for effect in work.effects + work.alert_effects:
            self._apply(effect.statement, effect.args)
        for _, value in work.alerts:
            event = msgspec.json.decode(value)
            key = (event["alert_id"], event["status"], event.get("repeat", 0))
            if key in {(one["alert_id"], one["status"], one.get("repeat", 0)) for one in self.reported}:
                self.repeats += 1
            else:
                self.reported.append(event)
        self.unclosed.append((given, work.states))
        self.position = given.next_offset
        while crash != "told" and len(self.unclosed) > (0 if crash else self.unclosed_max):
            closed, states = self.unclosed.pop(0)
            self.states |= states
            self.processor.closed(closed)  # type: ignore[arg-type]
            if not crash:
                self.committed = closed.next_offset
        if crash:
            self.begin()

    def look(self, *, loses: bool = False, end: int | None = None) -> list[InactivityClaim]:
        """The sweeper looks; what it claims goes to the end of the log, or is lost."""
        partition = self.processor.partitions.partition(self.epoch, 0)
        if not partition.registry.seeded:
            for key, value in self.states.items():
                self.processor.partitions.seed(partition, key, value, self.now)
            partition.registry.seeded = True
        tide = LogPosition(self.epoch, self.position, len(self.log) if end is None else end, self.now)
        claims = [claim for _, claim in self.sweep.look({0: tide}, self.now, self.now)]
        self.claims += claims
        for claim in [] if loses else claims:
            self.append(*to_record(claim), HEADERS)
        return claims

    def goes_on(self, seconds: float, talking: Sequence[str] = (), every: float = 1.0) -> None:
        """So many polls and batches, while some devices talk."""
        for _ in range(round(seconds / every)):
            self.passes(every)
            for device in talking:
                self.reads(device)
            self.work()
            self.look()
            self.work()

    def statuses(self, device: str) -> list[str]:
        """The statuses of the device that were sent, in order."""
        user, _, name = device.rpartition("/")
        found = [e for e in self.reported if (e["user_id"], e["device_id"]) == (user or "u", name)]
        return [event["status"] for event in found]

    def _apply(self, statement: Statement, args: tuple[Any, ...]) -> None:
        match statement:
            case Statement.UPSERT_STATUS | Statement.UPSERT_PRESENCE:
                way = args[6] if statement is Statement.UPSERT_PRESENCE else ""
                self.ways[args[0]] = way
                if args[0] not in self.rows or self.rows[args[0]][4] <= args[4]:
                    self.rows[args[0]] = args
            case Statement.INSERT_STATUS:
                self.rows.setdefault(args[0], args)
            case Statement.UPSERT_ACTIVE_ALERT:
                self.active.add(args[:3])
            case Statement.DELETE_ACTIVE_ALERT:
                self.active.discard(args[:3])
            case Statement.INSERT_HISTORY:
                pass
