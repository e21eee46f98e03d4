"""A member is taken out of its group while it waits for its assignment: the broker never answers, and it joins anew."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest

from app.kafka.close_clients import close_consumer
from app.kafka.group_coordinator import limit_sync
from tests.servers import KafkaServer
from tests.waiting import until

pytestmark = pytest.mark.integration

SESSION = 6.0  # seconds; the least that a broker allows
METADATA = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"  # of the protocol "consumer": version 0, no topics, no user data


class Leader:
    """A member that joins, is the leader, and gives nobody an assignment."""

    def __init__(self, client: AIOKafkaClient, group: str) -> None:
        self._client, self._group, self.member = client, group, ""

    async def join(self) -> Any:
        """Returns once everybody who is known to the group has joined."""
        while True:
            times = int(SESSION * 1000), 30_000
            protocols = [("roundrobin", METADATA)]
            answer = await self.ask(JoinGroupRequest(self._group, *times, self.member, None, "consumer", protocols))
            self.member = answer.member_id
            if answer.error_code == 0:
                return answer

    async def asked_to_join(self) -> None:
        """Returns once the group knows of a member that is new, and asks its leader to join again."""
        async with asyncio.timeout(20):
            while (await self.ask(DescribeGroupsRequest([self._group]))).groups[0][2] != "PreparingRebalance":  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def ask(self, request: Any) -> Any:
        """The coordinator's answer; a broker that has just started has none for a while."""
        while True:
            try:
                node = await self._client.coordinator_lookup(CoordinationType.GROUP, self._group)
                break
            except GroupCoordinatorNotAvailableError:
                await asyncio.sleep(0.1)
        return await self._client.send(node, request, group=ConnectionGroup.COORDINATION)


@asynccontextmanager
async def leading(kafka: KafkaServer, group: str) -> AsyncIterator[Leader]:
    client = AIOKafkaClient(bootstrap_servers=kafka.bootstrap)
    await client.bootstrap()
    try:
        yield Leader(client, group)
    finally:
        await client.close()


async def test_a_member_that_was_taken_out_while_it_waited_joins_again(kafka: KafkaServer, unique: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(unique, 1, 1)])
    await admin.close()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap,
        group_id=unique,
        session_timeout_ms=int(SESSION * 1000),
        enable_auto_commit=False,
        retry_backoff_ms=50,
    )
    await consumer.start()
    coordinator = consumer._coordinator
    limit_sync(coordinator)
    waiting = asyncio.Event()
    send = coordinator._send_req

    async def send_and_tell(request: Any) -> Any:
        if type(request).__name__ == "SyncGroupRequest":
            waiting.set()
        return await send(request)

    coordinator._send_req = send_and_tell
    try:
        async with leading(kafka, unique) as leader, leading(kafka, unique) as operator:
            await leader.join()
            consumer.subscribe([unique])
            await leader.asked_to_join()
            assert (await leader.join()).leader_id == leader.member
            await asyncio.wait_for(waiting.wait(), 10)
            await asyncio.sleep(0.5)
            await operator.ask(LeaveGroupRequest(unique, coordinator.member_id))
            await leader.ask(LeaveGroupRequest(unique, leader.member))
            await until(lambda: len(consumer.assignment()) > 0, 30)  # aiokafka alone: after 40 s
    finally:
        await close_consumer(consumer)
