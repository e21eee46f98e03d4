"""Which topic a name means now: in, names of topics; out, the id that Kafka gave each when it was made (KIP-516).

aiokafka asks for Metadata of version 5 at most, which has no ids; so these are requests of our own, on a connection of
our own, which no fetch and no rebalance keeps waiting.
"""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple, TypeAlias

from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError, KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from app.core.state.partition_log import NAMELESS
from app.kafka.access import Access, dial
from app.kafka.close_clients import close_connection

ASK_SECONDS = 5.0
UNKNOWN_TOPIC = 3
NO_ID = bytes(16)  # a broker that speaks this version, of a cluster whose metadata has no ids


class _Uuid(AbstractType[bytes]):
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


_TOPICS: Any = CompactArray(
    ("error_code", Int16),
    ("topic", CompactString("utf-8")),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    (
        "partitions",
        CompactArray(
            ("error_code", Int16),
            ("partition", Int32),
            ("leader", Int32),
            ("leader_epoch", Int32),
            ("replicas", CompactArray(Int32)),
            ("isr", CompactArray(Int32)),
            ("offline_replicas", CompactArray(Int32)),
            ("tags", TaggedFields),
        ),
    ),
    ("topic_authorized_operations", Int32),
    ("tags", TaggedFields),
)


_HEAD: tuple[tuple[str, Any], ...] = (
    ("throttle_time_ms", Int32),
    (
        "brokers",
        CompactArray(
            ("node_id", Int32),
            ("host", CompactString("utf-8")),
            ("port", Int32),
            ("rack", CompactString("utf-8")),
            ("tags", TaggedFields),
        ),
    ),
    ("cluster_id", CompactString("utf-8")),
    ("controller_id", Int32),
)


class _Response_v10(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(*_HEAD, ("topics", _TOPICS), ("cluster_authorized_operations", Int32), ("tags", TaggedFields))


class _Response_v12(Response):
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(*_HEAD, ("topics", _TOPICS), ("tags", TaggedFields))


_WANTED: Any = CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields))


class _Request_v10(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _Response_v10
    SCHEMA = Schema(
        ("topics", _WANTED),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Request_v12(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _Response_v12
    SCHEMA = Schema(
        ("topics", _WANTED),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


_Struct: TypeAlias = _Request_v10 | _Request_v12


class _TopicsRequest(Request[_Struct]):
    """A Metadata request of the versions that give topics' ids, and that creates no topic."""

    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_Struct]) -> _Struct:
        """The request in the newest version that both sides speak."""
        wanted: list[tuple[bytes, str, dict[int, bytes]]] = [(NO_ID, name, {}) for name in self._names]
        flags = (False,) * (len(request_struct_class.SCHEMA.fields) - 2)
        return request_struct_class(wanted, *flags, {})


class TopicIdentity(NamedTuple):
    """A topic as Kafka describes it now."""

    identity: str  # its id, in base64 as Kafka's own tools print it; NAMELESS where the broker gives none
    elections: Mapping[int, int]  # by partition: how many leaders it has had, as Kafka counts; -1: Kafka does not say


class TopicIds:
    """Asks which topics there are, over one connection that is made with the first question."""

    def __init__(self, kafka: Access) -> None:
        self._kafka = kafka
        self._connection: AIOKafkaConnection | None = None
        self._one_at_a_time = asyncio.Lock()

    async def ask(self, names: Sequence[str]) -> Mapping[str, TopicIdentity]:
        """The identities of the topics that exist, by name. Raises KafkaError or OSError; KafkaConnectionError when
        Kafka does not answer within ASK_SECONDS.
        """
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    return await self._asked(names)
            except TimeoutError as error:
                await self.close()
                raise KafkaConnectionError(f"Kafka does not answer within {ASK_SECONDS:g} s") from error
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """Give the connection back; the next question makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await close_connection(connection)

    async def _asked(self, names: Sequence[str]) -> Mapping[str, TopicIdentity]:
        connection = await self._connected()
        try:
            answer = await connection.send(_TopicsRequest(names))
        except (NotImplementedError, IncompatibleBrokerVersion):  # a broker older than topic ids
            answer = await connection.send(MetadataRequest(list(names), allow_auto_topic_creation=False))
            return _found([(code, name, NO_ID, parts) for code, name, _, parts in answer.topics])
        return _found([(code, name, identity, parts) for code, name, identity, _, parts, *_ in answer.topics])

    async def _connected(self) -> AIOKafkaConnection:
        if self._connection is None or not self._connection.connected():
            failure: Exception = KafkaConnectionError(f"no broker of {self._kafka} answers")
            for host, port, _ in collect_hosts(self._kafka.servers):
                try:
                    self._connection = await dial(host, port, self._kafka, int(ASK_SECONDS * 1000))
                except (KafkaError, OSError) as error:
                    failure = error
                else:
                    return self._connection
            raise failure
        return self._connection


def _found(answers: Sequence[tuple[int, str, bytes, Sequence[Any]]]) -> Mapping[str, TopicIdentity]:
    found = {}
    for code, name, identity, partitions in answers:
        if code and code != UNKNOWN_TOPIC:
            raise for_code(code)(name)
        if not code:
            named = NAMELESS if identity == NO_ID else urlsafe_b64encode(identity).decode().rstrip("=")
            elections = {part[1]: part[3] if identity != NO_ID else -1 for part in partitions}
            found[name] = TopicIdentity(named, elections)
    return found
