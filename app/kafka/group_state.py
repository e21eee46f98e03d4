"""A consumer group as Kafka has it: in, its name; out, its members, and what it has committed. Nobody joins it."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupAuthorizationFailedError, for_code
from aiokafka.structs import OffsetAndMetadata
from msgspec import Struct

from app.errors import PermanentError, TransientError
from app.kafka.access import KAFKA_ERRORS, Access, start
from app.kafka.group_coordinator import coordinated

T = TypeVar("T")

ASK_MS = 10_000
# A broker names a member after its group.instance.id, else its client.id, with a random UUID behind that.
_NAMED = re.compile(r"(.+)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


class GroupMember(Struct, frozen=True):
    """A member of a group, with the partitions that it has of one topic."""

    name: str  # its group.instance.id, else its client.id
    host: str
    partitions: tuple[int, ...] = ()

    def __str__(self) -> str:
        """The member for a person: who, where, with what."""
        having = f"partitions {', '.join(map(str, self.partitions))}" if self.partitions else "no partition"
        return f"{self.name} at {self.host} with {having}"


async def members_of(kafka: Access, group: str, topic: str) -> tuple[GroupMember, ...]:
    """The members of a group, none for a group that does not exist; partitions are those of `topic`. Raises
    TransientError when Kafka is away, PermanentError when the account may not ask.
    """

    async def ask(client: AIOKafkaAdminClient) -> tuple[GroupMember, ...]:
        (answer,) = await client.describe_consumer_groups([group])
        ((code, _, _, _, _, found, *_),) = answer.groups
        if code:
            raise for_code(code)(group)
        return tuple(
            sorted(
                (
                    GroupMember(member_name(member, client_id), host.lstrip("/"), assigned_partitions(assigned, topic))
                    for member, client_id, host, _, assigned, *_ in found
                ),
                key=lambda one: (one.name, one.partitions),
            )
        )

    return await _asked(kafka, group, ask)


async def offsets_of_group(kafka: Access, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """What a group has committed, of all topics. Raises as `members_of` does."""

    async def ask(client: AIOKafkaAdminClient) -> Mapping[TopicPartition, OffsetAndMetadata]:
        found: Mapping[TopicPartition, OffsetAndMetadata] = await client.list_consumer_group_offsets(group)
        return found

    return await _asked(kafka, group, ask)


def assigned_partitions(assigned: bytes, topic: str) -> tuple[int, ...]:
    """The partitions of `topic` in the assignment of a member; none for a member that waits for other members."""
    if not assigned:
        return ()
    found: Any = ConsumerProtocolMemberAssignment.decode(assigned)
    return tuple(sorted(number for name, numbers in found.assignment if name == topic for number in numbers))


def member_name(member: str, client_id: str) -> str:
    """The group.instance.id or client.id in the id that a broker gave a member; `client_id` where none is in it."""
    found = _NAMED(member)
    return found[1] if found else client_id


async def _asked(kafka: Access, group: str, ask: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    client = AIOKafkaAdminClient(**kafka.options, request_timeout_ms=ASK_MS)
    try:
        await start(client, kafka)
        return await coordinated(lambda: ask(client))
    except GroupAuthorizationFailedError as error:
        raise PermanentError(f"Kafka does not let this account ask about the group {group}: {error}") from error
    except KAFKA_ERRORS as error:
        raise TransientError(f"cannot ask Kafka at {kafka} about the group {group}: {error}") from error
    finally:
        await client.close()
