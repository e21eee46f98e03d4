"""The runner of a sink on a real Kafka: groups, commits, rebalances, dead letters, series."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client import REGISTRY

from app.kafka.access import access
from app.kafka.topics import create, wanted
from app.settings import Settings
from app.sinks.running.clients import sink_kafka
from app.sinks.running.refusals import SinkDeadLetters
from app.sinks.running.runner import SinkRunner
from tests.fake_sink import Destination, FakeSink
from tests.servers import KafkaServer
from tests.sink_records import message
from tests.waiting import until

pytestmark = pytest.mark.integration

PARTITIONS = 4
SECONDS = 60.0


class Deployment:
    """The topics of a test, a destination, and sinks that write to it."""

    def __init__(self, bootstrap: str, unique: str) -> None:
        self.bootstrap, self.name, self.destination = bootstrap, f"s{unique}", Destination()
        self.settings = Settings(
            _env_file=None,
            app=unique,
            kafka_broker=bootstrap,
            kafka_topic=f"{unique}-in",
            kafka_dlq_topic=f"{unique}-dlq",
            kafka_alerts_topic=f"{unique}-alerts",
            kafka_partitions=PARTITIONS,
            kafka_session_timeout=6.0,
            kafka_commit_interval=0.1,
            sink_retry_max=0.2,
        )
        self.places: set[tuple[int, int]] = set()
        self.number = 0

    async def send(self, count: int, partition: int | None = None) -> None:
        """Send readings, to each partition in turn."""
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            sent = []
            for at in range(count):
                self.number += 1
                made = message(self.number, device=f"d{self.number % 10}")
                target = at % PARTITIONS if partition is None else partition
                sent.append(
                    await producer.send(
                        self.settings.kafka_topic, made.value, made.key, target, headers=list(made.headers)
                    )
                )
            for one in await asyncio.gather(*sent):
                self.places.add((one.partition, one.offset))

    @asynccontextmanager
    async def running(self, *, linger: float = 0.0, killed: bool = False, **more: object) -> AsyncIterator[SinkRunner]:
        """A process of the sink; stopped at the end, or killed."""
        settings, stop = self.settings.model_copy(update=more), asyncio.Event()
        sink = FakeSink(self.destination, self.name, linger)
        runner = SinkRunner(settings, sink, stop, sink_kafka(settings, self.name, stop))
        task = asyncio.create_task(runner.run())
        try:
            yield runner
            assert not task.done() or task.result() is None
        finally:
            if killed:
                task.cancel()
                await asyncio.wait({task})
            else:
                stop.set()
                await asyncio.wait_for(task, 20)

    async def written(self, seconds: float = SECONDS) -> None:
        """Wait until all sent readings are written."""
        await until(lambda: set(self.destination.written) >= self.places, seconds)

    async def committed(self) -> dict[int, tuple[int, str]]:
        """{partition: (committed offset of the group, topic id in its metadata)}."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(f"{self.settings.group_id}-sink-{self.name}")
        finally:
            await admin.close()
        return {tp.partition: (at.offset, at.metadata) for tp, at in found.items()}

    def ends(self) -> dict[int, int]:
        """{partition: offset after the last record}."""
        ends: dict[int, int] = {}
        for partition, offset in self.places:
            ends[partition] = max(ends.get(partition, 0), offset + 1)
        return ends

    async def letters(self) -> list[dict[str, object]]:
        """The envelopes on the dead-letter topic."""
        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap) as consumer:
            tps = [TopicPartition(self.settings.kafka_dlq_topic, number) for number in range(PARTITIONS)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            ends, found = await consumer.end_offsets(tps), []
            while [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    found += [msgspec.json.decode(record.value) for record in records]
            return found


@pytest.fixture
async def site(kafka: KafkaServer, unique: str) -> Deployment:
    made = Deployment(kafka.bootstrap, unique)
    await create(access(made.settings), wanted(made.settings), 1)
    return made


def metric(name: str, site: Deployment, **labels: str) -> float:
    """The value of a metric of the sink."""
    return REGISTRY.get_sample_value(name, {"sink": site.name, **labels}) or 0.0


async def test_a_destination_that_is_away_for_longer_than_the_poll_interval(
    site: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client leaves the group of a consumer that takes no records, and such a consumer cannot join again."""
    monkeypatch.setattr("app.sinks.running.consumer.MAX_POLL_MS", 1_500)
    monkeypatch.setattr("app.sinks.running.watch.LOOK_SECONDS", 0.2)
    await site.send(40)
    async with site.running() as runner:
        await site.written()
        site.destination.away = True
        await site.send(40)
        await until(lambda: runner.held > 0, SECONDS)
        epoch, began = runner.consumer.epoch, time.monotonic()
        await until(lambda: time.monotonic() - began > 4.5, SECONDS)  # three times the interval
        site.destination.away = False
        await site.written()
        assert runner.consumer.answers
        assert runner.consumer.epoch == epoch, "the sink has left its group"


async def test_everything_is_written_once_in_order_and_committed(site: Deployment) -> None:
    await site.send(4_000)
    async with site.running() as runner:
        await site.written()
        assert runner.available
        await site.send(100)
        await site.written()
        await until(lambda: metric("iot_sink_lag", site) == 0, SECONDS)
    assert set(site.destination.written) == site.places
    assert set(site.destination.written.values()) == {1}
    for partition in range(PARTITIONS):
        order = [offset for number, offset in site.destination.order if number == partition]
        assert order == sorted(order)
    committed = await site.committed()
    assert {number: offset for number, (offset, _) in committed.items()} == site.ends()
    assert len({topic for _, topic in committed.values()}) == 1
    assert all(topic for _, topic in committed.values())
    assert metric("iot_sink_received_total", site) == 4_100
    assert metric("iot_sink_records_total", site, outcome="written") == 4_100


async def test_a_process_that_comes_and_goes_loses_and_repeats_nothing(site: Deployment) -> None:
    await site.send(400)
    async with site.running(linger=0.3) as first:
        await site.written()
        async with site.running(linger=0.3) as second:
            await until(lambda: len(first.consumer.assigned) == len(second.consumer.assigned) == 2, SECONDS)
            await site.send(400)
            await site.written()
        await until(lambda: len(first.consumer.assigned) == PARTITIONS, SECONDS)
        await site.send(400)
        await site.written()
    assert set(site.destination.written.values()) == {1}


async def test_what_is_held_of_partitions_that_stay_is_not_read_again(site: Deployment) -> None:
    await site.send(400)
    async with site.running(linger=3600.0) as first:
        await until(lambda: first.held == 400, SECONDS)
        async with site.running(linger=3600.0) as second:
            await until(lambda: first.held == 200 and second.held == 200, SECONDS)
            assert first.books.received == 400
            assert first.books.outcomes["revoked"] == 200
    assert set(site.destination.written) == site.places
    assert set(site.destination.written.values()) == {1}


async def test_a_killed_process_repeats_what_it_had_not_committed_and_loses_nothing(site: Deployment) -> None:
    await site.send(2_000)
    async with site.running(killed=True, kafka_commit_interval=3600.0):
        await until(lambda: len(site.destination.written) > 500, SECONDS)
    async with site.running():
        await site.written()
    assert set(site.destination.written) == site.places
    assert max(site.destination.written.values()) == 2


async def test_a_destination_that_keeps_offsets_has_no_repeats_after_a_kill(site: Deployment) -> None:
    site.destination.keeps_offsets = True
    await site.send(2_000)
    async with site.running(killed=True, kafka_commit_interval=3600.0):
        await until(lambda: len(site.destination.written) > 500, SECONDS)
    async with site.running():
        await site.written()
    assert set(site.destination.written.values()) == {1}


async def test_a_refused_record_has_one_dead_letter_of_the_sink_over_restarts(site: Deployment) -> None:
    site.destination.refuses = lambda record: record.offset == 3
    await site.send(80)
    for _ in range(2):  # no commit in between
        async with site.running(killed=True, kafka_commit_interval=3600.0) as runner:
            await until(lambda: runner.books.outcomes["refused"] == PARTITIONS, SECONDS)
            await until(lambda: not runner.held, SECONDS)
            await asyncio.sleep(0.5)
    letters = await site.letters()
    assert len(letters) == PARTITIONS
    assert {(one["reason"], one["stage"]) for one in letters} == {("sink_refused", f"sink:{site.name}")}
    assert all("not that one" in str(one["error"]) for one in letters)
    assert {one["source"]["partition"] for one in letters} == set(range(PARTITIONS))  # type: ignore[index]


async def test_dead_letters_of_a_flush_are_sent_after_a_kill_where_the_destination_keeps_offsets(
    site: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    site.destination.keeps_offsets = True
    site.destination.refuses = lambda record: record.offset % 10 == 3
    await site.send(80)
    with monkeypatch.context() as patch:
        patch.setattr(SinkDeadLetters, "send", hang)
        async with site.running(killed=True):
            await until(lambda: len(site.destination.written) == 72, SECONDS)
    assert not await site.letters()
    async with site.running():
        async with asyncio.timeout(SECONDS):
            while len(await site.letters()) < 8:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    letters = [(one["source"]["partition"], one["source"]["offset"]) for one in await site.letters()]  # type: ignore[index]
    assert sorted(letters) == sorted(place for place in site.places if place[1] % 10 == 3)
    assert set(site.destination.written.values()) == {1}
    assert {number: offset for number, (offset, _) in (await site.committed()).items()} == site.ends()


async def test_what_is_over_the_limit_of_series_is_dropped_also_after_a_restart(site: Deployment) -> None:
    await site.send(200, 1)
    async with site.running(sink_cardinality_max=10) as runner:
        await until(lambda: runner.books.received == 200 and not runner.held, SECONDS)
        await until(lambda: metric("iot_sink_lag", site) == 0, SECONDS)
    known = {record % 10 for _, record in site.destination.order}
    first = set(site.destination.written)
    assert len(first) == 100
    assert len(known) == 5
    await site.send(200, 1)
    async with site.running(sink_cardinality_max=10) as runner:
        await until(lambda: runner.books.received == 200 and not runner.held, SECONDS)
    assert {record % 10 for _, record in site.destination.order} == known
    assert metric("iot_sink_records_total", site, outcome="dropped_cardinality") == 200


async def test_while_the_destination_is_away_lag_grows_and_nothing_is_lost(
    site: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sinks.running.watch.LOOK_SECONDS", 0.2)
    async with site.running() as runner:
        await until(lambda: runner.available, SECONDS)
        site.destination.away = True
        await site.send(400)
        await until(lambda: metric("iot_sink_breaker_state", site) == 1, SECONDS)
        held = runner.held
        await site.send(2_000)
        await until(lambda: metric("iot_sink_lag", site) == 2_400, SECONDS)
        assert runner.held == held
        assert metric("iot_sink_paused", site) == 1
        site.destination.away = False
        await site.written()
    assert set(site.destination.written.values()) == {1}


async def test_a_sink_may_begin_with_what_is_new(site: Deployment) -> None:
    await site.send(40)
    old = set(site.places)
    async with site.running(sink_start="latest") as runner:
        await until(lambda: runner.consumer.settled, SECONDS)
        await site.send(40)
        site.places -= old
        await site.written()
    assert set(site.destination.written) == site.places


async def test_a_topic_that_is_made_anew_is_read_from_its_beginning(site: Deployment) -> None:
    await site.send(400)
    async with site.running():
        await site.written()
    admin = AIOKafkaAdminClient(bootstrap_servers=site.bootstrap)
    await admin.start()
    await admin.delete_topics([site.settings.kafka_topic])
    async with asyncio.timeout(SECONDS):
        while site.settings.kafka_topic in await admin.list_topics():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await admin.create_topics([NewTopic(site.settings.kafka_topic, PARTITIONS, 1)])
        await asyncio.sleep(1.0)
    await admin.close()
    site.places.clear()
    site.destination.written.clear()
    await site.send(480)  # more than before: a commit of the old topic would skip the first records
    async with site.running():
        await site.written()
    assert set(site.destination.written) == site.places


async def test_a_stop_is_quick_and_leaves_nothing_uncommitted(site: Deployment) -> None:
    await site.send(400)
    async with site.running(linger=3600.0) as runner:
        await until(lambda: runner.held == 400, SECONDS)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert {number: offset for number, (offset, _) in (await site.committed()).items()} == site.ends()


async def test_two_sinks_do_not_delay_each_other(site: Deployment, unique: str) -> None:
    other = Deployment(site.bootstrap, unique)
    other.settings, other.name, other.places = site.settings, "other", site.places
    other.destination.answers.clear()
    await site.send(400)
    async with other.running(killed=True) as stuck:
        await until(lambda: stuck.held > 0, SECONDS)
        async with site.running():
            await site.written()
    assert not other.destination.written
