"""The notifier on real Kafka, PostgreSQL and Mosquitto: one message per (alert_id, status), in order, none lost."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import mqtt5
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from app.core.model.alert_event import AlertEvent, Severity, Status, to_json
from app.local.servers.common import free_port
from app.local.servers.mosquitto import BRIDGE, Mosquitto
from tests.integration.bridges import Program, create_topics, program, until
from tests.integration.unreadable import send_unreadable
from tests.servers import KafkaServer, MqttServer
from tools.faults.clocks import Clock, available

pytestmark = pytest.mark.integration


def settings(kafka: str, mqtt: MqttServer, database: str, unique: str) -> dict[str, object]:
    """A notifier of this test alone."""
    return {
        "app": unique,
        "kafka_broker": kafka,
        "kafka_alerts_topic": unique,
        "database_url": database,
        "mqtt_host": mqtt.host,
        "mqtt_port": mqtt.port,
        "mqtt_username": mqtt.username,
        "mqtt_password": mqtt.password,
        "notifier_client_id": f"notifier-{unique}",
        "alerts_per_minute": 0,  # the tests of this file count every event
        "alert_delayed_after": 1e9,  # the events of these tests are of no time in particular
    }


def event(
    user: str, number: int, status: Status = Status.FIRING, device: str = "d1", time: datetime | None = None
) -> tuple[bytes, bytes]:
    """Key and value of an alert event."""
    now = time or datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=number)
    made = AlertEvent(
        alert_id=f"{user}-{device}-{number}",
        user_id=user,
        device_id=device,
        rule_id="temperature",
        status=status,
        severity=Severity.WARNING,
        message="too hot ✓",
        value=41.5,
        threshold=40,
        event_time=now,
        first_seen=now,
    )
    return f"{user}/{device}".encode(), to_json(made)


async def outbox(bootstrap: str, topic: str, events: Sequence[tuple[bytes, bytes]]) -> None:
    """Put events on the alert topic."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await asyncio.gather(*[await producer.send(topic, value, key=key) for key, value in events])


@asynccontextmanager
async def listening(server: MqttServer, user: str, below: str = "alerts") -> AsyncIterator[list[dict[str, Any]]]:
    """What arrives on users/<user>/<below> while this is open, from a kept session."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    found: list[dict[str, Any]] = []
    connect = mqtt5.ConnectPacket(
        f"listener-{user}-{below}",
        username=server.username,
        password=server.password.encode(),
        session_expiry_interval=3600,
    )
    topic = mqtt5.TopicFilter(f"users/{user}/{below}", max_qos=mqtt5.QoS.AT_LEAST_ONCE)
    writer.write(connect.write() + mqtt5.SubscribePacket(1, [topic]).write())
    ready = asyncio.Event()

    async def listen() -> None:
        buffer = b""
        while more := await reader.read(65536):
            buffer += more
            while True:
                try:
                    packet, size = mqtt5.read(memoryview(buffer))
                except IndexError:
                    break
                buffer = buffer[size:]
                if isinstance(packet, mqtt5.SubAckPacket):
                    ready.set()
                elif isinstance(packet, mqtt5.PublishPacket):
                    found.append(json.loads(packet.payload))
                    writer.write(mqtt5.PubAckPacket(packet.packet_id).write())

    task = asyncio.create_task(listen())
    try:
        await asyncio.wait_for(ready.wait(), 10)
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()
        await writer.wait_closed()


def more_than(found: list[dict[str, Any]], count: int) -> bool:
    """Whether that many have arrived."""
    return len(found) > count


async def answers(connection: Any, query: str, wanted: int) -> None:
    """Wait until a query answers so."""
    async with asyncio.timeout(40):
        while await connection.fetchval(query) != wanted:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)


async def unsent(dsn: str) -> int:
    """Rows of alert_history without sent_at."""
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM alert_history WHERE sent_at IS NULL"))
    finally:
        await connection.close()


async def test_each_alert_is_published_once_over_restarts_and_repeats(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=2)
    first = [event(unique, n, s) for n in range(50) for s in (Status.FIRING, Status.RESOLVED)]
    bad = [(b"x", b"not json"), (b"x", b"{}"), (b"x", b""), event("a/b", 1), event("#", 1), event("", 1)]
    async with listening(mosquitto, unique) as found:
        with program(
            "notifier", tmp_path / "log", **settings(kafka.bootstrap, mosquitto, database, unique)
        ) as notifier:
            await outbox(kafka.bootstrap, unique, first[:60] + bad)
            await send_unreadable(kafka.bootstrap, unique)
            await outbox(kafka.bootstrap, unique, first[40:60])
            await until(lambda: len(found) >= 60)
            await notifier.logged("notifier_invalid", times=len(bad) + 1)
            assert notifier.stop() < 10
            notifier.start()
            await outbox(kafka.bootstrap, unique, first)  # a crashed worker sends its outbox again
            await until(lambda: len(found) >= 100)
            await all_sent(database)
            await asyncio.sleep(1)
            notifier.kill()
    assert found == [json.loads(value) for _, value in first]
    assert await unsent(database) == 0


async def test_it_is_ready_when_all_three_are_there(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=1)
    port = free_port()
    made = {**settings(kafka.bootstrap, mosquitto, database, unique), "metrics_port": port}
    with program("notifier", tmp_path / "log", **made) as notifier:
        await notifier.logged("notifier_mqtt_connected")
        answer = b""
        async with asyncio.timeout(20):
            while b'"kafka": true, "mqtt": true, "database": true' not in answer:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /ready HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
                await writer.wait_closed()
        assert answer.startswith(b"HTTP/1.0 200")
        assert notifier.stop() < 10


@asynccontextmanager
async def comes_back(broker: Mosquitto, notifier: Program) -> AsyncIterator[None]:
    """Start the broker while the notifier sleeps: what is published before anybody subscribes reaches nobody."""
    os.kill(notifier.pid, signal.SIGSTOP)
    broker.start()
    broker.wait_ready()
    yield


async def test_the_broker_away_then_back(
    kafka: KafkaServer, server_dir: Path, database: str, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=2)
    broker = Mosquitto(server_dir)
    events = [event(unique, n) for n in range(30)]
    try:
        with program("notifier", tmp_path / "log", **settings(kafka.bootstrap, broker, database, unique)) as notifier:
            await notifier.logged("notifier_started")
            await outbox(kafka.bootstrap, unique, events[:10])
            async with comes_back(broker, notifier), listening(broker, unique) as found:  # the broker comes last
                os.kill(notifier.pid, signal.SIGCONT)
                await until(lambda: len(found) >= 10)
                await all_sent(database)
            broker.stop()
            await outbox(kafka.bootstrap, unique, events[10:20])
            await asyncio.sleep(1)
            async with comes_back(broker, notifier), listening(broker, unique) as later:
                os.kill(notifier.pid, signal.SIGCONT)
                await outbox(kafka.bootstrap, unique, events[20:])
                await until(lambda: len(later) >= 20, 40)
            assert notifier.stop() < 10
    finally:
        broker.stop()
    assert found + later == [json.loads(value) for _, value in events]
    assert await unsent(database) == 0


async def test_what_waited_for_the_broker_is_sent_as_delayed(
    kafka: KafkaServer, server_dir: Path, database: str, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=1)
    broker = Mosquitto(server_dir)
    made = settings(kafka.bootstrap, broker, database, unique) | {"alert_delayed_after": 20}
    began = datetime.now(UTC)
    old = [event(unique, n, time=began - timedelta(seconds=15)) for n in range(5)]  # not late when they are put there
    try:
        with program("notifier", tmp_path / "log", **made) as notifier:
            await notifier.logged("notifier_started")
            await outbox(kafka.bootstrap, unique, old)
            await asyncio.sleep((began + timedelta(seconds=6) - datetime.now(UTC)).total_seconds())
            async with comes_back(broker, notifier), listening(broker, unique) as found:
                os.kill(notifier.pid, signal.SIGCONT)
                await until(lambda: len(found) >= 5, 40)
                await outbox(kafka.bootstrap, unique, [event(unique, 5, time=datetime.now(UTC))])
                await until(lambda: len(found) >= 6)
            assert notifier.stop() < 10
    finally:
        broker.stop()
    assert [one["alert_id"] for one in found] == [f"{unique}-d1-{n}" for n in range(6)]
    assert [one.get("delayed") for one in found] == [True] * 5 + [None]
    assert found[0] == json.loads(old[0][1]) | {"delayed": True}


async def test_an_hour_without_the_broker(
    kafka: KafkaServer,
    server_dir: Path,
    database: str,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An event in five seconds; the broker is away, and the notifier's clock takes the hour in six steps."""
    if not available():
        pytest.skip("no C compiler: a process cannot have a clock of its own")
    await create_topics(kafka.bootstrap, unique, partitions=2)
    broker, clock, port, began = Mosquitto(server_dir), Clock(tmp_path, "notifier"), free_port(), datetime.now(UTC)
    made = settings(kafka.bootstrap, broker, database, unique) | {"alert_delayed_after": 60, "metrics_port": port}
    steps = timedelta(seconds=5)
    events = [event(unique, n, device=f"d{n % 7}", time=began + n * steps) for n in range(720)]
    try:
        with contextlib.ExitStack() as stack:
            with monkeypatch.context() as own:
                for name, value in clock.environment.items():
                    own.setenv(name, value)
                notifier = stack.enter_context(program("notifier", tmp_path / "log", **made))
            await notifier.logged("notifier_started")
            async with comes_back(broker, notifier), listening(broker, unique) as found:
                os.kill(notifier.pid, signal.SIGCONT)
                await outbox(kafka.bootstrap, unique, events[:20])
                await until(lambda: len(found) >= 20, 40)
                await all_sent(database)
            broker.stop()
            for part in range(6):
                await outbox(kafka.bootstrap, unique, events[20 + part * 100 : 120 + part * 100])
                clock.jump(600 * (part + 1))
            await outbox(kafka.bootstrap, unique, events[620:])
            await waits_for(port, lambda seconds: seconds >= 3000)
            async with comes_back(broker, notifier), listening(broker, unique) as later:
                os.kill(notifier.pid, signal.SIGCONT)
                await until(lambda: len(later) >= 700, 60)
                fresh = datetime.now(UTC) + timedelta(hours=1)
                await outbox(kafka.bootstrap, unique, [event(unique, 720, device="d6", time=fresh)])
                await until(lambda: len(later) >= 701, 40)
                await all_sent(database)
                await waits_for(port, lambda seconds: seconds == 0)
                delayed = await metric(port, "iot_notifier_delayed_total")
            assert notifier.stop() < 10
    finally:
        broker.stop()
    for device in range(7):
        ids = [one["alert_id"] for one in found + later if one["device_id"] == f"d{device}"]
        assert ids == [f"{unique}-d{device}-{n}" for n in range(721) if n % 7 == device], "all, once, in order"
    assert len(found) == 20
    assert len(later) == 701
    assert [one for one in found if "delayed" in one] == []
    old = {f"{unique}-d{n % 7}-{n}" for n in range(20, 690)}  # the last of the hour are within the minute, perhaps
    assert old - {one["alert_id"] for one in later if one.get("delayed") is True} == set()
    assert "delayed" not in next(one for one in later if one["alert_id"].endswith("-720"))
    assert delayed == sum("delayed" in one for one in later)


async def all_sent(dsn: str) -> None:
    """A PUBACK that a stop of the broker overtakes would cost a repeat."""
    async with asyncio.timeout(40):
        while await unsent(dsn):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)


async def metric(port: int, name: str, **labels: str) -> float:
    """The value of a series of a program."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return next(s.value for family in families for s in family.samples if s.name == name and s.labels == labels)


async def waits_for(port: int, wanted: Callable[[float], bool]) -> None:
    """Wait until the seconds for which it says that an alert has waited are as wanted."""
    async with asyncio.timeout(40):
        while not wanted(await metric(port, "iot_notifier_waiting_seconds", group="notifier")):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_storm_is_sent_as_a_digest_and_nothing_is_lost(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=1)
    calm = f"{unique}-calm"
    made = settings(kafka.bootstrap, mosquitto, database, unique) | {"alerts_per_minute": 5}
    events = [event(unique, n, device=f"d{n % 7}") for n in range(300)]
    connection = await asyncpg.connect(database)
    held = "SELECT count(*) FROM alert_history WHERE held_at IS NOT NULL AND sent_at IS NULL"
    a_minute_later = "UPDATE alert_history SET sent_at = sent_at - $1::interval, held_at = held_at - $1::interval"
    async with listening(mosquitto, unique) as found, listening(mosquitto, calm) as rest:
        with program("notifier", tmp_path / "log", **made) as notifier:
            await outbox(kafka.bootstrap, unique, [*events[:250], event(calm, 1)])
            await until(lambda: len(rest) == 1, 40)
            await answers(connection, "SELECT count(*) FROM alert_history WHERE sent_at IS NOT NULL", 6)
            notifier.kill()  # what is held is in the table
            notifier.start()
            await outbox(kafka.bootstrap, unique, [*events[240:], event(calm, 2)])  # ten of them again
            await until(lambda: len(rest) >= 2, 40)
            names = [json.loads(value)["alert_id"] for _, value in events]
            assert [one["alert_id"] for one in found] == names[:5]
            await answers(connection, held, 295)
            found.clear()
            await connection.execute(a_minute_later, timedelta(seconds=61))
            await until(lambda: len(found) == 1, 40)
            await answers(connection, held, 0)
            await outbox(kafka.bootstrap, unique, [event(unique, 300), event(calm, 3)])
            await until(lambda: len(found) == 2, 40)
            assert notifier.stop() < 10
    digest, single = found
    assert (digest["status"], digest["count"], digest["devices"], digest["omitted"]) == ("DIGEST", 295, 7, 95)
    assert [one["alert_id"] for one in digest["alerts"]] == names[5:205]
    assert digest["by_status"] == {"FIRING": 295}
    assert single["alert_id"] == f"{unique}-d1-300", "after the digest the budget begins anew"
    assert await connection.fetchval("SELECT count(*) FROM alert_history WHERE user_id = $1", unique) == 301
    assert await unsent(database) == 0
    await connection.close()


async def renamed(admin: Any, old: str, new: str) -> None:
    """Rename a database that nobody may be connected to; somebody may come back between the two steps."""
    async with asyncio.timeout(40):
        while True:
            await admin.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", old)
            with contextlib.suppress(asyncpg.ObjectInUseError):
                await admin.execute(f"ALTER DATABASE {old} RENAME TO {new}")
                return


async def test_the_database_away_then_back(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=1)
    away = f"{unique}_away"
    admin = await asyncpg.connect(database.rpartition("/")[0] + "/postgres")
    with program("notifier", tmp_path / "log", **settings(kafka.bootstrap, mosquitto, database, unique)) as notifier:
        async with listening(mosquitto, unique) as found:
            await outbox(kafka.bootstrap, unique, [event(unique, 1)])
            await until(lambda: len(found) == 1)
            try:
                await renamed(admin, unique, away)
                await outbox(kafka.bootstrap, unique, [event(unique, 2)])
                await notifier.logged("notifier_retry", times=3)
                assert len(found) == 1, "nothing is published that could not be noted first"
            finally:
                with contextlib.suppress(asyncpg.InvalidCatalogNameError):  # the database was never away
                    await renamed(admin, away, unique)
                await admin.close()
            await until(lambda: len(found) == 2)
        assert notifier.stop() < 10
    assert await unsent(database) == 0


async def test_a_stop_while_the_database_takes_no_marks_tries_again(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    """What was sent is marked before a clean stop, though the next try was seconds away, so that nothing repeats."""
    await create_topics(kafka.bootstrap, unique, partitions=1)
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$; "
            "CREATE TRIGGER full_disk BEFORE UPDATE ON alert_history EXECUTE FUNCTION full_disk()"
        )
        made = settings(kafka.bootstrap, mosquitto, database, unique)
        with program("notifier", tmp_path / "log", **made) as notifier:
            async with listening(mosquitto, unique) as found:
                await outbox(kafka.bootstrap, unique, [event(unique, 1)])
                await until(lambda: len(found) == 1)
                await notifier.logged("notifier_retry", times=4)
                await connection.execute("DROP TRIGGER full_disk ON alert_history")
                assert notifier.stop() < 10
        assert await connection.fetchval("SELECT count(*) FROM alert_history") == 1
    finally:
        await connection.close()
    assert await unsent(database) == 0


async def test_a_refused_message_is_held_and_named(
    kafka: KafkaServer, server_dir: Path, database: str, unique: str, tmp_path: Path
) -> None:
    """The bridge's account may not publish; MQTT 5 says so in the PUBACK."""
    await create_topics(kafka.bootstrap, unique, partitions=1)
    broker = Mosquitto(server_dir)
    broker.start()
    broker.wait_ready()
    wrong = {"mqtt_username": BRIDGE, "mqtt_password": broker.password_of(BRIDGE)}
    made = settings(kafka.bootstrap, broker, database, unique)
    try:
        async with listening(broker, unique) as found:
            with program("notifier", tmp_path / "log", **{**made, **wrong}) as notifier:
                await outbox(kafka.bootstrap, unique, [event(unique, 1)])
                await notifier.logged("notifier_refused", times=2)
                assert notifier.stop() < 10
            assert found == []
            assert await unsent(database) == 1
            with program("notifier", tmp_path / "log2", **made) as notifier:
                await until(lambda: len(found) == 1)
                assert notifier.stop() < 10
    finally:
        broker.stop()
    assert await unsent(database) == 0


@pytest.mark.faults
async def test_kill_9_repeats_at_most_and_loses_nothing(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=2)
    events = [event(unique, n, device=f"d{n % 5}") for n in range(3000)]
    async with listening(mosquitto, unique) as found:
        with program(
            "notifier", tmp_path / "log", **settings(kafka.bootstrap, mosquitto, database, unique)
        ) as notifier:
            for round_ in range(5):
                load = asyncio.create_task(outbox(kafka.bootstrap, unique, events[round_ * 600 : (round_ + 1) * 600]))
                await until(partial(more_than, found, round_ * 600 + 50), 60)  # Kafka waits for a killed member
                notifier.kill()
                notifier.start()
                await load
            await until(lambda: len({one["alert_id"] for one in found}) == len(events), 40)
            assert notifier.stop() < 10
    firsts: dict[str, list[str]] = {}
    for one in found:
        seen = firsts.setdefault(one["device_id"], [])
        if one["alert_id"] not in seen:
            seen.append(one["alert_id"])
    for device, ids in firsts.items():
        assert ids == [f"{unique}-{device}-{n}" for n in range(int(device[1:]), 3000, 5)]
    assert await unsent(database) == 0
    print(f"{len(events)} events, {len(found) - len(events)} repeats over 5 kills")
