"""The newest dead letters, counted by reason."""

from collections import Counter

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.doctor.finding import Finding, ok, warning
from app.errors import PermanentError, TransientError
from app.kafka.access import access
from app.kafka.topics import existing
from app.settings import Settings

AREA = "dead letters"
NEWEST = 100  # of each partition
TIMEOUT_MS = 10_000


async def look(settings: Settings) -> list[Finding]:
    """The reasons of the newest dead letters, NEWEST of each partition, and how many the topic keeps; nothing where the
    topic is missing, which Kafka's own findings say.
    """
    topic = settings.kafka_dlq_topic
    try:
        count = (await existing(access(settings), [topic])).get(topic, 0)
        if not count:
            return []
        kept, reasons = await _newest(settings, [TopicPartition(topic, number) for number in range(count)])
    except (KafkaError, OSError, TransientError, PermanentError) as error:
        return [warning(AREA, f"dead letters cannot be read: {str(error) or repr(error)}", "see the findings on kafka")]
    if not kept:
        return [ok(AREA, "none are kept")]
    counts = ", ".join(f"{reason} {number}" for reason, number in reasons.most_common())
    return [ok(AREA, f"{kept:,} are kept; reasons of the newest {reasons.total()}: {counts}")]


async def _newest(settings: Settings, parts: list[TopicPartition]) -> tuple[int, Counter[str]]:
    """How many are kept, and the reasons of the newest."""
    reasons: Counter[str] = Counter()
    options = {
        "request_timeout_ms": TIMEOUT_MS,
        "enable_auto_commit": False,
        "fetch_max_wait_ms": 10,
        "isolation_level": "read_committed",
    }
    async with AIOKafkaConsumer(**access(settings).options, **options) as consumer:
        consumer.assign(parts)
        starts, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        for tp in parts:
            consumer.seek(tp, max(starts[tp], ends[tp] - NEWEST))
        while any([await consumer.position(tp) < ends[tp] for tp in parts]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                given = (dict(record.headers).get("reason", b"?") for record in records)
                reasons.update(reason.decode("ascii", "replace") for reason in given)
    return sum(ends.values()) - sum(starts.values()), reasons
