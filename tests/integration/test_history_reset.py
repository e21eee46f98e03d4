"""`iot-stream history reset` on a real Kafka, with real workers: offsets that are set, members, what is read again."""

import asyncio
import signal
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from psutil import Process

from app.kafka.access import Access
from app.kafka.group_state import members_of, offsets_of_group
from app.kafka.topics import create, wanted
from app.local.servers.kafka_jars import kafka_jars
from tests.integration.history_rig import audit_lines, history, numbers, reading, running, send
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site, behind, until

pytestmark = pytest.mark.integration

PARTITIONS = 3
HOT = [{"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}]


@pytest.fixture
async def site(kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path) -> Site:
    more = {"kafka_partitions": PARTITIONS, "audit_file": tmp_path / "audit.jsonl"}
    made = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, more)
    await made.prepare(list(HOT))
    return made


async def hourly(site: Site) -> datetime:
    """Ten records in partition 0 and five in partition 1, each an hour after the one before, the last now: when."""
    now = datetime.now(UTC).replace(microsecond=0)
    for partition, count in ((0, 10), (1, 5)):
        for number in range(count):
            written = now - timedelta(hours=count - 1 - number)
            payload = reading(100 * partition + number, time=written.isoformat())
            await send(site, [payload], partition=partition, written=written)
    return now


def words_of(value: object) -> str | None:
    """How a test is called after words of a command line."""
    return " ".join(value) if isinstance(value, tuple) else None


async def nobody_is_left(site: Site) -> None:
    """Wait until the group has no member."""

    async def empty() -> bool:
        return not await members_of(Access(site.kafka), site.settings.group_id, site.settings.kafka_topic)

    await until(empty, 60, lambda: "the group has members")


async def made_anew(site: Site) -> None:
    """Delete the input topic, and make it again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
    await admin.start()
    try:
        await admin.delete_topics([site.settings.kafka_topic])

        async def gone() -> bool:
            return site.settings.kafka_topic not in await admin.list_topics()

        await until(gone, 30, lambda: "the topic is still there")
    finally:
        await admin.close()
    await create(Access(site.kafka), wanted(site.settings), 1)


async def test_rows_that_are_gone_are_stored_again_and_nobody_is_alerted_again(site: Site) -> None:
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, [reading(number, temperature=90 if number == 5 else 20) for number in range(10)])
        await send(site, [b"{"])
        await site.settled_input()
        ends, alerts = await site.ends(), await site.ends(site.settings.kafka_alerts_topic)
        dead = await site.ends(site.settings.kafka_dlq_topic)
        assert sum(alerts.values()) == 2, "FIRING and RESOLVED"
        worker.stop()
        await nobody_is_left(site)
        await site.fetch("DELETE FROM raw_telemetry WHERE sequence_id >= 3")

        shown = await history(site, "reset", "--to-earliest")
        assert shown.code == 0, shown.error
        assert "11 would be read again" in shown.out
        assert "nothing is done yet: give --yes" in shown.error
        assert behind(await site.committed(), ends) == {}
        assert audit_lines(site.directory / "audit.jsonl") == []

        done = (await history(site, "reset", "--to-earliest", "--yes", "--json")).json
        assert (done["done"], done["again"], done["skipped"], done["members"]) == (True, 11, 0, [])
        assert set((await site.committed()).values()) == {0}
        worker.start()
        await worker.ready()
        await site.settled_input()
    assert await numbers(site) == list(range(10))
    assert await site.ends(site.settings.kafka_alerts_topic) == alerts
    assert await site.ends(site.settings.kafka_dlq_topic) == dead
    begun, ended = audit_lines(site.directory / "audit.jsonl")
    assert (begun["phase"], begun["command"], begun["what"]["to"]) == ("begin", "history reset", {"to_earliest": True})
    assert (ended["outcome"], ended["counts"]) == ("done", {"partitions": PARTITIONS, "again": 11, "skipped": 0})


async def test_a_reset_is_refused_while_a_worker_runs_and_names_it(site: Site) -> None:
    await hourly(site)
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
        before = await site.committed()
        refused = await history(site, "reset", "--to-earliest", "--yes")
        assert (refused.code, refused.error.count("\n")) == (1, 1), refused.error
        assert "has 1 member: " in refused.error
        assert "with partitions 0, 1, 2" in refused.error
        assert await site.committed() == before
        shown = (await history(site, "reset", "--to-earliest", "--json")).json
        assert [one["partitions"] for one in shown["members"]] == [[0, 1, 2]]
        assert audit_lines(site.directory / "audit.jsonl") == [], "nothing was done"
        worker.stop()


async def test_ctrl_c_while_the_worker_is_waited_for_sets_nothing(site: Site) -> None:
    await hourly(site)
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
        before = await site.committed()
        async with running(site, "reset", "--to-earliest", "--yes", "--wait", "600") as process:

            async def asks() -> bool:
                port = int(site.kafka.rpartition(":")[2])
                return any(one.raddr and one.raddr.port == port for one in Process(process.pid).net_connections())

            await until(asks, 60, lambda: "the command has not asked Kafka")
            process.send_signal(signal.SIGINT)
            out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, out) == (130, b"")
        assert await site.committed() == before
        assert audit_lines(site.directory / "audit.jsonl") == []
        worker.stop()


async def test_a_static_member_that_was_killed_is_named_until_its_session_ends(
    kafka: KafkaServer, database: str, mosquitto: MqttServer, unique: str, tmp_path: Path
) -> None:
    more = {
        "kafka_partitions": PARTITIONS, "kafka_instance_id": f"{unique}-worker-0",
        "kafka_session_timeout": 12,  # in which the command has to begin
    }  # fmt: skip
    site = Site(kafka.bootstrap, database, mosquitto, unique, tmp_path, more)
    await site.prepare([])
    await hourly(site)
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
        worker.kill()
        refused = await history(site, "reset", "--to-earliest", "--yes")
        assert (refused.code, f"{unique}-worker-0 at " in refused.error) == (1, True), refused.error
        await nobody_is_left(site)
    assert (await history(site, "reset", "--to-earliest", "--yes")).code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--to-earliest",), {0: 0, 1: 0, 2: 0}),
        (("--to-earliest", "--partition", "1"), {0: 10, 1: 0}),
        (("--since", "210m"), {0: 6, 1: 1, 2: 0}),
        (("--since", "210m", "--partition", "0"), {0: 6, 1: 5}),
        (("--since", "100w"), {0: 0, 1: 0, 2: 0}),
        (("--until", "210m"), {0: 6, 1: 1, 2: 0}),
        (("--offset", "0:7", "--offset", "1:5"), {0: 7, 1: 5}),
        (("--offset", "3", "--partition", "0", "--partition", "1"), {0: 3, 1: 3}),
    ],
    ids=words_of,
)
async def test_where_offsets_are_set(site: Site, words: Sequence[str], expected: dict[int, int]) -> None:
    await hourly(site)
    assert (await history(site, "reset", "--offset", "0:10", "--offset", "1:5", "--yes")).code == 0
    assert await site.committed() == {0: 10, 1: 5}
    done = (await history(site, "reset", *words, "--yes", "--json")).json
    assert await site.committed() == expected
    again = {one["partition"]: one["again"] for one in done["partitions"]}
    assert again == {n: {0: 10, 1: 5, 2: 0}[n] - expected[n] for n in again}


async def test_the_times_of_both_ends_are_shown_and_what_is_passed_over_is_no_row(site: Site) -> None:
    now = await hourly(site)
    shown = (await history(site, "reset", "--until", "90m", "--json")).json
    first = shown["partitions"][0]
    assert (first["committed"], first["at"], first["to"], first["skipped"]) == (None, 0, 8, 8)
    now_ms = int(now.timestamp() * 1000)
    assert (first["at_ms"], first["to_ms"]) == (now_ms - 9 * 3_600_000, now_ms - 3_600_000)
    assert shown["partitions"][2]["to_ms"] is None, "an empty partition"
    assert "11 are passed over: no worker stores" in (await history(site, "reset", "--until", "90m", "--yes")).out
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
    assert await numbers(site) == [8, 9, 103, 104]


async def test_an_offset_counts_for_the_log_that_it_was_set_for_and_no_other(site: Site) -> None:
    await hourly(site)
    assert (await history(site, "reset", "--offset", "0:7", "--yes")).code == 0
    held = (await offsets_of_group(Access(site.kafka), site.settings.group_id))[
        TopicPartition(site.settings.kafka_topic, 0)
    ]
    assert (held.offset, held.metadata.startswith("log=")) == (7, True)
    await made_anew(site)
    await hourly(site)
    shown = (await history(site, "reset", "--offset", "0:7", "--json")).json
    assert (shown["partitions"][0]["committed"], shown["partitions"][0]["at"]) == (None, 0)
    with site.program("worker") as worker:
        await worker.ready()
        await site.settled_input()
    assert await numbers(site) == [*range(10), *range(100, 105)]


async def test_kafkas_own_tool_does_the_same(site: Site) -> None:
    """The command of docs/replay.md; its offset has no signature, and counts for the log that is there."""
    with site.program("worker") as worker:
        await worker.ready()
        await send(site, [reading(number) for number in range(10)])
        await site.settled_input()
        worker.stop()
        await nobody_is_left(site)
        await site.fetch("DELETE FROM raw_telemetry")
        tool = [
            "java", "-cp", f"{kafka_jars()}/*", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            "--bootstrap-server", site.kafka, "--group", site.settings.group_id, "--topic", site.settings.kafka_topic,
            "--reset-offsets", "--to-earliest", "--execute",
        ]  # fmt: skip
        done = await asyncio.to_thread(subprocess.run, tool, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert set((await site.committed()).values()) == {0}
        worker.start()
        await worker.ready()
        await site.settled_input()
    assert await numbers(site) == list(range(10))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to-earliest", "--partition", "9"), "there is no partition 9: the topic's are 0 to 2"),
        (("--offset", "0:11"), "partition 0 goes from offset 0 to 10"),
        (("--offset", "7:1"), "there is no partition 7"),
        (("--offset", "0:1", "--offset", "0:2"), "two ranges of partition 0"),
    ],
    ids=words_of,
)
async def test_a_place_that_the_topic_does_not_have_is_wrong_usage(site: Site, words: Sequence[str], said: str) -> None:
    await hourly(site)
    done = await history(site, "reset", *words, "--yes")
    assert (done.code, said in " ".join(done.error.replace("│", " ").split())) == (2, True), done.error
    assert await site.committed() == {}


async def test_one_line_where_kafka_is_away_or_has_no_such_topic_or_no_audit_line_is_taken(site: Site) -> None:
    words = ("reset", "--to-earliest", "--yes")
    missing, away, unaudited = await asyncio.gather(
        history(site, *words, kafka_topic="no-such-topic"),
        history(site, *words, kafka_broker="127.0.0.1:1"),
        history(site, *words, audit_file=site.directory / "no" / "such"),
    )
    assert (missing.code, missing.error.count("\n"), "no-such-topic" in missing.error) == (1, 1, True), missing.error
    assert (away.code, away.error.count("\n"), "Kafka" in away.error) == (1, 1, True), away.error
    assert (unaudited.code, "IOT_AUDIT_FILE" in unaudited.error) == (1, True), unaudited.error
    assert await site.committed() == {}


async def test_without_a_stack_there_is_nothing_to_stop(site: Site) -> None:
    done = await history(site, "reset", "--to-earliest", "--stop", "--yes", "--dir", site.directory / "none")
    assert (done.code, "no local stack runs" in done.error) == (1, True), done.error
