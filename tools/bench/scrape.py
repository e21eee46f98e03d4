"""The cost of a scrape of /metrics for a worker: `python -m tools.bench.scrape [tenants]`.

A worker's metrics as after a day: 12 partitions, every kind, reason and stage, alerts of three severities, and
`tenants` (10,000) tenants with recent records. CPU milliseconds of this process for one page, median and worst of 200,
as text and as OpenMetrics, with and without gzip, and the longest delay of the event loop. Cycles are looked for as in
the worker, and in one of the pages of each form among all objects that were made since the start, which a worker does
seldom: the worst page has it.
"""

import asyncio
import gc
import sys
import time
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median

from app.core.batch.books import Books
from app.core.ingress.tenant_freshness import TenantFreshness
from app.core.model.records import Kind, Reason
from app.ops import metrics
from app.ops.http_messages import Request
from app.ops.metrics_page import metrics_page
from app.runtime.allocator import look_for_cycles_seldom
from app.worker import gauges
from tools.bench.core import Message

PAGES = 200
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def fill() -> None:
    """Create every series that a worker with 12 partitions has after a day."""
    for partition in map(str, range(12)):
        for outcome in Books._fields:
            metrics.LEDGER.labels(partition, outcome).inc(1_234_567)
        metrics.LAG.labels(partition).set(17)
        metrics.LAG_SECONDS.labels(partition).set(0.123456)
    for kind in Kind:
        metrics.RECEIVED.labels(kind).inc(1_234_567)
    for reason in Reason:
        metrics.DEAD_LETTERS.labels(reason).inc(1234)
    for status in ("FIRING", "RESOLVED", "STALE", "REMINDER"):
        for severity in ("info", "warning", "critical"):
            metrics.ALERTS.labels(status, severity).inc(1234)
    for stage in ("process", "wait", "store", "finish"):
        metrics.BATCH_SECONDS.labels(stage).observe(0.01)
    metrics.EVENT_AGE.observe(0.3, {"trace_id": "0af7651916cd43dd8448eb211c80319c"})


def heard(tenants: int) -> TenantFreshness:
    """The freshness of `tenants` tenants, each observed a few times."""
    freshness, clock = TenantFreshness(20), time.monotonic()
    record = Message(0, int(time.time() * 1000), b"k", b"{}", ())
    for number in range(tenants * 4):
        rows = [(datetime.now(UTC), f"tenant-{number % tenants}", "d", 1)]
        freshness.stored(1, rows, [record], clock + number / 1000, time.time())
    return freshness


async def measure(freshness: TenantFreshness, accept: str, encoding: str) -> tuple[float, float, int]:
    """(median and worst CPU milliseconds of a page, its size in bytes); the last page has a full collection in it."""
    times, size = [], 0
    for number in range(PAGES):
        began = time.process_time()
        if number == PAGES - 1:
            gc.collect()
        gauges.set_freshness(freshness.show(time.monotonic()))
        answer = await metrics_page(Request("GET", "/metrics", "HTTP/1.1", accept, encoding))
        times.append((time.process_time() - began) * 1000)
        size = len(answer.body)
    return median(times), max(times), size


async def longest_turn(freshness: TenantFreshness) -> float:
    """Milliseconds of CPU between two turns of another task during a scrape: the median over scrapes of the longest."""
    found, turns = [], [time.process_time()]

    async def beside() -> None:
        while True:
            turns.append(time.process_time())
            await asyncio.sleep(0)

    task = asyncio.create_task(beside())
    for _ in range(PAGES):
        await asyncio.sleep(0)
        turns[:] = [time.process_time()]
        gauges.set_freshness(freshness.show(time.monotonic()))
        await metrics_page(Request("GET", "/metrics", "HTTP/1.1", OPENMETRICS, "gzip"))
        turns.append(time.process_time())
        found.append(max(later - before for before, later in pairwise(turns)) * 1000)
    task.cancel()
    return median(found)


async def main() -> None:
    """Measure all pages and print the table."""
    tenants = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    look_for_cycles_seldom()  # where the worker does: before there are series and tenants
    fill()
    freshness = heard(tenants)
    print(f"{tenants:,} tenants, {len(freshness.show(time.monotonic()))} named")
    print(f"{'page':24}{'bytes':>9}{'CPU ms':>9}{'worst':>8}")
    for name, accept, encoding in (
        ("text", "", ""),
        ("text, gzip", "", "gzip"),
        ("OpenMetrics", OPENMETRICS, ""),
        ("OpenMetrics, gzip", OPENMETRICS, "gzip"),
    ):
        middle, worst, size = await measure(freshness, accept, encoding)
        print(f"{name:24}{size:>9,}{middle:>9.1f}{worst:>8.1f}")
    print(f"longest delay of the event loop: {await longest_turn(freshness):.1f} ms (median)")


if __name__ == "__main__":
    asyncio.run(main())
