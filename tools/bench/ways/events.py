"""The events of the benchmark, equal for each way and created before the measurement starts."""

import json
from datetime import UTC, datetime

from app.protobuf.events_pb2 import Event, EventBatch
from app.protobuf.metrics_pb2 import Metric, MetricBatch

SIZE = 141  # bytes of an event as JSON
DEVICES = 100
VARIANTS = 20  # different batches, so that a gateway gains nothing from a cache of the last batch


def line(user: str, number: int) -> bytes:
    """One event as JSON, of SIZE bytes."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = {"user_id": user, "device_id": f"d{number % DEVICES:02}", "sequence_id": 10**6 + number, "time": at}
    fields |= {"temperature": 21.5, "note": ""}
    short = len(json.dumps(fields, separators=(",", ":")))
    return json.dumps(fields | {"note": "x" * (SIZE - short)}, separators=(",", ":")).encode()


def lines(user: str, count: int, variant: int) -> list[bytes]:
    """A batch of events as JSON lines."""
    return [line(user, variant * count + number) for number in range(count)]


def events(user: str, count: int, variant: int) -> bytes:
    """A serialized EventBatch of `count` events."""
    now = int(datetime.now(UTC).timestamp() * 1e6)
    return EventBatch(
        batch_id=variant + 1,
        events=[
            Event(
                user_id=user, device_id=f"d{number % DEVICES:02}", sequence_id=variant * count + number,
                time_us=now + number, temperature=21.5, battery=80, extra_json=b'{"firmware":"1.4.2"}',
            )
            for number in range(count)
        ],
    ).SerializeToString()  # fmt: skip


def metrics(node: str, count: int, variant: int) -> bytes:
    """A serialized MetricBatch of `count` metrics."""
    now = int(datetime.now(UTC).timestamp() * 1e6)
    return MetricBatch(
        batch_id=variant + 1,
        metrics=[
            Metric(
                node_id=node, sensor_id=f"d{number % DEVICES:02}", value=21.5, time_us=now + number,
                sequence_id=variant * count + number, extra_json=b'{"unit":"C"}',
            )
            for number in range(count)
        ],
    ).SerializeToString()  # fmt: skip
