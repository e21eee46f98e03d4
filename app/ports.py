"""What the path needs of the world: one small Protocol a port, each with one real adapter and one fake."""

from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from app.core.batch.batch import Batch
from app.core.batch.copy_policy import PartitionEpoch
from app.core.batch.effects import Effect, WriteResult
from app.core.batch.output import BatchOutput, Forward
from app.core.model.records import Rejected, Row
from app.core.model.reply import Reply
from app.core.routing.mqtt_topics import route
from app.core.routing.publish_rules import OF_USERS, PublishRules


class Source(Protocol):
    """Where batches come from; those of one partition come in order and without a gap."""

    def batches(self) -> AsyncIterator[Batch]:
        """Iterate over batches, of all partitions of this worker in turn, until the program stops."""


class Process(Protocol):
    """What makes Work of batches: pure, but for the working state it keeps (app.core.processing.processor)."""

    def run_sliced(self, batch: Batch, now: float) -> Generator[None, None, BatchOutput]:
        """Work out all that `batch` asks of the world, and return it; each yield is a pause, in which others may run.

        `now` is in seconds since 1970. Of a batch that asks too much the last records may be left over
        (BatchOutput.left_over): they come as the next batch.
        """

    def closed(self, batch: Batch) -> None:
        """The batch's states are stored, and those of all before it in its partition: they need not be kept."""


class Store(Protocol):
    """raw_telemetry. A write answers once all its rows are durable."""

    async def write(
        self, rows: Sequence[Row], effects: Sequence[Effect] = (), origin: PartitionEpoch | None = None
    ) -> WriteResult:
        """Store rows and, in the same transaction, effects; wait out an outage. Late rows may go apart.

        `origin`, if known, changes how rows are stored, and nothing of the answer: writes from there come one by one.
        Raises TransientError only when interrupted (rebalance, shutdown): then the write comes again, whole.
        """


class DeadLetters(Protocol):
    """The dead-letter topic."""

    async def send(self, batch: Batch, rejected: Sequence[Rejected]) -> None:
        """Return once the broker has acknowledged a dead letter for each of `rejected`, records of `batch` in order.

        Raises TransientError when interrupted first, DeadLetterLimitError when there are too many: then none is sent.
        """


class Outbox(Protocol):
    """The alert topic."""

    async def send(
        self, events: Sequence[tuple[bytes, bytes]], answers: Sequence[Reply] = (), forwards: Sequence[Forward] = ()
    ) -> None:
        """Send (key, alert event as JSON) in order, then answers, and `forwards` to the input topic.

        Returns once the broker has acknowledged all. Raises TransientError when interrupted first.
        """


class Lease(Protocol):
    """Whether the partitions are still ours. Every write to Kafka asks by itself (app.kafka.producer)."""

    async def ensure(self) -> None:
        """Return once they surely are, which is at once but for a worker that was stalled or cut off from Kafka.

        Raises TransientError when interrupted first.
        """


class States(Protocol):
    """Per-device state, partitioned as the input topic."""

    def get(self, partition: int, key: bytes) -> bytes | None:
        """The state of `key` as it was last put; None: there is none."""

    async def put(self, states: Mapping[int, Mapping[bytes, bytes]]) -> None:
        """Take {partition: {key: state}}; return once the changelog holds them. Raises TransientError when interrupted
        first.
        """


@dataclass(slots=True)
class Seconds:
    """How long the stages of one batch took, in seconds."""

    process: float = 0.0  # step 2 of app.pipeline.pipeline: decoding and rules
    wait: float = 0.0  # until the batch before it in its partition was stored
    store: float = 0.0  # steps 3 and 4: dead letters, rows and effects
    finish: float = 0.0  # from there to the ack, step 7


class Ledger(Protocol):
    """Notified of every batch that is done; counts and logs the batch."""

    def batch_done(self, batch: Batch, work: BatchOutput, written: WriteResult, seconds: Seconds) -> None:
        """A batch is acknowledged. Raises BooksError when a record of it is not accounted for, or twice."""

    def batch_given_up(self, batch: Batch, reason: str) -> None:
        """A batch was interrupted for `reason`, in words for a person; it is not acknowledged and comes again."""


class PathTracing(Protocol):
    """Notified of the steps of a batch up to the answer of the store; of what follows, the Ledger is."""

    def taken(self, batch: Batch) -> None:
        """Step 1: `batch` was taken, and waits for its turn."""

    def processed(self, batch: Batch, work: BatchOutput, seconds: float) -> None:
        """Step 2 took so many seconds; `batch` may be several that were taken, joined, or a part of one."""

    def storing(self, batch: Batch, work: BatchOutput) -> None:
        """Step 4 begins."""

    def stored(self, batch: Batch, written: WriteResult) -> None:
        """Step 4 is done."""


class NoPathTracing:
    """Makes no spans."""

    def taken(self, batch: Batch) -> None: ...
    def processed(self, batch: Batch, work: BatchOutput, seconds: float) -> None: ...
    def storing(self, batch: Batch, work: BatchOutput) -> None: ...
    def stored(self, batch: Batch, written: WriteResult) -> None: ...


NO_PATH_TRACING = NoPathTracing()


@dataclass(frozen=True, slots=True)
class Ports:
    """What the path needs of the world."""

    store: Store
    dead_letters: DeadLetters
    outbox: Outbox
    states: States
    ledger: Ledger
    lease: Lease
    tracing: PathTracing = NO_PATH_TRACING


class Unlimited:
    """For whoever writes on its own account, and not for partitions (app.ports.Lease)."""

    async def ensure(self) -> None:
        """Return."""


class Account(Struct, frozen=True):
    """Who speaks at a gateway."""

    user_id: str  # the <user> of users/<user>/..., the <nodeId> of iot/<nodeId>/...
    device_id: str | None = None  # bound to this device alone; None: any of the user's
    device_prefix: str = ""  # the devices it may speak for begin so
    rules: PublishRules = OF_USERS

    def may_publish(self, topic: str) -> bool:
        """Whether the rules of mqtt_acl let this account publish to `topic`; what the MQTT broker would answer."""
        named = route(topic).device_id
        if named and not self.speaks_for(named):
            return False
        return self.rules.allow(self.user_id, named or self.device_id or "", topic)

    def speaks_for(self, device_id: str) -> bool:
        """Whether the account is bound to no other device."""
        if self.device_id is not None:
            return device_id == self.device_id
        return device_id.startswith(self.device_prefix)


class AccountRow(Struct, frozen=True):
    """An account as the database has it now, or a token of one."""

    account: Account
    password_hash: str  # bcrypt
    of_devices: PublishRules  # of whoever is bound to one device by a certificate
    ends: float | None = None  # of a token: seconds since 1970


class AccountRows(Protocol):
    """The table of accounts. Look-ups raise TransientError when it cannot be asked now."""

    @property
    def answers(self) -> bool:
        """Whether the table could be asked the last time."""

    async def named(self, username: str) -> AccountRow | None:
        """The account of this name; None: there is none. Raises TransientError."""

    async def of_token(self, digest: bytes) -> AccountRow | None:
        """The account of the token with this SHA-256 (32 bytes), bound as the token is; None: there is none.

        Raises TransientError.
        """

    async def close(self) -> None:
        """Close the connections to the table."""


class Refusal(StrEnum):
    """Why nobody may speak; the label of a metric."""

    BAD_CREDENTIALS = "bad_credentials"  # no such account, password, token or certificate; the answer never says which
    SLOWED_DOWN = "slowed_down"  # too many failures: wait, and try again
    UNAVAILABLE = "unavailable"  # accounts cannot be asked now: not the fault of whoever asks


class Accounts(Protocol):
    """Who may speak at a gateway. `peer` is the address that asks, without its port. None of these raises.

    An answer holds for IOT_AUTH_CACHE_SECONDS and is cheap to ask for again: a connection asks again every few seconds,
    so that a token that was revoked counts for hardly longer than that.
    """

    async def by_password(self, user: str, password: str, peer: str) -> Account | Refusal:
        """The account with this name and password."""

    async def by_token(self, token: str, peer: str) -> Account | Refusal:
        """The account of a bearer token, which names user and device by itself."""

    async def by_certificate(self, common_name: str, device: str | None, peer: str) -> Account | Refusal:
        """The account that a client certificate names, which TLS has verified; `device`: if it names one too."""

    async def anonymous(self, peer: str) -> Account | Refusal:
        """The account of whoever has no credentials, on loopback or a UNIX socket (IOT_GATEWAY_ANONYMOUS_ACCOUNT)."""
