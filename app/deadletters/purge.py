"""Dead letters deleted for good: in, up to where; out, how many. Kafka deletes the beginning of a partition alone."""

from collections.abc import Mapping

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import PolicyViolationError, TopicAuthorizationFailedError
from msgspec import Struct

from app.errors import PermanentError, TransientError
from app.kafka.access import KAFKA_ERRORS, Access, start
from app.kafka.reading.record_log import RecordLog


class Cut(Struct, frozen=True):
    """What is deleted of a partition: the offsets from `first` to the one before `end`."""

    first: int
    end: int


async def cuts(
    log: RecordLog, partitions: frozenset[int], until_ms: int | None, before: Mapping[int, int]
) -> dict[TopicPartition, Cut]:
    """What is to be deleted: of `partitions`, of all when there are none. `until_ms`: what was written up to then,
    milliseconds since 1970; None: all. `before`: partition -> the first offset that stays, for these partitions alone.
    Raises KAFKA_ERRORS.
    """
    starts, ends = await log.starts(), await log.ends()
    stays = ends if until_ms is None else await log.since(until_ms + 1, ends)
    found = {}
    for tp in log.tps:
        if (partitions and tp.partition not in partitions) or (before and tp.partition not in before):
            continue
        end = min(stays[tp], before.get(tp.partition, stays[tp]))
        if end > starts[tp]:
            found[tp] = Cut(starts[tp], end)
    return found


async def delete(kafka: Access, wanted: Mapping[TopicPartition, Cut]) -> None:
    """Delete. Raises TransientError when Kafka is away, PermanentError when it refuses."""
    client = AIOKafkaAdminClient(**kafka.options, request_timeout_ms=30_000)
    try:
        await start(client, kafka)
        await client.delete_records({tp: RecordsToDelete(before_offset=cut.end) for tp, cut in wanted.items()})
    except (PolicyViolationError, TopicAuthorizationFailedError) as error:
        raise PermanentError(f"Kafka does not let this account delete records: {error}") from error
    except KAFKA_ERRORS as error:
        raise TransientError(f"cannot delete at {kafka}: {error!r}; some partitions may be done") from error
    finally:
        await client.close()
