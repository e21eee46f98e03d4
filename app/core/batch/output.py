"""Everything one batch asks of the world: what the Processor makes and app.pipeline.pipeline carries out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from app.core.batch.effects import ClockSetback, Effect
from app.core.model.alert_event import AlertEvent
from app.core.model.records import Reason, Rejected, Row, Stage
from app.core.model.reply import Reply

# Policies by which records are left out; beside them there are `silence` and `cov`.
HISTORY = "retained"  # a command, or a reading without a time, that the MQTT broker had retained
FORWARDED = "forwarded"  # a command on its way to the partition of its device of iot/*
EMPTY = "empty"  # a record without a payload, which clears what the MQTT broker retains


class Forward(NamedTuple):
    """A record to be sent to the input topic, into the partition of its key."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class BatchOutput(Struct, gc=False):
    """What one batch asks of the world, filled by the Processor in the order of the records; `rows[i]` comes from
    `sources[i]`.
    """

    begin: int = 0  # offset at which the batch begins: no two batches of an epoch and partition begin at the same
    rows: list[Row] = []
    sources: list[Any] = []  # the Record of each row, for rows that the database may refuse
    effects: list[Effect] = []
    effect_sources: list[Any] = []
    alert_effects: list[
        Effect
    ] = []  # what the alerts below and suppressed alerts do to the database; after `effects`, of no record's own
    commands: list[Any] = []  # the Records of commands that were obeyed; nothing is left to do for them
    commands_again: int = 0  # how many of `commands` were obeyed before
    again: list[Any] = []  # the Records of redeliveries that the state knows: duplicates, whatever their times
    rejected: list[Rejected] = []
    events: list[AlertEvent] = []
    alerts: list[tuple[bytes, bytes]] = []  # (key, JSON) of `events`, as the outbox takes them
    alert_records: list[Any] = []  # the Record that caused each of `events`
    suppressed: int = 0  # events of maintenance windows: written to the database, not sent
    answers: list[Reply] = []  # to users whose rules or command were refused
    forwards: list[Forward] = []  # records for the input topic
    states: dict[bytes, bytes] = {}  # encoded, one per device that moved
    kinds: dict[str, int] = {}  # records by kind
    annotated: list[Any] = []  # the Records with headers that a gateway does not always give: a trace context?
    dropped: dict[str, int] = {}  # records left out on purpose, by policy
    # Rows of device_status and of active_alerts for devices that fell silent or came back, the last row of each; in the
    # end they go into `alert_effects`, equal statements together: the database takes neighbours of one kind at once.
    presence: dict[str, Effect] = {}
    silent: dict[tuple[str, ...], Effect] = {}
    set_back: list[ClockSetback] = []  # clocks of devices that were set back
    skews: list[float] = []  # of devices whose clock was looked at: seconds that a reading was ahead of its arrival
    oldest: float | None = None  # event time of the first row, seconds since 1970
    weight: int = 0  # estimated bytes of memory of the alerts above and of the large states
    left_over: int = 0  # how many of the last records were left to the next batch: this output had grown too large

    def count(self, kind: str, number: int = 1) -> None:
        """Count `number` records of a kind."""
        if number:
            self.kinds[kind] = self.kinds.get(kind, 0) + number

    def gather(self, before: list[Effect]) -> None:
        """Put the rows of `presence` and `silent` to the other effects, and the effects of `before` ahead of all.

        `before` is empty afterwards.
        """
        if before:
            self.alert_effects[:0] = before
            before.clear()
        self.alert_effects += sorted(self.silent.values(), key=lambda effect: effect.statement)
        self.alert_effects += self.presence.values()
        self.alert_effects += [found.effect() for found in self.set_back]

    def drop(self, policy: str) -> None:
        """Count a record as left out on purpose, by this policy."""
        self.dropped[policy] = self.dropped.get(policy, 0) + 1

    def drop_last(self, policy: str) -> None:
        """Leave the last row out after all, by this policy."""
        self.rows.pop()
        self.sources.pop()
        self.drop(policy)

    def take_back(self) -> None:
        """Leave the last row out after all: the state knows its record."""
        self.rows.pop()
        self.again.append(self.sources.pop())

    def refusals(self, rows: Sequence[tuple[int, str]], effects: Sequence[tuple[int, str]] = ()) -> list[Rejected]:
        """The dead letters of what the database refused: (index into `rows` or `effects`, its words), by offset."""
        sources = [(self.sources[i], words) for i, words in rows]
        sources += [(self.effect_sources[i], words) for i, words in effects if i < len(self.effects)]
        sources.sort(key=lambda one: int(one[0].offset))
        return [Rejected(record, Reason.REFUSED_BY_DATABASE, Stage.STORE, words) for record, words in sources]
