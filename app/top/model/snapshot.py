"""A deployment at one moment, as rows for a screen, for lines of text and for JSON. None: not known."""

from collections.abc import Mapping

from msgspec import Struct


class ProgramRow(Struct, frozen=True):
    """The row of one address of --metrics."""

    name: str  # worker 1, bridge, http, notifier, sink redis; the address where that is not known
    where: str  # host:port
    up: bool
    problem: str = ""  # why the address is down, or what its /ready misses
    version: str = ""
    per_second: float | None = None  # rows of a worker, records of a way in or a sink, alerts of the notifier
    cpu: float | None = None  # of one core
    memory: float | None = None  # bytes
    uptime: float | None = None  # seconds
    ready: bool | None = None


class PartitionRow(Struct, frozen=True):
    """One partition of the input topic. The books hold its workers' counts from their start on."""

    partition: int
    lag: float | None = None  # records after the last record that is done
    lag_seconds: float | None = None  # age of the oldest of them
    rows_per_second: float | None = None
    owner: str = ""  # the worker, or the group's member
    received: float = 0.0
    stored: float = 0.0  # rows, and records carried out
    duplicate: float = 0.0
    dead_lettered: float = 0.0
    dropped: float = 0.0
    committed: int | None = None
    end: int | None = None  # offset after the last record

    @property
    def difference(self) -> float:
        """The records that the books lack; 0 when they balance."""
        return self.received - self.stored - self.duplicate - self.dead_lettered - self.dropped


class SinkRow(Struct, frozen=True):
    """One sink of one program."""

    sink: str
    program: str
    lag: float | None = None  # records of the input topic that are not done
    waiting: float | None = None  # seconds since the oldest of them came in
    per_second: float | None = None  # records written
    held_bytes: float | None = None
    breaker: str = ""  # closed, half-open, open
    series: float | None = None
    series_limit: float | None = None  # 0: none
    series_dropped: float = 0.0  # values of new series beyond it
    most_series: str = ""  # the user with most that was dropped, else with most series, and how many
    received: float = 0.0
    outcomes: Mapping[str, float] = {}  # written, refused, filtered, skipped, ...
    held: float = 0.0

    @property
    def difference(self) -> float:
        """What the books lack; 0 when they balance."""
        return self.received - self.held - sum(self.outcomes.values())


class BooksTotal(Struct, frozen=True):
    """received = rows + carried_out + duplicate + dead_lettered + dropped, of all workers."""

    received: float = 0.0
    rows: float = 0.0
    carried_out: float = 0.0
    duplicate: float = 0.0
    dead_lettered: float = 0.0
    dropped: float = 0.0
    difference: float = 0.0


class Totals(Struct, frozen=True):
    """The figures of the whole deployment."""

    rows_per_second: float | None = None
    messages_per_second: float | None = None
    lag: float | None = None
    lag_seconds: float | None = None
    age_p50: float | None = None  # seconds from event time to ack, of the last minute
    age_p99: float | None = None
    breaker: str = ""  # closed, half-open, open; empty without a worker
    dead_letters_per_hour: float | None = None
    open_alerts: int | None = None
    devices_online: float | None = None


class AlertRow(Struct, frozen=True):
    """An open alert."""

    severity: str
    device: str  # user/device
    rule: str
    state: str
    since: float  # seconds ago
    message: str
    alert_id: str
    value: float | None = None


class Snapshot(Struct, frozen=True):
    """A deployment at one moment."""

    at: float  # seconds since 1970
    totals: Totals
    books: BooksTotal
    programs: tuple[ProgramRow, ...]
    partitions: tuple[PartitionRow, ...]
    dead_letters: Mapping[str, float] = {}  # by reason
    alert_events: Mapping[str, float] = {}  # sent, by status
    group: str = ""  # its name, state and number of members, when Kafka was asked
    alerts: tuple[AlertRow, ...] = ()
    sinks: tuple[SinkRow, ...] = ()
    problems: tuple[str, ...] = ()  # why Kafka or the database say nothing
