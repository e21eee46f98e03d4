"""Membership in a consumer group: in, an aiokafka consumer; out, what its group coordinator is asked, and answers.

The only file that reaches into the coordinator of aiokafka 0.14, which is pinned; tests/integration/test_sync_limit.py
and tests/contract/stream/test_aiokafka_internals.py watch the parts that this file leans on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar

import structlog
from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)
from aiokafka.protocol.group import SyncGroupRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from tenacity import stop_after_delay, wait_fixed

from app.runtime.retry import retry

log = structlog.get_logger()
T = TypeVar("T")

COMING_SECONDS = 10.0  # a single broker makes the topic of its groups at the first question; seen to take 1 to 3 s
_COMING = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)

Send = Callable[[Any], Awaitable[Any]]


def coordinator_of(client: Any) -> Any:
    """The GroupCoordinator of a consumer that has started."""
    return client._coordinator


def wrap_requests(coordinator: Any, wrap: Callable[[Send], Send]) -> None:
    """Let each request that the coordinator sends for this member from now on go through what `wrap` returns."""
    coordinator._send_req = wrap(coordinator._send_req)


def limit_sync(coordinator: Any) -> None:
    """Let a GroupCoordinator join again, over a new connection, when a SyncGroup is not answered for a session's time.

    A broker never answers the SyncGroup of a member that was taken out of its group while waiting there (the session
    ended, an administrator removed the member), and reads nothing more from that connection. aiokafka waits for its
    request timeout, a minute; meanwhile the member does nothing, and nobody sees why. A living group waits for its
    leader, and a leader that gives no assignment loses its session: so after the time of a session no answer is to be
    expected. The limit holds for the joins that begin after this call.
    """
    seconds = coordinator._session_timeout_ms / 1000

    def cut() -> None:
        connection = coordinator._client._conns.get((coordinator.coordinator_id, ConnectionGroup.COORDINATION))
        log.warning("kafka_group_unanswered", group=coordinator.group_id, seconds=seconds, next="joining again")
        if connection is not None:
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT)  # fails the request, which begins the join anew

    def limited(send: Send) -> Send:
        async def send_limited(request: Any) -> Any:
            if not isinstance(request, SyncGroupRequest):
                return await send(request)
            timer = asyncio.get_running_loop().call_later(seconds, cut)
            try:
                return await send(request)
            finally:
                timer.cancel()

        return send_limited

    wrap_requests(coordinator, limited)


def hold_in_joins(coordinator: Any, lock: asyncio.Lock) -> None:
    """Let each join hold `lock` from its first request to its last answer; to be called before the first join.

    A commit names the generation that its member knows. Sent while the member waits for the answer to its JoinGroup,
    the commit comes to the broker behind it, where the next generation has begun: the broker refuses the commit, and
    aiokafka takes the member for one that was expelled.
    """
    join = coordinator._do_rejoin_group

    async def held(*arguments: Any) -> Any:
        async with lock:
            return await join(*arguments)

    coordinator._do_rejoin_group = held


async def rejoin(client: Any) -> None:
    """Let the group rebalance, with the topics as they are now: the leader assigns by what its client knows of them."""
    await client._client.force_metadata_update()
    client._coordinator.request_rejoin()


def join_after_error(client: Any) -> None:
    """Join again after an error that aiokafka does not know: the client takes no part in the group until somebody asks.

    Raises the KafkaError when the task that would join has ended: this is a bug, and the task does not begin again.
    """
    coordinator = client._coordinator
    try:
        coordinator.check_errors()
    except KafkaError as error:
        if coordinator._coordination_task.done():
            raise
        log.error("kafka_group_error", group=coordinator.group_id, error=repr(error), next="joining again")
        coordinator.request_rejoin()


async def committed_offsets(client: Any, tps: Collection[TopicPartition]) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """What the group has committed of these partitions, in one request; partitions without a commit are left out.

    Raises KafkaError.
    """
    found: Mapping[TopicPartition, OffsetAndMetadata] = await client._coordinator.fetch_committed_offsets(tps)
    return found


async def commit_as_member(client: Any, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
    """Commit for the group of a member, of any partitions: Kafka refuses the commit of one whom it has taken for dead.

    Raises KafkaError, CommitFailedError for that.
    """
    await client._coordinator.commit_offsets(None, offsets)


async def coordinated(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to `ask`, asked again for up to 10 s while the coordinator comes. Raises what `ask` raised last.

    A broker that has just started answers every other question before this one.
    """
    return await retry(
        ask, lambda error: isinstance(error, _COMING), wait_fixed(0.2), stop=stop_after_delay(COMING_SECONDS)
    )
