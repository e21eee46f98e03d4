"""One user's messages and another's alerts: what the broker cannot take, floods, wrong commands; real servers."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer

from app.kafka.alert_outbox import TOPIC_HEADER
from app.local.servers.common import free_port
from tests.integration.bridges import create_topics, program, until
from tests.integration.test_notifier import answers, event, listening, metric, outbox, settings
from tests.integration.test_webhook import KEY, Receiver
from tests.servers import KafkaServer, MqttServer
from tests.workers import Site
from tests.workers import until as until_true

pytestmark = pytest.mark.integration


@dataclass
class Behind:
    """A server behind a proxy."""

    host: str
    port: int
    username: str
    password: str


@asynccontextmanager
async def proxied(server: MqttServer, ends: Callable[[bytes], bool]) -> AsyncIterator[Behind]:
    """A broker that ends a connection by what it is sent; nothing of that is passed on."""

    links: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, judged: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if judged and ends(data):
                    break
                writer.write(data)
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        links[task] = writer
        there, back = await asyncio.open_connection(server.host, server.port)
        both = [asyncio.create_task(pipe(reader, back, True)), asyncio.create_task(pipe(there, writer, False))]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for one in (writer, back):
            one.transport.abort()
        await asyncio.wait(both)
        del links[task]

    made = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = made.sockets[0].getsockname()[1]
    try:
        yield Behind("127.0.0.1", port, server.username, server.password)
    finally:
        made.close()
        for writer in links.values():
            writer.transport.abort()
        if links:
            await asyncio.wait(links)


def now_and_then(seed: int) -> Callable[[bytes], bool]:
    """Says to end a connection after some messages, ten to sixty of them."""
    chance = random.Random(seed)
    left = chance.randint(10, 60)

    def ends(data: bytes) -> bool:
        nonlocal left
        left -= data.count(b"/alerts")
        if left >= 0:
            return False
        left = chance.randint(10, 60)
        return True

    return ends


@pytest.mark.parametrize("what", ["a user id the broker closes for", "anything else it closes for"])
async def test_a_message_that_ends_the_connection_is_left_out(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path, what: str
) -> None:
    """Mosquitto ends the connection at a control character; the proxy at a word in the payload."""
    bad = f"{unique}\x01b" if what.startswith("a user") else f"{unique}-bad"
    first = [event(unique, 1), event(bad, 1), event(unique, 2), event(bad, 2), event(f"{unique}-c", 1)]
    if not what.startswith("a user"):
        first[1] = first[1][0], first[1][1].replace(b"too hot", b"POISON!")
    await create_topics(kafka.bootstrap, unique, partitions=1)
    connection = await asyncpg.connect(database)
    async with (
        proxied(mosquitto, lambda data: b"POISON!" in data) as broker,
        listening(mosquitto, unique) as found,
        listening(mosquitto, f"{unique}-c") as rest,
    ):
        made = settings(kafka.bootstrap, broker, database, unique)
        with program("notifier", tmp_path / "log", **made) as notifier:
            await outbox(kafka.bootstrap, unique, first)
            await until(lambda: len(ids(found)) == 2 and len(ids(rest)) == 1, 60)
            await notifier.logged("notifier_left_out", seconds=60)
            if what.startswith("a user"):
                await notifier.logged("notifier_left_out", times=2, seconds=60)  # all of that user's
                wanted = 2
            else:
                await answers(connection, "SELECT count(*) FROM alert_history WHERE sent_at IS NOT NULL", 4)
                wanted = 1
            await answers(connection, "SELECT count(*) FROM alert_history WHERE left_out IS NOT NULL", wanted)
            await outbox(kafka.bootstrap, unique, [event(unique, 3), *first])  # and what comes again is known
            await until(lambda: len(ids(found)) == 3, 60)
            assert notifier.stop() < 10
            notifier.start()
            await outbox(kafka.bootstrap, unique, [event(unique, 4)])
            await until(lambda: len(ids(found)) == 4, 60)
            assert notifier.stop() < 10
    assert ids(found) == [f"{unique}-d1-{n}" for n in (1, 2, 3, 4)]
    assert (tmp_path / "log").read_text().count('"event": "notifier_left_out"') == wanted
    assert await connection.fetchval("SELECT count(*) FROM alert_history") == 7
    assert await connection.fetchval("SELECT count(*) FROM alert_history WHERE sent_at IS NULL") == wanted
    await connection.close()


async def test_it_is_not_ready_while_a_message_is_in_doubt(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    """The broker takes nothing of anybody: nothing is left out; when the broker is well again all is sent."""
    closes = True
    await create_topics(kafka.bootstrap, f"{unique}-alerts", partitions=1)
    async with (
        proxied(mosquitto, lambda data: closes and b"/alerts" in data) as broker,
        listening(mosquitto, unique) as found,
    ):
        site = Site(kafka.bootstrap, database, broker, unique, tmp_path, {"kafka_partitions": 1})
        with site.program("notifier") as notifier:
            await notifier.ready()
            await outbox(kafka.bootstrap, f"{unique}-alerts", [event(unique, n) for n in range(3)])

            async def tried() -> bool:
                return len(notifier.events("notifier_mqtt_disconnected")) >= 6

            await until_true(tried, 60, notifier.tail)
            status, body = await notifier.get("/ready")
            assert (status, '"messages": false' in body) == (503, True)
            closes = False
            await until(lambda: len(found) == 3, 60)
            await notifier.ready()
            assert notifier.events("notifier_left_out") == []
            assert notifier.stop() < 10


async def test_a_broker_that_flaps_loses_nothing(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    users = [f"{unique}-{n}" for n in range(5)]
    events = [event(users[n % 5], n, device=f"d{n % 3}") for n in range(400)]
    await create_topics(kafka.bootstrap, unique, partitions=2)
    connection = await asyncpg.connect(database)
    async with (
        proxied(mosquitto, now_and_then(7)) as broker,
        listening(mosquitto, "+") as found,
    ):
        made = settings(kafka.bootstrap, broker, database, unique)
        with program("notifier", tmp_path / "log", **made) as notifier:
            for part in range(20):
                await outbox(kafka.bootstrap, unique, events[part * 20 : part * 20 + 20])
                await asyncio.sleep(0.05)
            await answers(connection, "SELECT count(*) FROM alert_history WHERE sent_at IS NOT NULL", 400)
            assert notifier.stop() < 10
        await until(lambda: len({one["alert_id"] for one in found if "alert_id" in one}) == 400)
    log = (tmp_path / "log").read_text()
    assert log.count('"event": "notifier_mqtt_disconnected"') > 3
    assert "notifier_left_out" not in log
    firsts: dict[tuple[str, str], list[str]] = {}
    for one in found:
        if "alert_id" in one:
            seen = firsts.setdefault((one["user_id"], one["device_id"]), [])
            if one["alert_id"] not in seen:
                seen.append(one["alert_id"])
    for (user, device), ids in firsts.items():
        mine = [n for n in range(400) if users[n % 5] == user and f"d{n % 3}" == device]
        assert ids == [f"{user}-{device}-{n}" for n in mine], "in the order of the device"
    await connection.close()


async def test_a_flood_before_others_in_their_partition(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    """The budget that is there by default; what is above it comes as a digest, and all is on record."""
    await create_topics(kafka.bootstrap, unique, partitions=1)
    flood, calm = f"{unique}-flood", f"{unique}-calm"
    events = [event(flood, n, device=f"d{n % 8}") for n in range(6000)]
    mine = [event(calm, n) for n in range(15)]
    connection = await asyncpg.connect(database)
    made = settings(kafka.bootstrap, mosquitto, database, unique)
    del made["alerts_per_minute"]
    a_minute_later = "UPDATE alert_history SET sent_at = sent_at - $1::interval, held_at = held_at - $1::interval"
    async with listening(mosquitto, flood) as heard, listening(mosquitto, calm) as found:
        await outbox(kafka.bootstrap, unique, [*events, *mine])
        with program("notifier", tmp_path / "log", **made) as notifier:
            await until(lambda: len(found) == 15, 60)
            await answers(connection, "SELECT count(*) FROM alert_history WHERE held_at IS NOT NULL", 5940)
            await until(lambda: len(heard) == 60)
            await connection.execute(a_minute_later, timedelta(seconds=61))
            await until(lambda: len(heard) == 61, 40)
            await answers(connection, "SELECT count(*) FROM alert_history WHERE sent_at IS NULL", 0)
            assert notifier.stop() < 10
    assert [one["alert_id"] for one in found] == [f"{calm}-d1-{n}" for n in range(15)]
    assert [one["alert_id"] for one in heard[:60]] == [f"{flood}-d{n % 8}-{n}" for n in range(60)]
    assert (heard[60]["status"], heard[60]["count"], heard[60]["devices"]) == ("DIGEST", 5940, 8)
    assert [one["alert_id"] for one in heard[60]["alerts"]] == [f"{flood}-d{n % 8}-{n}" for n in range(60, 260)]
    assert heard[60]["omitted"] == 5740
    assert await connection.fetchval("SELECT count(*) FROM alert_history") == 6015
    await connection.close()


async def test_answers_take_at_most_half_of_the_budget(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=1)
    made = settings(kafka.bootstrap, mosquitto, database, unique) | {"alerts_per_minute": 10}
    topic = f"users/{unique}/alerts/errors"
    async with (
        listening(mosquitto, unique, "alerts/errors") as reported,
        listening(mosquitto, unique) as found,
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer,
    ):
        for number in range(500):
            value = b'{"id": "%d"}' % number
            await producer.send(unique, value, key=b"u/", headers=[(TOPIC_HEADER, topic.encode())])
        await producer.flush()
        with program("notifier", tmp_path / "log", **made) as notifier:
            await until(lambda: len(reported) == 5, 40)
            await outbox(kafka.bootstrap, unique, [event(unique, n) for n in range(20)])
            await until(lambda: len(found) == 5, 40)
            connection = await asyncpg.connect(database)
            await answers(connection, "SELECT count(*) FROM alert_history WHERE held_at IS NOT NULL", 15)
            await connection.close()
            assert notifier.stop() < 10
    assert [one["id"] for one in reported] == ["0", "1", "2", "3", "4"]
    assert [one["alert_id"] for one in found] == [f"{unique}-d1-{n}" for n in range(5)]


async def test_an_answer_is_sent_in_a_storm_and_a_flood_of_them_is_not(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    """Whoever edits rules that fire too often is sent a mistake in them, though alerts have used up the budget."""
    await create_topics(kafka.bootstrap, unique, partitions=1)
    made = settings(kafka.bootstrap, mosquitto, database, unique) | {"alerts_per_minute": 5}
    port = free_port()
    topic = f"users/{unique}/config/errors".encode()
    connection = await asyncpg.connect(database)
    async with (
        listening(mosquitto, unique, "config/errors") as reported,
        listening(mosquitto, unique) as found,
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer,
    ):
        with program("notifier", tmp_path / "log", **made, metrics_port=port) as notifier:
            await outbox(kafka.bootstrap, unique, [event(unique, n) for n in range(20)])
            await answers(connection, "SELECT count(*) FROM alert_history WHERE held_at IS NOT NULL", 15)
            for number in range(10):
                value = b'{"id": "%d"}' % number
                await producer.send(unique, value, key=b"u/", headers=[(TOPIC_HEADER, topic)])
            await producer.flush()
            await until(lambda: len(reported) == 1, 40)
            async with asyncio.timeout(40):
                while await metric(port, "iot_notifier_answers_total", outcome="over_budget") < 9:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert notifier.stop() < 10
    await connection.close()
    assert ([one["id"] for one in reported], len(found)) == (["0"], 5)


async def test_an_event_the_webhook_never_takes_keeps_only_its_device_waiting(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=1)
    receiver = NotingReceiver()
    await receiver.start()
    names = [f"{unique}-d{n % 2}-{n}" for n in range(40)]
    receiver.answers = {names[0]: [500] * 100, **{f"{unique}-b-d1-{n}": [503] for n in range(10)}}
    made = settings(kafka.bootstrap, mosquitto, database, unique)
    made |= {"webhook_url": receiver.url, "webhook_secret": KEY, "webhook_tries": 3}
    try:
        with program("notifier", tmp_path / "log", **made) as notifier:
            await outbox(kafka.bootstrap, unique, [event(unique, n, device=f"d{n % 2}") for n in range(40)])
            for number in range(10):  # other messages are taken meanwhile, at the second try
                await outbox(kafka.bootstrap, unique, [event(f"{unique}-b", number)])
                await until(partial(has_taken, receiver, f"{unique}-b-d1-{number}"), 60)
            await notifier.logged("webhook_left_out", seconds=60)
            await until(lambda: len(receiver.taken) == 49, 60)
            assert notifier.stop() < 10
    finally:
        await receiver.stop()
    strikes = [earlier < later for earlier, later in pairwise(receiver.taken_before[names[0]])]
    assert (sum(strikes), strikes[-1]) == (3, True), "left out at the third try after other messages had been taken"
    assert (tmp_path / "log").read_text().count('"event": "webhook_left_out"') == 1
    for device in range(2):
        mine = [name for n, name in enumerate(names) if n % 2 == device and n]
        assert [name for name in taken(receiver) if name in mine] == mine


async def test_a_webhook_that_takes_nothing_loses_nothing(
    kafka: KafkaServer, mosquitto: MqttServer, database: str, unique: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap, unique, partitions=1)
    receiver = Receiver()
    await receiver.start()
    receiver.answers = {f"{unique}-d{n}-{n}": [500, 503, 502, 500] for n in range(6)}
    made = settings(kafka.bootstrap, mosquitto, database, unique)
    made |= {"webhook_url": receiver.url, "webhook_secret": KEY, "webhook_tries": 1}
    try:
        with program("notifier", tmp_path / "log", **made) as notifier:
            await outbox(kafka.bootstrap, unique, [event(unique, n, device=f"d{n}") for n in range(1)])
            await until(lambda: len(receiver.taken) == 1, 60)
            assert notifier.stop() < 10
    finally:
        await receiver.stop()
    assert receiver.tries[f"{unique}-d0-0"] == 5
    assert "webhook_left_out" not in (tmp_path / "log").read_text()


class NotingReceiver(Receiver):
    """Notes how many events were taken before each try of an id: a slow machine tries again before others are taken."""

    def __init__(self) -> None:
        self.taken_before: dict[str, list[int]] = defaultdict(list)
        super().__init__()

    async def _answer(self, request: web.Request) -> web.Response:
        self.taken_before[json.loads(await request.read())["alert_id"]].append(len(self.taken))
        return await super()._answer(request)


def ids(found: list[dict[str, Any]]) -> list[str]:
    """In the order of their first coming: one whose PUBACK was lost with the connection comes again."""
    return list(dict.fromkeys(one["alert_id"] for one in found if "alert_id" in one))


def has_taken(receiver: Receiver, name: str) -> bool:
    """Whether an event was taken."""
    return name in taken(receiver)


def taken(receiver: Receiver) -> list[str]:
    """The ids of what a receiver has taken, in order."""
    return [one["alert_id"] for one in receiver.taken]
