"""One command of a replay at a time, on whatever machines they are: in, the replay's group; out, a lease.

The commands of a replay are members of its group, with no partition. Kafka keeps as its leader the member
that came first, for as long as it is a member: that one alone puts letters back. One that comes second is told by the
leader who that is. A leader that was killed is missed when its session ends, and the next one goes on.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.structs import OffsetAndMetadata

from app.errors import PermanentError, SettingsError, TransientError
from app.kafka.access import KAFKA_ERRORS, Access, start
from app.kafka.close_clients import close_consumer
from app.kafka.group_coordinator import commit_as_member, coordinator_of, hold_in_joins, limit_sync
from app.kafka.reading.record_log import COMMIT_SECONDS
from app.kafka.session_lease import SessionLease

SESSION_MS = 10_000  # after which a member that was killed is missed
HEARTBEAT_MS = 500  # how soon a leader notices that a second member comes
JOIN_SECONDS = 40.0  # a member that was killed, and Kafka's own pause before a new group begins
IDLE_MS = (1 << 31) - 1  # nothing is polled here


class RunsAlreadyError(SettingsError):
    """The same command runs already; str() says where."""


class SoleReplay(SessionLease):
    """The lease of the leader (app.ports.Lease). `stop` ends the replay. Once Kafka has taken the leader for dead
    another may have begun: the lease is `lost` then, for good, and `stop` is set.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        super().__init__(SESSION_MS / 1000, stop)
        self.stop, self.lost, self._held = stop, False, False
        self._me = f"process {os.getpid()} on {socket.gethostname()}"
        self.client: AIOKafkaConsumer | None = None
        self._words = f"{secrets.token_hex(8)} {self._me}".encode()
        self.joining = asyncio.Lock()  # held while another member's coming lets this one join again
        self._leader: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @property
    def member(self) -> str:
        """Who this is, as a client.id."""
        return f"iot-stream-dlq-{socket.gethostname()}-{os.getpid()}"

    def assignor(self) -> "_LeaderNamed":
        """What every member brings along, and Kafka has the leader ask."""
        return _LeaderNamed(self._words, self._heard_of)

    async def lead(self, client: AIOKafkaConsumer) -> None:
        """Return once this is the leader. Raises RunsAlreadyError when another is, TransientError when Kafka does not
        say who within JOIN_SECONDS, KAFKA_ERRORS.
        """
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                while not self._leader.done():
                    await client.getmany(timeout_ms=50)  # raises what the coordinator was refused
        except TimeoutError:
            raise TransientError(f"Kafka has not let this command into its group for {JOIN_SECONDS:g} s") from None
        leader = self._leader.result()
        if leader != self._words:
            where = leader.decode("utf-8", "replace").partition(" ")[2] or "another program"
            raise RunsAlreadyError(f"the same replay runs already, as {where}: wait for its end, or stop it")
        self._held = True

    def valid(self) -> bool:
        """As SessionLease.valid; never again once it is lost, when Kafka may take this command back."""
        return not self.lost and super().valid()

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commit (offset, metadata) as the leader, which Kafka itself refuses once another may lead. Raises
        TransientError when Kafka does not take it within COMMIT_SECONDS, KAFKA_ERRORS.
        """
        try:
            async with asyncio.timeout(COMMIT_SECONDS), self.joining:
                await commit_as_member(self.client, {tp: OffsetAndMetadata(*one) for tp, one in offsets.items()})
        except TimeoutError:
            raise TransientError(f"Kafka has not taken offsets for {COMMIT_SECONDS:g} s") from None

    def end(self) -> None:
        """As SessionLease.end: Kafka has taken this member for dead."""
        super().end()
        if self._held:
            self.lost = True
            self.stop.set()

    def release(self) -> None:
        """The work is done: what Kafka says from now on is no loss."""
        self._held = False

    def _heard_of(self, leader: bytes) -> None:
        if not self._leader.done():
            self._leader.set_result(leader)
        elif leader != self._words:
            self.end()


class _LeaderNamed:
    """An assignor of aiokafka that gives nobody a partition, and everybody the words of the leader: Kafka has only the
    leader assign.
    """

    name = "leader-named"

    def __init__(self, words: bytes, heard: Any) -> None:
        self._words, self._on_heard = words, heard

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, ConsumerProtocolMemberAssignment]:
        """The leader's words for each member."""
        return {member: ConsumerProtocolMemberAssignment(0, [], self._words) for member in members}

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What a member says of itself as it joins."""
        return ConsumerProtocolMemberMetadata(0, list(topics), b"")

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Hear who leads."""
        self._on_heard(bytes(assignment.user_data))


@asynccontextmanager
async def sole_replay(kafka: Access, group: str, topic: str, stop: asyncio.Event) -> AsyncIterator[SoleReplay]:
    """Be the only command that runs the replay of `group`, which reads `topic`. `stop` ends what waits for the lease.

    Raises RunsAlreadyError when another command does, TransientError when Kafka is away, PermanentError when the
    account may not join.
    """
    sole = SoleReplay(stop)
    client = AIOKafkaConsumer(
        **kafka.options, group_id=group, client_id=sole.member, enable_auto_commit=False,
        session_timeout_ms=SESSION_MS, rebalance_timeout_ms=SESSION_MS, heartbeat_interval_ms=HEARTBEAT_MS,
        max_poll_interval_ms=IDLE_MS, partition_assignment_strategy=(sole.assignor(),),
    )  # fmt: skip
    sole.client = client
    try:
        await _join(client, kafka, topic, sole)
        yield sole
        sole.release()
    finally:
        await close_consumer(client)


async def _join(client: AIOKafkaConsumer, kafka: Access, topic: str, sole: SoleReplay) -> None:
    try:
        await start(client, kafka)
        coordinator = coordinator_of(client)
        sole.follow(coordinator)  # before the first join
        limit_sync(coordinator)
        hold_in_joins(coordinator, sole.joining)
        client.subscribe([topic])
        await sole.lead(client)
    except GroupAuthorizationFailedError as error:
        raise PermanentError(f"Kafka does not let this account join the group of the replay: {error}") from error
    except KAFKA_ERRORS as error:
        raise TransientError(
            f"cannot join the group of the replay at {kafka}: {error or type(error).__name__}"
        ) from error
