"""Microseconds per item from a protobuf batch to its records: `python -m tools.bench.protobuf_records`.

CPU time of this process, the best of many runs; batches of 500. The first line is protobuf alone: the message parsed
and each field read once, the minimum for any decoder.
"""

from collections.abc import Callable
from time import process_time

from app.gateways.protobuf_records import events, metrics
from app.gateways.telemetry_record import Arrival
from app.ports import Account
from app.protobuf.events_pb2 import EventBatch
from app.protobuf.metrics_pb2 import MetricBatch

ITEMS, RUNS = 500, 300
EXTRA = b'{"humidity":45.25,"engine":{"oil":{"temp":90.5},"rpm":1500},"firmware":"1.4.2"}'
US = 1_795_226_400_123_456


def event_batch(extra: bytes = b"") -> bytes:
    """A serialized EventBatch of a hundred devices."""
    made = EventBatch(batch_id=1)
    for i in range(ITEMS):
        device, us, temperature = f"device-{i % 100}", US + i * 1000, 20.5 + i / 100
        made.events.add(
            user_id="alice", device_id=device, sequence_id=10**6 + i, time_us=us, temperature=temperature,
            battery=1 + i % 99, extra_json=extra,
        )  # fmt: skip
    return made.SerializeToString()


def metric_batch() -> bytes:
    """A serialized MetricBatch of a hundred sensors."""
    made = MetricBatch(batch_id=1)
    for i in range(ITEMS):
        sensor, us = f"sensor-{i % 100}", US + i * 1000
        made.metrics.add(node_id="alice", sensor_id=sensor, value=20.5 + i / 100, time_us=us, sequence_id=10**6 + i)
    return made.SerializeToString()


def fields_alone(data: bytes) -> None:
    """Parse the message and read each field once, as measured in the first line."""
    for item in EventBatch.FromString(data).events:
        _ = item.user_id, item.device_id, item.sequence_id, item.time_us, item.temperature, item.battery
        _ = item.extra_json


def microseconds(work: Callable[[], object]) -> float:
    """CPU microseconds per item in the best run."""
    best = float("inf")
    for _ in range(RUNS):
        began = process_time()
        work()
        best = min(best, process_time() - began)
    return best / ITEMS * 1e6


def main() -> None:
    """Print a line for each kind of batch."""
    account, arrival = Account("alice"), Arrival(b"grpc", US // 1000)
    plain, extra, metric = event_batch(), event_batch(EXTRA), metric_batch()
    work: dict[str, Callable[[], object]] = {
        "protobuf alone, fields read once": lambda: fields_alone(plain),
        "metrics": lambda: metrics(account, metric, arrival),
        "events": lambda: events(account, plain, arrival),
        f"events with {len(EXTRA)} bytes of extra_json": lambda: events(account, extra, arrival),
    }
    for name, one in work.items():
        print(f"{name:40} {microseconds(one):5.2f} us")


if __name__ == "__main__":
    main()
