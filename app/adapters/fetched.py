"""How many bytes the Kafka client has fetched ahead of the transport: in, Faust's consumer; out, a number."""

from typing import Any

from aiokafka.consumer.fetcher import FetchResult


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
