"""What the Kafka client has fetched and been told, as others than its own thread may ask it."""

from typing import Any

from aiokafka.consumer.fetcher import FetchResult
from aiokafka.structs import TopicPartition
from faust.types import TP


def fetched_bytes(consumer: Any) -> int:
    """Bytes of responses that still hold records not taken, of all partitions; they are compressed as on the wire.

    A partition is fetched again only once its response is used up, so there is one a partition at most, of
    IOT_KAFKA_MAX_FETCH_BYTES or one larger record. Called from the loop while the client's thread works.
    """
    client = getattr(consumer._thread, "_consumer", None)
    if client is None or client._fetcher is None:
        return 0
    total = 0
    for result in list(client._fetcher._records.values()):  # list() of a dict's values is one step under the GIL
        records = result._partition_records if type(result) is FetchResult else None
        if records is not None:
            total += records._records.size_in_bytes()
    return total


def told_of(client: Any, tp: TP) -> Any:
    """What the client knows of a partition: `position`, `highwater`, `timestamp` (ms); None when it is not ours.

    The client's own questions assert that it is ours, and a rebalance may take it away between that and the answer.
    """
    subscription = client._subscription.subscription
    assignment = subscription and subscription.assignment
    return assignment and assignment.state_value(TopicPartition(tp.topic, tp.partition))
