"""How long a member waits for its assignment: in, an aiokafka coordinator; out, a join that begins anew in time.

A broker never answers the SyncGroup of a member that was taken out of its group while it waits there (its session
ended, an administrator removed it), and reads nothing more from that connection. aiokafka waits for its request
timeout, a minute; meanwhile the member does nothing, and nobody sees why. What a living group waits for is its leader,
and one that gives no assignment loses its session: so after the time of a session nothing is to be expected.
Leans on private parts of aiokafka 0.14, which is pinned; tests/integration/test_sync_limit.py watches them.
"""

import asyncio
from typing import Any

import structlog
from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.protocol.group import SyncGroupRequest

log = structlog.get_logger()


def limit_sync(coordinator: Any) -> None:
    """Let a GroupCoordinator join again, over a new connection, when a SyncGroup is not answered for a session's time.

    It holds for the joins that begin after this call.
    """
    send, seconds = coordinator._send_req, coordinator._session_timeout_ms / 1000

    def cut() -> None:
        connection = coordinator._client._conns.get((coordinator.coordinator_id, ConnectionGroup.COORDINATION))
        log.warning("kafka_group_unanswered", group=coordinator.group_id, seconds=seconds, next="joining again")
        if connection is not None:
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT)  # fails the request, which begins the join anew

    async def send_limited(request: Any) -> Any:
        if not isinstance(request, SyncGroupRequest):
            return await send(request)
        timer = asyncio.get_running_loop().call_later(seconds, cut)
        try:
            return await send(request)
        finally:
            timer.cancel()

    coordinator._send_req = send_limited
