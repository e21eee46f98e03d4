"""What Prometheus is given, in the format it asks for."""

import asyncio
import gzip
import time
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY, Metric
from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families as plain

from app.core.ingress.tenant_freshness import TenantFreshness
from app.ops import metrics
from app.ops.http_messages import Request, Response
from app.ops.metrics_page import metrics_page
from app.worker import gauges
from tests.deploy import programs
from tests.unit.records import NOW_MS, Message

# As Prometheus 3 asks.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
TRACE = "0af7651916cd43dd8448eb211c80319c"


def openmetrics(page: bytes) -> dict[str, Metric]:
    """The families of a page, by name; the parser is strict about the format."""
    found = parser.text_string_to_metric_families(page.decode())  # type: ignore[no-untyped-call]  # it has no types
    return {family.name: family for family in found}


async def asked(accept: str = "", encoding: str = "") -> Response:
    return await metrics_page(Request("GET", "/metrics", "HTTP/1.1", accept, encoding))


async def test_no_counter_has_a_second_series_that_says_when_it_was_made() -> None:
    metrics.RECEIVED.labels("telemetry").inc(0)
    for accept in ("", PROMETHEUS):
        page = (await asked(accept)).body.decode()
        assert "iot_messages_received_total{" in page
        assert "_created" not in page


async def test_the_text_is_what_everybody_reads() -> None:
    answer = await asked()
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    names = {family.name for family in plain(answer.body.decode())}
    assert {"iot_rows_stored", "iot_build_info", "process_resident_memory_bytes", "process_cpu_seconds"} <= names
    assert b"# EOF" not in answer.body


async def test_openmetrics_for_who_asks_for_it_with_the_trace_of_a_value() -> None:
    metrics.EVENT_AGE.observe(0.3, {"trace_id": TRACE})
    metrics.LAG.labels("3").set(7)
    answer = await asked(PROMETHEUS)
    assert answer.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert answer.body.endswith(b"# EOF\n")
    assert answer.body.count(b"# EOF\n") == 1
    families = openmetrics(answer.body)
    found = [sample.exemplar for sample in families["iot_event_age_seconds"].samples if sample.exemplar]
    assert ({"trace_id": TRACE}, 0.3) in [(one.labels, one.value) for one in found]
    plainly = {family.name for family in plain((await asked()).body.decode())}
    assert {name for name in families if name.startswith(("iot", "db"))} == {
        name for name in plainly if name.startswith(("iot", "db"))
    }


async def test_a_histogram_with_buckets_below_zero_is_good_openmetrics() -> None:
    """The parser refuses one that has a count and no sum, as the client library writes it."""
    metrics.CLOCK_SKEW.observe(-5)
    (family,) = [one for name, one in openmetrics((await asked(PROMETHEUS)).body).items() if "clock_skew" in name]
    assert {sample.name for sample in family.samples} == {"iot_clock_skew_seconds_bucket"}
    assert b"\niot_clock_skew_seconds_count 1.0\n" in (await asked()).body


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=x", "text/plain; version=", ",;=,", "\xff" * 99]
)
async def test_who_asks_for_nonsense_gets_the_text(accept: str) -> None:
    answer = await asked(accept)
    assert answer.content_type.startswith("text/plain")
    assert list(plain(answer.body.decode()))


async def test_it_is_compressed_for_who_accepts_that() -> None:
    answer = await asked("", "deflate, gzip;q=0.8")
    assert "Content-Encoding: gzip" in answer.more
    names = {family.name for family in plain(gzip.decompress(answer.body).decode())}
    assert "iot_rows_stored" in names
    assert not any("Encoding:" in line for line in (await asked("", "br")).more)


class Slow:
    """Two metrics; between them the loop gets its turn, as writing the first one down takes long."""

    number = 0

    def collect(self) -> Iterator[Metric]:
        for name in ("iot_test_first", "iot_test_second"):
            family = Metric(name, "Counted while the page is made", "gauge")
            family.add_sample(name, {}, self.number)
            yield family
            time.sleep(0.003)


async def test_all_figures_are_of_one_moment_and_the_loop_gets_its_turn() -> None:
    slow, turns = Slow(), []
    REGISTRY.register(slow)
    try:

        async def beside() -> None:
            while True:
                slow.number += 1
                turns.append(slow.number)
                await asyncio.sleep(0)

        task = asyncio.create_task(beside())
        for partition in range(2000):
            metrics.LEDGER.labels(str(partition), "received").inc(0)
        page = (await asked()).body.decode()
        task.cancel()
    finally:
        REGISTRY.unregister(slow)
        metrics.LEDGER.clear()
    first, second = (page.partition(f"\niot_test_{name} ")[2].split()[0] for name in ("first", "second"))
    assert first == second
    assert len(turns) > 0


async def test_there_are_no_more_series_however_many_tenants_and_devices_there_are() -> None:
    freshness = TenantFreshness(20)
    for number in range(10_000):
        rows = [(None, f"tenant {number * 7919 % 10_000}", f"d{number}", 1)]
        for _ in range(4):
            freshness.stored(1, rows, [Message()], 1000 + number / 100, NOW_MS / 1000)
    gauges.set_freshness(freshness.show(1100.0))
    try:
        page = (await asked(PROMETHEUS)).body
    finally:
        gauges.set_freshness({})
    families = openmetrics(page)
    users = {sample.labels["user"] for sample in families["iot_tenant_freshness_seconds"].samples}
    assert len(users) == 21
    assert "other" in users
    assert "device" not in {label for one in families.values() for sample in one.samples for label in sample.labels}


async def test_prometheus_itself_finds_nothing_wrong() -> None:
    page = (await asked()).body
    done = programs.run("promtool", "check", "metrics", given=page.decode())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
