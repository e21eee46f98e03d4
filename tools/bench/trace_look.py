"""The cost of tracing for records that are not traced: `python -m tools.bench.trace_look [records of a batch]`.

Microseconds per record of the processor, which notes the records with a trace context, and of the later look at those
notes, on records as in the worker: C records of aiokafka, of a batch that was just processed. CPU of this thread, best
and median of RUNS; a table on stdout, a line for each kind of record.
"""

import gc
import sys
from collections.abc import Callable, Sequence
from statistics import median
from time import thread_time
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from app.core.decode.decoder import DecodeLimits
from app.core.ingress.trace_budget import TraceBudget
from app.core.processing.processor import Processor
from app.core.user_config.rulebook import RuleBook
from app.ops.spans.sampled import sampled_records
from app.runtime.tracing.sampling import HeadSampling
from tests import DEFAULT
from tools.bench.core import NOW, RULES, RUNS, Message, Run, telemetry

MESSAGES = 100_000
REFUSED = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")

Headers = Sequence[tuple[str, bytes]]
WAYS: dict[str, Callable[[Headers], Headers]] = {
    "bridge, QoS 0": lambda first: first,
    "bridge, QoS 1": lambda first: (*first, ("mqtt_id", b"7")),
    "HTTP": lambda first: (*first, ("gateway", b"http")),
    "Vector": sorted,
    "no headers": lambda first: (),
    "bridge, each `not sampled`": lambda first: (*first, ("mqtt_id", b"7"), REFUSED),
}


def fetched(messages: Sequence[Message], headers: Callable[[Headers], Headers], offset: int) -> list[Any]:
    """The messages as the consumer's records; the first record has offset `offset`."""
    made = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 30)
    for number, message in enumerate(messages):
        made.append(number, message.timestamp, message.key, message.value, list(headers(message.headers)))
    content = bytearray(made.build())
    content[:8] = offset.to_bytes(8, "big")
    return list(DefaultRecordBatch(bytes(content)))


def measure(batches: Sequence[list[Any]]) -> tuple[float, float]:
    """One run: (microseconds per record of the processor, of the look)."""
    book, head, budget = RuleBook(DEFAULT), HeadSampling(0.0), TraceBudget(1000)
    assert not book.apply([(f"u{user}", RULES) for user in range(50)])
    processor = Processor(DecodeLimits(), DEFAULT, book, lambda partition, key: None)
    processing = looking = 0.0
    for records in batches:
        began = thread_time()
        work = processor(Run(records, records[-1].offset + 1), NOW.timestamp())  # type: ignore[arg-type]  # no ack here
        done = thread_time()
        assert not sampled_records(records, work.annotated, head, budget)
        looking += thread_time() - done
        processing += done - began
    return processing / MESSAGES * 1e6, looking / MESSAGES * 1e6


def main() -> None:
    """Measure all kinds of records and print the table."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    messages = telemetry(MESSAGES, devices=500, hot=100)
    print(f"{'us a record: best, median':28}{'processor':>18}{'look':>18}")
    for name, headers in WAYS.items():
        batches = [fetched(messages[at : at + size], headers, at) for at in range(0, MESSAGES, size)]
        gc.collect()
        processing, looking = zip(*(measure(batches) for _ in range(RUNS)), strict=True)
        print(
            f"{name:28}{min(processing):>9.3f}{median(processing):>9.3f}{min(looking):>9.4f}{median(looking):>9.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
