"""What the doctor makes of a worker's page: books that do not balance, and counts that go back."""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from app.doctor.finding import Finding, Level, worst
from app.doctor.programs import workers
from app.doctor.programs.worker_page import Page, read
from app.settings import Settings

GOOD = {"received": 10, "stored": 6, "duplicate": 1, "dead_lettered": 2, "dropped_by_policy": 1}


def page(ledger: Mapping[int, Mapping[str, int]], start: float = 1.0, **more: float) -> Page:
    samples: dict[Any, float] = {
        ("iot_ledger_total", (("outcome", outcome), ("partition", str(partition)))): float(count)
        for partition, outcomes in ledger.items()
        for outcome, count in outcomes.items()
    }
    samples[("process_start_time_seconds", ())] = start
    return Page("http://w", samples | {(name, ()): value for name, value in more.items()}, {}, {})


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_books_that_balance() -> None:
    assert (
        only(workers.books(page({0: GOOD, 7: GOOD}))).what == "http://w: the books balance, 20 records since its start"
    )
    assert only(workers.books(page({}))).level is Level.OK


@pytest.mark.parametrize(
    ("outcome", "by", "word"),
    [
        ("stored", -1, "1 lost"),
        ("stored", 1, "1 too many"),
        ("dead_lettered", -2, "2 lost"),
        ("received", -1, "1 too many"),
    ],
)
def test_a_record_lost_or_doubled_in_one_partition_is_found(outcome: str, by: int, word: str) -> None:
    found = only(workers.books(page({0: GOOD, 7: GOOD | {outcome: GOOD[outcome] + by}})))
    assert found.level is Level.BROKEN
    assert "partition 7 do not balance" in found.what
    assert found.what.endswith(word)


def test_a_loss_here_and_a_double_there_do_not_cancel_out() -> None:
    found = workers.books(page({0: GOOD | {"stored": 5}, 1: GOOD | {"stored": 7}}))
    assert [finding.level for finding in found] == [Level.BROKEN] * 2


def test_counts_only_grow() -> None:
    more = GOOD | {"received": 15, "stored": 11}
    found = only(workers.grown(page({0: GOOD}), page({0: more, 1: GOOD}), 5))
    assert (found.level, found.what) == (Level.OK, "http://w: 15 records more after 5 s, and the books balance")


def test_counts_that_go_back_are_found_even_when_they_balance() -> None:
    less = GOOD | {"received": 9, "stored": 5}
    found = only(workers.grown(page({0: GOOD}), page({0: less}), 5))
    assert found.level is Level.BROKEN
    assert "received of partition 0 from 10 to 9; stored of partition 0 from 6 to 5" in found.what
    assert only(workers.grown(page({0: GOOD}), page({}), 5)).level is Level.BROKEN


def test_a_worker_that_was_started_anew_begins_with_nothing() -> None:
    assert only(workers.grown(page({0: GOOD}), page({}, start=2.0), 5)).level is Level.WARNING


def test_books_that_break_between_two_looks_are_found() -> None:
    broken = GOOD | {"received": 11}
    assert only(workers.grown(page({0: GOOD}), page({0: broken}), 5)).level is Level.BROKEN


TEXT = b"""# TYPE iot_ledger_total counter
iot_ledger_total{outcome="received",partition="3"} 7.0
iot_ledger_total{outcome="stored",partition="3"} 6.0
# TYPE db_circuit_breaker_state gauge
db_circuit_breaker_state 1.0
# TYPE iot_kafka_write_held gauge
iot_kafka_write_held{topic="iot-stream-dlq"} 1.0
# TYPE iot_operator_needed gauge
iot_operator_needed 1.0
# TYPE iot_offsets_missing counter
iot_offsets_missing_total{partition="3"} 5.0
# TYPE iot_topic_made_anew counter
iot_topic_made_anew_total{topic="input"} 2.0
iot_topic_made_anew_total{topic="states"} 3.0
# TYPE iot_states_unreadable counter
iot_states_unreadable_total 4.0
# TYPE iot_dead_letters_in_a_row gauge
iot_dead_letters_in_a_row 501.0
"""


READY = b"""{"checks": {"assigned": true, "database": false},
    "advice": {"database": "grant the right", "iot-stream-dlq": "make the topic"}}"""


@contextmanager
def serving(metrics: bytes) -> Iterator[str]:
    """A process with this page, that is not ready."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = self.path == "/ready"
            self.send_response(503 if ready else 200)
            self.end_headers()
            self.wfile.write(READY if ready else metrics)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_everything_a_worker_complains_of_is_reported() -> None:
    with serving(TEXT) as url:
        found = await workers.look(Settings(), [url])
        assert read(url).ledger() == {3: {"received": 7, "stored": 6}}
    said = "\n".join(finding.what for finding in found)
    for words in (
        "partition 3 do not balance: received 7, stored 6: 1 lost",
        "circuit breaker is open",
        "does not take what the worker writes to iot-stream-dlq",
        "the worker waits until an operator acts",
        "the input topic was replaced or cut: 2 partitions began at another offset",
        "the changelog of states was made again: the states of 3 partitions",
        "4 stored states could not be read",
        "is not ready: database",
        "no longer held offsets when they were read (3: 5)",
        "501 dead letters in a row; at 1000 the worker stops",
    ):
        assert words in said
    assert {"grant the right", "make the topic"} <= {finding.cure for finding in found}
    assert worst(found) is Level.BROKEN
    assert all(finding.cure for finding in found if finding.level)


async def test_an_address_that_was_named_must_answer() -> None:
    assert only(await workers.look(Settings(), ["http://127.0.0.1:1"])).level is Level.BROKEN
    assert only(await workers.look(Settings(metrics_port=1), [])).level is Level.WARNING
    assert only(await workers.look(Settings(metrics_port=0), [])).level is Level.WARNING


async def test_a_page_of_another_product() -> None:
    with serving(b"# TYPE node_load1 gauge\nnode_load1 1.0\n") as url:
        assert "no metrics page of iot-stream" in only(await workers.look(Settings(), [url])).what
    with serving(b"<html>") as url:
        assert only(await workers.look(Settings(), [url])).level is Level.BROKEN


async def test_a_worker_of_another_fleet_is_not_taken_for_ours() -> None:
    build = b'# TYPE iot_build_info gauge\niot_build_info{version="0.1.0",app="line-7",program="worker"} 1.0\n'
    with serving(build + TEXT) as url:
        found = only(await workers.look(Settings(), [url]))
        assert (found.level, found.what) == (Level.BROKEN, f"{url} is of the fleet line-7, and IOT_APP is worker here")
        assert "set IOT_APP to line-7" in found.cure
        assert len(await workers.look(Settings(app="line-7"), [url])) > 1


async def test_the_address_of_stack_env_is_asked_where_none_is_named() -> None:
    with serving(TEXT) as url:
        found = await workers.look(Settings(metrics_url=f"{url}/metrics", metrics_port=0), [])
    assert all(url in finding.what for finding in found if finding.area == "worker")
    assert len(found) > 1
